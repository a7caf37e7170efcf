"""What the database can leave out of a worklist; the exact matcher decides on the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Text, and_, any_, false, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from ris import identity
from ris.tables import IdentifierRow, OrderRow, PatientRow, ProcedureRow, StepRow
from ris.worklist.keywords import MODALITY, STATION, STATUS, STEP
from storage.base import names, temporal

_Column = InstrumentedAttribute[str]
_Condition = Callable[[Sequence[str]], Iterator[ColumnElement[bool]]]


def parts_of(value: str) -> list[str]:
    """Return the values of a key that are not empty."""
    return [part for one in value.replace("\0", "").split("\\") if (part := one.strip())]


def is_wild(text: str) -> bool:
    """Whether a value is a pattern."""
    return "*" in text or "?" in text


def _exactly(column: _Column) -> _Condition:
    def condition(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
        if any(map(is_wild, parts)):
            yield or_(*(column.like(_like(part), escape="!") for part in parts))
        else:
            yield _is_one_of(column, parts)

    return condition


def _like(pattern: str) -> str:
    escaped = pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return escaped.replace("*", "%").replace("?", "_")


def _is_one_of(column: _Column, parts: Sequence[str]) -> ColumnElement[bool]:
    return column == any_(literal([*parts], ARRAY(Text)))


def _modality(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    [wanted] = _exactly(StepRow.modality)([part.upper() for part in parts])
    yield or_(wanted, StepRow.modality == "")


def _status(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    yield from _exactly(StepRow.status)([part.upper() for part in parts])


def _station(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    """Steps of any station are of every one; patterns are left to the matcher."""
    if not any(map(is_wild, parts)):
        held = StepRow.station_ae_titles
        yield or_(held.overlap(literal([*parts], ARRAY(Text))), held == literal([], ARRAY(Text)))


def _patient_id(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    if any(map(is_wild, parts)):
        return
    keys = {key for part in parts for key in identity.spellings(part)}
    known = select(IdentifierRow.patient_ref).where(IdentifierRow.value_key.in_(keys))
    yield OrderRow.patient_ref.in_(select(PatientRow.id).where(PatientRow.root_ref.in_(known)))


def _patient_name(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    clauses = [and_(*map(_has, _literal_runs(part))) for part in parts]
    named = select(PatientRow.id).where(or_(*clauses)) if all(map(_literal_runs, parts)) else None
    if named is not None:
        root = PatientRow.root_ref
        yield OrderRow.patient_ref.in_(select(PatientRow.id).where(root.in_(named)))


def _has(run: str) -> ColumnElement[bool]:
    return PatientRow.patient_name_key.like(f"%{_like(run)}%", escape="!")


def _literal_runs(name: str) -> list[str]:
    """Return what stands between the wild cards of a folded name, where it can be looked for."""
    folded = (names.fold(group) for group in name.split("="))
    runs = (run for group in folded for run in group.replace("?", "*").split("*"))
    return [word for run in runs for word in run.split()]


def on_days(parts: Sequence[str], slack: timedelta) -> ColumnElement[bool]:
    """Steps that begin on these days, or so much before or after."""
    return or_(false(), *(_between(*temporal.da_range(part), slack) for part in parts))


def _between(first: date | None, last: date | None, slack: timedelta) -> ColumnElement[bool]:
    ends = []
    if first is not None:
        ends.append(StepRow.start >= _shifted(first, -slack))
    if last is not None:
        ends.append(StepRow.start < _shifted(last, slack + timedelta(days=1)))
    return and_(*ends)


def _shifted(day: date, by: timedelta) -> datetime:
    try:
        return datetime.combine(day, time.min) + by
    except OverflowError:
        return datetime.min if by < timedelta() else datetime.max  # noqa: DTZ901 - local time


CONDITIONS: Final[Mapping[str, _Condition]] = {
    MODALITY: _modality,
    STATUS: _status,
    STATION: _station,
    f"{STEP}.ScheduledProcedureStepID": _exactly(StepRow.scheduled_procedure_step_id),
    "StudyInstanceUID": _exactly(ProcedureRow.study_instance_uid),
    "RequestedProcedureID": _exactly(ProcedureRow.requested_procedure_id),
    "AccessionNumber": _exactly(OrderRow.accession_number),
    "PatientID": _patient_id,
    "PatientName": _patient_name,
}
"""By keyword; every other key is matched by the matcher alone."""
