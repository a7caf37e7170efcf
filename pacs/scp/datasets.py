"""Small datasets as mappings from keywords to texts, read and written (PS3.5 Section 7).

For what is rare and has sequences in it: worklist entries and the data sets of
DIMSE-N services. Values are NFC text, several of them by backslash; a sequence is a
list of such mappings. Attributes that PS3.6 has no keyword for are left out, as are binary ones.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from pacs import dicom_json
from pacs.encoding import BULK_VRS, NUMBER_CODES
from pacs.header import SPECIFIC_CHARACTER_SET, dictionary_vr, tag_of
from pacs.scp.encoding import UTF_8, Encoder

Attributes = Mapping[str, "str | Sequence[Attributes]"]
"""Keyword → text, or the items of a sequence."""

_FORMS: Final[Mapping[str, tuple[str, Callable[[str], int | float]]]] = {
    **{vr: (code, int) for vr, code in NUMBER_CODES.items()},
    "FL": ("f", float),
    "FD": ("d", float),
    "AT": ("I", lambda text: int(text, 16)),
}
_BINARY: Final = frozenset(vr.decode("ascii") for vr in BULK_VRS)


def read(data: bytes, transfer_syntax: str) -> dict[str, Any]:
    """Return the `Attributes` of a data set; every keyword that was sent is there, empty ones too.

    Raises
    ------
    Malformed
        The encoding is broken, or nests too deep.
    """
    return _plain(dicom_json.dataset_json(data, transfer_syntax, lambda _path: ""))


def _plain(found: dicom_json.Json) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for number, element in found.items():
        tag = int(number, 16)
        keyword = _keyword(tag)
        if not keyword or element["vr"] in _BINARY or tag == SPECIFIC_CHARACTER_SET:
            continue
        values = element.get("Value", [])
        if (element["vr"] == "SQ") != (dictionary_vr(tag) == "SQ"):  # costs only itself
            plain[keyword] = [] if dictionary_vr(tag) == "SQ" else ""
        elif element["vr"] == "SQ":
            plain[keyword] = [_plain(item) for item in values]
        else:
            plain[keyword] = "\\".join(map(_text, values)).strip()
    return plain


def _text(value: object) -> str:
    if isinstance(value, dict):  # a person name (PS3.18 F.2.2)
        groups = [value.get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return "" if value is None else str(value)


@lru_cache(maxsize=1024)
def _keyword(tag: int) -> str:
    """Return the keyword of a tag, '' in repeating groups, where it names many (PS3.5 7.6)."""
    keyword = keyword_for_tag(tag)
    return keyword if keyword and tag_for_keyword(keyword) == tag else ""


def write(attributes: Attributes, transfer_syntax: str) -> bytes:
    """Return the encoded data set, in UTF-8 where it is not ASCII."""
    encoder = Encoder(transfer_syntax)
    charset = "" if all(text.isascii() for text in texts(attributes)) else UTF_8
    declared = {"SpecificCharacterSet": charset} if charset else {}
    return _written({**declared, **attributes}, encoder, charset)


def _written(attributes: Attributes, encoder: Encoder, charset: str) -> bytes:
    parts = []
    for tag, keyword in sorted((tag_of(keyword), keyword) for keyword in attributes):
        value = attributes[keyword]
        if isinstance(value, str):
            vr = dictionary_vr(tag)[:2]
            parts.append(encoder.element(tag, vr, binary(vr, value), charset))
        else:
            items = [_written(item, encoder, charset) for item in value]
            parts.append(encoder.sequence(tag, items))
    return b"".join(parts)


def binary(vr: str, text: str) -> object:
    """Return what an `Encoder` takes for a value: numbers where they are binary, else the text.

    What is no value of its VR becomes empty: one bad value must not cost the others.
    """
    form = _FORMS.get(vr)
    if form is None:
        return text
    code, convert = form
    try:
        numbers = tuple(convert(part) for part in text.split("\\") if part)
        struct.pack(f"<{len(numbers)}{code}", *numbers)
    except (ValueError, OverflowError, struct.error):
        return ""
    return numbers


def texts(attributes: Attributes) -> Iterator[str]:
    """Yield every value, at every level."""
    for value in attributes.values():
        if isinstance(value, str):
            yield value
        else:
            for item in value:
                yield from texts(item)


def items(attributes: Attributes, keyword: str) -> Sequence[Attributes]:
    """Return the items of a sequence, none when it is absent."""
    value = attributes.get(keyword, ())
    return () if isinstance(value, str) else value


def text(attributes: Attributes, keyword: str) -> str:
    """Return a value, '' when it is absent."""
    value = attributes.get(keyword, "")
    return value if isinstance(value, str) else ""


def tags(keywords: Iterable[str]) -> tuple[int, ...]:
    """Return the tags of keywords, as a response names them."""
    return tuple(tag_of(keyword) for keyword in keywords)
