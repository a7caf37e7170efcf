"""Bearer tokens: who calls over HTTP, and what that role may do.

    lt_<prefix>_<secret>        lt_4f2a91c07be3_1kG…

The prefix finds the row and may be shown; of the secret (256 random bits) only the
SHA-256 of the whole token is kept, which needs no salt and no slow hash: nobody
guesses 256 bits.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import select, update

from storage.access.tables import TokenRow
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound, NotPermitted
from storage.db.engine import Session

PREFIX_BYTES: Final = 6
SECRET_BYTES: Final = 32
LABEL_MAX: Final = 200
USE_IS_NOTED_EVERY: Final = timedelta(minutes=5)

_TOKEN: Final = re.compile(r"lt_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_STATION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_NOBODY: Final = bytes(32)


class Role(StrEnum):
    """What kind of caller a token stands for."""

    ADMIN = "admin"
    RADIOLOGIST = "radiologist"
    TECHNOLOGIST = "technologist"
    VIEWER = "viewer"
    STATION = "station"


class Action(StrEnum):
    """What a caller may want to do."""

    QUERY = "query"
    """Search the archive."""
    RETRIEVE = "retrieve"
    """Fetch objects, frames and metadata."""
    STORE = "store"
    """Send objects in."""
    READ_REPORTS = "read reports"
    """See the reports that were issued."""
    REPORT = "write reports"
    """See drafts too, write and, as a practitioner with that right, sign."""
    SEE_ORDERS = "see orders"
    """Orders, worklists and performed steps."""
    RECONCILE = "reconcile"
    """Say which study belongs to which order."""
    RELEASE = "release reports"
    """Record why a health station may see what, and look after what stations send."""
    MANAGE = "manage"
    """See and change how the node works: peers, tokens, quarantine, metrics."""


# A health station sees only what was released to it, through its own interface:
# none of the actions on the whole archive is open to it.
PERMITTED: Final[Mapping[Role, frozenset[Action]]] = {
    Role.ADMIN: frozenset(Action),
    Role.RADIOLOGIST: frozenset(Action) - {Action.MANAGE},
    Role.TECHNOLOGIST: frozenset(
        {
            Action.QUERY,
            Action.RETRIEVE,
            Action.STORE,
            Action.READ_REPORTS,
            Action.SEE_ORDERS,
            Action.RECONCILE,
            Action.RELEASE,
        }
    ),
    Role.VIEWER: frozenset({Action.QUERY, Action.RETRIEVE, Action.READ_REPORTS}),
    Role.STATION: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the token or the session says; `prefix` names which in logs."""

    prefix: str
    role: Role
    label: str
    station: str | None = None
    user: str = ""
    """The name that a person signed in with; '' for the bearer of a token."""

    def require(self, action: Action) -> None:
        """Raise `NotPermitted` unless the caller's role may do `action`."""
        if action not in PERMITTED[self.role]:
            raise NotPermitted(f"the role {self.role} may not {action}")


@dataclass(frozen=True, slots=True)
class Token:
    """One token as people see it, without its secret."""

    prefix: str
    role: Role
    label: str
    station: str | None
    created_at: datetime
    used_at: datetime | None
    """Of the last use, up to `USE_IS_NOTED_EVERY` late."""
    revoked_at: datetime | None


def create(session: Session, role: Role, label: str, station: str | None = None) -> str:
    """Make a token and return it; it is shown this once and never again.

    Raises
    ------
    Malformed
        The role station has no station code, another role has one, or the label is too long.
    """
    _check(role, label, station)
    prefix = secrets.token_hex(PREFIX_BYTES)
    secret = f"lt_{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    session.add(
        TokenRow(
            prefix=prefix,
            secret_sha256=_digest(secret),
            role=role,
            label=label,
            station=station,
            created_at=utc_now(),
        )
    )
    session.flush()
    return secret


def authenticate(session: Session, secret: str) -> Caller:
    """Return who calls with `secret`.

    Raises
    ------
    NotPermitted
        It is no token of ours or was revoked; which of both is not told, nor by the time taken.
    """
    match = _TOKEN.fullmatch(secret)
    prefix = match[1] if match else ""
    row = session.scalar(select(TokenRow).where(TokenRow.prefix == prefix))
    kept = row.secret_sha256 if row else _NOBODY
    same = hmac.compare_digest(_digest(secret), kept)
    if row is None or not same or row.revoked_at is not None:
        raise NotPermitted("the bearer token is not valid")
    _note_use(session, row)
    return Caller(row.prefix, Role(row.role), row.label, row.station)


def revoke(session: Session, prefix: str) -> None:
    """Make a token useless from now on; one that is already is left as it is.

    Raises
    ------
    NotFound
        No token has that prefix.
    """
    row = session.scalar(
        select(TokenRow).where(TokenRow.prefix == prefix.replace("\0", "")).with_for_update()
    )
    if row is None:
        raise NotFound(f"no token has the id {prefix!r}")
    row.revoked_at = row.revoked_at or utc_now()
    session.flush()


def list_all(session: Session) -> list[Token]:
    """Return every token, oldest first, revoked ones too."""
    return [_token(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.id))]


def _check(role: Role, label: str, station: str | None) -> None:
    if len(label) > LABEL_MAX or "\0" in label:
        raise Malformed(f"the label of a token has at most {LABEL_MAX} characters")
    if (role is Role.STATION) != (station is not None):
        raise Malformed("the role station, and no other, needs a station code")
    if station is not None and not _STATION.fullmatch(station):
        raise Malformed(f"{station[:33]!r} is not a station code: letters, digits and ._-")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _note_use(session: Session, row: TokenRow) -> None:
    """Write the time of use now and then, and never wait for another call that does."""
    now = utc_now()
    if row.used_at is not None and now - row.used_at < USE_IS_NOTED_EVERY:
        return
    free = select(TokenRow.id).where(TokenRow.id == row.id).with_for_update(skip_locked=True)
    session.execute(
        update(TokenRow)
        .where(TokenRow.id.in_(free.scalar_subquery()))
        .values(used_at=now)
        .execution_options(synchronize_session=False)
    )


def _token(row: TokenRow) -> Token:
    return Token(
        prefix=row.prefix,
        role=Role(row.role),
        label=row.label,
        station=row.station,
        created_at=row.created_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )
