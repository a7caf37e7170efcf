"""A picture, film or document that is no DICOM becomes an object of the right SOP Class.

What the sender said in its metadata stands; what is absent is filled from the codestream and
from the tables below, and what contradicts the codestream is corrected and told (PS3.18
10.5.2, PS3.3 A.32, A.45, A.85, C.7.6.3, C.24.2).
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from pydicom.datadict import tag_for_keyword

from pacs import composing, contexts
from pacs.codestreams import Told
from pacs.header import dictionary_vr
from storage.base.errors import Malformed

Json = MutableMapping[str, Any]

PICTURE: Final = "1.2.840.10008.5.1.4.1.1.77.1.4"
"""VL Photographic Image Storage."""
FILM: Final = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
"""Video Photographic Image Storage."""
PICTURES: Final[Mapping[tuple[int, bool], str]] = {
    (1, False): "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte Secondary Capture
    (1, True): "1.2.840.10008.5.1.4.1.1.7.3",  # Multi-frame Grayscale Word Secondary Capture
    (3, False): "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
}
"""Of several frames, by samples per pixel and whether a sample has more than 8 bits."""
# PS3.6 Annex A, Encapsulated … Storage
DOCUMENTS: Final[Mapping[str, str]] = {
    "application/pdf": "1.2.840.10008.5.1.4.1.1.104.1",
    "text/xml": "1.2.840.10008.5.1.4.1.1.104.2",  # CDA
    "model/stl": "1.2.840.10008.5.1.4.1.1.104.3",
    "model/obj": "1.2.840.10008.5.1.4.1.1.104.4",
    "model/mtl": "1.2.840.10008.5.1.4.1.1.104.5",
}
_BEGIN: Final[Mapping[str, bytes]] = {"application/pdf": b"%PDF-"}

# Type 2 of the Patient, General Study, General Series and General Equipment modules: they
# are there, empty when nobody knows them (PS3.5 7.4.3).
_TYPE_2: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    *("SeriesNumber", "InstanceNumber", "Manufacturer"),
)
_OF_DOCUMENTS: Final = ("AcquisitionDateTime", "ContentDate", "ContentTime", "DocumentTitle")
_BYTE: Final = 8
_MAX_FRAME_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What an object was completed to."""

    sop_class_uid: str
    sop_instance_uid: str
    corrected: tuple[str, ...]
    """Keywords of attributes that contradicted the codestream."""


def complete(
    dataset: Json, media_type: str, told: Told | None, count: int, study: str = ""
) -> Wrapped:
    """Complete the metadata of one object in place.

    Parameters
    ----------
    media_type
        Of its bulk data, '' when it has none that decides anything.
    told
        What its codestream tells.
    count
        Of frames in parts of their own.
    study
        Study Instance UID to take where the metadata have none; '' for a new one.

    Raises
    ------
    Malformed
        The SOP Class UID is absent and does not follow from the media type.
    """
    corrected = _pixels(dataset, told, count) if told else ()
    if media_type in DOCUMENTS:
        _document(dataset, media_type)
    sop_class = composing.text_of(dataset, _tag("SOPClassUID")) or _sop_class(
        media_type, told, count
    )
    _fill(dataset, "SOPClassUID", sop_class)
    _fill(dataset, "StudyInstanceUID", study or _new_uid())
    _fill(dataset, "SeriesInstanceUID", _new_uid())
    _fill(dataset, "SOPInstanceUID", _new_uid())
    if media_type:
        _fill(dataset, "Modality", "DOC" if media_type in DOCUMENTS else "XC")
        for keyword in _TYPE_2:
            _fill(dataset, keyword)
    uid = composing.text_of(dataset, _tag("SOPInstanceUID"))
    return Wrapped(sop_class, uid, corrected)


def note_length(dataset: Json, size: int) -> None:
    """Say how long the document is without the padding to an even length (PS3.3 C.24.2)."""
    _put(dataset, "EncapsulatedDocumentLength", size)


def check_document(media_type: str, start: bytes) -> None:
    """Raise `Malformed` when a document does not begin as its media type says."""
    if not start.startswith(_BEGIN.get(media_type, b"")):
        raise Malformed(f"no {media_type}")


def _sop_class(media_type: str, told: Told | None, count: int) -> str:
    if media_type in DOCUMENTS:
        return DOCUMENTS[media_type]
    if media_type.startswith("video/"):
        return FILM
    if media_type.startswith("image/"):
        if count == 1:
            return PICTURE
        found = PICTURES.get((told.samples, told.bits > _BYTE)) if told else None
        if found:
            return found
    raise Malformed("SOP Class UID (0008,0016) is missing and does not follow from the bulk data")


