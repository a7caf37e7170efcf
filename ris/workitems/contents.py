"""Reading and making DICOM JSON Model objects (PS3.18 Annex F) by keyword."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

Json = Mapping[str, Any]

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


@lru_cache(maxsize=1024)
def tag_of(keyword: str) -> str:
    """Return the eight digits by which the model names an attribute."""
    return f"{tag_for_keyword(keyword):08X}"


def values(dataset: Json, keyword: str) -> Sequence[Any]:
    """Return the values, none when the attribute is absent."""
    found: Sequence[Any] = dataset.get(tag_of(keyword), {}).get("Value", ())
    return found


def text(dataset: Json, keyword: str) -> str:
    """Return the first value as text, '' when there is none."""
    found = values(dataset, keyword)
    return _text(found[0]).strip() if found else ""


def items(dataset: Json, keyword: str) -> list[Json]:
    """Return the items of a sequence."""
    return [one for one in values(dataset, keyword) if isinstance(one, dict)]


def has_value(dataset: Json, keyword: str) -> bool:
    """Whether an attribute has a value that is not empty; a sequence: an item that is not."""
    return any(one not in (None, "", {}) for one in values(dataset, keyword))


def attribute(keyword: str, *given: object) -> dict[str, Any]:
    """Return an object with one attribute."""
    vr = dictionary_VR(keyword)
    return {tag_of(keyword): {"vr": vr, "Value": [*given]} if given else {"vr": vr}}


def select(dataset: Json, keywords: Sequence[str]) -> dict[str, Any]:
    """Return these of the attributes that are there."""
    tags = map(tag_of, keywords)
    return {tag: dataset[tag] for tag in tags if tag in dataset}


def plain(dataset: Json) -> dict[str, Any]:
    """Return keyword → text, several values by backslash, or the items of a sequence.

    What has no keyword and what is binary is left out.
    """
    found: dict[str, Any] = {}
    for tag, element in dataset.items():
        keyword = _keyword(tag)
        if not keyword or element["vr"] in _BINARY:
            continue
        if element["vr"] == "SQ":
            found[keyword] = [plain(item or {}) for item in element.get("Value", ())]
        else:
            found[keyword] = "\\".join(map(_text, element.get("Value", ())))
    return found


@lru_cache(maxsize=1024)
def _keyword(tag: str) -> str:
    """Return the keyword of a tag, '' in repeating groups, where it names many (PS3.5 7.6)."""
    keyword = keyword_for_tag(int(tag, 16))
    return keyword if keyword and tag_for_keyword(keyword) == int(tag, 16) else ""


def _text(value: object) -> str:
    if isinstance(value, dict):  # a person name
        return "=".join(value.get(group, "") for group in _GROUPS).rstrip("=")
    return "" if value is None else str(value)
