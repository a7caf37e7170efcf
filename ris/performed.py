"""Performed procedure steps: what devices say they do, and what that makes of orders (PS3.4 F).

    N-CREATE ─ the step and its items ─ each item linked to scheduled steps ─┐
    N-SET ──── only while it is in progress ─────────────────────────────────┴─ steps, orders, HIS

One performed step may be for several scheduled ones, and for several orders (IHE group case);
one scheduled step may be performed in several (append case). What an item names is looked for
again whenever its study is attached to an order: images and steps may come before orders.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import and_, false, or_, select
from sqlalchemy.dialects.postgresql import insert

from ris import locks, news, orders, patients
from ris.keys import Attributes
from ris.model import StepStatus
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from ris.verdict import PerformedStatus, step_status
from storage.archive import studies
from storage.base import temporal
from storage.base.errors import Conflict, Malformed, NotFound
from storage.base.values import is_uid
from storage.db.engine import Session

STATUS: Final = "PerformedProcedureStepStatus"
ITEMS: Final = "ScheduledStepAttributesSequence"
_SERIES: Final = "PerformedSeriesSequence"
_REASONS: Final = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
_OBJECTS: Final = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedItem:
    """One scheduled step that a performed step is for, as far as it is known."""

    study_instance_uid: str
    accession_number: str
    requested_procedure_id: str
    scheduled_procedure_step_id: str
    order_id: int | None
    procedure_id: int | None
    step_id: int | None
    linked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """A performed step as people see it."""

    sop_instance_uid: str
    status: PerformedStatus
    reason: str
    performed_procedure_step_id: str
    modality: str
    station_ae_title: str
    calling_ae_title: str
    patient_id: str
    started: datetime | None
    """Local time."""
    ended: datetime | None
    objects: int
    """How many it says it made."""
    assumed: bool
    synthesised: bool
    created_at: datetime
    changed_at: datetime
    items: tuple[PerformedItem, ...]

    @property
    def study_instance_uids(self) -> tuple[str, ...]:
        """The studies that it makes, each once."""
        return tuple(dict.fromkeys(item.study_instance_uid for item in self.items))


def create(
    session: Session, uid: str, attributes: Attributes, calling_ae_title: str, at: datetime
) -> None:
    """Begin a step (N-CREATE).

    Raises
    ------
    Conflict
        There is a step of that UID.
    """
    stored = _stored(attributes)
    items = [*_items(stored)]
    made = {item["study_instance_uid"] for item in items}
    locks.lock_studies(session, made)
    statement = (
        insert(PerformedStepRow)
        .values(
            sop_instance_uid=uid,
            calling_ae_title=calling_ae_title,
            created_at=at,
            changed_at=at,
            **_columns(stored),
        )
        .on_conflict_do_nothing(index_elements=["sop_instance_uid"])
        .returning(PerformedStepRow.id)
    )
    performed_ref = session.scalar(statement)
    if performed_ref is None:
        raise Conflict("there is a performed step of that UID")
    session.add_all(PerformedItemRow(performed_ref=performed_ref, **item) for item in items)
    session.flush()
    _link(session, [performed_ref])
    news.notice(session, made, at)


def update(session: Session, uid: str, attributes: Attributes, at: datetime) -> None:
    """Change a step, or bring it to its end (N-SET).

    A step that we took for ended, because nobody ended it, may still be ended by its device.

    Raises
    ------
    NotFound
        There is no step of that UID.
    Conflict
        It is at its end: it may no longer be updated (PS3.4 F.7.2.2.2).
    """
    made = _studies_of(session, uid)
    locks.lock_studies(session, made)
    row = session.scalars(
        select(PerformedStepRow)
        .where(PerformedStepRow.sop_instance_uid == uid)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if row.status != PerformedStatus.IN_PROGRESS and not row.assumed:
        raise Conflict("it is at its end and may no longer be updated")
    changed = {**row.attributes, **_stored(attributes)}
    for name, value in _columns(changed).items():
        setattr(row, name, value)
    row.assumed = row.assumed and STATUS not in attributes
    row.changed_at = at
    session.flush()
    _perform(session, _step_ids(session, [row.id]))
    news.notice(session, made, at)


def get(session: Session, uid: str) -> Attributes:
    """Return the attributes of a step (N-GET).

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    return _row(session, uid).attributes


