"""One-time codes: a link to set one's password with, and the handover to the viewer.

Each is good once and not for long. A handover is bound to the browser that asked for it
by a `state` that only this browser can show again, so that nobody can be led into the
session of somebody else (RFC 6749 10.12).
"""

import hmac
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, select

from storage.access import random_secrets, users
from storage.access.tables import CodeRow, SessionRow, UserRow
from storage.access.users import User
from storage.base.clock import utc_now
from storage.base.errors import NotPermitted
from storage.db.engine import Session

LINK_IS_GOOD_FOR: Final = timedelta(hours=24)
HANDOVER_IS_GOOD_FOR: Final = timedelta(seconds=60)


def issue_link(session: Session, user: User) -> str:
    """Return a code with which `user` may set a password; earlier ones are void."""
    earlier = delete(CodeRow).where(CodeRow.user_ref == user.id, CodeRow.session_ref.is_(None))
    session.execute(earlier)
    return _issue(session, user.id, None, "", LINK_IS_GOOD_FOR)


def owner_of_link(session: Session, code: str) -> User:
    """Return whose link it is, without using it up: programs open links before people do.

    Raises
    ------
    NotPermitted
        It is none, was used, is too old, or the user is disabled.
    """
    link = *_good(code), CodeRow.session_ref.is_(None), UserRow.disabled_at.is_(None)
    row = session.scalar(select(UserRow).join(CodeRow).where(*link))
    if row is None:
        raise NotPermitted("the link was used before or is too old")
    return users.of_row(row)


def issue_handover(session: Session, pages_id: int, state: str) -> str:
    """Return a code for the viewer, for the browser that can show `state`.

    Raises
    ------
    NotPermitted
        The session of the pages is over.
    """
    pages = session.get(SessionRow, pages_id)
    if pages is None:
        raise NotPermitted("the session is over")
    return _issue(session, pages.user_ref, pages.id, state, HANDOVER_IS_GOOD_FOR)


def redeem_handover(session: Session, code: str, state: str) -> int:
    """Use the code up and return the session of the pages that it stands for.

    Raises
    ------
    NotPermitted
        It is none, was used, is too old, or is for another browser.
    """
    good = delete(CodeRow).where(*_good(code), CodeRow.session_ref.is_not(None))
    row = session.execute(good.returning(CodeRow.session_ref, CodeRow.state)).one_or_none()
    if row is None or not _same(row.state, state):
        raise NotPermitted("the handover was used before, is too old or is for another browser")
    return int(row.session_ref)


def _same(kept: str, shown: str) -> bool:
    return hmac.compare_digest(random_secrets.digest(kept), random_secrets.digest(shown))


def _good(code: str) -> tuple[ColumnElement[bool], ...]:
    kept = random_secrets.digest(code)
    return CodeRow.secret_sha256 == kept, CodeRow.ends_at > utc_now()


def _issue(
    session: Session, user_id: int, pages_id: int | None, state: str, good_for: timedelta
) -> str:
    code = random_secrets.new()
    session.add(
        CodeRow(
            secret_sha256=random_secrets.digest(code),
            user_ref=user_id,
            session_ref=pages_id,
            state=state,
            ends_at=utc_now() + good_for,
        )
    )
    session.flush()
    return code
