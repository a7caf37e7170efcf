"""Attributes that were corrected after reception, put into datasets on their way out.

What the archive keeps is never touched. The elements up to group 0010 (0040, when the order of a
study is put in) are written anew, with the corrected ones in place; everything behind them goes out
byte by byte. Texts that the character set of a dataset does not have make it ISO_IR 192, if all its
other texts are ASCII; else names and descriptions lose their accents, numbers of the order are left
out, and a dataset that would have to misspell the number of a patient does not go out at all.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pacs import charsets, contexts, deflate, dicom_json, header, requesting, rewriting
from pacs.elements import Event, Kind, Scanner
from pacs.encoding import HEADER, LOCALISED_VRS, LONG_HEADER, SHORT_VRS, Codec
from pacs.part10 import Buffer
from pacs.requesting import Item
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

_NUMBERS: Final = frozenset({"AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID"})
"""Of the order: what cannot be written is left as the object says it."""
_DESCRIPTIONS: Final = frozenset({"StudyDescription", "RequestedProcedureDescription"})
"""Texts for people, which may lose their accents."""

Correction = Mapping[str, str | Sequence[Item]]
"""Keyword → text, or items; '' leaves the element empty."""


_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Splice:
    """The new beginning of a dataset."""

    head: bytes
    skipped: int
    """How many bytes of what is kept it takes the place of."""


@lru_cache(maxsize=1024)
def read(text: str) -> Correction:
    """Return the corrections that the index keeps as `text`, empty for ''."""
    found: dict[str, str | Sequence[Item]] = {}
    at = 0
    while at < len(text):
        correction, at = _DECODER.raw_decode(text, at)
        found.update(correction)
    return found


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
    texts, requests = _parts(correction)
    if requests and requesting.names_one(events, start, requesting.ids(requests)):
        requests = ()
    last = requesting.LAST_GROUP if requests else LAST_GROUP
    count, end = _until_last_group(events, len(start), last)
    writing = _writing([*texts.values(), *_texts_of(requests)], found, events, start, texts)
    changes = _changes(texts, requests, writing, scanner.codec)
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
    texts, requests = _parts(correction)
    made.update(_json(texts))
    if requests and not requesting.json_names_one(made, requesting.ids(requests)):
        items = [_json(item) for item in requests]
        made[f"{requesting.TAG:08X}"] = {"vr": "SQ", "Value": items}
    if _PATIENT_ID in texts:
        made.pop(f"{_ISSUER_QUALIFIERS:08X}", None)


def _json(texts: Mapping[str, str]) -> dicom_json.Json:
    tags = {header.tag_of(keyword): text for keyword, text in texts.items()}
    return {
        f"{tag:08X}": dicom_json.text_attribute(header.dictionary_vr(tag), text)
        for tag, text in sorted(tags.items())
    }


def _parts(correction: Correction) -> tuple[dict[str, str], Sequence[Item]]:
    """Return the attributes of the dataset itself, and the items of the sequence."""
    texts = {keyword: text for keyword, text in correction.items() if isinstance(text, str)}
    items = correction.get(requesting.KEYWORD, ())
    return texts, () if isinstance(items, str) else items


def _texts_of(requests: Sequence[Item]) -> Iterator[str]:
    for item in requests:
        yield from item.values()


def _until_last_group(events: Sequence[Event], size: int, last_tag: int) -> tuple[int, int]:
    """Return how many events, and how many bytes, the elements up to the last group take."""
    depth, last, starts = 0, -1, []
    for at, (kind, tag, vr, start, _, codec) in enumerate(events):
        if depth == 0 and kind in (Kind.VALUE, Kind.SEQUENCE, Kind.FRAGMENTS):
            short = codec.implicit or vr in SHORT_VRS
            starts.append((at, start - (HEADER if short else LONG_HEADER)))
            if tag <= last_tag:
                last = len(starts) - 1
        depth += (kind is Kind.SEQUENCE) - (kind is Kind.SEQUENCE_END)
    if last + 1 < len(starts):
        return starts[last + 1]
    return len(events), size


@dataclass(frozen=True, slots=True)
class _Writing:
    """How texts are written into one dataset."""

    codec: str | None
    """None: not all of them can be."""
    to_utf_8: bool
    """The dataset becomes ISO_IR 192 with them."""

    def able(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return the texts without the numbers of an order that cannot be written."""
        return {
            keyword: text
            for keyword, text in texts.items()
            if keyword not in _NUMBERS or self.codec is not None or text.isascii()
        }

    def value(self, keyword: str, vr: str, text: str) -> bytes:
        shortened = _shortened(text) if vr == "PN" else text
        padding = b"\0" if vr == "UI" else b" "
        return rewriting.even(_written(keyword, vr, shortened, self.codec), padding)


def _writing(
    texts: Sequence[str],
    found: header.Header,
    events: Sequence[Event],
    start: Buffer,
    replaced: Mapping[str, str],
) -> _Writing:
    codec = _codec(texts, found.specific_character_set)
    if codec is None and _others_are_ascii(events, start, {*map(header.tag_of, replaced)}):
        return _Writing("utf-8", to_utf_8=True)
    return _Writing(codec, to_utf_8=False)


def _changes(
    texts: Mapping[str, str], requests: Sequence[Item], writing: _Writing, codec: Codec
) -> Changes:
    changes: Changes = {}
    if writing.to_utf_8:
        changes[header.SPECIFIC_CHARACTER_SET] = b"CS", UTF_8.encode()
    for keyword, text in writing.able(texts).items():
        tag = header.tag_of(keyword)
        vr = header.dictionary_vr(tag)
        changes[tag] = vr.encode(), writing.value(keyword, vr, text)
    if requests:
        items = [*map(writing.able, requests)]
        changes[requesting.TAG] = b"SQ", requesting.encoded(items, codec, writing.value)
    if _PATIENT_ID in texts:
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


def _others_are_ascii(events: Sequence[Event], start: Buffer, tags: Collection[int]) -> bool:
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
    if vr != "PN" and keyword not in _DESCRIPTIONS:
        raise NotSupported(f"{keyword} has letters that the dataset's character set has not")
    return charsets.unaccented(text).encode("ascii")


def _shortened(name: str) -> str:
    groups = (group[:_PN_MAX].rstrip(values.PADDING + "^") for group in name.split("=")[:3])
    return "=".join(groups).rstrip("=")
