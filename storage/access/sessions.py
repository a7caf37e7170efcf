"""Sessions of people who signed in, one for the pages and one for the viewer beside it.

    pages ──hands over──▶ viewer      two origins, so two cookies with a secret each

The viewer's hangs on that of the pages: it ends with it, and use of either keeps both.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import aliased

from storage.access import random_secrets
from storage.access.tables import CodeRow, SessionRow, UserRow
from storage.access.tokens import Caller, Role
from storage.access.users import User
from storage.base.clock import utc_now
from storage.base.errors import NotPermitted
from storage.db.engine import Session

LONGEST: Final = timedelta(hours=24)
"""After so long everybody signs in again."""
USE_IS_NOTED_EVERY: Final = timedelta(minutes=1)


class Audience(StrEnum):
    """Whose cookie a session's secret is in."""

    PAGES = "pages"
    VIEWER = "viewer"


def begin(session: Session, user: User) -> str:
    """Begin a session of the pages and return its secret; clear away what is over."""
    now = utc_now()
    session.execute(delete(SessionRow).where(SessionRow.ends_at <= now))
    session.execute(delete(CodeRow).where(CodeRow.ends_at <= now))
    return _begin(session, user.id, None, now, now + LONGEST)


def begin_viewer(session: Session, pages_id: int) -> str:
    """Begin the viewer's session beside one of the pages and return its secret.

    Raises
    ------
    NotPermitted
        The session of the pages is over.
    """
    pages = session.get(SessionRow, pages_id)
    if pages is None:
        raise NotPermitted("the session is over")
    return _begin(session, pages.user_ref, pages.id, utc_now(), pages.ends_at)


def authenticate(session: Session, secret: str, audience: Audience, idle: timedelta) -> Caller:
    """Return who calls with the cookie of `audience`.

    Raises
    ------
    NotPermitted
        It is no session of ours, is over, or was not used for `idle`.
    """
    found = _find(session, secret, audience, idle)
    if found is None:
        raise NotPermitted("the session is over")
    pages, user = found
    _note_use(session, pages)
    return Caller(f"user:{user.name}", Role(user.role), user.full_name or user.name, user=user.name)


def pages_id(session: Session, secret: str, idle: timedelta) -> int:
    """Return the session of the pages with that secret, to be handed over.

    Raises
    ------
    NotPermitted
        It is no session of ours, or is over.
    """
    found = _find(session, secret, Audience.PAGES, idle)
    if found is None:
        raise NotPermitted("the session is over")
    return found[0].id


def end(session: Session, secret: str) -> None:
    """End a session of the pages, and the viewer's with it; one that is over stays so."""
    session.execute(
        delete(SessionRow).where(
            SessionRow.secret_sha256 == random_secrets.digest(secret),
            SessionRow.parent_ref.is_(None),
        )
    )


def _begin(
    session: Session, user_id: int, parent: int | None, now: datetime, ends_at: datetime
) -> str:
    secret = random_secrets.new()
    session.add(
        SessionRow(
            secret_sha256=random_secrets.digest(secret),
            user_ref=user_id,
            parent_ref=parent,
            seen_at=now,
            ends_at=ends_at,
        )
    )
    session.flush()
    return secret


def _find(
    session: Session, secret: str, audience: Audience, idle: timedelta
) -> tuple[SessionRow, UserRow] | None:
    """Return the session of the pages behind `secret`, and its user."""
    now, pages = utc_now(), aliased(SessionRow)
    parent = SessionRow.parent_ref
    statement = (
        select(pages, UserRow)
        .join(SessionRow, pages.id == func.coalesce(parent, SessionRow.id))
        .join(UserRow, UserRow.id == pages.user_ref)
        .where(
            SessionRow.secret_sha256 == random_secrets.digest(secret),
            parent.is_(None) if audience is Audience.PAGES else parent.is_not(None),
            UserRow.disabled_at.is_(None),
            pages.ends_at > now,
            pages.seen_at > now - idle,
        )
    )
    row = session.execute(statement).one_or_none()
    return (row[0], row[1]) if row else None


def _note_use(session: Session, pages: SessionRow) -> None:
    """Write the time of use now and then, and never wait for another request that does."""
    now = utc_now()
    if now - pages.seen_at < USE_IS_NOTED_EVERY:
        return
    free = select(SessionRow.id).where(SessionRow.id == pages.id).with_for_update(skip_locked=True)
    session.execute(
        update(SessionRow)
        .where(SessionRow.id.in_(free.scalar_subquery()))
        .values(seen_at=now)
        .execution_options(synchronize_session=False)
    )