def show(session: Session, uid: str) -> PerformedStep:
    """Return one step.

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    return _shown(session, [_row(session, uid)])[0]


def of_study(session: Session, study_instance_uid: str) -> list[PerformedStep]:
    """Return the steps that make a study, in the order in which they were begun."""
    return _shown(session, _rows_of_study(session, study_instance_uid))


def of_order(session: Session, order_id: int) -> list[PerformedStep]:
    """Return the steps that were performed for an order, in the order in which they were begun."""
    its = select(PerformedItemRow.performed_ref).where(PerformedItemRow.order_ref == order_id)
    statement = select(PerformedStepRow).where(PerformedStepRow.id.in_(its))
    return _shown(session, session.scalars(statement.order_by(PerformedStepRow.id)).all())


def newest(
    session: Session, limit: int, before: str | None = None, status: PerformedStatus | None = None
) -> list[PerformedStep]:
    """Return steps, the newest first, those behind the step `before`."""
    statement = select(PerformedStepRow).order_by(PerformedStepRow.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(PerformedStepRow.id < _row(session, before).id)
    if status is not None:
        statement = statement.where(PerformedStepRow.status == status)
    return _shown(session, session.scalars(statement).all())


def missing_objects(session: Session, uid: str) -> int:
    """Return how many of the objects that a step says it made are not in the archive.

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    return studies.missing(session, _row(session, uid).instance_uids)


def close(session: Session, uid: str) -> None:
    """Take a step for completed that nobody ended.

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    row = _row(session, uid)
    row.status, row.assumed = PerformedStatus.COMPLETED, True
    row.attributes = {**row.attributes, STATUS: row.status}
    session.flush()
    _perform(session, _step_ids(session, [row.id]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a device made without telling of a performed step, for one in its place."""

    study_instance_uid: str
    patient_id: str
    modality: str
    station_ae_title: str
    started: datetime | None
    """Local time."""
    ended: datetime | None
    series_instance_uids: Sequence[str]


def synthesise(session: Session, made: Made, step_ids: Collection[int], at: datetime) -> str:
    """Make the performed step that no device told, completed, for these scheduled steps.

    Returns
    -------
    str
        Its SOP Instance UID.
    """
    uid = f"2.25.{uuid4().int}"
    attributes: dict[str, Any] = {
        STATUS: PerformedStatus.COMPLETED.value,
        "Modality": made.modality,
        "PatientID": made.patient_id,
        "PerformedStationAETitle": made.station_ae_title,
        "PerformedProcedureStepStartDate": _day(made.started),
        "PerformedProcedureStepStartTime": _time(made.started),
        "PerformedProcedureStepEndDate": _day(made.ended),
        "PerformedProcedureStepEndTime": _time(made.ended),
        ITEMS: [{"StudyInstanceUID": made.study_instance_uid}],
        _SERIES: [{"SeriesInstanceUID": one} for one in made.series_instance_uids],
    }
    row = PerformedStepRow(
        sop_instance_uid=uid,
        calling_ae_title="",
        created_at=at,
        changed_at=at,
        assumed=True,
        synthesised=True,
        **_columns(attributes),
    )
    session.add(row)
    session.flush()
    for step in session.scalars(select(StepRow).where(StepRow.id.in_(step_ids))):
        session.add(_item_of(row.id, made.study_instance_uid, step, "images"))
    session.flush()
    _perform(session, step_ids)
    return uid


def attach(session: Session, study_instance_uid: str, procedure_ids: Collection[int]) -> None:
    """Let the performed steps of a study count for these requested procedures.

    Items that already name a scheduled step of one of them stay as they are.
    """
    rows = _rows_of_study(session, study_instance_uid)
    for procedure_id in sorted(procedure_ids):
        held = {
            item.performed_ref
            for item in _items_of(session, [row.id for row in rows])
            if item.procedure_ref == procedure_id
        }
        for row in rows:
            if row.id not in held:
                _count_for(session, row, study_instance_uid, procedure_id)
    session.flush()
    _perform(session, _step_ids(session, [row.id for row in rows]))


