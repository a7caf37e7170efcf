"""STOW-RS, metadata with bulk data in parts of their own (PS3.18 10.5.2, 8.7.3.4, 8.7.3.5).

    metadata ─ kept ────────────┐ (the whole body has come)
    bulk data ─ put aside ──────┴─ complete ─ compose ─ into the spool, as every object

A part of bulk data belongs where a BulkDataURI is its Content-Location; several with the same
are the frames of one object, in order. Where there is one object and it names no bulk data,
what nobody named is its pixel data or its document.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

import msgspec

from pacs import codestreams, composing, contexts, dicom_xml, wrapping
from pacs.codestreams import Told
from pacs.composing import Bulk, Value
from pacs.part10 import Head
from storage.base import values
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotSupported,
    Unavailable,
)
from storage.spool import Scratch
from viewer_api import media
from viewer_api.dicomweb.receipts import COERCED, Failure, OtherSyntax, Receipt, Stored
from viewer_api.dicomweb.receiving import Receiving
from viewer_api.multipart import Part
from viewer_api.problems import TooLarge

log = logging.getLogger(__name__)

MAX_METADATA: Final = 16 << 20
"""Bytes of metadata in one request."""
MAX_OBJECTS: Final = 5_000
METADATA: Final = frozenset({media.DICOM_JSON, media.JSON, media.DICOM_XML})

_PIXEL_DATA: Final = "7FE00010"
_DOCUMENT: Final = "00420011"
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_STUDY_INSTANCE_UID: Final = 0x0020000D
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_ALONE: Final = "urn:bulk:alone"

# Samples per Pixel, Rows, Columns, Bits Allocated
_FRAME: Final = (0x00280002, 0x00280010, 0x00280011, 0x00280100)
_NUMBER_OF_FRAMES: Final = 0x00280008
_PHOTOMETRIC: Final = 0x00280004
_SHARED_COLOURS: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"})
"""Of which several pixels share some samples (PS3.3 C.7.6.3.1.2)."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aside:
    """One part of bulk data that was put aside, or why it could not be."""

    media_type: str
    transfer_syntax_uid: str
    """As the part names it, '' when it names none."""
    scratch: Scratch | None
    fault: Unavailable | TooLarge | None = None

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Return bytes of it."""
        return self.bytes.read(offset, length)

    @property
    def bytes(self) -> Scratch:
        """What was put aside; raises when that failed."""
        if self.scratch is None:
            raise self.fault or Malformed("bulk data that did not arrive")
        return self.scratch


@dataclass(frozen=True, slots=True)
class _Body:
    """What a whole request body brought."""

    objects: list[Json] = field(default_factory=list)
    bulk: dict[str, list[Aside]] = field(default_factory=dict)


def take(receiving: Receiving, parts: Iterator[Part]) -> Receipt:
    """Assemble and store the objects of a request; nothing when its body breaks off.

    Raises
    ------
    Malformed
        The body breaks off, or its metadata are neither JSON nor XML of DICOM.
    """
    with ExitStack() as held:
        body = _read(receiving, parts, held)
        _adopt(body)
        receipt = Receipt()
        for one in body.objects:
            outcome = _outcome(receiving, one, body.bulk)
            if isinstance(outcome, Stored):
                receipt.stored.append(outcome)
            else:
                log.warning("store_faulty", extra={"reason": str(outcome.error)})
                receipt.failed.append(outcome)
        receipt.failed.extend(_unclaimed(body))
        return receipt


# Reading the body


def _read(receiving: Receiving, parts: Iterator[Part], held: ExitStack) -> _Body:
    body = _Body()
    size = 0
    for part in parts:
        content_type = media.parse(part.headers.get("content-type", media.OCTET_STREAM))
        if content_type.essence in METADATA:
            content = b"".join(_limited(part.body, MAX_METADATA - size))
            size += len(content)
            body.objects.extend(_objects(content_type.essence, content))
            if len(body.objects) > MAX_OBJECTS:
                raise TooLarge(f"more than {MAX_OBJECTS} objects in one request")
        else:
            location = part.headers.get("content-location", "").strip()
            aside = _put_aside(receiving, content_type, part.body, held)
            body.bulk.setdefault(location, []).append(aside)
    return body


def _limited(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            raise TooLarge(f"more than {MAX_METADATA} bytes of metadata in one request")
        yield piece


def _objects(media_type: str, content: bytes) -> Sequence[Json]:
    if media_type == media.DICOM_XML:
        return [dicom_xml.decode(content)]
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed("the metadata are not JSON") from error
    objects = [found] if isinstance(found, dict) else found
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise Malformed("the metadata are no array of DICOM JSON Model objects")
    return objects


def _put_aside(
    receiving: Receiving, content_type: media.MediaType, pieces: Iterator[bytes], held: ExitStack
) -> Aside:
    """Put a part aside; trouble of ours fails the objects that need it, not the request."""
    facts = content_type.essence, content_type.parameters.get("transfer-syntax", "")
    try:
        scratch = held.enter_context(Scratch(receiving.spool))
    except Unavailable as fault:
        return Aside(*facts, None, fault)
    for piece in pieces:
        if scratch.size + len(piece) > receiving.most:
            return Aside(*facts, None, TooLarge(f"bulk data of more than {receiving.most} bytes"))
        try:
            scratch.write(piece)
        except Unavailable as fault:
            return Aside(*facts, None, fault)
    return Aside(*facts, scratch)


# Which bulk data belong where


def _adopt(body: _Body) -> None:
    """Let a single object that names no bulk data have what nobody named."""
    if len(body.objects) != 1 or len(body.bulk) != 1:
        return
    [one], [(location, parts)] = body.objects, body.bulk.items()
    if next(_uris(one), None) is not None:
        return
    place = _DOCUMENT if parts[0].media_type in wrapping.DOCUMENTS else _PIXEL_DATA
    if place not in one:
        one[place] = {"vr": "OB", "BulkDataURI": location or _ALONE}
        body.bulk[location or _ALONE] = body.bulk.pop(location)


def _uris(dataset: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    for attribute in dataset.values():
        if not isinstance(attribute, dict):
            continue
        if "BulkDataURI" in attribute:
            yield str(attribute["BulkDataURI"])
        items = attribute.get("Value")
        if isinstance(items, list) and depth < composing.MAX_DEPTH:
            for item in items:
                if isinstance(item, dict):
                    yield from _uris(item, depth + 1)


def _unclaimed(body: _Body) -> Iterator[Failure]:
    claimed = {uri for one in body.objects for uri in _uris(one)}
    for location in body.bulk.keys() - claimed:
        yield from (
            Failure(Malformed("bulk data that no metadata name")) for _ in body.bulk[location]
        )


# One object


def _outcome(
    receiving: Receiving, dataset: Json, bulk: Mapping[str, Sequence[Aside]]
) -> Stored | Failure:
    try:
        return _stored(receiving, dataset, bulk)
    except (Conflict, Malformed, NotSupported, Unavailable) as error:
        return Failure(error, *_uids(dataset))


def _uids(dataset: Json) -> tuple[str, str]:
    try:
        uids = (
            composing.text_of(dataset, _SOP_CLASS_UID),
            composing.text_of(dataset, _SOP_INSTANCE_UID),
        )
    except ImagingError:
        return "", ""
    return uids if all(map(values.is_uid, uids)) else ("", "")


def _stored(receiving: Receiving, dataset: Json, bulk: Mapping[str, Sequence[Aside]]) -> Stored:
    _require_bulk_data(dataset, bulk)
    found = {uri: bulk[uri] for uri in _uris(dataset) if uri in bulk}
    main = _main(dataset, found)
    syntax, told, count, media_type = _form(dataset, main)
    if main and syntax == contexts.EXPLICIT_VR_LITTLE_ENDIAN and not media_type:
        _require_length(dataset, sum(one.bytes.size for one in main))
    written = {uri: _bulk(parts) for uri, parts in found.items()}
    if main and contexts.is_encapsulated(syntax):
        start = told.start if told else 0
        uri = str(dataset[_PIXEL_DATA]["BulkDataURI"])
        written[uri] = Bulk([_value(one, start) for one in main], encapsulated=True)
    if media_type in wrapping.DOCUMENTS:
        wrapping.note_length(dataset, sum(one.bytes.size for one in main))
    wrapped = wrapping.complete(dataset, media_type, told, count, receiving.study)
    if not contexts.is_storage(wrapped.sop_class_uid):
        raise NotSupported("no SOP Class of the Storage Service Class")
    head = Head(wrapped.sop_class_uid, wrapped.sop_instance_uid, syntax, None, 0)
    stored = receiving.put(head, composing.compose(dataset, written))
    if wrapped.corrected:
        return stored.warned(COERCED, f"corrected: {', '.join(wrapped.corrected)}")
    return stored


def _require_bulk_data(dataset: Json, bulk: Mapping[str, Sequence[Aside]]) -> None:
    """Raise `Malformed` when no part of the request is the bulk data that the metadata name."""
    for name, attribute in dataset.items():
        named = isinstance(attribute, dict) and "BulkDataURI" in attribute
        if named and str(attribute["BulkDataURI"]) not in bulk:
            raise Malformed(f"({name[:8]}): no part of the request is the bulk data that it names")


def _require_length(dataset: Json, size: int) -> None:
    """Hold native pixel data against the Image Pixel module, as far as it is there (PS3.5 8.1.1).

    Raises
    ------
    Conflict
        They are of different lengths.
    """
    told = {tag: composing.text_of(dataset, tag) for tag in _FRAME}
    if _PIXEL_DATA not in dataset or not all(map(str.isdecimal, told.values())):
        return
    if composing.text_of(dataset, _PHOTOMETRIC) in _SHARED_COLOURS:
        return
    frames = composing.text_of(dataset, _NUMBER_OF_FRAMES)
    bits = prod(map(int, told.values())) * (int(frames) if frames.isdecimal() else 1)
    expected = (bits + 7) // 8
    if size not in {expected, expected + expected % 2}:
        raise Conflict(f"{size} bytes of pixel data, and {expected} by the Image Pixel module")


def _main(dataset: Json, found: Mapping[str, Sequence[Aside]]) -> Sequence[Aside]:
    """Return the parts of the pixel data, else of the document, else none."""
    for place in (_PIXEL_DATA, _DOCUMENT):
        attribute = dataset.get(place)
        if isinstance(attribute, dict) and "BulkDataURI" in attribute:
            return found.get(str(attribute["BulkDataURI"]), ())
    return ()


def _form(dataset: Json, main: Sequence[Aside]) -> tuple[str, Told | None, int, str]:
    """Return transfer syntax, what the codestream tells, number of frames, and media type."""
    native = contexts.EXPLICIT_VR_LITTLE_ENDIAN
    if not main:
        return native, None, 0, ""
    first = main[0]
    if first.media_type in wrapping.DOCUMENTS:
        wrapping.check_document(first.media_type, first.bytes_at(0, 16))
        return native, None, 0, first.media_type
    named = first.transfer_syntax_uid or composing.text_of(dataset, _TRANSFER_SYNTAX_UID)
    if first.media_type.startswith(("image/", "video/")):
        told = [codestreams.read(one.media_type, one.bytes.size, one.bytes_at) for one in main]
        if any(_shape(one) != _shape(told[0]) for one in told):
            raise Malformed("frames of different shapes in one object")
        syntax = wrapping.syntax_for(named, told[0])
        _require_encapsulated(syntax)
        return syntax, told[0], len(main), first.media_type
    if not named or named in {native, contexts.IMPLICIT_VR_LITTLE_ENDIAN}:
        return native, None, 0, ""
    _require_encapsulated(named)
    return named, None, len(main), ""


def _shape(told: Told | None) -> tuple[object, ...]:
    if told is None:
        return ()
    return told.transfer_syntax_uid, told.rows, told.columns, told.samples, told.bits


def _require_encapsulated(syntax: str) -> None:
    if not contexts.is_storable_syntax(syntax) or not contexts.is_encapsulated(syntax):
        raise OtherSyntax(f"bulk data in {contexts.name_of(syntax)[:64]}")


def _bulk(parts: Sequence[Aside]) -> Bulk:
    return Bulk([_value(one) for one in parts])


def _value(one: Aside, start: int = 0) -> Value:
    scratch = one.bytes
    return Value(scratch.size - start, lambda: scratch.pieces(start))
