"""Reports as messages: ORU^R01, one for each order line (IHE RAD-28, HL7 v2.5.1 7.3.1).

    MSH PID [PV1] ORC OBR {OBX}

ORC and OBR both bear the placer's own number, as it was sent. Every message has the whole text as
it is now, for many systems show only the last one; what a destination has no place for goes into
the place next to it, so nothing that was signed is left out.
"""

import base64
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Final
from urllib.parse import quote

from ris.hl7 import building
from ris.hl7.building import segment, timestamp
from ris.hl7.delimiters import STANDARD
from ris.hl7.destinations import Style
from ris.hl7.escapes import escape
from ris.model import Order, Patient, RequestedProcedure, ScheduledStep, Visit
from ris.reports.criticals import Level
from ris.reports.faults import Words
from ris.reports.model import Content, Practitioner, Version
from ris.reports.paper import words
from ris.reports.states import NAMES, Status

# OBR-25 → ORC-5 (HL7 tables 0123 and 0038)
_ORDER_STATUS: Final[Mapping[str, str]] = {"P": "A", "R": "A", "F": "CM", "C": "CM", "X": "CA"}
_WITHDRAWN: Final = frozenset({Status.RETRACTED, Status.CANCELLED})
"""Nothing of what was written is told any more."""
# Where a section goes that has no place of its own
_NEXT_TO: Final[Mapping[str, str]] = {
    "technique": "findings",
    "comparison": "findings",
    "measurements": "findings",
    "recommendation": "impression",
    "addenda": "impression",
}
# OBX-8 (HL7 table 0078) by how soon somebody has to know
_ABNORMAL: Final[Mapping[Level, str]] = {
    Level.RED: "AA",
    Level.ORANGE: "A",
    Level.YELLOW: "A",
}
_IN_ORDER: Final = (
    "technique",
    "comparison",
    "findings",
    "measurements",
    "impression",
    "recommendation",
    "addenda",
)
_LABELS: Final[Mapping[str, Words]] = {
    **words.SECTIONS,
    "measurements": words.MEASUREMENTS,
    "addenda": words.ADDENDUM,
}
REASON: Final = Words("Reason: {reason}", "Lý do: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultNews:
    """What is told of a version of a report to the placer of one order."""

    report_uid: str
    version: Version
    language: str
    notice: str
    """What this version changes, and why; '' nothing."""
    addenda: Sequence[str]
    """What was added, with when and by whom, oldest first."""
    order: Order
    patient: Patient
    visit: Visit | None
    procedures: Sequence[RequestedProcedure]
    steps: Sequence[ScheduledStep]
    study_instance_uid: str
    started: datetime | None
    """Local time, of the examination."""
    ended: datetime | None
    station: str
    """AE title of the machine."""
    modality: str
    operators: Sequence[str] = ()
    """Who worked at the machine, in VR PN."""
    critical: Level | None = None
    """How soon somebody has to know of what was found."""
    pdf: bytes | None = field(default=None, repr=False)
    """The signed paper; None: there is none (yet)."""

    @property
    def result_status(self) -> str:
        """OBR-25."""
        return status_of(self.version)

    @property
    def procedure(self) -> RequestedProcedure | None:
        """The first that was not cancelled."""
        return next(
            iter([*(one for one in self.procedures if not one.canceled), *self.procedures]), None
        )


def status_of(version: Version) -> str:
    """Return OBR-25 of a version, '' when it is told to nobody."""
    return NAMES[version.status].result_status


def result_message(news: ResultNews, style: Style, zone: tzinfo, control_id: str) -> bytes:
    """Return the message that tells of a report, in the style of its destination."""
    at = news.version.authored_at.astimezone(zone)
    lines = [
        building.header(("ORU", "R01", "ORU_R01"), style, at, control_id),
        building.patient_segment(news.patient, style),
    ]
    if news.visit is not None:
        lines.append(building.visit_segment(news.visit))
    lines += [_common_order(news, at), _request(news, style, at)]
    lines += [*_observations(news, style, at)]
    return building.written(lines, style)


def _common_order(news: ResultNews, at: datetime) -> str:
    order = news.order
    return segment(
        "ORC",
        {
            1: "RE",
            2: building.numbered(order.placer_order_number, order.placer_issuer),
            3: _plain(order.filler_order_number),
            4: _plain(order.group_number),
            5: _ORDER_STATUS.get(news.result_status, ""),
            9: timestamp(at),
        },
    )


def _request(news: ResultNews, style: Style, at: datetime) -> str:
    order, procedure, version = news.order, news.procedure, news.version
    step = next(iter(news.steps), None)
    reader = version.reader if version.reader.code != version.author.code else None
    return segment(
        "OBR",
        {
            1: "1",
            2: building.numbered(order.placer_order_number, order.placer_issuer),
            3: _plain(order.filler_order_number),
            4: building.coded(
                procedure.code if procedure else None, procedure.description if procedure else ""
            ),
            7: timestamp(news.started) if news.started else "",
            8: timestamp(news.ended) if news.ended else "",
            16: _requester(order.requesting_physician, style),
            18: _plain(order.accession_number),
            19: _plain(procedure.requested_procedure_id) if procedure else "",
            20: _plain(step.scheduled_procedure_step_id) if step else "",
            22: timestamp(at),
            24: _plain(news.modality),
            25: news.result_status,
            32: _interpreter(version.author, style),
            33: _interpreter(reader, style) if reader else "",
            34: STANDARD.repetition.join(
                f"{STANDARD.subcomponent}{building.name(one, _WHOLE_NAMES)}"
                for one in news.operators
            ),
        },
    )


_WHOLE_NAMES: Final = Style(plain_names=True)


_EQUIPMENT: Final = "2.4"
"""OBX-18 came with this version."""
_SUB_ID_REQUIRED: Final = frozenset({"2.3.1", "2.7"})


@dataclass(frozen=True, slots=True)
class _Observation:
    """OBX-2, 3, 5 and 8, written already."""

    kind: str
    code: str
    value: str
    abnormal: str = ""


def _observations(news: ResultNews, style: Style, at: datetime) -> Iterator[str]:
    names = NAMES[news.version.status]
    status = names.observation_status
    if news.version.status is Status.RETRACTED:
        status = style.withdrawn
    found = [one for part in style.result_parts for one in _of_part(part, news, style)]
    if not found and news.version.status in _WITHDRAWN:
        found = [_written(_withdrawal(news), _code("text", news, style), style)]
    sub_id = "1" if style.version in _SUB_ID_REQUIRED else ""
    for number, one in enumerate(found, start=1):
        yield segment(
            "OBX",
            {
                1: str(number),
                2: one.kind,
                3: one.code,
                4: _plain(news.study_instance_uid) if style.study_in_obx4 else sub_id,
                5: one.value,
                8: one.abnormal,
                11: status,
                14: timestamp(at),
                16: _person(news.version.author, style),
                18: _plain(news.station) if style.version >= _EQUIPMENT else "",
            },
        )


def _of_part(part: str, news: ResultNews, style: Style) -> list[_Observation]:
    withdrawn = news.version.status in _WITHDRAWN
    code = _code(part, news, style)
    if part in _LABELS or part == "text":
        if withdrawn:
            return [_written(_withdrawal(news), code, style)]
        text = _text(part, news, style)
        made = replace(_written(text, code, style), abnormal=_abnormal(part, news, style))
        return [made] if text else []
    other = None if withdrawn else _OTHERS[part](news, style)
    return [_Observation(other[0], code, other[1])] if other else []


def _abnormal(part: str, news: ResultNews, style: Style) -> str:
    """Return OBX-8 of a text: a critical finding is marked where the impression stands."""
    marked = part == "text" or part == _goes_to("impression", style.result_parts)
    return _ABNORMAL[news.critical] if marked and news.critical else ""


def _study(news: ResultNews, style: Style) -> tuple[str, str] | None:  # noqa: ARG001
    return ("HD", _plain(news.study_instance_uid)) if news.study_instance_uid else None


def _pdf(news: ResultNews, style: Style) -> tuple[str, str] | None:
    if news.pdf is None:
        return None
    octets = base64.b64encode(news.pdf).decode("ascii")
    parts = (_plain(style.our_application), "application", "pdf", "Base64", octets)
    return "ED", STANDARD.component.join(parts)


def _pdf_link(news: ResultNews, style: Style) -> tuple[str, str] | None:
    return _link(style.pdf_url, news, style)


def _viewer(news: ResultNews, style: Style) -> tuple[str, str] | None:
    return _link(style.viewer_url, news, style)


# What a destination may want beside text, by the name of the part
_OTHERS: Final[Mapping[str, Callable[[ResultNews, Style], tuple[str, str] | None]]] = {
    "study": _study,
    "pdf": _pdf,
    "pdf_link": _pdf_link,
    "viewer": _viewer,
}


def _link(template: str, news: ResultNews, style: Style) -> tuple[str, str] | None:
    """Return a link, or None when the destination wants none or nothing could stand in it."""
    if not template:
        return None
    values = {
        "study": news.study_instance_uid,
        "accession": news.order.accession_number,
        "placer": news.order.placer_order_number,
        "patient": news.patient.identifier.value,
        "report": news.report_uid,
        "version": str(news.version.version),
    }
    url = template
    for name, value in values.items():
        url = url.replace(f"{{{name}}}", quote(value, safe=""))
    return style.link_type, _plain(url)


def _text(part: str, news: ResultNews, style: Style) -> str:
    """Return the text of one part, with what has no place of its own."""
    whole = part == "text"
    content = news.version.content
    held = {name: _section(name, content, news.addenda) for name in _IN_ORDER}
    sections = [
        name
        for name in _IN_ORDER
        if held[name] and (whole or name == part or _goes_to(name, style.result_parts) == part)
    ]
    if whole:
        pieces = [f"{_marker(name, news, style)}{held[name]}" for name in sections]
    else:
        pieces = [
            held[name] if name == part else f"{_LABELS[name].told(news.language)}: {held[name]}"
            for name in sections
        ]
    first = next((one for one in style.result_parts if one in _LABELS or one == "text"), "")
    notice = _first_line(news) if part == first else ""
    return "\n".join(filter(None, [notice, *pieces]))


def _goes_to(name: str, parts: Sequence[str]) -> str:
    """Return the part that has a section: its own, the one next to it, else any that has text."""
    if name in parts:
        return name
    near = _NEXT_TO.get(name, "")
    others = [one for one in parts if one in _LABELS]
    return near if near in parts else next(iter(others), "")


def _section(name: str, content: Content, addenda: Sequence[str]) -> str:
    if name == "measurements":
        return "\n".join(
            f"{one.name}: {one.value} {one.unit}".rstrip() for one in content.measurements
        )
    if name == "addenda":
        return "\n".join(addenda)
    return str(getattr(content, name))


def _marker(name: str, news: ResultNews, style: Style) -> str:
    marker = style.result_markers.get(name)
    return f"{marker} " if marker else f"{_LABELS[name].told(news.language)}: "


def _first_line(news: ResultNews) -> str:
    if news.version.status is Status.PRELIMINARY:
        return words.PRELIMINARY.told(news.language)
    return news.notice


def _withdrawal(news: ResultNews) -> str:
    status = news.version.status
    word = words.RETRACTED if status is Status.RETRACTED else NAMES[status].words
    said = word.told(news.language).upper()
    reason = news.version.reason
    return f"{said}. {REASON.told(news.language).format(reason=reason)}" if reason else said


def _written(text: str, code: str, style: Style) -> _Observation:
    if style.result_text == "HTML":
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in text.split("\n"))
        return _Observation("TX", code, base64.b64encode(lines.encode()).decode("ascii"))
    if style.result_text == "FT":
        return _Observation("FT", code, _plain(text))
    return _Observation("TX", code, STANDARD.repetition.join(map(_plain, text.split("\n"))))


