"""Answers of QIDO-RS in the DICOM JSON Model (PS3.18 10.6.3, Annex F)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from storage.archive import attributes, custom
from storage.archive.attributes import Attribute
from storage.archive.model import Custom, Level, Match, Page
from viewer_api.dicomweb.parameters import ALL, Search

Json = dict[str, Any]

_STUDY: Final = frozenset(
    {
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ModalitiesInStudy",
        "ReferringPhysicianName",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyID",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    }
)
_SERIES: Final = frozenset(
    {
        "Modality",
        "SeriesDescription",
        "SeriesInstanceUID",
        "SeriesNumber",
        "NumberOfSeriesRelatedInstances",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "RequestAttributesSequence.RequestedProcedureID",
    }
)
_INSTANCE: Final = frozenset({"SOPClassUID", "SOPInstanceUID", "InstanceNumber"})

ALWAYS: Final[Mapping[Level, frozenset[str]]] = {
    Level.STUDY: _STUDY,
    Level.SERIES: _SERIES | {"StudyInstanceUID"},
    Level.IMAGE: _INSTANCE | {"StudyInstanceUID", "SeriesInstanceUID"},
}
"""PS3.18 Tables 10.6.3-3 to 10.6.3-5, and the parents' UIDs, which RetrieveURL tells anyway."""

PARENTS: Final[Mapping[Level, tuple[tuple[str, frozenset[str]], ...]]] = {
    Level.STUDY: (),
    Level.SERIES: (("StudyInstanceUID", _STUDY),),
    Level.IMAGE: (("StudyInstanceUID", _STUDY), ("SeriesInstanceUID", _SERIES)),
}
"""What a search without the parent in its path returns beside (PS3.18 10.6.3.3)."""

WHEN_PRESENT: Final = frozenset(
    {
        "TimezoneOffsetFromUTC",
        "Rows",
        "Columns",
        "BitsAllocated",
        "NumberOfFrames",
        "AvailableTransferSyntaxUID",
    }
)

# every answer is UTF-8 (PS3.18 F.2), and what is indexed can be fetched
_SAID_OF_ALL: Final[Mapping[str, Json]] = {
    "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
    "00080056": {"vr": "CS", "Value": ["ONLINE"]},
}
_RETRIEVE_URL: Final = "00081190"
_MODALITIES_IN_STUDY: Final = "00080061"


def datasets(
    matches: Sequence[Match], search: Search, parents: Mapping[str, str], dicomweb_url: str
) -> list[Json]:
    """Return the answers; `parents` are the UIDs of the path."""
    keywords, level = wanted(search, parents), search.query.level
    return [dataset(match, keywords, level, dicomweb_url) for match in matches]


def with_custom(
    answers: Sequence[Json], matches: Sequence[Match], search: Search
) -> Sequence[Json]:
    """Return the answers, in order, with the attributes that an operator added."""
    for answer, match in zip(answers, matches, strict=True):
        for one in search.query.custom:
            _put_custom(answer, one, _values(match.get(one.name)))
    return [dict(sorted(answer.items())) for answer in answers]


def with_lists_of_modalities(answers: Sequence[Json]) -> Sequence[Json]:
    """Return the answers with a list in Modalities in Study, also where nobody told one.

    An empty attribute has no Value (PS3.18 F.2.5), and OHIF, which counts the values, shows no
    list at all when one study is so.
    """
    for answer in answers:
        if _MODALITIES_IN_STUDY in answer:
            answer[_MODALITIES_IN_STUDY] = {"Value": [], **answer[_MODALITIES_IN_STUDY]}
    return answers


def wanted(search: Search, parents: Mapping[str, str]) -> frozenset[str]:
    """Return the keywords that each answer carries; `parents` are the UIDs of the path."""
    level = search.query.level
    if ALL in search.include:
        return frozenset(attributes.visible(level))
    above = (names for key, names in PARENTS[level] if key not in parents)
    return frozenset().union(ALWAYS[level], *above, search.include, search.query.keys)


def dataset(match: Match, keywords: frozenset[str], level: Level, dicomweb_url: str) -> Json:
    """Return one answer; empty attributes have no Value, its tags are in order."""
    answer: Json = dict(_SAID_OF_ALL)
    answer[_RETRIEVE_URL] = {"vr": "UR", "Value": [retrieve_url(match, level, dicomweb_url)]}
    for attribute in _columns(keywords, level):
        values = _values(match.get(attribute.keyword))
        if len(attribute.path) > 1:
            _put_in_items(answer, attribute, values)
        else:
            answer[_tag(attribute.tag)] = _element(attribute.vr, values)
    for attribute in _columns(WHEN_PRESENT, level):
        if values := _values(match.get(attribute.keyword)):
            answer[_tag(attribute.tag)] = _element(attribute.vr, values)
    return dict(sorted(answer.items()))


