"""Users, their sessions, one-time codes and failed guesses on the real tables."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from storage.access import codes, guesses, passwords, sessions, users
from storage.access.guesses import LIMITS, TooOften
from storage.access.passwords import WeakPassword
from storage.access.sessions import Audience
from storage.access.tokens import Role
from storage.access.users import User
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound, NotPermitted
from storage.db.engine import Engine, Session, transaction

IDLE = timedelta(hours=1)
PASSWORD = "mưa rào tháng sáu"


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as opened:
        yield opened


@pytest.fixture
def nam(engine: Engine) -> User:
    with transaction(engine) as opened:
        return users.add(opened, "bs.nam", Role.RADIOLOGIST, "Nguyễn Văn Nam")


def later(session: Session, table: str, column: str, by: timedelta) -> None:
    """Let time pass for the rows of `table`."""
    session.flush()
    session.execute(text(f"UPDATE {table} SET {column} = {column} - :by"), {"by": by})  # noqa: S608
    session.expire_all()


def is_over(session: Session, secret: str, audience: Audience = Audience.PAGES) -> bool:
    try:
        sessions.authenticate(session, secret, audience, IDLE)
    except NotPermitted:
        return True
    return False


# Users


def test_user_comes_back_as_entered_whatever_case_is_typed(session: Session) -> None:
    users.add(session, " Bs.Nam ", Role.RADIOLOGIST, " Nguye\u0302\u0303n Văn Nam ")

    found = users.find(session, "BS.NAM")

    assert (found.name, found.full_name) == ("bs.nam", "Nguyễn Văn Nam")
    assert (found.role, found.has_password) == (Role.RADIOLOGIST, False)


def test_name_is_given_once(session: Session, nam: User) -> None:
    with pytest.raises(Conflict, match=r"'bs\.nam'"):
        users.add(session, "BS.Nam", Role.ADMIN)

    assert users.find(session, nam.name).role is Role.RADIOLOGIST


@pytest.mark.parametrize(
    ("name", "full_name", "role"),
    [
        ("", "", Role.VIEWER),
        ("a b", "", Role.VIEWER),
        ("bác.sĩ", "", Role.VIEWER),
        ("-nam", "", Role.VIEWER),
        ("x" * 65, "", Role.VIEWER),
        ("nam", "x" * 201, Role.VIEWER),
        ("nam", "two\nlines", Role.VIEWER),
        ("nam", "", Role.STATION),
    ],
)
def test_what_cannot_be_a_user_is_malformed(
    session: Session, name: str, full_name: str, role: Role
) -> None:
    with pytest.raises(Malformed):
        users.add(session, name, role, full_name)


def test_absent_user_is_named(session: Session) -> None:
    for change in (users.find, users.disable, users.enable):
        with pytest.raises(NotFound, match="'nobody'"):
            change(session, "nobody")
    with pytest.raises(NotFound):
        users.change_role(session, "nobody", Role.ADMIN)


def test_credentials_are_of_those_who_may_sign_in(session: Session, nam: User) -> None:
    users.set_password(session, nam, PASSWORD)

    found = users.credentials(session, "BS.nam")

    assert found is not None
    assert passwords.matches(PASSWORD, found[1])
    users.disable(session, nam.name)
    assert users.credentials(session, nam.name) is None
    assert users.credentials(session, "nobody\0") is None
    users.enable(session, nam.name)
    assert users.credentials(session, nam.name) == found


def test_another_password_ends_sessions_and_links(session: Session, nam: User) -> None:
    secret, code = sessions.begin(session, nam), codes.issue_link(session, nam)

    users.set_password(session, nam, PASSWORD)

    assert is_over(session, secret)
    with pytest.raises(NotPermitted):
        codes.owner_of_link(session, code)


def test_weak_password_changes_nothing(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)

    with pytest.raises(WeakPassword):
        users.set_password(session, nam, "bs.nam 2026")

    assert not users.find(session, nam.name).has_password
    assert not is_over(session, secret)


def test_first_admin_is_there_until_a_password_is(session: Session) -> None:
    first = users.first_admin(session)
    again = users.first_admin(session)

    assert first is not None
    assert (first, first.name, first.role) == (again, "admin", Role.ADMIN)
    users.set_password(session, first, PASSWORD)
    assert users.first_admin(session) is None


def test_first_admin_is_one_that_was_entered_by_hand(session: Session) -> None:
    users.add(session, "admin", Role.VIEWER)
    entered = users.add(session, "lan", Role.ADMIN)

    assert users.first_admin(session) == entered


# Sessions


def test_session_tells_who_it_is(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)

    caller = sessions.authenticate(session, secret, Audience.PAGES, IDLE)

    assert (caller.user, caller.label, caller.role) == ("bs.nam", nam.full_name, nam.role)
    assert secret not in repr(caller)


def test_secret_is_not_in_the_database(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)

    kept = session.execute(text("SELECT * FROM sessions")).mappings().all()

    assert secret not in str(kept)


def test_session_ends_when_it_is_not_used(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)
    later(session, "sessions", "seen_at", IDLE - timedelta(minutes=2))
    assert not is_over(session, secret)  # which was a use
    later(session, "sessions", "seen_at", IDLE - timedelta(minutes=2))
    assert not is_over(session, secret)

    later(session, "sessions", "seen_at", IDLE)

    assert is_over(session, secret)


def test_session_ends_after_a_day_however_it_is_used(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)

    later(session, "sessions", "ends_at", sessions.LONGEST)

    assert is_over(session, secret)
    sessions.begin(session, nam)
    assert session.scalar(text("SELECT count(*) FROM sessions")) == 1


def test_role_of_a_session_is_that_of_now(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)

    users.change_role(session, nam.name, Role.VIEWER)

    assert sessions.authenticate(session, secret, Audience.PAGES, IDLE).role is Role.VIEWER


@pytest.mark.parametrize("secret", ["", "x" * 43, "\0", "\ud800", "y" * 10**5])
def test_what_is_no_session_is_nobody(session: Session, nam: User, secret: str) -> None:
    sessions.begin(session, nam)

    assert is_over(session, secret)


def test_viewer_has_a_secret_of_its_own(session: Session, nam: User) -> None:
    pages = sessions.begin(session, nam)
    viewer = sessions.begin_viewer(session, sessions.pages_id(session, pages, IDLE))

    assert not is_over(session, viewer, Audience.VIEWER)
    assert is_over(session, viewer, Audience.PAGES)
    assert is_over(session, pages, Audience.VIEWER)


def test_use_of_the_viewer_keeps_the_session_of_the_pages(session: Session, nam: User) -> None:
    pages = sessions.begin(session, nam)
    viewer = sessions.begin_viewer(session, sessions.pages_id(session, pages, IDLE))
    later(session, "sessions", "seen_at", IDLE - timedelta(minutes=2))

    assert not is_over(session, viewer, Audience.VIEWER)
    later(session, "sessions", "seen_at", timedelta(minutes=5))

    assert not is_over(session, pages)


@pytest.mark.parametrize("how", ["signed out", "disabled", "idle"])
def test_viewer_ends_with_the_pages(session: Session, nam: User, how: str) -> None:
    pages = sessions.begin(session, nam)
    viewer = sessions.begin_viewer(session, sessions.pages_id(session, pages, IDLE))

    match how:
        case "signed out":
            sessions.end(session, pages)
        case "disabled":
            users.disable(session, nam.name)
        case _:
            later(session, "sessions", "seen_at", IDLE)

    assert is_over(session, viewer, Audience.VIEWER)
    assert is_over(session, pages)


def test_viewer_cannot_sign_the_pages_out(session: Session, nam: User) -> None:
    pages = sessions.begin(session, nam)
    viewer = sessions.begin_viewer(session, sessions.pages_id(session, pages, IDLE))

    sessions.end(session, viewer)

    assert not is_over(session, pages)


# One-time codes


def test_link_may_be_looked_at_often_and_is_void_after_the_next(
    session: Session, nam: User
) -> None:
    first = codes.issue_link(session, nam)
    assert codes.owner_of_link(session, first) == codes.owner_of_link(session, first) == nam

    second = codes.issue_link(session, nam)

    assert codes.owner_of_link(session, second) == nam
    with pytest.raises(NotPermitted):
        codes.owner_of_link(session, first)


def test_old_link_is_void(session: Session, nam: User) -> None:
    code = codes.issue_link(session, nam)

    later(session, "codes", "ends_at", codes.LINK_IS_GOOD_FOR)

    with pytest.raises(NotPermitted):
        codes.owner_of_link(session, code)


def test_link_of_a_disabled_user_is_void(session: Session, nam: User) -> None:
    users.disable(session, nam.name)
    code = codes.issue_link(session, nam)

    with pytest.raises(NotPermitted):
        codes.owner_of_link(session, code)


def handed_over(session: Session, nam: User) -> tuple[int, str]:
    pages = sessions.pages_id(session, sessions.begin(session, nam), IDLE)
    return pages, codes.issue_handover(session, pages, "state of this browser")


def test_handover_is_good_once(session: Session, nam: User) -> None:
    pages, code = handed_over(session, nam)

    assert codes.redeem_handover(session, code, "state of this browser") == pages
    with pytest.raises(NotPermitted):
        codes.redeem_handover(session, code, "state of this browser")


@pytest.mark.parametrize("state", ["", "state of another", "\ud800"])
def test_handover_is_for_the_browser_that_asked(session: Session, nam: User, state: str) -> None:
    _, code = handed_over(session, nam)

    with pytest.raises(NotPermitted):
        codes.redeem_handover(session, code, state)


def test_late_handover_is_void(session: Session, nam: User) -> None:
    _, code = handed_over(session, nam)

    later(session, "codes", "ends_at", codes.HANDOVER_IS_GOOD_FOR)

    with pytest.raises(NotPermitted):
        codes.redeem_handover(session, code, "state of this browser")


def test_link_and_handover_are_not_each_other(session: Session, nam: User) -> None:
    _, handover = handed_over(session, nam)
    link = codes.issue_link(session, nam)

    with pytest.raises(NotPermitted):
        codes.owner_of_link(session, handover)
    with pytest.raises(NotPermitted):
        codes.redeem_handover(session, link, "")


def test_handover_of_a_session_that_is_over_is_refused(session: Session, nam: User) -> None:
    secret = sessions.begin(session, nam)
    pages = sessions.pages_id(session, secret, IDLE)
    sessions.end(session, secret)

    with pytest.raises(NotPermitted):
        codes.issue_handover(session, pages, "state")
    with pytest.raises(NotPermitted):
        sessions.begin_viewer(session, pages)


# Guesses


def test_guesses_beyond_the_free_ones_have_to_wait(session: Session) -> None:
    for _ in range(LIMITS["pair"].free):
        guesses.admit(session, "bs.nam", "10.0.0.7")

    with pytest.raises(TooOften) as refused:
        guesses.admit(session, "BS.Nam ", "10.0.0.7")

    assert 1 <= refused.value.wait_s <= 2
    guesses.admit(session, "bs.nam", "10.0.0.8")
    guesses.admit(session, "bs.lan", "10.0.0.7")


def test_guess_is_free_again_when_the_wait_is_over(session: Session) -> None:
    for _ in range(LIMITS["pair"].free):
        guesses.admit(session, "bs.nam", "10.0.0.7")

    later(session, "guesses", "last_at", timedelta(seconds=2))

    guesses.admit(session, "bs.nam", "10.0.0.7")
    with pytest.raises(TooOften) as refused:
        guesses.admit(session, "bs.nam", "10.0.0.7")
    assert 3 <= refused.value.wait_s <= 4


def test_who_was_right_starts_anew(session: Session) -> None:
    for _ in range(LIMITS["pair"].free):
        guesses.admit(session, "bs.nam", "10.0.0.7")

    guesses.forgive(session, "bs.nam", "10.0.0.7")

    guesses.admit(session, "bs.nam", "10.0.0.7")


def test_failures_are_forgotten_after_an_hour(session: Session) -> None:
    for _ in range(LIMITS["pair"].free):
        guesses.admit(session, "bs.nam", "10.0.0.7")

    later(session, "guesses", "last_at", guesses.FORGOTTEN_AFTER + timedelta(seconds=1))
    for _ in range(LIMITS["pair"].free):
        guesses.admit(session, "bs.nam", "10.0.0.7")

    guesses.forgive(session, "bs.lan", "10.0.0.9")
    assert session.scalar(text("SELECT count(*) FROM guesses")) == 3


def test_what_was_typed_is_not_kept(session: Session) -> None:
    guesses.admit(session, "Oh that was my password", "10.0.0.7")

    kept = session.execute(text("SELECT * FROM guesses")).mappings().all()

    assert "oh that was my password" not in str(kept).casefold()


def test_guesses_at_once_are_no_way_around(engine: Engine) -> None:
    admitted: list[float] = []
    start = threading.Barrier(12)

    def guess() -> None:
        start.wait()
        try:
            with transaction(engine) as session:
                guesses.admit(session, "bs.nam", "10.0.0.7")
        except TooOften:
            return
        admitted.append(utc_now().timestamp())

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(admitted) == LIMITS["pair"].free
