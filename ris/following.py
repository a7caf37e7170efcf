"""Looks after studies beside the ingest: whose they are, and whether they are complete.

    an object or a performed step came ─┐
    a verdict said: look again then ────┼─ match with orders ─ judge
    an order came or was changed ───────┘          then its reports follow

Every study is looked at in a transaction of its own: one that makes trouble keeps nobody waiting.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Final

from sqlalchemy import or_, select, update

from ris import coercing, judging, locks, performed, reconcile
from ris.reconcile import Standing
from ris.reports import attaching
from ris.study_tables import StudyRow
from ris.tables import IdentifierRow, OrderRow, PatientRow, ProcedureRow, StepRow
from storage.archive import studies
from storage.base.attending import attend
from storage.base.clock import utc_now
from storage.base.errors import ImagingError, Unavailable
from storage.db.engine import Engine, Session, transaction

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
MOST: Final = 100
"""Studies that are looked at in one pass, and orders."""
OVERLAP: Final = timedelta(minutes=2)
"""Orders are asked for again from so long ago: a transaction may end later than it began."""
FIRST_LOOK: Final = timedelta(days=1)
"""And after a start from so long ago: nobody may have looked meanwhile."""
PAUSE_S: Final = 60.0
"""A study that made trouble is left alone so long."""


class Following:
    """Looks after the studies of one archive; `run` is a thread of the worker.

    Parameters
    ----------
    zone
        The time zone of the hospital.
    """

    def __init__(self, engine: Engine, zone: tzinfo) -> None:
        self._engine = engine
        self._zone = zone
        self._orders_from = utc_now() - FIRST_LOOK
        self._orders_seen: dict[int, datetime] = {}
        self._troubled: dict[str, float] = {}
        """Study → when to try it again."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; trouble is logged and passes."""
        attend("following", self._fill, stop, idle_s=LOOK_S, trouble_s=LOOK_S * 5)

    def _fill(self) -> bool:
        """Do one pass; return whether there may be more to look at."""
        return self.run_once() == MOST

    def run_once(self, now: datetime | None = None) -> int:
        """Look at every study that is due; return how many were.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        at = now or utc_now()
        with transaction(self._engine) as session:
            attached = self._wake(session, at)
        for uid in attached:
            self._try(uid, partial(_follow_orders, study_instance_uid=uid))
        with transaction(self._engine) as session:
            due = _due(session, at, [*self._resting()])
        for uid in due:
            self._look(uid, at)
        return len(due)

    def _resting(self) -> Sequence[str]:
        now = time.monotonic()
        self._troubled = {uid: until for uid, until in self._troubled.items() if until > now}
        return [*self._troubled]

    def _look(self, uid: str, now: datetime) -> None:
        self._try(uid, lambda session: look(session, uid, now, self._zone))
        # apart: a look holds what the ingest waits for while it holds the study
        self._try(uid, partial(_follow_orders, study_instance_uid=uid))
        self._try(uid, partial(_follow_reports, study_instance_uid=uid))

    def _try(self, uid: str, work: Callable[[Session], None]) -> None:
        try:
            with transaction(self._engine) as session:
                work(session)
        except Unavailable:
            raise
        except Exception as error:
            self._troubled[uid] = time.monotonic() + PAUSE_S
            facts = {"study_instance_uid": uid}
            if isinstance(error, ImagingError):
                log.warning("study_not_followed", extra={**facts, "reason": str(error)})
            else:
                log.exception("study_not_followed", extra=facts)

    def _wake(self, session: Session, now: datetime) -> list[str]:
        """Let the studies that wait for an order be looked at when one that may fit has changed.

        Return those that belong to an order that has changed.
        """
        statement = (
            select(OrderRow.id, OrderRow.changed_at)
            .where(OrderRow.changed_at > self._orders_from - OVERLAP)
            .order_by(OrderRow.changed_at, OrderRow.id)
        )
        changed = {row.id: row.changed_at for row in session.execute(statement)}
        fresh = [order for order, at in changed.items() if self._orders_seen.get(order) != at]
        attached: list[str] = []
        for first in range(0, len(fresh), MOST):
            attached += coercing.attached_to(session, fresh[first : first + MOST])
            keys = _keys(session, fresh[first : first + MOST])
            session.execute(
                update(StudyRow)
                .where(StudyRow.standing.in_(reconcile.OPEN), StudyRow.keys.overlap([*keys]))
                .values(watched=True, look_at=None)
                .execution_options(synchronize_session=False)
            )
        self._orders_seen, self._orders_from = changed, now
        return attached


def look(session: Session, study_instance_uid: str, now: datetime, zone: tzinfo) -> None:
    """Match one study with orders and judge it, if it is due; the caller commits."""
    locks.lock_studies(session, [study_instance_uid])
    row = session.get(StudyRow, study_instance_uid, with_for_update=True, populate_existing=True)
    if row is None or not row.watched or (row.look_at is not None and row.look_at > now):
        return  # somebody was faster
    told = performed.of_study(session, study_instance_uid)
    if not told and not studies.held(session, [study_instance_uid]):
        row.watched = False  # what came is in quarantine, or was taken back
        return
    before = row.state, row.standing
    standing = reconcile.consider(session, study_instance_uid, now, zone)
    verdict = judging.judge(session, study_instance_uid, now, zone)
    if verdict is not None and before != (verdict.state, standing):
        _tell(study_instance_uid, standing, verdict.state)


def _follow_orders(session: Session, study_instance_uid: str) -> None:
    locks.lock_studies(session, [study_instance_uid])
    coercing.follow(session, study_instance_uid)


def _follow_reports(session: Session, study_instance_uid: str) -> None:
    locks.lock_studies(session, [study_instance_uid])
    attaching.follow(session, study_instance_uid)


def _tell(uid: str, standing: Standing, state: str) -> None:
    facts = {"study_instance_uid": uid, "outcome": standing.value, "state": str(state)}
    log.info("study_judged", extra=facts)


def _due(session: Session, now: datetime, resting: Sequence[str]) -> Sequence[str]:
    statement = (
        select(StudyRow.study_instance_uid)
        .where(
            StudyRow.watched,
            or_(StudyRow.look_at.is_(None), StudyRow.look_at <= now),
            StudyRow.study_instance_uid.not_in(resting),
        )
        .order_by(StudyRow.changed_at)
        .limit(MOST)
        .with_for_update(skip_locked=True)
    )
    return session.scalars(statement).all()


def _keys(session: Session, order_ids: Sequence[int]) -> set[str]:
    """Return what a study that waits for one of these orders is found by (`candidates.keys_of`)."""
    numbers = (
        select(OrderRow.accession_number).where(OrderRow.id.in_(order_ids)),
        select(OrderRow.placer_order_number).where(OrderRow.id.in_(order_ids)),
        select(StepRow.scheduled_procedure_step_id).where(StepRow.order_ref.in_(order_ids)),
    )
    uids = select(ProcedureRow.study_instance_uid).where(ProcedureRow.order_ref.in_(order_ids))
    people = (
        select(IdentifierRow.value)
        .join(PatientRow, PatientRow.id == IdentifierRow.patient_ref)
        .where(
            PatientRow.root_ref.in_(
                select(PatientRow.root_ref)
                .join(OrderRow, OrderRow.patient_ref == PatientRow.id)
                .where(OrderRow.id.in_(order_ids))
            )
        )
    )
    return {
        *(f"study:{uid}" for uid in session.scalars(uids)),
        *(f"number:{text}" for one in numbers for text in session.scalars(one) if text),
        *(f"patient:{number.casefold()}" for number in session.scalars(people)),
    }
