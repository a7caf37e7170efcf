"""The query string of QIDO-RS (PS3.18 8.3.4, 10.6.1).

Names are decoded before anything is split, so ``includefield=00081030%2C00080060``
are two attributes and ``+`` is a space.

Decided here, where the standard leaves room: a DICOM attribute that the level does
not match on is passed over and named in a Warning; a name that is neither an attribute
nor a parameter is a mistake of the client and answered 400, since passing over a
misspelt key would return everything.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from storage.archive import attributes, search
from storage.archive.model import Level, Query
from storage.base.errors import Malformed

MAX_PARAMETERS: Final = 200
MAX_VALUE: Final = 4096
MAX_OFFSET: Final = 10_000_000
DEFAULT_LIMIT: Final = 1000
"""Results without a `limit` when no study is named; a study is given whole."""

ALL: Final = "all"
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
AFTER: Final = "after"
"""Ours: where the page before ended, as its Link header says."""
_NOT_ATTRIBUTES: Final = frozenset({"accept", "charset", "includefield", "limit", "offset", AFTER})
_PLACES: Final = frozenset({"offset", AFTER})
_SWITCHES: Final = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_UNSUPPORTED_SWITCHES: Final = _SWITCHES - {"fuzzymatching"}


@dataclass(frozen=True, slots=True)
class Search:
    """What a query string asks for."""

    query: Query
    limit: int
    offset: int
    after: str
    include: frozenset[str]
    """Keywords to return beyond those that the standard demands; `ALL` for everything."""
    warnings: tuple[str, ...]


def parse(query_string: str, level: Level, parents: Mapping[str, str], most: int) -> Search:
    """Read a query string; `parents` are the UIDs of the path, `most` the largest page.

    Raises
    ------
    Malformed
        A name is no attribute and no parameter, a value is not what its parameter
        takes, or a key contradicts the path.
    """
    pairs = _pairs(query_string)
    parameters = {name: value for name, value in pairs if name in _NOT_ATTRIBUTES | _SWITCHES}
    keys = {**_keys(pairs, level, parents), **parents}
    warnings = [
        f"{name} is not supported" for name in _UNSUPPORTED_SWITCHES if _is_on(parameters, name)
    ]
    limit = _whole(parameters, "limit", _default_limit(parents, most))
    if limit > most:
        warnings.append(f"at most {most} results are returned at once")
    query = Query(level, keys, fuzzy=_is_on(parameters, "fuzzymatching"))
    ignored = sorted(search.unsupported(query))
    if ignored:
        warnings.append(f"not matched on at this level: {', '.join(ignored)}")
    return Search(
        query=query,
        limit=min(limit, most),
        offset=_whole(parameters, "offset", 0),
        after=parameters.get(AFTER, ""),
        include=_include(value for name, value in pairs if name == "includefield"),
        warnings=tuple(warnings),
    )


def next_page(query_string: str, after: str) -> str:
    """Return the query string of the page that begins behind `after`."""
    pairs = [(name, value) for name, value in _pairs(query_string) if name not in _PLACES]
    return urlencode([*pairs, (AFTER, after)])


def keyword_of(name: str) -> str | None:
    """Return the dotted keyword of an attribute that is named by keyword, tag or path.

    A tag that the dictionary does not know stays as it is: private ones are legal.
    None when a part is neither.
    """
    parts = [_part(part) for part in name.split(".")]
    return ".".join(parts) if all(parts) else None


def _part(text: str) -> str:
    if _TAG.fullmatch(text):
        return keyword_for_tag(int(text, 16)) or text.upper()
    return text if tag_for_keyword(text) is not None else ""


def _pairs(query_string: str) -> Sequence[tuple[str, str]]:
    try:
        pairs = parse_qsl(
            query_string,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except UnicodeDecodeError as error:
        raise Malformed("the query string is not UTF-8") from error
    except ValueError as error:
        raise Malformed(f"more than {MAX_PARAMETERS} parameters") from error
    for name, value in pairs:
        if len(value) > MAX_VALUE:
            raise Malformed(f"{name[:64]}: a value of {len(value)} characters")
    return pairs


def _keys(
    pairs: Sequence[tuple[str, str]], level: Level, parents: Mapping[str, str]
) -> dict[str, str]:
    keys: dict[str, str] = {}
    known = attributes.visible(level)
    for name, value in pairs:
        if name in _NOT_ATTRIBUTES or name in _SWITCHES:
            continue
        keyword = keyword_of(name)
        if keyword is None:
            raise Malformed(f"{name[:64]!r} is neither a DICOM attribute nor a parameter")
        attribute = known.get(keyword)
        if attribute is not None and attribute.vr == "UI":  # PS3.18 8.3.4.1: comma or backslash
            value = value.replace(",", "\\")  # noqa: PLW2901
        if keyword in keys and keys[keyword] != value:
            raise Malformed(f"{keyword} is given twice")
        if keyword in parents and value not in {"", parents[keyword]}:
            raise Malformed(f"{keyword} contradicts the path")
        keys[keyword] = value
    return keys


def _include(values: Iterable[str]) -> frozenset[str]:
    names = {name.strip() for value in values for name in value.split(",")}
    if ALL in names:
        return frozenset({ALL})
    return frozenset(keyword for name in names if (keyword := keyword_of(name)))


def _default_limit(parents: Mapping[str, str], most: int) -> int:
    return most if parents else min(DEFAULT_LIMIT, most)


def _whole(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < len(str(MAX_OFFSET))):
        raise Malformed(f"{name} is not a whole number below {MAX_OFFSET}")
    return int(text)


def _is_on(parameters: Mapping[str, str], name: str) -> bool:
    value = parameters.get(name, "false").lower()
    if value not in {"true", "false", ""}:
        raise Malformed(f"{name} is neither true nor false")
    return value == "true"