def _pixels(dataset: Json, told: Told, count: int) -> tuple[str, ...]:
    """Say what the codestream says; return what said otherwise."""
    allocated = (told.bits + _BYTE - 1) // _BYTE * _BYTE
    frames = max(count, told.frames)
    said: dict[str, Any] = {
        "SamplesPerPixel": told.samples,
        "PhotometricInterpretation": told.photometric_interpretation,
        "Rows": told.rows,
        "Columns": told.columns,
        "BitsAllocated": allocated,
        "BitsStored": told.bits,
        "HighBit": told.bits - 1,
    }
    if told.samples > 1:
        said["PlanarConfiguration"] = 0
    if frames > 1 or "00280008" in dataset:
        said["NumberOfFrames"] = frames
    corrected = tuple(
        keyword for keyword, value in said.items() if _says_other(dataset, keyword, value)
    )
    for keyword, value in said.items():
        _put(dataset, keyword, value)
    _fill(dataset, "PixelRepresentation", 0)
    if told.lossy:
        _put(dataset, "LossyImageCompression", "01")
    if 0 < told.frame_ms < _MAX_FRAME_MS:
        _fill(dataset, "FrameTime", round(told.frame_ms, 6))
        _fill(dataset, "CineRate", max(1, round(1000 / told.frame_ms)))
        if "00280009" not in dataset:
            dataset["00280009"] = {"vr": "AT", "Value": ["00181063"]}
    return corrected


def _says_other(dataset: Json, keyword: str, value: object) -> bool:
    """Whether the metadata say something else; greys may be either way round."""
    held = composing.text_of(dataset, _tag(keyword))
    if not held or held == str(value):
        return False
    return not (keyword == "PhotometricInterpretation" and _is_grey(held) and _is_grey(str(value)))


def _is_grey(photometric: str) -> bool:
    return photometric in {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}


def _document(dataset: Json, media_type: str) -> None:
    _fill(dataset, "MIMETypeOfEncapsulatedDocument", media_type)
    _fill(dataset, "BurnedInAnnotation", "YES")
    for keyword in _OF_DOCUMENTS:
        _fill(dataset, keyword)
    dataset.setdefault("0040A043", {"vr": "SQ"})  # Concept Name Code Sequence, type 2


def _put(dataset: Json, keyword: str, value: object) -> None:
    if keyword == "PhotometricInterpretation" and not _says_other(dataset, keyword, value):
        _fill(dataset, keyword, value)
        return
    tag = _tag(keyword)
    dataset[f"{tag:08X}"] = {"vr": dictionary_vr(tag), "Value": [value]}


def _fill(dataset: Json, keyword: str, value: object = None) -> None:
    """Give an attribute that is absent a value, or that is empty when there is one to give."""
    tag = _tag(keyword)
    name = f"{tag:08X}"
    if name not in dataset or (value is not None and not composing.text_of(dataset, tag)):
        filled = {} if value is None else {"Value": [value]}
        dataset[name] = {"vr": dictionary_vr(tag), **filled}


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


def _new_uid() -> str:
    """Return a UID made of a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


def syntax_for(named: str, told: Told | None) -> str:
    """Return the transfer syntax of an object: what was `named`, else what the codestream is.

    Raises
    ------
    Malformed
        Neither says, or they contradict.
    """
    if told is None:
        if not named:
            raise Malformed("the transfer syntax of the bulk data is not named")
        return named
    kin = {contexts.JPEG_LOSSLESS, contexts.JPEG_LOSSLESS_SV1}
    same = named in {"", told.transfer_syntax_uid} or {named, told.transfer_syntax_uid} <= kin
    films = contexts.is_video(named) and contexts.is_video(told.transfer_syntax_uid)
    if not same and not films and not _wider(named, told.transfer_syntax_uid):
        raise Malformed(
            f"named as {contexts.name_of(named)}, but it is "
            f"{contexts.name_of(told.transfer_syntax_uid)}"
        )
    return named or told.transfer_syntax_uid


def _wider(named: str, told: str) -> bool:
    """Whether a syntax holds streams of another one as well (PS3.5 A.4.1 to A.4.4)."""
    return (named, told) in {
        (contexts.JPEG_EXTENDED, contexts.JPEG_BASELINE),
        (contexts.JPEG_2000, contexts.JPEG_2000_LOSSLESS),
        (contexts.JPEG_LS_NEAR_LOSSLESS, contexts.JPEG_LS_LOSSLESS),
        (contexts.HTJ2K, contexts.HTJ2K_LOSSLESS),
        (contexts.HTJ2K, contexts.HTJ2K_LOSSLESS_RPCL),
        (contexts.HTJ2K_LOSSLESS, contexts.HTJ2K_LOSSLESS_RPCL),
    }
