"""How a report begins: about one patient, for orders that have no report yet."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from ris import locks as study_locks
from ris import orders
from ris.model import OrderState, Patient
from ris.reports import contents, locks, records, subjects, writing
from ris.reports.faults import LANGUAGES, Fault, Invalid, refused
from ris.reports.model import Opening, Practitioner, Report, Subject
from ris.reports.states import ENDED, Action, Status
from ris.reports.tables import ReportOrderRow, ReportRow
from ris.reports.writing import Step
from storage.base import values
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Session

MOST_STUDIES: Final = 20


def open_report(session: Session, person: Practitioner, opening: Opening) -> Report:
    """Begin a report, claimed by `person`.

    Raises
    ------
    Invalid
        It is about nothing, about several patients or about a study that is not held, or its
        text cannot be used.
    Refused
        One of the orders has a report; or, when none is named, all of the study have one, or the
        study has one without an order: a further one is opened by naming its orders, or none.
    """
    _check(opening)
    study_locks.lock_studies(session, opening.study_instance_uids)
    order_ids = _order_ids(session, opening)
    subject = _subject_of(session, opening, order_ids)
    content = contents.cleaned(replace(opening.content, addenda=()))
    row = _row(session, opening, order_ids)
    locks.hold(row, person)
    session.add(row)
    session.flush()
    _take(session, row, order_ids)
    step = Step(
        action=Action.SAVE,
        status=Status.DRAFT,
        content=content,
        author=person,
        reader=person,
        subject=subject,
    )
    writing.write(session, row, step)
    return records.report_of(session, row)


def _check(opening: Opening) -> None:
    """Raise `Invalid` when the language or a UID is none, or the studies are too many."""
    if opening.language not in LANGUAGES:
        raise Invalid(Fault("unknown_value", "/language", {"known": ", ".join(LANGUAGES)}))
    if len(opening.study_instance_uids) > MOST_STUDIES:
        raise Invalid(Fault("too_many", "/study_instance_uids", {"most": MOST_STUDIES}))
    for index, uid in enumerate(opening.study_instance_uids):
        if not values.is_uid(uid):
            raise Invalid(Fault("not_a_uid", f"/study_instance_uids/{index}"))


def _order_ids(session: Session, opening: Opening) -> Sequence[int]:
    if opening.order_ids is not None:
        return [*dict.fromkeys(opening.order_ids)]
    found = [one for uid in opening.study_instance_uids for one in orders.of_study(session, uid)]
    ids = [*dict.fromkeys(one.id for one in found if one.state is not OrderState.CANCELED)]
    statement = select(ReportOrderRow.order_id).where(
        ReportOrderRow.order_id.in_(ids), ReportOrderRow.live
    )
    taken = {*session.scalars(statement)}
    free = [one for one in ids if one not in taken]
    if taken and not free:
        raise refused("order_has_report", order=min(taken))
    if not free and _has_report(session, opening.study_instance_uids):
        raise refused("study_has_report")
    return free


def _has_report(session: Session, study_instance_uids: Sequence[str]) -> bool:
    """Return whether one of these studies has a report that is not over."""
    statement = select(ReportRow.id).where(
        ReportRow.study_instance_uids.overlap([*study_instance_uids]),
        ReportRow.status.not_in(ENDED),
    )
    return session.scalar(statement.limit(1)) is not None


def _study_instance_uids(
    session: Session, opening: Opening, order_ids: Sequence[int]
) -> Sequence[str]:
    if opening.study_instance_uids:
        return [*dict.fromkeys(opening.study_instance_uids)]
    uids = [uid for order_id in order_ids for uid in orders.studies_of(session, order_id)]
    return [*dict.fromkeys(uids)]


def _row(session: Session, opening: Opening, order_ids: Sequence[int]) -> ReportRow:
    now = utc_now()
    accessions = [orders.get(session, order_id).accession_number for order_id in order_ids]
    return ReportRow(
        uid=uuid4().hex,
        status=Status.DRAFT,
        revision=0,
        version=0,
        study_instance_uids=_study_instance_uids(session, opening, order_ids),
        accession_numbers=[number for number in dict.fromkeys(accessions) if number],
        language=opening.language,
        second_reading=opening.second_reading,
        retraction_asked_by="",
        created_at=now,
        changed_at=now,
    )


def _subject_of(session: Session, opening: Opening, order_ids: Sequence[int]) -> Subject:
    """Return the one patient that everything is about."""
    if not opening.study_instance_uids and not order_ids:
        raise Invalid(Fault("one_of_both"))
    studied = _subjects(session, opening.study_instance_uids)
    if not order_ids:
        _require_one(studied)
        return studied[0]
    patient, subject = _ordered(session, order_ids)
    for index, other in enumerate(studied):
        # what rules or a person have attached belongs to him, whatever its header says
        attached = orders.attached_to(session, opening.study_instance_uids[index])
        if not {*attached} & {*order_ids} and not subjects.belongs_to(other, patient):
            raise Invalid(Fault("other_patient", f"/study_instance_uids/{index}"))
    return subject


def _ordered(session: Session, order_ids: Sequence[int]) -> tuple[Patient, Subject]:
    """Return the one patient of these orders."""
    found = []
    for index, order_id in enumerate(order_ids):
        try:
            found.append(subjects.of_order(session, order_id))
        except NotFound:
            raise Invalid(Fault("unknown_order", f"/order_ids/{index}")) from None
        if found[-1][0].id != found[0][0].id:
            raise Invalid(Fault("other_patient", f"/order_ids/{index}"))
    return found[0]


def _require_one(studied: Sequence[Subject]) -> None:
    for index, subject in enumerate(studied):
        if _identity(subject) != _identity(studied[0]):
            raise Invalid(Fault("other_patient", f"/study_instance_uids/{index}"))


def _subjects(session: Session, study_instance_uids: Sequence[str]) -> list[Subject]:
    found = []
    for index, uid in enumerate(study_instance_uids):
        subject = subjects.of_study(session, uid)
        if subject is None:
            raise Invalid(Fault("unknown_study", f"/study_instance_uids/{index}"))
        found.append(subject)
    return found


def _identity(subject: Subject) -> tuple[str, str]:
    return subject.patient_id, subject.issuer_of_patient_id


def _take(session: Session, row: ReportRow, order_ids: Sequence[int]) -> None:
    """Note which orders the report is for; an order has one live report at a time."""
    for order_id in sorted({*order_ids}):
        taken = session.scalar(
            insert(ReportOrderRow)
            .values(report_id=row.id, order_id=order_id, live=True)
            .on_conflict_do_nothing()
            .returning(ReportOrderRow.order_id)
        )
        if taken is None:
            raise refused("order_has_report", order=order_id)
