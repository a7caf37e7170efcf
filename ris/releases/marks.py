"""What people marked as sensitive: a report, or all of a patient."""

from collections.abc import Collection

from sqlalchemy import or_, select, update

from ris.releases.model import Sensitive
from ris.releases.tables import MarkRow
from storage.base.clock import utc_now
from storage.db.engine import Session


def put(
    session: Session,
    by: str,
    sensitive: Collection[Sensitive],
    *,
    report_uid: str = "",
    patient_id: int | None = None,
) -> None:
    """Say anew in which classes a report, or a patient, is."""
    now = utc_now()
    about = MarkRow.report_uid == report_uid if report_uid else MarkRow.patient_ref == patient_id
    session.execute(
        update(MarkRow)
        .where(about, MarkRow.lifted_at.is_(None))
        .values(lifted_at=now)
        .execution_options(synchronize_session=False)
    )
    session.add_all(
        MarkRow(
            report_uid=report_uid,
            patient_ref=patient_id,
            sensitive=one,
            marked_by=by,
            marked_at=now,
        )
        for one in sorted({*sensitive})
    )
    session.flush()


def of(session: Session, report_uid: str, patient_ids: Collection[int]) -> frozenset[Sensitive]:
    """Return the classes of a report and of its patient."""
    about = or_(MarkRow.report_uid == report_uid, MarkRow.patient_ref.in_({*patient_ids}))
    statement = select(MarkRow.sensitive).where(about, MarkRow.lifted_at.is_(None))
    return frozenset(map(Sensitive, session.scalars(statement)))
