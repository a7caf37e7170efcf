"""Where each value of ours stands in the messages that we receive, by the sender's profile.

Orders: IHE RAD TF-2 4.2 (RAD-2), 4.4 (RAD-4), 4.13 (RAD-13); patients: 4.1 (RAD-1), 4.12 (RAD-12).
We insist on a patient id and on the number of the order. Everything else is read if it can be,
and noted if not.
"""

from collections.abc import Mapping
from datetime import date, datetime, tzinfo
from functools import partial
from typing import Final

from ris.hl7 import grouping, mapping, times
from ris.hl7.ack import MissingValue, NoSequence, UnknownValue
from ris.hl7.grouping import Scope
from ris.hl7.mapping import Reader
from ris.hl7.message import NULL, Message, Segment
from ris.hl7.profile import Profile
from ris.requests import (
    AppointmentRequest,
    Code,
    Identifier,
    MergeRequest,
    OrderRequest,
    PatientRequest,
    StepRequest,
    VisitRequest,
)
from storage.base import values
from storage.base.errors import Malformed

# HL7 table 0119, what we act on
CONTROLS: Final = frozenset(
    {"NW", "SN", "XO", "CA", "DC", "OC", "OD", "HD", "RL", "SC", "RP", "RO", "RE", "PA", "CH"}
    | {"SR", "NA", "OK", "UA", "CR", "DR", "UC", "UD", "HR", "OH", "XX", "SS"}
)
# HL7 table 0485 (and ORC-7.6) → (0040,1003)
PRIORITIES: Final[Mapping[str, str]] = {
    "S": "STAT",
    "STAT": "STAT",
    "A": "HIGH",
    "ASAP": "HIGH",
    "P": "HIGH",
    "C": "HIGH",
    "R": "ROUTINE",
    "T": "MEDIUM",
}
# HL7 table 0001, and what people write → (0010,0040)
SEXES: Final[Mapping[str, str]] = {
    "F": "F",
    "M": "M",
    "O": "O",
    "A": "O",
    "N": "O",
    "NAM": "M",
    "NỮ": "F",
    "NU": "F",
    "MALE": "M",
    "FEMALE": "F",
    "OTHER": "O",
}
PREGNANT: Final = "B6"
"""PV1-15 (HL7 table 0009)."""
ACCESSION_MAX: Final = 16
"""VR SH: what is longer cannot be one, and we give out our own."""
_NOT_OURS: Final = frozenset({"HC", "NI", "SS", "PPN", "DL", "MC", "PH", "NP"})
"""Kinds of identifiers (CX-5) that are no hospital's number of a patient."""


def reader(message: Message, profile: Profile, zone: tzinfo, scope: Scope | None = None) -> Reader:
    """Return a reader of a message, or of a part of it."""
    return Reader(scope or grouping.whole(message), profile, zone)


def patient(read: Reader) -> PatientRequest:
    """Read PID.

    Raises
    ------
    MissingValue
        There is no usable patient id.
    """
    segment = read.scope.first("PID")
    if segment is None:
        raise NoSequence("PID: there is none")
    found = _identifiers(read, "patient_id")
    if not found:
        raise MissingValue("PID-3.1 is required")
    birth = segment.value(7)
    return PatientRequest(
        identifier=found[0],
        other_identifiers=tuple(found[1:]),
        patient_name=mapping.patient_name(segment, 5, strip_age=read.profile.strip_age),
        patient_birth_date=None if birth == NULL else _read(read, "PID-7", birth),
        patient_birth_date_sent=_maybe(birth),
        patient_sex=_sex(read, segment.value(8)),
        mother_name=mapping.patient_name(segment, 6, strip_age=False),
        patient_address=_joined(segment, 11),
        patient_telephone=_telephone(segment),
        ethnic_group=_maybe(segment.value(22, 2) or segment.value(22, 1)),
    )


def visit(read: Reader) -> VisitRequest:
    """Read PV1 and what goes with it; empty when there is none."""
    pregnancy = read.scope.first("PV1")
    return VisitRequest(
        admission_id=read.maybe("admission_id"),
        patient_class=read.maybe("patient_class"),
        location=read.words("location"),
        referring_physician=read.person("referring_physician"),
        attending_physician=read.person("attending_physician"),
        pregnant=pregnancy is not None and PREGNANT in pregnancy.repetitions(15),
        insurance_number=read.maybe("insurance_number"),
    )


def merges(message: Message, profile: Profile, zone: tzinfo) -> list[MergeRequest]:
    """Read each pair of PID and MRG.

    Raises
    ------
    MissingValue
        A pair lacks an identifier.
    NoSequence
        There is no pair.
    """
    pairs = []
    for scope in grouping.patients(message):
        read = reader(message, profile, zone, scope)
        survivor = patient(read)
        prior = _identifiers(read, "prior_patient_id")
        if not prior:
            raise MissingValue("MRG-1.1 is required")
        pairs.append(MergeRequest(survivor, prior[0]))
    if not pairs:
        raise NoSequence("PID: there is none")
    return pairs


