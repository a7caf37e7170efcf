"""The images that a reader has chosen; some of them for who has sent the patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select

from ris.reports import locks, records
from ris.reports.contents import check_short
from ris.reports.faults import Fault, Invalid
from ris.reports.model import Practitioner
from ris.reports.tables import KeyImageRow
from storage.archive import instances
from storage.base import values
from storage.db.engine import Session

MOST: Final = 50


@dataclass(frozen=True, slots=True)
class KeyImage:
    """One chosen image."""

    study_instance_uid: str
    sop_instance_uid: str
    frame: int = 1
    """Counted from 1."""
    label: str = ""
    for_provider: bool = False
    """For the referring provider: health stations may be shown it."""


def put(
    session: Session, person: Practitioner, report_uid: str, chosen: Sequence[KeyImage]
) -> Sequence[KeyImage]:
    """Choose the images of a report anew, in this order; stations hear of it.

    Raises
    ------
    Missing
        There is no such report.
    Refused
        Somebody else works on it.
    Invalid
        An image is not one of the report's studies, has no such frame, or they are too many.
    """
    row = records.held(session, report_uid, for_change=True)
    locks.require_free(row, person)
    if len(chosen) > MOST:
        raise Invalid(Fault("too_many", "", {"most": MOST}))
    for index, one in enumerate(chosen):
        _check(session, row.study_instance_uids, one, f"/{index}")
    before = _for_provider(of_report(session, report_uid))
    session.execute(delete(KeyImageRow).where(KeyImageRow.report_id == row.id))
    session.add_all(
        KeyImageRow(
            report_id=row.id,
            position=position,
            study_instance_uid=one.study_instance_uid,
            sop_instance_uid=one.sop_instance_uid,
            frame=one.frame,
            label=check_short(one.label, f"/{position}/label"),
            for_provider=one.for_provider,
        )
        for position, one in enumerate(chosen)
    )
    session.flush()
    if row.version and _for_provider(chosen) != before:
        records.renew(session, row)
    return of_report(session, report_uid)


def _for_provider(images: Sequence[KeyImage]) -> list[KeyImage]:
    return [one for one in images if one.for_provider]


def of_report(session: Session, report_uid: str) -> Sequence[KeyImage]:
    """Return the chosen images of a report in their order.

    Raises
    ------
    Missing
        There is no such report.
    """
    report = records.held(session, report_uid)
    statement = select(KeyImageRow).where(KeyImageRow.report_id == report.id)
    return [
        KeyImage(
            row.study_instance_uid, row.sop_instance_uid, row.frame, row.label, row.for_provider
        )
        for row in session.scalars(statement.order_by(KeyImageRow.position))
    ]


def _check(session: Session, studies: Sequence[str], one: KeyImage, pointer: str) -> None:
    uids = one.study_instance_uid, one.sop_instance_uid
    if not all(map(values.is_uid, uids)):
        raise Invalid(Fault("not_a_uid", pointer))
    keys = {"StudyInstanceUID": uids[0], "SOPInstanceUID": uids[1]}
    held = instances.locate(session, keys) if uids[0] in studies else ()
    if not held or not 1 <= one.frame <= max(held[0].number_of_frames, 1):
        raise Invalid(Fault("unknown_image", pointer))
