"""The directory of a file-set (PS3.10 8.6, PS3.3 Annex F): DICOMDIR.

    patient ─< study ─< series ─< image, SR document, presentation, …

Records are made from headers, one after the other, and written when all are there: memory
grows with their number and not with what they refer to. Texts are in UTF-8.
"""

import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pacs import contexts, part10
from pacs.encoding import ITEM, SEQUENCE_END
from pacs.header import Header, dictionary_vr, tag_of
from storage.base.errors import NotSupported

SOP_CLASS_UID: Final = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage."""
FILE_NAME: Final = "DICOMDIR"
MAX_RECORDS: Final = 1_000_000
MAX_BYTES: Final = 0xFFFF0000
"""Offsets in it have 32 bits."""
_IN_USE: Final = 0xFFFF
_END_OF_SEQUENCE: Final = struct.pack("<HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
_OFFSET_BYTES: Final = 12
_SEQUENCE_BYTES: Final = 12
_MAX_TEXT: Final = 10_240
"""Characters of a value, which then has a length of 16 bits."""
_LONG_VRS: Final = frozenset({"SQ", "UT", "OB", "OW", "UC", "UR", "UN"})
_CHARSET: Final = "SpecificCharacterSet"
_CONCEPT: Final = "ConceptNameCodeSequence"
_REFERENCED: Final = "ReferencedSeriesSequence"
_OPTIONAL: Final = frozenset({"ImageType"})
_CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_NUMBERED: Final = "InstanceNumber"

# PS3.3 F.5.1 to F.5.3
_PATIENT: Final = ("PatientName", "PatientID")
_STUDY: Final = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyDescription",
    "StudyInstanceUID",
    "StudyID",
)
_SERIES: Final = ("Modality", "SeriesInstanceUID", "SeriesNumber")

_WHEN: Final = ("ContentDate", "ContentTime", _NUMBERED)
_LABELLED: Final = (*_WHEN, "ContentLabel", "ContentDescription", "ContentCreatorName")
# PS3.3 F.5: record type, and its keys
_KEYS: Final[Mapping[str, Sequence[str]]] = {
    "IMAGE": ("ImageType", _NUMBERED),
    "SR DOCUMENT": (*_WHEN, "CompletionFlag", "VerificationFlag", _CONCEPT),
    "KEY OBJECT DOC": (*_WHEN, _CONCEPT),
    "ENCAP DOC": (*_WHEN, _CONCEPT, "DocumentTitle", "MIMETypeOfEncapsulatedDocument"),
    "PRESENTATION": (
        "PresentationCreationDate",
        "PresentationCreationTime",
        _NUMBERED,
        "ContentLabel",
        "ContentDescription",
        "ContentCreatorName",
        _REFERENCED,
    ),
    "WAVEFORM": _WHEN,
    "RT DOSE": (_NUMBERED, "DoseSummationType"),
    "RT STRUCTURE SET": (
        _NUMBERED,
        "StructureSetLabel",
        "StructureSetDate",
        "StructureSetTime",
    ),
    "RT PLAN": (_NUMBERED, "RTPlanLabel", "RTPlanDate", "RTPlanTime"),
    "RT TREAT RECORD": (_NUMBERED, "TreatmentDate", "TreatmentTime"),
    "SPECTROSCOPY": (
        "ImageType",
        *_WHEN,
        "NumberOfFrames",
        "Rows",
        "Columns",
        "DataPointRows",
        "DataPointColumns",
    ),
    "RAW DATA": _WHEN,
    "REGISTRATION": _LABELLED,
    "FIDUCIAL": _LABELLED,
    "VALUE MAP": _LABELLED,
    "SURFACE": _LABELLED,
    "MEASUREMENT": _LABELLED,
    "TRACT": _LABELLED,
}
_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
# PS3.3 Table F.4-1, by the beginning of the SOP Class UID behind `_ROOT`, the longest first
_TYPES: Final[Sequence[tuple[str, str]]] = (
    ("88.59", "KEY OBJECT DOC"),
    ("88.", "SR DOCUMENT"),
    ("104.", "ENCAP DOC"),
    ("11.", "PRESENTATION"),
    ("9.100.", "RAW DATA"),
    ("9.", "WAVEFORM"),
    ("481.2", "RT DOSE"),
    ("481.3", "RT STRUCTURE SET"),
    ("481.5", "RT PLAN"),
    ("481.8", "RT PLAN"),
    ("481.4", "RT TREAT RECORD"),
    ("481.6", "RT TREAT RECORD"),
    ("481.7", "RT TREAT RECORD"),
    ("481.9", "RT TREAT RECORD"),
    ("4.2", "SPECTROSCOPY"),
    ("66.1", "REGISTRATION"),
    ("66.3", "REGISTRATION"),
    ("66.2", "FIDUCIAL"),
    ("66.4", "IMAGE"),
    ("66.5", "SURFACE"),
    ("66.6", "TRACT"),
    ("66", "RAW DATA"),
    ("67", "VALUE MAP"),
    ("78.", "MEASUREMENT"),
)


@dataclass(frozen=True, slots=True)
class File:
    """One file of the file-set."""

    file_id: tuple[str, ...]
    """Its path, at most 8 components of at most 8 capitals, digits or underscores."""
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(slots=True)
class _Record:
    kind: str
    keys: bytes
    """Its encoded keys."""
    file: bytes = b""
    """The encoded reference to a file, of the lowest records."""
    whole: int = 0
    """Bytes with all that is below it, when they have been counted."""
    below: "dict[tuple[str, ...], _Record]" = field(default_factory=dict)


class Directory:
    """Takes the files of a file-set one after the other."""

    def __init__(self) -> None:
        self._patients: dict[tuple[str, ...], _Record] = {}
        self._count = 0

    def add(self, file: File, found: Header) -> None:
        """Add a file with the header of its dataset; what has no kind of record is left out.

        Raises
        ------
        NotSupported
            There are more than `MAX_RECORDS`.
        """
        kind = record_type(file.sop_class_uid, pixels=found.pixel_data is not None)
        if kind is None:
            return
        self._count += 1
        if self._count > MAX_RECORDS:
            raise NotSupported(f"a file-set of more than {MAX_RECORDS} files")
        patient = _record(self._patients, "PATIENT", found, _PATIENT, ("PatientID", "PatientName"))
        study = _record(patient.below, "STUDY", found, _STUDY, ("StudyInstanceUID",))
        series = _record(study.below, "SERIES", found, _SERIES, ("SeriesInstanceUID",))
        invented = {_NUMBERED: str(len(series.below) + 1)}
        keys = _encoded(found, _KEYS[kind], invented)
        series.below[(file.sop_instance_uid,)] = _Record(kind, keys, _reference(file))

    def encode(self, file_set_id: str = "") -> bytes:
        """Return the file DICOMDIR.

        Raises
        ------
        NotSupported
            It would be larger than `MAX_BYTES`.
        """
        name = "\n".join(
            "".join(key)
            for patient in self._patients.values()
            for study in patient.below.values()
            for series in study.below.values()
            for key in series.below
        )
        uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"
        head = part10.head(SOP_CLASS_UID, uid, contexts.EXPLICIT_VR_LITTLE_ENDIAN)
        opening = _element("FileSetID", _padded("CS", file_set_id))
        fixed = len(head) + len(opening) + 2 * _OFFSET_BYTES + len(_flag(0)) + _SEQUENCE_BYTES
        records = [*_laid_out(self._patients.values(), fixed)]
        size = sum(len(record) for record in records)
        if fixed + size > MAX_BYTES:
            raise NotSupported("a file-set with too many files for one directory")
        patients = _starts(self._patients.values(), fixed)
        return b"".join(
            (
                head,
                opening,
                _offset("OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity", patients[:1]),
                _offset("OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity", patients[-1:]),
                _flag(0),
                struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, size),
                *records,
            )
        )


def record_type(sop_class_uid: str, *, pixels: bool) -> str | None:
    """Return the type of directory record for a SOP Class, None when there is none."""
    name = sop_class_uid.removeprefix(_ROOT) if sop_class_uid.startswith(_ROOT) else ""
    for start, kind in _TYPES:
        if f"{name}.".startswith(start if start.endswith(".") else f"{start}."):
            return kind
    return "IMAGE" if pixels else None


def _record(
    records: dict[tuple[str, ...], _Record],
    kind: str,
    found: Header,
    keywords: Sequence[str],
    unique: Sequence[str],
) -> _Record:
    key = tuple(map(found.text, unique))
    known = records.get(key)
    if known is None:
        number = str(len(records) + 1)
        invented = {"StudyID": number, "SeriesNumber": number}
        known = records[key] = _Record(kind, _encoded(found, keywords, invented))
    return known


def _encoded(found: Header, keywords: Sequence[str], invented: Mapping[str, str]) -> bytes:
    """Return the keys of a record; numbers that an object does not have are made up (Type 1)."""
    elements: dict[int, bytes] = {}
    plain = True
    for keyword in keywords:
        if keyword == _CONCEPT:
            content = _concept(found)
        elif keyword == _REFERENCED:
            content = _as_it_lies(found, keyword)
            if not content:
                continue  # Type 1C
        else:
            text = found.text(keyword) or invented.get(keyword, "")
            if not text and keyword in _OPTIONAL:
                continue
            plain = plain and text.isascii()
            content = _value(keyword, text)
        elements[tag_of(keyword)] = _element(keyword, content)
    plain = plain and all(one.isascii() for one in _texts_of_concept(found, keywords))
    if not plain:
        elements[tag_of(_CHARSET)] = _element(_CHARSET, _padded("CS", "ISO_IR 192"))
    return b"".join(elements[tag] for tag in sorted(elements))


def _value(keyword: str, text: str) -> bytes:
    vr = dictionary_vr(tag_of(keyword))
    if vr in {"US", "UL"}:
        code = "<H" if vr == "US" else "<I"
        first = text.partition("\\")[0]
        return struct.pack(code, int(first) & 0xFFFF) if first.isdigit() else b""
    return _padded(vr, text)


def _texts_of_concept(found: Header, keywords: Sequence[str]) -> Iterator[str]:
    item = found.first_item(tag_of(_CONCEPT)) if _CONCEPT in keywords else None
    if item is not None:
        yield from map(item.text, _CODE)


def _concept(found: Header) -> bytes:
    """Return the title of a document, as the content of a sequence."""
    item = found.first_item(tag_of(_CONCEPT))
    if item is None:
        return b""
    code = b"".join(_element(keyword, _value(keyword, item.text(keyword))) for keyword in _CODE)
    return struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, len(code)) + code


def _as_it_lies(found: Header, keyword: str) -> bytes:
    """Return the content of a sequence of UIDs and numbers, none when it is encoded otherwise."""
    codec = found.codec
    if codec.implicit or codec.big_endian:
        return b""
    return found.value(tag_of(keyword)).removesuffix(_END_OF_SEQUENCE)


def _reference(file: File) -> bytes:
    return b"".join(
        (
            _element("ReferencedFileID", _padded("CS", "\\".join(file.file_id))),
            _element("ReferencedSOPClassUIDInFile", _padded("UI", file.sop_class_uid)),
            _element("ReferencedSOPInstanceUIDInFile", _padded("UI", file.sop_instance_uid)),
            _element("ReferencedTransferSyntaxUIDInFile", _padded("UI", file.transfer_syntax_uid)),
        )
    )


# Layout: each record, what is below it, then its next one


def _laid_out(records: Iterable[_Record], start: int) -> Iterator[bytes]:
    """Yield the encoded records, of which the first begins at byte `start` of the file."""
    pending = [*records]
    at = start
    for number, record in enumerate(pending):
        own, whole = _size(record), _whole(record)
        following = at + whole if number + 1 < len(pending) else 0
        below = at + own if record.below else 0
        yield _one(record, following, below)
        yield from _laid_out(record.below.values(), at + own)
        at += whole


def _starts(records: Iterable[_Record], start: int) -> list[int]:
    starts = []
    for record in records:
        starts.append(start)
        start += _whole(record)
    return starts


def _whole(record: _Record) -> int:
    if not record.whole:
        record.whole = _size(record) + sum(map(_whole, record.below.values()))
    return record.whole


def _size(record: _Record) -> int:
    return len(_one(record, 0, 0))


def _one(record: _Record, following: int, below: int) -> bytes:
    body = b"".join(
        (
            _offset("OffsetOfTheNextDirectoryRecord", [following]),
            _element("RecordInUseFlag", struct.pack("<H", _IN_USE)),
            _offset("OffsetOfReferencedLowerLevelDirectoryEntity", [below]),
            _element("DirectoryRecordType", _padded("CS", record.kind)),
            record.file,
            record.keys,
        )
    )
    return struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, len(body)) + body


def _offset(keyword: str, place: Sequence[int]) -> bytes:
    return _element(keyword, struct.pack("<I", *(place or [0])))


def _flag(value: int) -> bytes:
    return _element("FileSetConsistencyFlag", struct.pack("<H", value))


def _padded(vr: str, text: str) -> bytes:
    value = text[:_MAX_TEXT].encode()
    return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)


def _element(keyword: str, value: bytes) -> bytes:
    tag = tag_of(keyword)
    vr = dictionary_vr(tag)
    group, number = tag >> 16, tag & 0xFFFF
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value
