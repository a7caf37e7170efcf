"""The messages that we send, written by position, and what the standard says of a message.

    MSH PID [PV1] {ORC [TQ1] OBR [ZDS]}     ORM^O01 (IHE RAD-3, RAD-13), OMG^O19 from 2.5 on

Writing is by position and takes microseconds. `faults` is the only door to hl7apy, which knows the
structure and the tables of each version and takes some 25 ms a message: it judges what we send in
tests, and any message for a person who asks.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

from ris.hl7 import charsets
from ris.hl7.delimiters import STANDARD
from ris.hl7.destinations import Style
from ris.hl7.escapes import escape
from ris.model import Order, Patient, RequestedProcedure, ScheduledStep, Visit
from ris.requests import Code

_STRUCTURED: Final = "2.5"
"""From this version on MSH-9.3 names the structure, and TQ1 the time."""
# (0040,1003) → HL7 table 0485 and ORC-7.6
_PRIORITY: Final[Mapping[str, str]] = {"STAT": "S", "HIGH": "A", "ROUTINE": "R", "MEDIUM": "T"}
_SEXES: Final = frozenset({"F", "M", "O"})
# PN family, given, middle, prefix, suffix → XPN family, given, middle, suffix, prefix
_XPN: Final = (0, 1, 2, 4, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNews:
    """What is told of an order."""

    control: str
    """ORC-1."""
    status: str
    """ORC-5."""
    happened_at: datetime
    """An instant."""
    order: Order
    patient: Patient
    visit: Visit | None
    procedures: Sequence[RequestedProcedure]
    steps: Sequence[ScheduledStep]


def new_control_id() -> str:
    """Return an MSH-10 that nobody used before (20 characters, HL7 v2.3.1 2.24.1.10)."""
    return uuid4().hex[:20]


def order_message(news: OrderNews, style: Style, zone: tzinfo, control_id: str) -> bytes:
    """Return the message that tells of an order, in the style of its destination."""
    code, event = ("OMG", "O19") if style.message == "OMG" else ("ORM", "O01")
    lines = [
        header(
            (code, event, f"{code}_{event}"), style, news.happened_at.astimezone(zone), control_id
        ),
        patient_segment(news.patient, style),
    ]
    if news.visit is not None:
        lines.append(visit_segment(news.visit))
    procedures = [one for one in news.procedures if not one.canceled] or list(news.procedures)
    for number, procedure in enumerate(procedures or [None], start=1):
        step = _step_of(news, procedure)
        lines += _order_segments(news, style, zone, (number, procedure, step))
    return written(lines, style)


def written(lines: Sequence[str], style: Style) -> bytes:
    """Return segments as bytes in the character set of the destination."""
    charset = charsets.codec_of(style.charset) or "utf-8"
    return charsets.encode("".join(f"{line}\r" for line in lines), charset)


def header(kind: tuple[str, str, str], style: Style, local: datetime, control_id: str) -> str:
    """Return MSH; `kind` is the message code, the trigger event and the structure."""
    code, event, structure = kind
    structured = style.version >= _STRUCTURED
    values = {
        2: STANDARD.encoding,
        3: _plain(style.our_application),
        4: _plain(style.our_facility),
        5: _plain(style.application),
        6: _plain(style.facility),
        7: timestamp(local),
        9: f"{code}^{event}^{structure}" if structured else f"{code}^{event}",
        10: _plain(control_id),
        11: style.processing_id,
        12: style.version,
        17: style.country,
        18: style.charset,
    }
    fields = [values.get(number, "") for number in range(2, 19)]
    return STANDARD.field.join(["MSH", *fields])


def segment(name: str, values: Mapping[int, str]) -> str:
    """Return a segment with these fields, which are escaped already, without empty ones behind."""
    fields = [values.get(number, "") for number in range(1, max(values) + 1)]
    return STANDARD.field.join([name, *fields]).rstrip(STANDARD.field)


def patient_segment(patient: Patient, style: Style) -> str:
    """Return PID."""
    numbers = [one for one in patient.identifiers if not one.retired]
    shown = [f"{_plain(one.value)}^^^{_plain(one.issuer)}^{_plain(one.kind)}" for one in numbers]
    born = patient.patient_birth_date
    return segment(
        "PID",
        {
            3: STANDARD.repetition.join(one.rstrip("^") for one in shown),
            5: name(patient.patient_name, style),
            7: born.strftime("%Y%m%d") if born else _plain(patient.patient_birth_date_sent),
            8: patient.patient_sex if patient.patient_sex in _SEXES else "",
        },
    )


def visit_segment(visit: Visit) -> str:
    """Return PV1."""
    return segment(
        "PV1",
        {
            2: _plain(visit.patient_class) or "U",
            3: _plain(visit.location),
            19: _plain(visit.admission_id),
        },
    )


def name(person_name: str, style: Style) -> str:
    """Return a name of VR PN as XPN, or in one piece where the destination wants it so."""
    parts = person_name.partition("=")[0].split("^")
    if style.plain_names:
        return _plain(" ".join(filter(None, (part.strip() for part in parts))))
    parts += [""] * (len(_XPN) - len(parts))
    return "^".join(_plain(parts[at]) for at in _XPN).rstrip("^")


def coded(code: Code | None, text: str = "") -> str:
    """Return a coded value (CE)."""
    if code is None:
        return f"^{_plain(text)}" if text else ""
    return "^".join(_plain(one) for one in (code.value, code.meaning or text, code.scheme)).rstrip(
        "^"
    )


def timestamp(local: datetime) -> str:
    """Return a TS to the second, as the wall clock of the hospital says."""
    return local.strftime("%Y%m%d%H%M%S")


def faults(octets: bytes) -> list[str]:
    """Return what the standard says against a message, [] when it is as its version wants it.

    Messages that are good enough for us are often not good enough for the standard.
    """
    from hl7apy.parser import parse_message  # noqa: PLC0415 - dear to load

    try:
        text = charsets.decode(octets, "").text
        parsed = parse_message(text, validation_level=2, find_groups=True)
        with TemporaryDirectory() as folder:
            report = Path(folder) / "report"
            with contextlib.suppress(Exception):  # the first of what stands in the report
                parsed.validate(report_file=str(report))
            said = report.read_text().splitlines()
    except Exception as error:  # noqa: BLE001 - what the library cannot read is its word, too
        return [f"not readable for hl7apy: {error or type(error).__name__}"]
    return [line for line in said if _CHOICE not in line]


_CHOICE: Final = "_CHOICE."
"""It wants every segment of a choice, where one is enough."""


def _order_segments(
    news: OrderNews,
    style: Style,
    zone: tzinfo,
    part: tuple[int, RequestedProcedure | None, ScheduledStep | None],
) -> list[str]:
    number, procedure, step = part
    order, happened = news.order, timestamp(news.happened_at.astimezone(zone))
    placer = numbered(order.placer_order_number, order.placer_issuer)
    filler = _plain(order.filler_order_number)
    start = timestamp(step.start) if step is not None and step.start else ""
    priority = _PRIORITY.get(order.priority, "")
    timed = style.version >= _STRUCTURED
    control = {
        1: _plain(news.control),
        2: placer,
        3: filler,
        4: _plain(order.group_number),
        5: _plain(news.status),
        7: "" if timed or not (start or priority) else f"^^^{start}^^{priority}",
        9: happened,
    }
    detail = {
        1: str(number),
        2: placer,
        3: filler,
        4: coded(procedure.code if procedure else None, procedure.description if procedure else ""),
        7: start if news.status in _BEGUN else "",
        18: _plain(order.accession_number),
        19: _plain(procedure.requested_procedure_id) if procedure else "",
        20: _plain(step.scheduled_procedure_step_id) if step else "",
        22: happened,
        24: _plain(step.modality) if step else "",
    }
    lines = [segment("ORC", control)]
    if timed and (start or priority):
        lines.append(segment("TQ1", {1: "1", 7: start, 9: priority}))
    lines.append(segment("OBR", detail))
    if style.study_uid and procedure is not None and procedure.study_instance_uid:
        lines.append(
            segment("ZDS", {1: f"{_plain(procedure.study_instance_uid)}^^Application^DICOM"})
        )
    return lines


_BEGUN: Final = frozenset({"IP", "CM", "A", "DC"})


def _step_of(news: OrderNews, procedure: RequestedProcedure | None) -> ScheduledStep | None:
    """Return the first step of a procedure, of the order when there is none."""
    own = [one for one in news.steps if procedure and one.procedure_id == procedure.id]
    return next(iter([*own, *news.steps]), None)


def numbered(number: str, issuer: str) -> str:
    """Return the number of an order with who gave it out (EI)."""
    return f"{_plain(number)}^{_plain(issuer)}".rstrip("^")


def _plain(text: str) -> str:
    return escape(text, STANDARD)
