"""What a report system of another maker tells: the results of an ORU^R01, one for each OBR.

OBX-3      mô tả, kết luận or đề nghị, by the codes that are in use; else by words in the text
OBX-5      TX, FT, ST; HTML in Base64 too; a PDF in ED. Links are never followed
OBR-25     the state; of W and D in OBX-11 a withdrawal
"""

import base64
import binascii
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import partial
from typing import Final

from ris.hl7 import grouping, inbound, message, times
from ris.hl7.ack import MissingValue, NoSequence, UnknownValue
from ris.hl7.grouping import Scope
from ris.hl7.mapping import Reader
from ris.hl7.message import Message, Segment
from ris.hl7.profile import Profile
from ris.requests import ResultRequest

# OBX-3 as it is in use: local words, HL7's suffixes, LOINC, DCM
SECTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("MO_TA", "MOTA", "FINDINGS", "GDT", "18782-3", "121070", "121071"), "findings"
    ),
    **dict.fromkeys(("KET_LUAN", "KETLUAN", "IMPRESSION", "CONCLUSION", "IMP"), "impression"),
    **dict.fromkeys(("19005-8", "121072", "121073", "121076", "121077"), "impression"),
    **dict.fromkeys(
        ("DE_NGHI", "DENGHI", "RECOMMENDATION", "REC", "18783-1", "121074", "121075"),
        "recommendation",
    ),
}
# Words that begin a section in a text that has all of them
_MARKERS: Final[Mapping[str, str]] = {
    "MO_TA": "findings",
    "MÔ TẢ": "findings",
    "FINDINGS": "findings",
    "KET_LUAN": "impression",
    "KẾT LUẬN": "impression",
    "IMPRESSION": "impression",
    "CONCLUSION": "impression",
    "DE_NGHI": "recommendation",
    "ĐỀ NGHỊ": "recommendation",
    "RECOMMENDATION": "recommendation",
}
_MARKER: Final = re.compile(rf"^\s*({'|'.join(_MARKERS)})\s*:\s*", re.IGNORECASE | re.MULTILINE)
_TEXTS: Final = frozenset({"TX", "FT", "ST", ""})
_LINK: Final = re.compile(r"https?://\S+\Z")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]{16,}={0,2}\s*\Z")
_BREAK: Final = re.compile(r"<(?:br|/p|/div|/li|/tr|/h\d)\b[^>]*>", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]*>")
_PDF: Final = b"%PDF-"
_WITHDRAWN: Final = frozenset({"W", "D"})
STATUSES: Final = frozenset("PRAFCXOISYZ")
"""HL7 table 0123."""
_POSITIONS: Final = ("findings", "impression")
LABORATORY: Final = frozenset(
    {
        *("BG", "BLB", "CG", "CH", "CP", "HM", "IMM", "LAB", "MB", "MCB", "MYC", "OSL", "SP"),
        *("TX", "VR"),
    }
)
"""HL7 table 0074 of OBR-24, without what is a modality of DICOM too (SR)."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One OBX with text."""

    section: str
    """'' where its code says nothing."""
    text: str
    from_html: bool


def results(
    message: Message, profile: Profile, zone: tzinfo
) -> tuple[list[ResultRequest], list[str]]:
    """Read every result of imaging in a message, and what had to be passed over.

    Of the laboratory nothing is read. Without a text or a paper, a result of a sender that tells of
    all results is none of ours.

    Raises
    ------
    NoSequence
        There is no OBR.
    MissingValue, UnknownValue
        A result names no order and no study, has no text, or a state that is none.
    """
    notes: list[str] = []
    found = [scope for scope in grouping.orders(message) if scope.first("OBR")]
    if not found:
        raise NoSequence("OBR: there is none")
    read = []
    for part, scope in enumerate(found):
        department = scope.all("OBR")[0].value(24, 1).upper()
        if department in LABORATORY:
            notes.append(f"OBR-24: a result of the laboratory ({department}), passed over")
            continue
        try:
            read.append(_result(Reader(scope, profile, zone, notes), part))
        except MissingValue as error:
            if not profile.ignore_unknown_results:
                raise
            notes.append(f"{error}: passed over")
    return read, notes


def paper_in(octets: bytes, part: int) -> bytes | None:
    """Return the PDF in one result of a message, None when there is none."""
    groups = [one for one in grouping.orders(message.read(octets)) if one.first("OBR")]
    return _paper(groups[part]) if part < len(groups) else None


def _result(read: Reader, part: int) -> ResultRequest:
    scope = read.scope
    request = scope.all("OBR")[0]
    observations = scope.all("OBX")
    kept = [one for one in observations if one.value(11).upper() not in _WITHDRAWN]
    sections = _sections([*_lines(kept)])
    paper = _paper(scope)
    status = _status(request, observations)
    uid = _study(read, observations)
    numbers = read.text("placer_order_number"), read.text("filler_order_number")
    if not any((*numbers, read.text("accession_number"), uid)):
        raise MissingValue("OBR-2 is required")
    withdrawn = bool(observations) and not kept
    if status in "PRAFC" and not withdrawn and not (sections or paper):
        raise MissingValue("OBX-5 is required")
    author_id, author_name = _author(request, observations)
    return ResultRequest(
        placer_order_number=numbers[0],
        filler_order_number=numbers[1],
        accession_number=read.text("accession_number"),
        study_instance_uid=uid,
        status=status,
        withdrawn=withdrawn,
        findings=sections.get("findings", ""),
        impression=sections.get("impression", ""),
        recommendation=sections.get("recommendation", ""),
        author_id=author_id,
        author_name=author_name,
        reported_at=_reported_at(read, request, observations),
        part=part,
        paper_sha256=hashlib.sha256(paper).hexdigest() if paper else "",
    )


