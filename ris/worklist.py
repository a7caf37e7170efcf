"""The modality worklist: which steps are still to be done (PS3.4 Annex K).

    keys ─ SQL on indexed columns ─ candidates, earliest first ─ entries ─ the exact matcher

SQL only leaves out what cannot match; `ris.keys` decides. What a console does not say is
filled in: it means its own station, and steps that somebody still has to do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    false,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import BigInteger, Boolean

from ris import identity, orders, patients
from ris.keys import Attributes, Matcher, is_universal
from ris.model import Order, Patient, RequestedProcedure, ScheduledStep, StepStatus, Visit
from ris.requests import Code
from ris.tables import OPEN, IdentifierRow, OrderRow, PatientRow, ProcedureRow, StepRow
from storage.base import names, temporal, values
from storage.base.errors import Malformed
from storage.db.engine import Engine, Session, transaction

STEP: Final = "ScheduledProcedureStepSequence"
STATION: Final = f"{STEP}.ScheduledStationAETitle"
STATUS: Final = f"{STEP}.ScheduledProcedureStepStatus"
START_DATE: Final = f"{STEP}.ScheduledProcedureStepStartDate"
START_TIME: Final = f"{STEP}.ScheduledProcedureStepStartTime"
MODALITY: Final = f"{STEP}.Modality"
TIMEZONE: Final = "TimezoneOffsetFromUTC"
SHOWN: Final = frozenset(
    {StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY, StepStatus.STARTED}
)
"""What a worklist has when the query names no status: a step that was begun stays on it until it
is done, since consoles ask again in the middle of an exam."""
PAGE: Final = 200
"""Entries of one transaction of `iterate`."""


@dataclass(frozen=True, slots=True)
class Query:
    """One worklist query."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Dotted keyword → value as sent; '' matches everything."""
    calling_ae_title: str = ""
    """The console; '' for people, who are at no station."""
    every_station: bool = False
    """Without a station the query means all of them, not only the console's own."""
    combined_datetime: bool = False
    fuzzy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A scheduled step with everything that it is a part of."""

    step: ScheduledStep
    procedure: RequestedProcedure
    order: Order
    patient: Patient
    """Who stands for the patient of the order."""
    visit: Visit | None


class Filter:
    """What one query asks for, with what it leaves unsaid.

    Parameters
    ----------
    zone
        The time zone of the hospital: of all dates and times, unless the query names an offset.

    Raises
    ------
    Malformed
        A key cannot be read; the text names its keyword.
    """

    def __init__(self, query: Query, zone: tzinfo) -> None:
        given = {
            keyword: value
            for keyword, value in query.keys.items()
            if keyword in MATCHED and not is_universal(value)
        }
        self.own_station = (
            bool(query.calling_ae_title) and STATION not in given and not query.every_station
        )
        """Whether the station is left unsaid, and so is the console's own."""
        if self.own_station:
            given[STATION] = query.calling_ae_title
        self.keys: Mapping[str, str] = given
        self.offset = _offset(query.keys.get(TIMEZONE, ""))
        """Of the clock that the query speaks of; None: the hospital's."""
        self._query = query
        self._zone = zone
        self._matcher = Matcher(given, combined_datetime=query.combined_datetime, fuzzy=query.fuzzy)

    def entry(self, scheduled: Scheduled) -> Attributes:
        """Return what the worklist says of a step to who asks."""
        step = scheduled.step
        start, end = self._local(step.start), self._local(step.end)
        stations = self._stations(step.station_ae_titles)
        modality = step.modality or self._asked_modality()
        shown = replace(step, start=start, end=end, station_ae_titles=stations, modality=modality)
        return {**_entry(replace(scheduled, step=shown)), TIMEZONE: self._told_offset(step.start)}

    def matches(self, entry: Attributes) -> bool:
        """Whether an entry matches every key."""
        return self._matcher.matches(entry)

    def failing(self, entry: Attributes) -> list[str]:
        """Return the keys that an entry does not match."""
        return self._matcher.failing(entry)

    def shows(self, scheduled: Scheduled) -> bool:
        """Whether the step is one that this query is about, whatever its keys say."""
        by_status = STATUS in self.keys or scheduled.step.status in SHOWN
        somewhere = scheduled.step.modality or scheduled.step.station_ae_titles
        return by_status and not scheduled.procedure.canceled and bool(somewhere)

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield what the database can leave out; never too much."""
        yield or_(StepRow.modality > "", StepRow.station_ae_titles != literal([], ARRAY(Text)))
        yield ProcedureRow.canceled.is_(False)
        if STATUS not in self.keys:
            yield literal_column(OPEN.text, Boolean)
        for keyword, value in self.keys.items():
            condition = _CONDITIONS.get(keyword)
            if condition is not None:
                yield from condition(_parts(value))
        if START_DATE in self.keys:
            slack = timedelta(days=1) if self.offset is not None else timedelta()
            yield _days(_parts(self.keys[START_DATE]), slack)

    def _asked_modality(self) -> str:
        """Return what a step of a station is that nobody gave a modality: what is asked for."""
        asked = [part for part in _parts(self.keys.get(MODALITY, "")) if not _is_wild(part)]
        return asked[0].upper() if asked else ""

    def _stations(self, stations: tuple[str, ...]) -> tuple[str, ...]:
        """Put the station that is asked for first; a step of any station is one of that."""
        asked = [part for part in _parts(self.keys.get(STATION, "")) if not _is_wild(part)]
        own = self._query.calling_ae_title
        meant = own if own in asked or not asked else asked[0]
        if not stations:
            return (meant,) if meant else ()
        return tuple(sorted(stations, key=lambda one: one != meant))

    def _local(self, moment: datetime | None) -> datetime | None:
        if moment is None or self.offset is None:
            return moment
        return moment.replace(tzinfo=self._zone).astimezone(self.offset).replace(tzinfo=None)

    def _told_offset(self, moment: datetime | None) -> str:
        zone = self.offset or self._zone
        aware = (moment or datetime.now(UTC).replace(tzinfo=None)).replace(tzinfo=zone)
        return aware.strftime("%z")[:5]


def find_steps(session: Session, query: Query, limit: int, zone: tzinfo) -> Iterator[Attributes]:
    """Yield at most `limit` entries that match, earliest first.

    Raises
    ------
    Malformed
        A key cannot be read; the text names its keyword.
    """
    wanted = Filter(query, zone)
    left = limit
    for ids in _pages(candidates(session, wanted)):
        for entry in _matching(session, wanted, ids)[:left]:
            left -= 1
            yield entry
        if not left:
            return


def iterate(engine: Engine, query: Query, limit: int, zone: tzinfo) -> Iterator[Attributes]:
    """Yield at most `limit` entries that match, earliest first, read in short transactions.

    Raises
    ------
    Malformed
        A key cannot be read. Raised before the first entry.
    """
    wanted = Filter(query, zone)
    with transaction(engine) as session:
        found = candidates(session, wanted)
    left = limit
    for ids in _pages(found):
        with transaction(engine) as session:
            entries = _matching(session, wanted, ids)[:left]
        yield from entries
        left -= len(entries)
        if not left:
            return


def candidates(session: Session, wanted: Filter) -> Sequence[int]:
    """Return the row ids of the steps that may match, earliest first."""
    return session.scalars(_statement(wanted)).all()


def _statement(wanted: Filter) -> Select[int]:
    return (
        select(StepRow.id)
        .join(ProcedureRow, ProcedureRow.id == StepRow.procedure_ref)
        .join(OrderRow, OrderRow.id == StepRow.order_ref)
        .where(*wanted.conditions())
        .order_by(StepRow.start, StepRow.id)
    )


def _pages(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(ids), PAGE):
        yield ids[first : first + PAGE]


def _matching(session: Session, wanted: Filter, ids: Sequence[int]) -> list[Attributes]:
    """Return the entries of these steps that match, as they are now."""
    steps = (one for one in load(session, ids) if wanted.shows(one))
    return [entry for entry in map(wanted.entry, steps) if wanted.matches(entry)]


def load(session: Session, ids: Iterable[int]) -> list[Scheduled]:
    """Return these steps with all that they are a part of, in this order; unknown ones left out."""
    wanted = [*ids]
    statement = (
        select(StepRow, ProcedureRow, OrderRow, PatientRow.root_ref)
        .join(ProcedureRow, ProcedureRow.id == StepRow.procedure_ref)
        .join(OrderRow, OrderRow.id == StepRow.order_ref)
        .join(PatientRow, PatientRow.id == OrderRow.patient_ref)
        .where(StepRow.id == any_(literal(wanted, ARRAY(BigInteger))))
    )
    rows = session.execute(statement.execution_options(populate_existing=True)).all()
    people = patients.load(session, {root or order.patient_ref for _, _, order, root in rows})
    visits = patients.visits(session, {one for _, _, order, _ in rows if (one := order.visit_ref)})
    found = {
        step.id: Scheduled(
            step=orders.step_of(step),
            procedure=orders.procedure_of(procedure),
            order=orders.order_of(order),
            patient=people[root or order.patient_ref],
            visit=visits.get(order.visit_ref) if order.visit_ref else None,
        )
        for step, procedure, order, root in rows
    }
    return [found[step_id] for step_id in wanted if step_id in found]


# What the database leaves out

_Column = InstrumentedAttribute[str]
_Condition = Callable[[Sequence[str]], Iterator[ColumnElement[bool]]]


def _parts(value: str) -> list[str]:
    return [part for one in value.replace("\0", "").split("\\") if (part := one.strip())]


def _is_wild(text: str) -> bool:
    return "*" in text or "?" in text


def _exactly(column: _Column) -> _Condition:
    def condition(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
        if any(map(_is_wild, parts)):
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
    if not any(map(_is_wild, parts)):
        held = StepRow.station_ae_titles
        yield or_(held.overlap(literal([*parts], ARRAY(Text))), held == literal([], ARRAY(Text)))


def _patient_id(parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    if any(map(_is_wild, parts)):
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


def _days(parts: Sequence[str], slack: timedelta) -> ColumnElement[bool]:
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


_CONDITIONS: Final[Mapping[str, _Condition]] = {
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


# The entry


def _entry(one: Scheduled) -> Attributes:
    step = {keyword: read(one.step) for keyword, read in _STEP.items()}
    entry: dict[str, str | Sequence[Attributes]] = {}
    for further in (one.patient.further, one.visit and one.visit.further, one.order.further):
        entry.update({keyword: str(text) for keyword, text in (further or {}).items()})
    entry.update({keyword: str(text) for keyword, text in one.procedure.further.items()})
    for keyword, read in _REST.items():
        value = read(one)
        if value or keyword not in entry:
            entry[keyword] = value
    told = {keyword: str(text) for keyword, text in one.step.further.items()}
    entry[STEP] = [
        {**told, **{name: value for name, value in step.items() if value or name not in told}}
    ]
    return entry


def _word(text: str) -> str:
    """Return one value: a backslash would make two of it."""
    return " ".join(text.replace("\\", "/").split())


def _code(code: Code | None) -> Sequence[Attributes]:
    if code is None or not code.value:
        return ()
    return (
        {
            "CodeValue": _word(code.value),
            "CodingSchemeDesignator": _word(code.scheme) or "L",
            "CodeMeaning": _word(code.meaning or code.value),
        },
    )


def _meaning(code: Code | None) -> str:
    return _word(code.meaning or code.value) if code else ""


def _issuer(name: str) -> Sequence[Attributes]:
    return ({"LocalNamespaceEntityID": _word(name)},) if name else ()


def _day(moment: date | None) -> str:
    return f"{moment:%Y%m%d}" if moment else ""


def _time(moment: datetime | None) -> str:
    return f"{moment:%H%M%S}" if moment else ""


def _others(patient: Patient) -> Sequence[Attributes]:
    return tuple(
        {
            "PatientID": one.value,
            "IssuerOfPatientID": _word(one.issuer),
            "TypeOfPatientID": "TEXT",
        }
        for one in patient.identifiers[1:]
        if not one.retired
    )


def _age(one: Scheduled) -> str:
    """Return the age in years, where the year of birth is all that is known too (VR AS)."""
    born, start = one.patient.patient_birth_date_sent.strip(), one.step.start
    birth = one.patient.patient_birth_date
    if start is None or not (birth or born[:4].isdigit()):
        return ""
    if birth is None:
        years = start.year - int(born[:4])
        return f"{years:03d}Y" if 0 <= years <= _OLDEST else ""
    days = (start.date() - birth).days
    months = (start.year - birth.year) * 12 + start.month - birth.month - (start.day < birth.day)
    if days < 0 or months > _OLDEST * 12:
        return ""
    if months < 1:
        return f"{days:03d}D"
    return f"{months:03d}M" if months < _BY_MONTH else f"{months // 12:03d}Y"


_OLDEST: Final = 150
_BY_MONTH: Final = 72
"""Children under six are told by months, as Vietnamese forms do."""

_STEP: Final[Mapping[str, Callable[[ScheduledStep], "str | Sequence[Attributes]"]]] = {
    "ScheduledStationAETitle": lambda step: "\\".join(step.station_ae_titles),
    "ScheduledProcedureStepStartDate": lambda step: _day(step.start),
    "ScheduledProcedureStepStartTime": lambda step: _time(step.start),
    "ScheduledProcedureStepEndDate": lambda step: _day(step.end),
    "ScheduledProcedureStepEndTime": lambda step: _time(step.end),
    "Modality": lambda step: step.modality,
    "ScheduledPerformingPhysicianName": lambda step: _word(step.performing_physician),
    "ScheduledProcedureStepDescription": lambda step: (
        _word(step.description) or _meaning(step.protocol)
    ),
    "ScheduledProtocolCodeSequence": lambda step: _code(step.protocol),
    "ScheduledStationName": lambda step: _word(step.station_name),
    "ScheduledProcedureStepLocation": lambda step: _word(step.location),
    "ScheduledProcedureStepID": lambda step: step.scheduled_procedure_step_id,
    "ScheduledProcedureStepStatus": lambda step: step.status.value,
    "PreMedication": lambda _step: "",
    "RequestedContrastAgent": lambda _step: "",
    "CommentsOnTheScheduledProcedureStep": lambda _step: "",
}
_REST: Final[Mapping[str, Callable[[Scheduled], "str | Sequence[Attributes]"]]] = {
    # Requested Procedure
    "RequestedProcedureID": lambda one: one.procedure.requested_procedure_id,
    "RequestedProcedureDescription": lambda one: (
        _word(one.procedure.description) or _meaning(one.procedure.code)
    ),
    "RequestedProcedureCodeSequence": lambda one: _code(one.procedure.code),
    "StudyInstanceUID": lambda one: one.procedure.study_instance_uid,
    "RequestedProcedurePriority": lambda one: one.order.priority,
    "PatientTransportArrangements": lambda one: _word(one.order.transport),
    "ReasonForTheRequestedProcedure": lambda one: (
        _meaning(one.order.reason) or _word(one.order.clinical_information)
    ),
    "ReasonForRequestedProcedureCodeSequence": lambda one: _code(one.order.reason),
    "RequestedProcedureComments": lambda one: one.order.comments,
    # Imaging Service Request
    "AccessionNumber": lambda one: one.order.accession_number,
    "IssuerOfAccessionNumberSequence": lambda one: _issuer(one.order.accession_issuer),
    "RequestingPhysician": lambda one: _word(one.order.requesting_physician),
    "RequestingService": lambda one: _word(one.order.requesting_service),
    "ReferringPhysicianName": lambda one: (
        _word(one.visit.referring_physician if one.visit else "")
        or _word(one.order.requesting_physician)
    ),
    "PlacerOrderNumberImagingServiceRequest": lambda one: _word(one.order.placer_order_number),
    "FillerOrderNumberImagingServiceRequest": lambda one: _word(one.order.filler_order_number),
    "OrderPlacerIdentifierSequence": lambda one: _issuer(one.order.placer_issuer),
    "IssueDateOfImagingServiceRequest": lambda one: _day(one.order.issued_at),
    "IssueTimeOfImagingServiceRequest": lambda one: _time(one.order.issued_at),
    # Visit
    "AdmissionID": lambda one: _word(one.visit.admission_id) if one.visit else "",
    "CurrentPatientLocation": lambda one: _word(one.visit.location) if one.visit else "",
    "VisitStatusID": lambda one: one.visit.status.value if one.visit else "",
    "InstitutionName": lambda one: _word(one.order.institution),
    # Patient
    "PatientName": lambda one: one.patient.patient_name.replace("\\", "/"),
    "PatientID": lambda one: one.patient.identifiers[0].value if one.patient.identifiers else "",
    "IssuerOfPatientID": lambda one: _word(
        one.patient.identifiers[0].issuer if one.patient.identifiers else ""
    ),
    "OtherPatientIDsSequence": lambda one: _others(one.patient),
    "PatientBirthDate": lambda one: _day(one.patient.patient_birth_date),
    "PatientSex": lambda one: one.patient.patient_sex,
    "PatientAge": _age,
    "PatientAddress": lambda one: _word(one.patient.patient_address),
    "PatientTelephoneNumbers": lambda one: _word(one.patient.patient_telephone),
    "PatientMotherBirthName": lambda one: _word(one.patient.mother_name),
    "EthnicGroup": lambda one: _word(one.patient.ethnic_group),
    "ConfidentialityConstraintOnPatientDataDescription": lambda one: _word(
        one.order.confidentiality
    ),
    "PatientState": lambda one: _word(one.order.danger),
    "PregnancyStatus": lambda one: "3" if one.visit and one.visit.pregnant else "",
    # relevant clinical information is where IHE has alerts (RAD-4, OBR-13)
    "MedicalAlerts": lambda one: _word(one.order.clinical_information),
    "AdditionalPatientHistory": lambda one: one.order.clinical_information,
    "PatientWeight": lambda _one: "",
    "PatientSize": lambda _one: "",
    "Allergies": lambda _one: "",
    "SpecialNeeds": lambda _one: "",
}
_CODES: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_ITEMS: Final[Mapping[str, Sequence[str]]] = {
    f"{STEP}.ScheduledProtocolCodeSequence": _CODES,
    "RequestedProcedureCodeSequence": _CODES,
    "ReasonForRequestedProcedureCodeSequence": _CODES,
    "IssuerOfAccessionNumberSequence": ("LocalNamespaceEntityID",),
    "OrderPlacerIdentifierSequence": ("LocalNamespaceEntityID",),
    "OtherPatientIDsSequence": ("PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
}
MATCHED: Final = frozenset(
    {keyword for keyword in _REST if keyword not in _ITEMS}
    | {f"{STEP}.{keyword}" for keyword in _STEP if f"{STEP}.{keyword}" not in _ITEMS}
    | {f"{keyword}.{inner}" for keyword, items in _ITEMS.items() for inner in items}
)
"""Every keyword that a key may have; what else is asked for is universal."""


def _offset(text: str) -> tzinfo | None:
    """Return the clock of a Timezone Offset From UTC (0008,0201); None when none is named."""
    bare = text.strip(values.PADDING)
    if is_universal(bare):
        return None
    sign, hours, minutes = bare[:1], bare[1:3], bare[3:]
    if sign not in {"+", "-"} or len(bare) != 5 or not (hours + minutes).isdecimal():  # noqa: PLR2004
        raise Malformed(f"{TIMEZONE}: not &ZZXX")
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    if ahead > timedelta(hours=14):
        raise Malformed(f"{TIMEZONE}: not between -1200 and +1400")
    return timezone(ahead if sign == "+" else -ahead)