def detach(session: Session, study_instance_uid: str, procedure_ids: Collection[int]) -> None:
    """Let the performed steps of a study count for these procedures no longer.

    What was made up for a study goes; steps of which nothing is left are to be done again.
    """
    rows = _rows_of_study(session, study_instance_uid)
    items = [
        item
        for item in _items_of(session, [row.id for row in rows])
        if item.procedure_ref in procedure_ids and item.study_instance_uid == study_instance_uid
    ]
    freed = sorted({item.step_ref for item in items if item.step_ref})
    made_up = {row.id for row in rows if row.synthesised}
    for item in items:
        if item.performed_ref in made_up or item.linked_by in _ADDED:
            session.delete(item)
        else:
            item.order_ref = item.procedure_ref = item.step_ref = None
            item.linked_by = ""
    session.flush()
    for row in rows:
        if row.id in made_up and not _items_of(session, [row.id]):
            session.delete(row)
    session.flush()
    _perform(session, freed)


# Reading what was sent


def _items(attributes: Attributes) -> Iterator[dict[str, str]]:
    names = {
        "study_instance_uid": "StudyInstanceUID",
        "accession_number": "AccessionNumber",
        "requested_procedure_id": "RequestedProcedureID",
        "scheduled_procedure_step_id": "ScheduledProcedureStepID",
    }
    seen = set()
    for item in _sequence(attributes, ITEMS):
        found = {column: _word(item, keyword) for column, keyword in names.items()}
        key = tuple(found.values())
        if key not in seen:
            seen.add(key)
            yield found


def _columns(attributes: Mapping[str, Any]) -> dict[str, Any]:
    reasons = _sequence(attributes, _REASONS)
    return {
        "attributes": attributes,
        "status": _word(attributes, STATUS),
        "reason": _word(reasons[0], "CodeValue") if reasons else "",
        "performed_procedure_step_id": _word(attributes, "PerformedProcedureStepID"),
        "modality": _word(attributes, "Modality"),
        "station_ae_title": _word(attributes, "PerformedStationAETitle"),
        "patient_id": _word(attributes, "PatientID"),
        "started": _moment(attributes, "PerformedProcedureStepStart"),
        "ended": _moment(attributes, "PerformedProcedureStepEnd"),
        "instance_uids": sorted(_named_objects(attributes)),
    }


def _named_objects(attributes: Attributes) -> set[str]:
    return {
        uid
        for series in _sequence(attributes, _SERIES)
        for keyword in _OBJECTS
        for reference in _sequence(series, keyword)
        if is_uid(uid := _word(reference, "ReferencedSOPInstanceUID"))
    }


def _moment(attributes: Attributes, prefix: str) -> datetime | None:
    try:
        day = temporal.parse_da(_word(attributes, f"{prefix}Date"))
        moment = temporal.parse_tm(_word(attributes, f"{prefix}Time"))
    except Malformed:
        return None
    return datetime.combine(day, moment or datetime.min.time()) if day else None


def _sequence(attributes: Attributes, keyword: str) -> Sequence[Attributes]:
    value = attributes.get(keyword, ())
    return () if isinstance(value, str) else value


def _word(attributes: Attributes, keyword: str) -> str:
    value = attributes.get(keyword, "")
    return value.strip() if isinstance(value, str) else ""


def _stored(attributes: Attributes) -> dict[str, Any]:
    """Return what the database can keep: no NUL."""
    return {
        keyword: value.replace("\0", "") if isinstance(value, str) else [*map(_stored, value)]
        for keyword, value in attributes.items()
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y%m%d}" if moment else ""


def _time(moment: datetime | None) -> str:
    return f"{moment:%H%M%S}" if moment else ""


# Which scheduled steps an item means

SENT: Final = ("step", "study", "accession")
"""How an item is linked by what its device sent: what the rules of `_link_item` are called."""
_ADDED: Final = ("added", "images")
"""How items are linked that no device sent."""
_Candidate = tuple[StepRow, ProcedureRow, OrderRow]


def _link(session: Session, performed_refs: Sequence[int]) -> None:
    """Link the items that are not linked yet, and bring the steps that they mean up to date."""
    for performed_ref in performed_refs:
        row = session.get_one(PerformedStepRow, performed_ref)
        for item in _items_of(session, [performed_ref]):
            if item.procedure_ref is None:
                _link_item(session, row, item)
    session.flush()
    _perform(session, _step_ids(session, performed_refs))


