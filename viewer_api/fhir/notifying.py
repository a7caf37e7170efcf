"""Sort what has changed by who wants to know of it, and tell them: two loops of the worker."""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ris.listing import subscriptions
from ris.listing.subscriptions import NOTIFY, Subscription
from storage.access.tokens import PERMITTED, Action, Role
from storage.base.errors import Malformed, NotPermitted, PeerUnavailable, Unavailable
from storage.base.settings import Settings
from storage.db.criteria import Criterion, Token, Wanted
from storage.db.engine import Engine, Session, transaction
from storage.jobs.runner import Runner
from viewer_api.fhir import hooks
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.kinds import PARAMS, TYPES
from viewer_api.fhir.naming import Naming
from viewer_api.fhir.outcomes import ROOT
from viewer_api.fhir.parameters import Reader

log = logging.getLogger(__name__)

IDLE_S: Final = 1.0
AT_ONCE: Final = 500
"""Changes that are sorted in one transaction."""
NOTICES: Final = 20
"""Notices that are told before it is written down."""


class Notifier:
    """Tells subscribers of changes, at least once each; several at once share the work."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._naming = Naming(settings.fhir_naming_root)
        self._hosts = settings.fhir_hook_hosts.split()

    def start(self, stop: threading.Event) -> None:
        """Work in threads until `stop` is set, as long as the process lives."""
        runner = Runner(self._engine, {NOTIFY: self.notify})
        for name, work in (("fhir-changes", self.run), ("fhir-notices", runner.run)):
            threading.Thread(target=work, args=(stop,), name=name, daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Sort changes until `stop` is set; trouble is logged and passes."""
        while not stop.is_set():
            try:
                busy = self.sort() >= AT_ONCE
            except Unavailable as error:
                log.warning("changes_wait", extra={"reason": str(error)})
                busy = False
            except Exception:
                log.exception("changes_failed")
                busy = False
            if not busy:
                stop.wait(IDLE_S)

    def sort(self) -> int:
        """Sort some changes; return how many things have changed."""
        with transaction(self._engine) as session:
            changed = subscriptions.take_changes(session, AT_ONCE)
            if not changed:
                return 0
            for one in subscriptions.live(session):
                ids = self._matching(session, one, changed.get(one.kind, ()))
                subscriptions.add_notices(session, one.id, ids)
        return sum(map(len, changed.values()))

    def notify(self, subscription_id: int) -> None:
        """Tell one subscriber of everything that waits for him.

        Raises
        ------
        PeerUnavailable
            He does not take it: to be tried again.
        """
        done: Sequence[int] = ()
        while True:
            with transaction(self._engine) as session:
                if done:
                    subscriptions.told(session, subscription_id, done)
                found = subscriptions.notices(session, subscription_id, NOTICES)
                resources = self._resources(session, *found) if found else []
            if found is None or not found[1]:
                return
            if not self._tell(found[0], resources):
                return
            done = [notice for notice, _ in found[1]]

    def _tell(self, one: Subscription, resources: Sequence[Json]) -> bool:
        """Return whether a subscriber took it; False: he is given up."""
        try:
            if one.payload:
                for resource in resources:
                    hooks.send(one, self._hosts, resource)
            else:
                hooks.send(one, self._hosts, None)
        except (PeerUnavailable, NotPermitted) as error:
            with transaction(self._engine) as session:
                given_up = subscriptions.failed(session, one.id, str(error))
            if not given_up:
                raise PeerUnavailable(f"a subscriber: {error}") from error
            log.warning("subscriber_given_up", extra={"reason": str(error)})
            return False
        return True

    def _matching(self, session: Session, one: Subscription, ids: Sequence[int]) -> list[int]:
        """Return those of the rows that a subscription is about."""
        kind = TYPES[one.kind]
        held = kind.load(session, ids) if ids else {}
        context = self._context(one)
        names = {kind.render(facts, context)["id"]: id_ for id_, facts in held.items()}
        if not names:
            return []
        reader = Reader(PARAMS, self._settings.zone, self._naming.kind)
        try:
            asked = hooks.criteria_of(one.kind, one.criteria, reader)
        except Malformed as error:  # it was read by another version of ours
            log.warning("criteria_unread", extra={"reason": type(error).__name__})
            return []
        these = Criterion(name="_id", values=tuple(Token(None, name) for name in names))
        wanted = Wanted(criteria=(*asked.criteria, these), limit=len(names))
        return sorted({*kind.find(session, wanted, full=context.full)} & {*names.values()})

    def _resources(
        self, session: Session, one: Subscription, notices: Sequence[tuple[int, int]]
    ) -> list[Json]:
        if not one.payload:
            return []
        kind, context = TYPES[one.kind], self._context(one)
        held: Mapping[int, Any] = kind.load(session, [row for _, row in notices])
        rows = dict.fromkeys(row for _, row in notices)
        return [
            kind.render(held[row], context) for row in rows if row in held and kind.shown(held[row])
        ]

    def _context(self, one: Subscription) -> Context:
        settings = self._settings
        root = settings.public_url or f"http://127.0.0.1:{settings.http_port}"
        return Context(
            base=root + ROOT,
            dicomweb=f"{root}/dicom-web",
            reports=f"{root}/api/v1/reports",
            naming=self._naming,
            zone=settings.zone,
            full=Action.SEE_ORDERS in PERMITTED[Role(one.role)],
        )
