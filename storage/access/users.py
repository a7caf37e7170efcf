"""The people who sign in: name, role, and what is kept of their password."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from storage.access import passwords
from storage.access.tables import CodeRow, SessionRow, UserRow
from storage.access.tokens import Role
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound
from storage.db.engine import Session

FULL_NAME_MAX: Final = 200
FIRST_ADMIN: Final = "admin"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class User:
    """One person, without the password."""

    id: int
    name: str
    """What is typed to sign in: small letters, digits and ``._@-``."""
    full_name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None
    has_password: bool

    @property
    def shown(self) -> str:
        """What others see."""
        return self.full_name or self.name


def add(session: Session, name: str, role: Role, full_name: str = "") -> User:
    """Enter a user, without a password.

    Raises
    ------
    Malformed
        The name or the full name cannot be one, or the role is that of a station.
    Conflict
        The name is taken.
    """
    wanted = normal(name)
    if not _NAME.fullmatch(wanted):
        raise Malformed(f"{name[:65]!r} is not a user name: small letters, digits and ._@-")
    if len(full_name) > FULL_NAME_MAX or not full_name.isprintable():
        raise Malformed(f"a full name has at most {FULL_NAME_MAX} characters on one line")
    statement = insert(UserRow).values(
        name=wanted,
        full_name=unicodedata.normalize("NFC", full_name.strip()),
        role=_for_people(role),
        created_at=utc_now(),
    )
    added = session.scalar(statement.on_conflict_do_nothing().returning(UserRow))
    if added is None:
        raise Conflict(f"there is a user {wanted!r} already")
    return of_row(added)


def find(session: Session, name: str) -> User:
    """Return the user of that name.

    Raises
    ------
    NotFound
        There is none.
    """
    return of_row(_row(session, name, change=False))


def list_all(session: Session) -> list[User]:
    """Return every user by name, disabled ones too."""
    return [of_row(row) for row in session.scalars(select(UserRow).order_by(UserRow.name))]


def credentials(session: Session, name: str) -> tuple[User, str | None] | None:
    """Return the user of that name who may sign in, and the kept password; None: nobody."""
    wanted = select(UserRow).where(UserRow.name == normal(name), UserRow.disabled_at.is_(None))
    row = session.scalar(wanted)
    return (of_row(row), row.password_hash) if row else None


def set_password(session: Session, user: User, password: str) -> None:
    """Give a user another password; sessions and one-time links of before are over.

    Raises
    ------
    WeakPassword
        It is too easy to guess.
    NotFound
        The user is gone.
    """
    passwords.check(password, user.name)
    row = _row(session, user.name)
    row.password_hash = passwords.hashed(password)
    session.flush()
    _shut_out(session, row.id)


def refresh_hash(session: Session, user: User, password: str) -> None:
    """Keep the same password with today's parameters."""
    _row(session, user.name).password_hash = passwords.hashed(password)
    session.flush()


def change_role(session: Session, name: str, role: Role) -> None:
    """Give a user another role, at once.

    Raises
    ------
    NotFound
        There is no such user.
    Malformed
        The role is that of a station.
    """
    _row(session, name).role = _for_people(role)
    session.flush()


def disable(session: Session, name: str) -> None:
    """Let a user in no more, and end all sessions.

    Raises
    ------
    NotFound
        There is no such user.
    """
    row = _row(session, name)
    row.disabled_at = row.disabled_at or utc_now()
    session.flush()
    _shut_out(session, row.id)


def enable(session: Session, name: str) -> None:
    """Let a user in again, with the password of before.

    Raises
    ------
    NotFound
        There is no such user.
    """
    _row(session, name).disabled_at = None
    session.flush()


def first_admin(session: Session) -> User | None:
    """Return the user to set the first password, entered if need be; None once there is one."""
    if session.scalar(select(UserRow.id).where(UserRow.password_hash.is_not(None)).limit(1)):
        return None
    entered = insert(UserRow).values(
        name=FIRST_ADMIN, full_name="", role=Role.ADMIN, created_at=utc_now()
    )
    session.execute(entered.on_conflict_do_nothing())
    admins = select(UserRow).where(UserRow.role == Role.ADMIN, UserRow.disabled_at.is_(None))
    row = session.scalar(admins.order_by(UserRow.id).limit(1))
    return of_row(row) if row else None


def normal(name: str) -> str:
    """Return `name` as it is kept: who types capitals is the same person."""
    return unicodedata.normalize("NFKC", name.strip().replace("\0", "")).casefold()


def of_row(row: UserRow) -> User:
    """Return what a row says."""
    return User(
        id=row.id,
        name=row.name,
        full_name=row.full_name,
        role=Role(row.role),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        has_password=row.password_hash is not None,
    )


def _row(session: Session, name: str, *, change: bool = True) -> UserRow:
    wanted = select(UserRow).where(UserRow.name == normal(name))
    found = session.scalar(wanted.with_for_update() if change else wanted)
    if found is None:
        raise NotFound(f"no user has the name {name[:64]!r}")
    return found


def _shut_out(session: Session, user_id: int) -> None:
    session.execute(delete(SessionRow).where(SessionRow.user_ref == user_id))
    session.execute(delete(CodeRow).where(CodeRow.user_ref == user_id))


def _for_people(role: Role) -> Role:
    if role is Role.STATION:
        raise Malformed("a health station comes with a token: `lienthong token create`")
    return role