def _status(request: Segment, observations: Sequence[Segment]) -> str:
    """Return OBR-25; where it is left out the least that OBX-11 says, and never more."""
    sent = request.value(25).upper()
    if not sent:
        said = {one.value(11).upper() for one in observations} - {""}
        return next((one for one in "PRCF" if one in said), "P")
    if sent not in STATUSES:
        raise UnknownValue("OBR-25: no such result status")
    return sent


def _lines(observations: Sequence[Segment]) -> Iterator[_Line]:
    for one in observations:
        if one.value(2).upper() not in _TEXTS:
            continue
        text = one.text(5)
        plain = _from_html(text)
        text = text if plain is None else plain
        if text and not _LINK.match(text):
            yield _Line(_section(one), text, plain is not None)


def _section(observation: Segment) -> str:
    """Return what OBX-3 stands for: its code, a suffix of it, or its words."""
    code = observation.raw(3, 1)
    words = [*code.split(observation.delimiters.subcomponent), observation.value(3, 2)]
    return next((SECTIONS[one] for word in words if (one := word.strip().upper()) in SECTIONS), "")


def _sections(lines: Sequence[_Line]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    unnamed = [one for one in lines if not one.section]
    by_position = len(unnamed) == len(_POSITIONS) and all(one.from_html for one in unnamed)
    for line in lines:
        if line.section:
            found.setdefault(line.section, []).append(line.text)
    if by_position and not found:
        return {name: one.text for name, one in zip(_POSITIONS, unnamed, strict=True)}
    for name, text in _marked("\n".join(one.text for one in unnamed)):
        found.setdefault(name, []).append(text)
    return {name: "\n".join(texts) for name, texts in found.items()}


def _marked(text: str) -> Iterator[tuple[str, str]]:
    """Cut a text where words begin a section; what stands before them is mô tả."""
    at, name = 0, "findings"
    for marker in _MARKER.finditer(text):
        if before := text[at : marker.start()].strip():
            yield name, before
        at, name = marker.end(), _MARKERS[marker[1].upper()]
    if rest := text[at:].strip():
        yield name, rest


def _from_html(text: str) -> str | None:
    """Return the text of HTML in Base64, None for what is none."""
    if not _BASE64.match(text):
        return None
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    if not decoded.lstrip().startswith("<"):
        return None
    lines = html.unescape(_TAG.sub("", _BREAK.sub("\n", decoded))).split("\n")
    return "\n".join(line.strip() for line in lines).strip()


def _paper(scope: Scope) -> bytes | None:
    """Return the first PDF of a group; the bytes decide, not what is said of them."""
    for one in scope.all("OBX"):
        if one.value(2).upper() != "ED":
            continue
        data = one.value(5, 5) or one.value(5, 1)
        with_padding = re.sub(r"[^A-Za-z0-9+/]", "", data)
        try:
            octets = base64.b64decode(with_padding + "=" * (-len(with_padding) % 4))
        except binascii.Error:
            continue
        if octets.startswith(_PDF):
            return octets
    return None


def _study(read: Reader, observations: Sequence[Segment]) -> str:
    """Return the Study Instance UID: of ZDS or IPC, else of an OBX of type HD."""
    if uid := read.first("study_instance_uid", inbound.uid):
        return uid
    for one in observations:
        if one.value(2).upper() == "HD" and one.value(3, 1) in {"113014", "110180"}:
            return inbound.uid(one.value(5, 1))
    return ""


def _author(request: Segment, observations: Sequence[Segment]) -> tuple[str, str]:
    """Return number and name of who signed: OBR-32 (NDL), else OBX-16 (XCN)."""
    mark = request.delimiters.subcomponent
    first = request.raw(32, 1)
    parts = [request.meant(part) for part in first.split(mark)]
    if any(parts):
        return parts[0], " ".join(filter(None, parts[1:3]))
    for one in observations:
        if one.value(16, 1) or one.value(16, 3):
            return one.value(16, 1), " ".join(filter(None, (one.value(16, 2), one.value(16, 3))))
    return "", ""


def _reported_at(
    read: Reader, request: Segment, observations: Sequence[Segment]
) -> datetime | None:
    parse = partial(times.parse_ts, zone=read.zone)
    sent = [request.value(22), *(one.value(14) for one in observations)]
    for text in filter(None, sent):
        try:
            return parse(text)
        except ValueError as error:
            read.notes.append(f"OBR-22 passed over: {error}")
    return inbound.sent_at(read)
