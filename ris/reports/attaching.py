"""Reports follow their studies: a study may get its order, or another one, after it was read.

    nothing was issued      the report is for the orders that its study belongs to now
    issued without an order it gets the order, and everybody is told who was not
    issued for an order     it stays; what was moved away has to be cancelled (`require_at_home`)

Without this a patient who was examined before his order came would have a report that nobody
is ever told of.
"""

import logging
from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from ris import orders, outbox, patients
from ris.model import OrderState
from ris.reports import releasing
from ris.reports.faults import refused
from ris.reports.model import Report
from ris.reports.states import ENDED, SIGNED, Status
from ris.reports.tables import ReportOrderRow, ReportRow, VersionRow
from storage.db.engine import Session

log = logging.getLogger(__name__)

_REPORTED = SIGNED | {Status.UNAPPROVED}
"""Of these the order counts as reported."""


def follow(session: Session, study_instance_uid: str) -> None:
    """Let the reports of a study be for the orders that it belongs to now.

    The caller holds the study (`ris.locks.lock_studies`).
    """
    statement = select(ReportRow).where(
        ReportRow.study_instance_uids.contains([study_instance_uid]),
        ReportRow.source == "",
        ReportRow.status.not_in(ENDED),
    )
    if session.scalar(select(statement.exists())):
        held = statement.order_by(ReportRow.id).with_for_update()
        for row in session.scalars(held.execution_options(populate_existing=True)).all():
            _follow(session, row)


def require_at_home(session: Session, report: Report) -> None:
    """Raise `Refused` when the studies of a report were taken from the orders that it is for."""
    held = {*report.order_ids}
    if held and held <= {*orders.was_taken_from(session, report.study_instance_uids)}:
        raise refused("study_moved")


def _follow(session: Session, row: ReportRow) -> None:
    statement = select(ReportOrderRow.order_id).where(ReportOrderRow.report_id == row.id)
    before = {*session.scalars(statement)}
    if row.version and before:
        return
    gone = before & {*orders.was_taken_from(session, row.study_instance_uids)}
    kept = before - gone
    added = [one for one in _orders_of(session, row, kept) if one not in before]
    if not added:
        return  # as it is: nobody else has claimed the study
    taken = _take(session, row.id, added)
    if not taken:
        return
    _leave(session, row.id, gone)
    numbers = (orders.get(session, one).accession_number for one in sorted(kept | {*taken}))
    row.accession_numbers = [*dict.fromkeys(filter(None, numbers))]
    session.flush()
    if row.version:
        _tell(session, row, taken)
    log.info("report_followed", extra={"count": len(taken)})


def _orders_of(session: Session, row: ReportRow, kept: Collection[int]) -> Sequence[int]:
    """Return the orders of the studies of a report, of one patient only."""
    found = [
        one
        for uid in row.study_instance_uids
        for one in orders.of_study(session, uid)
        if one.state is not OrderState.CANCELED
    ]
    people = {one.id: patients.get(session, one.patient_id).root for one in found}
    whose = {patients.get(session, orders.get(session, one).patient_id).root for one in kept}
    if len(whose | {*people.values()}) > 1:
        log.warning("report_not_followed", extra={"reason": "orders of several patients"})
        return []
    return [*people]


def _take(session: Session, report_id: int, order_ids: Sequence[int]) -> list[int]:
    """Note the orders that have no other report; return them."""
    taken = []
    for order_id in sorted(order_ids):
        fresh = insert(ReportOrderRow).values(report_id=report_id, order_id=order_id, live=True)
        done = fresh.on_conflict_do_nothing().returning(ReportOrderRow.order_id)
        if session.scalar(done) is not None:
            taken.append(order_id)
    return taken


def _leave(session: Session, report_id: int, order_ids: Collection[int]) -> None:
    if order_ids:
        session.execute(
            delete(ReportOrderRow)
            .where(ReportOrderRow.report_id == report_id, ReportOrderRow.order_id.in_(order_ids))
            .execution_options(synchronize_session=False)
        )


def _tell(session: Session, row: ReportRow, order_ids: Sequence[int]) -> None:
    """Tell the placers of these orders, and the stations, what was issued before."""
    if Status(row.status) in _REPORTED:
        signed_at = session.scalar(
            select(func.max(VersionRow.authored_at)).where(
                VersionRow.report_id == row.id,
                VersionRow.version > 0,
                VersionRow.status.in_(SIGNED),
            )
        )
        for order_id in order_ids:
            orders.mark_reported(session, order_id, signed_at)
    outbox.tell_reports_anew(session, row.uid)
    releasing.settle(session, row.uid)