def retrieve_url(match: Match, level: Level, dicomweb_url: str) -> str:
    """Return where the entity of `match` is fetched."""
    url = f"{dicomweb_url}/studies/{match['StudyInstanceUID']}"
    if level in {Level.SERIES, Level.IMAGE}:
        url += f"/series/{match['SeriesInstanceUID']}"
    if level is Level.IMAGE:
        url += f"/instances/{match['SOPInstanceUID']}"
    return url


@lru_cache(maxsize=256)
def _columns(keywords: frozenset[str], level: Level) -> tuple[Attribute, ...]:
    known = attributes.visible(level)
    inside = {name for name in known if any(name.startswith(f"{outer}.") for outer in keywords)}
    return tuple(known[name] for name in known if name in keywords or name in inside)


def _tag(tag: int) -> str:
    return f"{tag:08X}"


def _values(value: object) -> tuple[str | int, ...]:
    if isinstance(value, tuple):
        return value if any(member != "" for member in value) else ()
    return (value,) if isinstance(value, str | int) and value != "" else ()


def _put_in_items(answer: Json, attribute: Attribute, values: tuple[str | int, ...]) -> None:
    """The n-th value of an attribute of a sequence belongs to its n-th item."""
    outer, inner = (_tag(tag) for tag in attribute.path)
    sequence = answer.setdefault(outer, {"vr": "SQ"})
    if not values:
        return
    items = sequence.setdefault("Value", [])
    items.extend({} for _ in range(len(values) - len(items)))
    for item, value in zip(items, values, strict=False):
        item[inner] = _element(attribute.vr, (value,))


def _put_custom(answer: Json, one: Custom, values: tuple[str | int, ...]) -> None:
    """Put the values of an attribute that an operator added where its path leads."""
    holder = answer
    for tag in one.path[:-1]:
        sequence = holder.setdefault(_place(holder, tag, one.creator), {"vr": "SQ"})
        if not values:
            return
        items = sequence.setdefault("Value", [])
        if not items:
            items.append({})
        holder = items[0]
    name = _place(holder, one.path[-1], one.creator)
    if values or name not in holder:
        holder[name] = _element(one.vr, values)


def _place(holder: Json, tag: int, creator: str) -> str:
    """Return under which tag an element stands; a private creator gets a block of its own."""
    if not custom.is_private(tag):
        return _tag(tag)
    group = f"{tag >> 16:04X}"
    for block in range(0x10, 0x100):
        name = f"{group}00{block:02X}"
        held = holder.setdefault(name, {"vr": "LO", "Value": [creator]})
        if held.get("Value") == [creator]:
            return f"{group}{block:02X}{tag & 0xFF:02X}"
    return _tag(tag)


def _element(vr: str, values: tuple[str | int, ...]) -> Json:
    if not values:
        return {"vr": vr}
    if vr == "PN":
        return {"vr": vr, "Value": [_person_name(str(value)) for value in values]}
    if vr in custom.NUMBER_VRS:
        return {"vr": vr, "Value": [_number(value) for value in values]}
    # an empty value among others is null (PS3.18 F.2.5)
    return {"vr": vr, "Value": [None if value == "" else value for value in values]}


def _person_name(text: str) -> Json | None:
    """PS3.18 F.2.2: only the groups that are there."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group for name, group in groups if group} or None


def _number(value: str | int) -> str | int | float | None:
    """PS3.18 F.2.3.1: a number where it is one, else the text as it was sent."""
    if isinstance(value, int) or not value:
        return value or (None if value == "" else 0)
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def warning_texts(search: Search, page: Page) -> Iterator[str]:
    """Yield what the client should know beside the answers (PS3.18 8.3.4.4)."""
    yield from search.warnings
    if page.after is not None:
        number = str(page.further) if page.counted else f"more than {page.further}"
        yield f"There are {number} additional results that can be requested"


def total(search: Search, page: Page) -> int | None:
    """Return how many answers there are in all, None when they were not all counted."""
    if search.after or not page.counted:
        return None
    if not page.matches and search.offset:
        return None  # the page lies behind the end
    return search.offset + len(page.matches) + page.further
