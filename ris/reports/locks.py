"""Who works on a report: a claim that runs out by itself, for a browser may be closed."""

from datetime import timedelta
from typing import Final

from ris.reports import records
from ris.reports.contents import check_short
from ris.reports.faults import Fault, NotAllowed, Words, refused
from ris.reports.model import Practitioner, Report
from ris.reports.states import ENDED, NAMES, Status
from ris.reports.tables import ReportRow
from storage.base.clock import utc_now
from storage.db.engine import Session

TIME_OUT: Final = timedelta(minutes=15)
"""A claim is renewed by whoever still works; a page does so every few minutes."""
LONGEST: Final = timedelta(hours=4)
_CLAIM: Final = Words("claim", "nhận ca")
_TAKE_OVER: Final = Words("take over", "nhận lại ca của người khác")


def claim(
    session: Session, person: Practitioner, uid: str, time_out: timedelta = TIME_OUT
) -> Report:
    """Claim a report, or renew one's claim; it ends after `time_out`, at most `LONGEST`.

    Raises
    ------
    Refused
        Somebody else works on it, or nothing can follow in its state.
    """
    row = records.held(session, uid, for_change=True)
    if Status(row.status) in ENDED:
        raise refused("not_after", status=NAMES[Status(row.status)].words, action=_CLAIM)
    require_free(row, person)
    hold(row, person, time_out)
    session.flush()
    return records.report_of(session, row)


def release(session: Session, person: Practitioner, uid: str) -> Report:
    """Give one's claim back; that of nobody is left as it is.

    Raises
    ------
    Refused
        Somebody else works on it.
    """
    row = records.held(session, uid, for_change=True)
    require_free(row, person)
    let_go(row)
    session.flush()
    return records.report_of(session, row)


def take_over(session: Session, person: Practitioner, uid: str, reason: str) -> Report:
    """Claim a report that somebody else works on.

    Raises
    ------
    NotAllowed
        The person may not approve.
    Refused
        No reason is given.
    """
    require_approver(person, _TAKE_OVER)
    if not check_short(reason, "/reason"):
        raise refused("needs_reason")
    row = records.held(session, uid, for_change=True)
    hold(row, person, TIME_OUT)
    session.flush()
    return records.report_of(session, row)


def require_free(row: ReportRow, person: Practitioner) -> None:
    """Raise `Refused` when somebody else works on the report."""
    until = row.locked_until
    if until is not None and until > utc_now() and row.locked_by not in {"", person.code}:
        raise refused("locked", holder=row.locked_name, until=until.isoformat(timespec="minutes"))


def require_approver(person: Practitioner, action: Words) -> None:
    """Raise `NotAllowed` unless `person` may approve."""
    if not person.may_approve:
        raise NotAllowed(Fault("needs_approver", values={"action": action}))


def hold(row: ReportRow, person: Practitioner, time_out: timedelta = TIME_OUT) -> None:
    """Note that `person` works on the report."""
    row.locked_by, row.locked_name = person.code, person.name
    row.locked_until = utc_now() + min(max(time_out, timedelta()), LONGEST)


def let_go(row: ReportRow) -> None:
    """Note that nobody works on the report."""
    row.locked_by, row.locked_name, row.locked_until = "", "", None
