"""The query string of QIDO-RS (PS3.18 8.3.4, 10.6.1).

Names are decoded before anything is split, so ``includefield=00081030%2C00080060``
are two attributes and ``+`` is a space.

Decided here, where the standard leaves room: a DICOM attribute that the level does
not match on is passed over and named in a Warning; a name that is neither an attribute
nor a parameter is a mistake of the client and answered 400, since passing over a
misspelt key would return everything.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from storage.archive import attributes, custom, search
from storage.archive.model import Custom, Level, Query
from storage.base.errors import Malformed

MAX_PARAMETERS: Final = 200
MAX_VALUE: Final = 4096
MAX_OFFSET: Final = 10_000_000
DEFAULT_LIMIT: Final = 1000
"""Results without a `limit` when no study is named; a study is given whole."""

ALL: Final = "all"
_CREATOR: Final = re.compile(r"[0-9A-Fa-f]{3}[13579BDFbdf]00(?!0)[0-9A-Fa-f]{2}")
"""The tag of a private creator (PS3.5 7.8.1)."""
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
    """Names to return beyond those that the standard demands; `ALL` for everything."""
    warnings: tuple[str, ...]


def parse(
    query_string: str,
    level: Level,
    parents: Mapping[str, str],
    most: int,
    added: Callable[[], Sequence[Custom]] = tuple,
) -> Search:
    """Read a query string; `parents` are the UIDs of the path, `most` the largest page.

    `added` is asked for the attributes that an operator added when a name may be of one.

    Raises
    ------
    Malformed
        A name is no attribute and no parameter, a value is not what its parameter
        takes, or a key contradicts the path.
    """
    pairs = read_pairs(query_string)
    parameters = {name: value for name, value in pairs if name in _NOT_ATTRIBUTES | _SWITCHES}
    include = included(value for name, value in pairs if name == "includefield")
    wanted = _custom(pairs, include, level, added)
    keys = {**_keys(pairs, level, parents, wanted), **parents}
    warnings = [
        f"{name} is not supported" for name in _UNSUPPORTED_SWITCHES if is_on(parameters, name)
    ]
    limit = page_size(parameters, _default_limit(parents, most))
    if limit > most:
        warnings.append(f"at most {most} results are returned at once")
    query = Query(level, keys, fuzzy=is_on(parameters, "fuzzymatching"), custom=wanted)
    partly = sorted(one.name for one in wanted if one.name in keys and not one.whole)
    if partly:
        warnings.append(f"not yet read of every instance: {', '.join(partly)}")
    unsupported = search.unsupported(query)
    ignored = sorted({_told(name) for name, _ in pairs if keyword_of(name) in unsupported})
    if ignored:
        warnings.append(f"not matched on at this level: {', '.join(ignored)}")
    return Search(
        query=query,
        limit=min(limit, most),
        offset=whole(parameters, "offset", 0),
        after=parameters.get(AFTER, ""),
        include=include,
        warnings=tuple(warnings),
    )


def next_page(query_string: str, after: str) -> str:
    """Return the query string of the page that begins behind `after`."""
    pairs = [(name, value) for name, value in read_pairs(query_string) if name not in _PLACES]
    return urlencode([*pairs, (AFTER, after)])


def keyword_of(name: str) -> str | None:
    """Return the one name of an attribute that is named by keyword, tag or path.

    Of a private element the block is left out. None when a part is neither keyword nor tag.
    """
    try:
        return custom.name_of(custom.path_of(name))
    except Malformed:
        return None


def read_pairs(query_string: str) -> Sequence[tuple[str, str]]:
    """Return names and values, decoded.

    Raises
    ------
    Malformed
        It is not UTF-8, or too much.
    """
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


def _told(name: str) -> str:
    """Return how to call an attribute to the client: a private one as it did itself."""
    known = keyword_of(name) or name
    return name if known[:1].isdigit() else known


def _keys(
    pairs: Sequence[tuple[str, str]],
    level: Level,
    parents: Mapping[str, str],
    wanted: Sequence[Custom],
) -> dict[str, str]:
    keys: dict[str, str] = {}
    known = attributes.visible(level)
    uids = {one.name for one in wanted if one.vr == "UI"}
    for name, value in pairs:
        if name in _NOT_ATTRIBUTES or name in _SWITCHES:
            continue
        keyword = keyword_of(name)
        if keyword is None:
            raise Malformed(f"{name[:64]!r} is neither a DICOM attribute nor a parameter")
        if _CREATOR.fullmatch(name):
            continue  # it tells whose the private elements are
        attribute = known.get(keyword)
        vr = attribute.vr if attribute else ""
        # PS3.18 8.3.4.1: UIDs by comma or backslash; OHIF sends several modalities by comma,
        # which no value of VR CS has in it (PS3.5 6.2)
        if keyword in uids or vr in {"UI", "CS"}:
            value = value.replace(",", "\\")  # noqa: PLW2901
        if keyword in keys and keys[keyword] != value:
            raise Malformed(f"{keyword} is given twice")
        if keyword in parents and value not in {"", parents[keyword]}:
            raise Malformed(f"{keyword} contradicts the path")
        keys[keyword] = value
    return keys


def _custom(
    pairs: Sequence[tuple[str, str]],
    include: frozenset[str],
    level: Level,
    added: Callable[[], Sequence[Custom]],
) -> tuple[Custom, ...]:
    """Return the attributes that an operator added and that are asked for.

    Raises
    ------
    Malformed
        A name is that of several private attributes and no private creator decides.
    """
    known = attributes.visible(level)
    names = {keyword_of(name) for name, _ in pairs if name not in _NOT_ATTRIBUTES | _SWITCHES}
    names |= include
    if ALL not in names and all(name is None or name in known for name in names):
        return ()
    creators = {value for name, value in pairs if _CREATOR.fullmatch(name)}
    levels = [*Level]
    found = [
        one
        for one in added()
        if (one.name in names or ALL in names)
        and levels.index(one.level) <= levels.index(level)
        and (not creators or not one.creator or one.creator in creators)
    ]
    twice = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if twice and not names.isdisjoint(twice):
        raise Malformed(f"{twice[0]}: say whose it is, by its private creator")
    return tuple(one for one in found if one.name not in twice)


def included(values: Iterable[str]) -> frozenset[str]:
    """Return the keywords that `includefield` parameters name, or only `ALL`."""
    names = {name.strip() for value in values for name in value.split(",")}
    if ALL in names:
        return frozenset({ALL})
    return frozenset(keyword for name in names if (keyword := keyword_of(name)))


def _default_limit(parents: Mapping[str, str], most: int) -> int:
    return most if parents else min(DEFAULT_LIMIT, most)


def page_size(parameters: Mapping[str, str], default: int) -> int:
    """Return `limit`; who asks for more than anybody has, with many digits, means all.

    Raises
    ------
    Malformed
        It is no whole number.
    """
    text = parameters.get("limit", "")
    if len(text) >= len(str(MAX_OFFSET)) and text.isascii() and text.isdigit():
        return MAX_OFFSET
    return whole(parameters, "limit", default)


def whole(parameters: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of a query string.

    Raises
    ------
    Malformed
        It is none, or too large.
    """
    text = parameters.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < len(str(MAX_OFFSET))):
        raise Malformed(f"{name} is not a whole number below {MAX_OFFSET}")
    return int(text)


def is_on(parameters: Mapping[str, str], name: str) -> bool:
    """Return whether a switch of a query string is on; absent, it is not.

    Raises
    ------
    Malformed
        It is neither true nor false.
    """
    value = parameters.get(name, "false").lower()
    if value not in {"true", "false", ""}:
        raise Malformed(f"{name} is neither true nor false")
    return value == "true"