def linked(message: Message, profile: Profile, zone: tzinfo) -> tuple[Identifier, Identifier]:
    """Read the two patients of A24 or A37.

    Raises
    ------
    NoSequence
        There are not two.
    """
    two = [patient(reader(message, profile, zone, scope)) for scope in grouping.patients(message)]
    if len(two) != 2:  # noqa: PLR2004 - a pair
        raise NoSequence("PID: two are wanted")
    return two[0].identifier, two[1].identifier


def orders(
    message: Message, profile: Profile, zone: tzinfo
) -> tuple[list[OrderRequest], list[str]]:
    """Read every order of a message, and what had to be passed over.

    Raises
    ------
    NoSequence
        There is neither ORC nor OBR.
    MissingValue, UnknownValue
        An order lacks its number, or its control code is none.
    """
    notes: list[str] = []
    groups = grouping.orders(message, per_order=profile.one_order_per == "ORC")
    if not groups:
        raise NoSequence("ORC: there is none")
    found = []
    for scope in groups:
        read = Reader(scope, profile, zone, notes)
        found.append(_order(read))
    return found, notes


def appointment(read: Reader, *, cancelled: bool) -> AppointmentRequest:
    """Read SCH and its resources (SIU^S12 to S15).

    Raises
    ------
    NoSequence
        There is no SCH.
    MissingValue
        Nothing says which order it is.
    """
    segment = read.scope.first("SCH")
    if segment is None:
        raise NoSequence("SCH: there is none")
    placer = [segment.value(26, 1), segment.value(1, 1), read.text("placer_order_number")]
    filler = [segment.value(27, 1), segment.value(2, 1), read.text("filler_order_number")]
    if not any((*placer, *filler)):
        raise MissingValue("SCH-1.1 is required")
    begin = _resource(read.scope, (("AIS", 4), ("AIG", 8), ("AIL", 6))) or segment.value(11, 4)
    location = _resource(read.scope, (("AIL", 3), ("AIG", 3)))
    return AppointmentRequest(
        cancelled=cancelled,
        placer_order_numbers=tuple(dict.fromkeys(filter(None, placer))),
        filler_order_numbers=tuple(dict.fromkeys(filter(None, filler))),
        start=_time(read, "SCH-11.4", begin),
        scheduled_station_ae_title=read.profile.stations.get(location, ""),
        location=location,
    )


def sent_at(read: Reader) -> datetime | None:
    """Return when the sender says that it happened."""
    return read.first("changed_at", partial(times.parse_ts, zone=read.zone))


def _order(read: Reader) -> OrderRequest:
    control = _control(read)
    placer, filler = read.text("placer_order_number"), read.text("filler_order_number")
    if not (placer or filler):
        raise MissingValue("ORC-2.1 is required")
    procedure = read.code("procedure")
    return OrderRequest(
        control=control,
        status=read.text("order_status").upper(),
        placer_order_number=placer,
        placer_issuer=read.text("placer_issuer"),
        filler_order_number=filler,
        group_number=read.text("group_number"),
        accession_number=_accession(read),
        requested_procedure_id=_short(read, "requested_procedure_id"),
        study_instance_uid=read.first("study_instance_uid", uid) or "",
        procedure=procedure,
        priority=PRIORITIES.get(read.text("priority").upper(), ""),
        reason=read.code("reason"),
        clinical_information=read.free_text("clinical_information"),
        requesting_physician=read.person("requesting_physician"),
        requesting_service=read.description("requesting_service"),
        institution=read.description("institution"),
        transport=read.maybe("transport"),
        danger=read.description("danger"),
        confidentiality=read.description("confidentiality"),
        comments=_comments(read.scope),
        steps=_steps(read, procedure),
    )


def _control(read: Reader) -> str:
    sent = read.text("order_control").upper() or read.profile.without_control
    if not sent:
        raise MissingValue("ORC-1 is required")
    control = read.profile.control.get(sent, sent)
    if control not in CONTROLS:
        raise UnknownValue("ORC-1: no such control code")
    return control


def _steps(read: Reader, procedure: Code | None) -> tuple[StepRequest, ...]:
    """Read one step for each IPC, or the one step that an order without IPC is."""
    ipcs = read.scope.all("IPC")
    if not ipcs:
        return (_step(read, procedure),)
    others = [one for one in read.scope.own if one.name != "IPC"]
    parts = (Scope([*others, ipc], read.scope.shared) for ipc in ipcs)
    return tuple(_step(read.within(part), procedure) for part in parts)