def _link_item(session: Session, row: PerformedStepRow, item: PerformedItemRow) -> None:
    found = _candidates(session, row, item)
    same_study = [one for one in found if one[1].study_instance_uid == item.study_instance_uid]
    for how, meant in (
        ("step", [one for one in found if _names_step(item, one) and _names_order(item, one)]),
        ("study", [one for one in same_study if _names_order(item, one)]),
        ("accession", [one for one in found if _same_accession(item, one)]),
        ("study", same_study),
    ):
        if not meant:
            continue
        of_modality = [one for one in meant if one[0].modality == row.modality]
        first, *others = _of_one_order(of_modality or meant, item)
        _point(item, first[0], how)
        for step, _, _ in others:
            session.add(_item_of(row.id, item.study_instance_uid, step, how))
        return


def _candidates(
    session: Session, row: PerformedStepRow, item: PerformedItemRow
) -> Sequence[_Candidate]:
    """Return the scheduled steps of the study, and those of the patient under a number of it."""
    numbers = []
    if item.accession_number:
        numbers.append(OrderRow.accession_number == item.accession_number)
    if item.scheduled_procedure_step_id and row.patient_id:
        number = StepRow.scheduled_procedure_step_id
        numbers.append(number == item.scheduled_procedure_step_id)
    wanted = or_(false(), *numbers)
    if row.patient_id:
        people = patients.known_as(session, [row.patient_id])
        wanted = and_(wanted, PatientRow.root_ref.in_(people))
    statement = (
        select(StepRow, ProcedureRow, OrderRow)
        .join(ProcedureRow, ProcedureRow.id == StepRow.procedure_ref)
        .join(OrderRow, OrderRow.id == StepRow.order_ref)
        .join(PatientRow, PatientRow.id == OrderRow.patient_ref)
        .where(or_(ProcedureRow.study_instance_uid == item.study_instance_uid, wanted))
        .order_by(StepRow.start, StepRow.id)
    )
    return session.execute(statement).all()


def _names_step(item: PerformedItemRow, candidate: _Candidate) -> bool:
    number = item.scheduled_procedure_step_id
    return bool(number) and candidate[0].scheduled_procedure_step_id == number


def _names_order(item: PerformedItemRow, candidate: _Candidate) -> bool:
    """Whether the rest of the item does not speak of another order."""
    sent = item.accession_number
    return not sent or sent == candidate[2].accession_number


def _same_accession(item: PerformedItemRow, candidate: _Candidate) -> bool:
    return bool(item.accession_number) and candidate[2].accession_number == item.accession_number


def _of_one_order(found: Sequence[_Candidate], item: PerformedItemRow) -> Sequence[_Candidate]:
    """Return the candidates of the order that the item names; of the first, where it names none.

    Several orders of one study are each named by an item of their own (IHE group case).
    """
    named = [one for one in found if _same_accession(item, one)]
    first = (named or found)[0]
    return [one for one in found if one[2].id == first[2].id]


def _point(item: PerformedItemRow, step: StepRow, how: str) -> None:
    item.step_ref, item.procedure_ref, item.order_ref = step.id, step.procedure_ref, step.order_ref
    item.linked_by = how


def _item_of(
    performed_ref: int, study_instance_uid: str, step: StepRow, how: str
) -> PerformedItemRow:
    item = PerformedItemRow(
        performed_ref=performed_ref,
        study_instance_uid=study_instance_uid,
        scheduled_procedure_step_id=step.scheduled_procedure_step_id,
    )
    _point(item, step, how)
    return item


def _count_for(
    session: Session, row: PerformedStepRow, study_instance_uid: str, procedure_id: int
) -> None:
    """Point a free item of a performed step at a procedure, or add one."""
    steps = session.scalars(
        select(StepRow).where(StepRow.procedure_ref == procedure_id).order_by(StepRow.id)
    ).all()
    meant = [one for one in steps if one.modality == row.modality] or steps
    free = [
        item
        for item in _items_of(session, [row.id])
        if item.procedure_ref is None and item.study_instance_uid == study_instance_uid
    ]
    for step in meant:
        if free:
            _point(free.pop(0), step, "attached")
        else:
            session.add(_item_of(row.id, study_instance_uid, step, "added"))
    session.flush()


