"""Who calls: the bearer of a token or a person with a session, remembered for a moment."""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from storage.access import sessions, tokens
from storage.access.sessions import Audience
from storage.access.tokens import Caller
from storage.base.errors import NotPermitted
from storage.db.engine import Engine, Session, transaction
from viewer_api.problems import Unauthenticated


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request shows to say who calls."""

    secret: str
    audience: Audience | None = None
    """Whose cookie it was in; None: it is a bearer token."""

    @property
    def digest(self) -> bytes:
        """What stands for it in memory, where secrets themselves are not kept."""
        return hashlib.sha256(f"{self.audience} {self.secret}".encode()).digest()


class Callers:
    """Who shows a token or the cookie of a session, remembered for `keep_s` seconds.

    So a viewer that fetches 400 frames costs one query, and a token that was
    revoked is refused everywhere within that time.
    """

    def __init__(
        self,
        engine: Engine,
        keep_s: float = 5.0,
        most: int = 1024,
        idle: timedelta = timedelta(hours=4),
    ) -> None:
        self._engine = engine
        self._keep_s = keep_s
        self._most = most
        self._idle = idle
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._lock = threading.Lock()

    def remembered(self, shown: Credential) -> Caller | None:
        """Return the caller if the token or session was found valid a moment ago."""
        with self._lock:
            until, caller = self._known.get(shown.digest, (0.0, None))
        return caller if until > time.monotonic() else None

    def forget(self) -> None:
        """Ask the database again for everybody: somebody signed out."""
        with self._lock:
            self._known.clear()

    def authenticate(self, shown: Credential) -> Caller:
        """Ask the database.

        Raises
        ------
        Unauthenticated
            The token or session is not known or not valid any more.
        StoreUnavailable
            The database does not answer.
        """
        try:
            with transaction(self._engine) as session:
                caller = self._ask(session, shown)
        except NotPermitted as error:
            raise Unauthenticated(str(error)) from error
        with self._lock:
            self._known[shown.digest] = (time.monotonic() + self._keep_s, caller)
            self._known.move_to_end(shown.digest)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return caller

    def _ask(self, session: Session, shown: Credential) -> Caller:
        if shown.audience is None:
            return tokens.authenticate(session, shown.secret)
        return sessions.authenticate(session, shown.secret, shown.audience, self._idle)