def _code(part: str, news: ResultNews, style: Style) -> str:
    """Return OBX-3; what stands in the options is written as it is."""
    return style.result_codes.get(part, CODES[part]).replace("{modality}", _plain(news.modality))


CODES: Final[Mapping[str, str]] = {
    "text": "18748-4^Diagnostic imaging study^LN",
    "technique": "KY_THUAT^Kỹ thuật^L",
    "comparison": "SO_SANH^So sánh^L",
    "findings": "MO_TA^Mô tả^L",
    "measurements": "SO_DO^Số đo^L",
    "impression": "KET_LUAN^Kết luận^L",
    "recommendation": "DE_NGHI^Đề nghị^L",
    "addenda": "BO_SUNG^Bổ sung^L",
    "study": "113014^DICOM Study^DCM",
    "pdf": "PDF^Phiếu kết quả^L",
    "pdf_link": "PDF^Phiếu kết quả^L",
    "viewer": "VIEWER^Link xem ảnh^L",
}
"""OBX-3 of each part, unless a destination wants another one."""


def _person(person: Practitioner, style: Style) -> str:
    """Return XCN: the number in its first component, the whole name in its third."""
    return f"{_plain(_number(person, style))}^^{_plain(_whole_name(person))}".rstrip("^")


def _interpreter(person: Practitioner, style: Style) -> str:
    """Return NDL: number and name as sub-components of its first component."""
    return f"{_plain(_number(person, style))}&{_plain(_whole_name(person))}".rstrip("&")


def _number(person: Practitioner, style: Style) -> str:
    return person.licence_number if style.person_id == "licence" else person.code


def _whole_name(person: Practitioner) -> str:
    return f"{person.qualification} {person.name}".strip()


def _requester(name: str, style: Style) -> str:
    if not name:
        return ""
    return (
        f"^^{building.name(name, style)}" if style.plain_names else f"^{building.name(name, style)}"
    )


def _plain(text: str) -> str:
    return escape(text, STANDARD)
