"""Attributes that were corrected after reception, put into datasets on their way out.

What the archive keeps is never touched. The elements up to group 0010 are written anew, with the
corrected ones in place; everything behind them goes out byte by byte. Texts that the character set
of a dataset does not have make it ISO_IR 192, if all its other texts are ASCII; else a name loses
its accents, and a dataset that would have to misspell a number does not go out at all.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pacs import charsets, contexts, deflate, dicom_json, header, rewriting
from pacs.elements import Event, Kind, Scanner
from pacs.encoding import HEADER, LOCALISED_VRS, LONG_HEADER, SHORT_VRS
from pacs.part10 import Buffer
from pacs.rewriting import Changes
from storage.base import values
from storage.base.errors import Malformed, NotSupported

UTF_8: Final = "ISO_IR 192"
LAST_GROUP: Final = 0x0010FFFF
"""What is corrected stands in the groups up to this tag."""
_ISSUER_QUALIFIERS: Final = 0x00100024
"""They belong to the Patient ID that was received."""
_PATIENT_ID: Final = "PatientID"
_PN_MAX: Final = 64
"""Characters of a component group (PS3.5 Table 6.2-1)."""

Correction = Mapping[str, str]
"""Keyword → text; '' leaves the element empty."""


@dataclass(frozen=True, slots=True)
class Splice:
    """The new beginning of a dataset."""

    head: bytes
    skipped: int
    """How many bytes of what is kept it takes the place of."""


@lru_cache(maxsize=1024)
def read(text: str) -> Correction:
    """Return the correction that the index keeps as `text`, empty for ''."""
    return {str(key): str(value) for key, value in json.loads(text).items()} if text else {}


def splice(start: bytes, transfer_syntax_uid: str, correction: Correction) -> Splice:
    """Return the beginning of a dataset with `correction` in it.

    `start` is the dataset up to its pixel data, not deflated.

    Raises
    ------
    NotSupported
        A number cannot be written in the characters of the dataset.
    Malformed
        The encoding is broken.
    """
    events: list[Event] = []
    scanner = Scanner(transfer_syntax_uid, events)
    scanner.read(start)
    if scanner.codec is None:
        raise Malformed("no dataset")
    found = header.Header(scanner, scanner.codec)
    count, end = _until_last_group(events, len(start))
    changes = _changes(correction, found.specific_character_set, events, start)
    pieces = rewriting.rewrite(start, events[:count], scanner.codec, changes)
    return Splice(b"".join(pieces), end)


def corrected(dataset: bytes, transfer_syntax_uid: str, correction: Correction) -> bytes:
    """Return a whole dataset with `correction` in it; as `splice`, also when it is deflated."""
    if transfer_syntax_uid == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        plain = deflate.inflate(dataset)
        changed = corrected(plain, contexts.EXPLICIT_VR_LITTLE_ENDIAN, correction)
        return deflate.deflated([changed])
    end = header.pixel_data_at(dataset, transfer_syntax_uid)
    start = dataset if end is None else dataset[:end]
    made = splice(start, transfer_syntax_uid, correction)
    return made.head + dataset[made.skipped :]


def put_json(made: dicom_json.Json, correction: Correction) -> None:
    """Put a correction into the DICOM JSON object of a dataset."""
    for keyword, text in correction.items():
        tag = header.tag_of(keyword)
        made[f"{tag:08X}"] = dicom_json.text_attribute(header.dictionary_vr(tag), text)
    if _PATIENT_ID in correction:
        made.pop(f"{_ISSUER_QUALIFIERS:08X}", None)


def _until_last_group(events: Sequence[Event], size: int) -> tuple[int, int]:
    """Return how many events, and how many bytes, the elements up to the last group take."""
    depth, last, starts = 0, -1, []
    for at, (kind, tag, vr, start, _, codec) in enumerate(events):
        if depth == 0 and kind in (Kind.VALUE, Kind.SEQUENCE, Kind.FRAGMENTS):
            short = codec.implicit or vr in SHORT_VRS
            starts.append((at, start - (HEADER if short else LONG_HEADER)))
            if tag <= LAST_GROUP:
                last = len(starts) - 1
        depth += (kind is Kind.SEQUENCE) - (kind is Kind.SEQUENCE_END)
    if last + 1 < len(starts):
        return starts[last + 1]
    return len(events), size


def _changes(
    correction: Correction, declared: str, events: Sequence[Event], start: Buffer
) -> Changes:
    tags = {header.tag_of(keyword): keyword for keyword in correction}
    codec = _codec(correction.values(), declared)
    changes: Changes = {}
    if codec is None and _others_are_ascii(events, start, tags):
        codec = "utf-8"
        changes[header.SPECIFIC_CHARACTER_SET] = b"CS", UTF_8.encode()
    for tag, keyword in tags.items():
        vr = header.dictionary_vr(tag)
        text = _shortened(correction[keyword]) if vr == "PN" else correction[keyword]
        padding = b"\0" if vr == "UI" else b" "
        written = _written(keyword, vr, text, codec)
        changes[tag] = vr.encode(), rewriting.even(written, padding)
    if _PATIENT_ID in correction:
        changes[_ISSUER_QUALIFIERS] = None
    return changes


def _codec(texts: Iterable[str], declared: str) -> str | None:
    """Return the codec of the declared character set if it has all texts, else None."""
    whole = "".join(texts)
    if whole.isascii():
        return "ascii"
    codecs, warning = charsets.encodings(declared)
    if not declared or warning or len(codecs) > 1:
        return None
    try:
        whole.encode(codecs[0])
    except (UnicodeError, LookupError):
        return None
    return codecs[0]


def _others_are_ascii(events: Sequence[Event], start: Buffer, tags: Mapping[int, str]) -> bool:
    """Return whether every text but those that are corrected means the same in ISO_IR 192."""
    depth = 0
    for kind, tag, sent, at, length, _ in events:
        if kind is Kind.VALUE and not (depth == 0 and tag in tags):
            vr = sent.decode("ascii") if sent not in (b"", b"UN") else header.dictionary_vr(tag)
            if vr in LOCALISED_VRS:
                value = bytes(start[at : at + length])
                if not value.isascii() or charsets.ESCAPE in value:
                    return False
        depth += (kind is Kind.SEQUENCE) - (kind is Kind.SEQUENCE_END)
    return True


def _written(keyword: str, vr: str, text: str, codec: str | None) -> bytes:
    if codec is not None:
        return text.encode(codec)
    if text.isascii():
        return text.encode("ascii")
    if vr != "PN":
        raise NotSupported(f"{keyword} has letters that the dataset's character set has not")
    return charsets.unaccented(text).encode("ascii")


def _shortened(name: str) -> str:
    groups = (group[:_PN_MAX].rstrip(values.PADDING + "^") for group in name.split("=")[:3])
    return "=".join(groups).rstrip("=")
