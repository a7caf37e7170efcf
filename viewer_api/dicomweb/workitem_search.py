"""The query strings of the worklist service, and what search results show (PS3.18 11.9).

A name that is neither an attribute nor a parameter is a mistake of the client, as in QIDO-RS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from ris.workitems.attributes import RETURNED, TRANSACTION
from ris.workitems.search import Query
from storage.base.errors import Malformed
from viewer_api.dicomweb import parameters
from viewer_api.dicomweb.parameters import ALL, DEFAULT_LIMIT

Json = Mapping[str, Any]

_PARAMETERS: Final = frozenset({"accept", "charset", "includefield", "limit", "offset"})
_SWITCHES: Final = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_OF_SUBSCRIPTIONS: Final = frozenset({"accept", "charset", "deletionlock", "filter"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search asks for."""

    query: Query
    limit: int
    offset: int
    include: frozenset[str]
    """Keywords to show beyond those that the standard demands; `ALL` for everything."""


def parse(query_string: str, most: int) -> Asked:
    """Read the query string of a search; `most` is the largest page.

    Raises
    ------
    Malformed
        A name is no attribute and no parameter, or a value is not what its parameter takes.
    """
    pairs = parameters.read_pairs(query_string)
    known = _PARAMETERS | _SWITCHES
    given = {name: value for name, value in pairs if name in known}
    keys = keys_of((name, value) for name, value in pairs if name not in known)
    query = Query(keys, combined_datetime=True, fuzzy=parameters.is_on(given, "fuzzymatching"))
    return Asked(
        query=query,
        limit=min(parameters.page_size(given, min(DEFAULT_LIMIT, most)), most),
        offset=parameters.whole(given, "offset", 0),
        include=parameters.included(value for name, value in pairs if name == "includefield"),
    )


def subscription(query_string: str) -> tuple[bool, dict[str, str]]:
    """Return whether a subscription wants a deletion lock, and its filter.

    The filter is one list, ``filter=WorklistLabel=AI,PatientID=4711`` (PS3.18 11.10.1.2), or
    has its keys as parameters of their own.

    Raises
    ------
    Malformed
        A key is no attribute, or a value is not what its parameter takes.
    """
    pairs = parameters.read_pairs(query_string)
    given = {name: value for name, value in pairs if name in _OF_SUBSCRIPTIONS}
    listed = [one.partition("=") for one in given.get("filter", "").split(",") if one.strip()]
    keys = [(name.strip(), value) for name, _, value in listed]
    keys += [(name, value) for name, value in pairs if name not in _OF_SUBSCRIPTIONS]
    return parameters.is_on(given, "deletionlock"), keys_of(keys)


def keys_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return dotted keyword → value.

    Raises
    ------
    Malformed
        A name is no attribute, one that cannot be matched, or stands there twice.
    """
    keys: dict[str, str] = {}
    for name, value in pairs:
        keyword = parameters.keyword_of(name)
        tags = [tag_for_keyword(part) for part in (keyword or "").split(".")]
        if keyword is None or None in tags:
            raise Malformed(f"{name[:64]!r} is neither a DICOM attribute nor a parameter")
        if keyword in keys and keys[keyword] != value:
            raise Malformed(f"{keyword} is given twice")
        vr = dictionary_VR(keyword.rpartition(".")[2])
        if vr != "SQ":
            keys[keyword] = value.replace(",", "\\") if vr == "UI" else value
    return keys


def shown(asked: Asked, found: Sequence[Json]) -> list[Json]:
    """Return of each workitem what a search result has; what is not known has no value."""
    if ALL in asked.include:
        return [*found]
    keywords = {*RETURNED, *asked.include, *asked.query.keys} - {TRANSACTION}
    tags = {tag_for_keyword(one.partition(".")[0]): one.partition(".")[0] for one in keywords}
    wanted = {f"{tag:08X}": name for tag, name in tags.items() if tag is not None}
    return [
        {tag: one.get(tag) or {"vr": dictionary_VR(wanted[tag])} for tag in sorted(wanted)}
        for one in found
    ]