def _step(read: Reader, procedure: Code | None) -> StepRequest:
    room = read.text("room")
    station = read.first("station_ae_title", _station) or ""
    return StepRequest(
        scheduled_procedure_step_id=_short(read, "scheduled_procedure_step_id"),
        modality=_modality(read, procedure, room),
        scheduled_station_ae_title=station or read.profile.stations.get(room, ""),
        scheduled_station_name=read.text("station_name"),
        location=read.text("station_location"),
        start=read.first("start", partial(times.parse_ts, zone=read.zone)),
        protocol=read.code("protocol"),
        performing_physician=_performer(read),
    )


def _modality(read: Reader, procedure: Code | None, room: str) -> str:
    """Return the modality that is sent, or that the procedure or the room stands for."""
    profile = read.profile
    sent = read.text("modality").upper()
    if sent:
        known = profile.modalities.get(sent, sent)
        if known.isalnum() and len(known) <= values.AE_TITLE_MAX and known.isascii():
            return known
        read.notes.append("OBR-24 passed over: not a modality")
    code = procedure.value.upper() if procedure else ""
    beginnings = sorted(profile.modality_of_procedure, key=len, reverse=True)
    for beginning in beginnings:
        if code.startswith(beginning.upper()):
            return profile.modality_of_procedure[beginning]
    return profile.modality_of_location.get(room, profile.default_modality)


def _accession(read: Reader) -> str:
    sent = read.text("accession_number")
    if len(sent) > ACCESSION_MAX:
        read.notes.append(f"accession number of more than {ACCESSION_MAX} characters passed over")
        return ""
    return sent


def _short(read: Reader, name: str) -> str:
    """Return an id of VR SH, '' for one that is too long."""
    sent = read.text(name)
    return sent if len(sent) <= ACCESSION_MAX else ""


def _performer(read: Reader) -> str:
    """Return OBR-34: NDL, the person in the sub-components of its first component, or XCN."""
    found = read.segment("performing_physician")
    if found is None:
        return ""
    segment, repetition = found
    first = segment.part(repetition, 1)
    mark = segment.delimiters.subcomponent
    if mark not in first:
        return read.person("performing_physician") or ""
    _, *parts = (segment.meant(part) for part in first.split(mark))
    return "^".join(parts[:3]).rstrip("^")


def _comments(scope: Scope) -> str | None:
    notes = [one for one in scope.own if one.name == "NTE"]
    return "\n".join(filter(None, (note.text(3) for note in notes))) if notes else None


def _identifiers(read: Reader, name: str) -> list[Identifier]:
    """Return every identifier, the hospital's own first."""
    found: list[Identifier] = []
    for path in read.profile.of(name):
        segment = read.scope.first(path.at.segment)
        if segment is not None:
            found += mapping.identifiers(segment, path.at.field, read.profile.issuer)
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda one: one.kind in _NOT_OURS)


def _resource(scope: Scope, positions: tuple[tuple[str, int], ...]) -> str:
    for name, number in positions:
        segment = scope.first(name)
        if segment is not None and (value := segment.value(number, 1)):
            return value
    return ""


def _sex(read: Reader, sent: str) -> str | None:
    if sent in ("", NULL):
        return _maybe(sent)
    known = SEXES.get(sent.upper())
    if known is None and sent.upper() != "U":
        read.notes.append("PID-8 passed over: no such sex")
    return known


def _telephone(segment: Segment) -> str | None:
    numbers = [
        segment.meant(one.partition(segment.delimiters.component)[0])
        for one in (*segment.repetitions(13), *segment.repetitions(14))
    ]
    given = [one for one in numbers if one]
    return "" if given == [NULL] else ", ".join(one for one in given if one != NULL) or None


def _joined(segment: Segment, number: int) -> str | None:
    repetition = segment.raw(number)
    if not repetition or repetition == NULL:
        return _maybe(repetition)
    parts = repetition.split(segment.delimiters.component)
    meant = (segment.meant(part.replace(segment.delimiters.subcomponent, " ")) for part in parts)
    return ", ".join(part for part in meant if part)


def _maybe(sent: str) -> str | None:
    return "" if sent == NULL else sent or None


def _read(read: Reader, path: str, sent: str) -> date | None:
    try:
        return times.parse_birth_date(sent) if sent else None
    except ValueError as error:
        read.notes.append(f"{path} passed over: {error}")
        return None


def _time(read: Reader, path: str, sent: str) -> datetime | None:
    try:
        return times.parse_ts(sent, read.zone) if sent else None
    except ValueError as error:
        read.notes.append(f"{path} passed over: {error}")
        return None


def uid(text: str) -> str:
    """Return a UID; raise `ValueError` for what is none."""
    try:
        return values.uid(text)
    except Malformed:
        raise ValueError("not a UID") from None


def _station(text: str) -> str:
    try:
        return values.ae_title(text)
    except Malformed:
        raise ValueError("not an AE title") from None