# What it makes of scheduled steps and orders


def _step_ids(session: Session, performed_refs: Sequence[int]) -> list[int]:
    statement = select(PerformedItemRow.step_ref).where(
        PerformedItemRow.performed_ref.in_(performed_refs), PerformedItemRow.step_ref.is_not(None)
    )
    return [one for one in session.scalars(statement.distinct()) if one is not None]


def _perform(session: Session, step_ids: Collection[int]) -> None:
    """Bring scheduled steps to where their performed steps say; orders follow, the HIS is told."""
    steps = session.scalars(
        select(StepRow)
        .where(StepRow.id.in_(step_ids))
        .order_by(StepRow.order_ref, StepRow.id)
        .execution_options(populate_existing=True)
    ).all()
    locks.lock_orders(session, {step.order_ref for step in steps})
    for step in steps:
        session.refresh(step)
        told = session.execute(
            select(PerformedStepRow.status, PerformedStepRow.reason)
            .join(PerformedItemRow, PerformedItemRow.performed_ref == PerformedStepRow.id)
            .where(PerformedItemRow.step_ref == step.id)
        ).all()
        statuses = [PerformedStatus(status) for status, _ in told]
        reasons = [reason for _, reason in told]
        becomes = step_status(_unperformed(step.status), statuses, reasons)
        if becomes != step.status:
            orders.step_became(session, step.id, StepStatus(becomes))


def _unperformed(status: str) -> str:
    """Return where a scheduled step is without what was performed."""
    performed = {StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.DISCONTINUED}
    return StepStatus.SCHEDULED.value if status in performed else status


# Rows


def _row(session: Session, uid: str) -> PerformedStepRow:
    statement = select(PerformedStepRow).where(PerformedStepRow.sop_instance_uid == uid)
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("there is no performed step of that UID")
    return row


def _studies_of(session: Session, uid: str) -> set[str]:
    return {item.study_instance_uid for item in _items_of(session, [_row(session, uid).id])}


def _items_of(session: Session, performed_refs: Collection[int]) -> Sequence[PerformedItemRow]:
    statement = select(PerformedItemRow).where(PerformedItemRow.performed_ref.in_(performed_refs))
    return session.scalars(statement.order_by(PerformedItemRow.id)).all()


def _rows_of_study(session: Session, study_instance_uid: str) -> Sequence[PerformedStepRow]:
    its = select(PerformedItemRow.performed_ref).where(
        PerformedItemRow.study_instance_uid == study_instance_uid
    )
    statement = select(PerformedStepRow).where(PerformedStepRow.id.in_(its))
    return session.scalars(statement.order_by(PerformedStepRow.id)).all()


def _shown(session: Session, rows: Iterable[PerformedStepRow]) -> list[PerformedStep]:
    given = [*rows]
    items: dict[int, list[PerformedItem]] = {}
    for item in _items_of(session, [row.id for row in given]):
        items.setdefault(item.performed_ref, []).append(
            PerformedItem(
                study_instance_uid=item.study_instance_uid,
                accession_number=item.accession_number,
                requested_procedure_id=item.requested_procedure_id,
                scheduled_procedure_step_id=item.scheduled_procedure_step_id,
                order_id=item.order_ref,
                procedure_id=item.procedure_ref,
                step_id=item.step_ref,
                linked_by=item.linked_by,
            )
        )
    return [
        PerformedStep(
            sop_instance_uid=row.sop_instance_uid,
            status=PerformedStatus(row.status),
            reason=row.reason,
            performed_procedure_step_id=row.performed_procedure_step_id,
            modality=row.modality,
            station_ae_title=row.station_ae_title,
            calling_ae_title=row.calling_ae_title,
            patient_id=row.patient_id,
            started=row.started,
            ended=row.ended,
            objects=len(row.instance_uids),
            assumed=row.assumed,
            synthesised=row.synthesised,
            created_at=row.created_at,
            changed_at=row.changed_at,
            items=tuple(items.get(row.id, ())),
        )
        for row in given
    ]
