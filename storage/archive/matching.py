"""The matching of one query key, as a condition of SQL (PS3.4 C.2.2.2).

The `Reach` of a condition tells how a search gets to the rows that match it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Table,
    Text,
    and_,
    any_,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from storage.archive import rows, tables
from storage.archive.attributes import BACKSLASH_VRS, WILD_VRS, Attribute, Matching
from storage.archive.model import Level
from storage.base import names, temporal
from storage.base.errors import Malformed
from storage.base.values import PADDING, is_uid

WILD: Final = re.compile(r"[*?]")
ESCAPE: Final = "!"
_INT32: Final = range(-(2**31), 2**31)
_TRIGRAM: Final = re.compile(r"[0-9A-Za-z]{3}")
_TABLES: Final[Mapping[Level, Table]] = {
    Level.PATIENT: tables.patients,
    Level.STUDY: tables.studies,
    Level.SERIES: tables.series,
    Level.IMAGE: tables.instances,
}
_UNIQUE: Final = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"})
_COPIED: Final = frozenset({"PatientID", "PatientName"})
"""What a study has a copy of."""
_START_INDEXED: Final = frozenset({"PatientID", "AccessionNumber"})
_TRIGRAM_INDEXED: Final = frozenset(
    {"PatientName", "PatientID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName"}
)


class Reach(IntEnum):
    """How a search gets to the rows that match a condition."""

    WALK = 0
    """No index finds them: it walks through all of them, in bounded steps."""
    PROBE = 1
    """An index finds them, but there may be many and all at the far end of the order of
    answers, where the database would walk through everything to reach them: count first."""
    INDEX = 2
    """An index finds them; the database may choose between it and the order."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a key asks for, and how it is reached."""

    clause: ColumnElement[bool]
    reach: Reach = Reach.WALK


def column_of(attribute: Attribute) -> Column[Any]:
    """Return the column that holds the attribute's value."""
    return _TABLES[attribute.level].c[attribute.column]


def is_universal(value: str) -> bool:
    """Return whether a key with `value` matches everything (PS3.4 C.2.2.2.3)."""
    return not value.strip("*" + PADDING)


def condition(
    attribute: Attribute, value: str, level: Level, *, fuzzy: bool = False
) -> Condition | None:
    """Return what `value` asks of `attribute` in a query at `level`; None when nothing.

    Raises
    ------
    Malformed
        The value is none of the attribute's VR; the text names the keyword.
    """
    wanted = values_of(attribute, value)
    if attribute.matching is Matching.NONE or not wanted:
        return None
    try:
        if attribute.matching is Matching.NAME:
            return _names(attribute, wanted, level, fuzzy=fuzzy)
        return _BUILDERS[attribute.matching](attribute, wanted, level)
    except Malformed as error:
        raise Malformed(f"{attribute.keyword}: {error}") from error


def values_of(attribute: Attribute, value: str) -> tuple[str, ...]:
    """Return the values of a key, none when it is universal."""
    text = value.replace("\0", "")
    if attribute.vr in BACKSLASH_VRS:
        found: tuple[str, ...] = (rows.clean(text),)
    else:
        found = tuple(member for part in text.split("\\") if (member := rows.clean(part)))
    return () if any(is_universal(one) for one in found) else found


# UID, integer, list


def _uids(attribute: Attribute, wanted: tuple[str, ...], _level: Level) -> Condition:
    check_uids(wanted)
    held = column_of(attribute)
    reach = Reach.INDEX if attribute.keyword in _UNIQUE else Reach.WALK
    return Condition(is_one_of(held, wanted), reach)


def check_uids(wanted: tuple[str, ...]) -> None:
    """Raise `Malformed` unless all of them are UIDs."""
    if not all(map(is_uid, wanted)):
        raise Malformed("not a UID or a list of UIDs")


def _integers(attribute: Attribute, wanted: tuple[str, ...], _level: Level) -> Condition:
    numbers = [rows.integer(text) for text in wanted]
    if None in numbers:
        raise Malformed(f"not a value of VR {attribute.vr}")
    held = column_of(attribute)
    return Condition(held.in_([number for number in numbers if number in _INT32]))


def _members(attribute: Attribute, wanted: tuple[str, ...], _level: Level) -> Condition:
    """Match any member of a list that the archive keeps of a study."""
    held = column_of(attribute)
    if attribute.vr not in WILD_VRS:
        check_uids(wanted)
    exact = [text for text in wanted if not is_wild(attribute, text)]
    clauses = [
        _any_member(func.unnest(held), attribute, text) for text in wanted if text not in exact
    ]
    if exact:
        clauses.append(held.overlap(literal(exact, ARRAY(Text))))
    indexed = attribute.keyword == "ModalitiesInStudy" and len(exact) == len(wanted)
    return Condition(or_(*clauses), Reach.INDEX if indexed else Reach.WALK)


# Text


def _texts(attribute: Attribute, wanted: tuple[str, ...], level: Level) -> Condition:
    held = column_of(attribute)
    if attribute.keyword in _COPIED and level is not Level.PATIENT:
        held = tables.studies.c[attribute.column]
    if attribute.multiple:
        values = func.string_to_array(held, "\\")
        return Condition(
            or_(*(_any_member(func.unnest(values), attribute, text) for text in wanted))
        )
    clauses = [
        like(_start(attribute, held, text), text) for text in wanted if is_wild(attribute, text)
    ]
    exact = tuple(text for text in wanted if not is_wild(attribute, text))
    if exact:
        clauses.append(_exactly(attribute, held, exact))
    if attribute.keyword == "Modality" and len(exact) == len(wanted):
        # what a series has, its study has: an index finds the studies
        of_study = tables.studies.c.modalities.overlap(literal([*exact], ARRAY(Text)))
        return Condition(and_(of_study, *clauses), Reach.INDEX)
    return Condition(or_(*clauses), min(_text_reach(attribute, text) for text in wanted))


def _exactly(
    attribute: Attribute, held: Column[Any], wanted: tuple[str, ...]
) -> ColumnElement[bool]:
    if attribute.keyword not in _START_INDEXED:
        return is_one_of(held, wanted)
    starts = tuple(text[: tables.INDEXED_CHARACTERS] for text in wanted)
    found = is_one_of(tables.start_of(held), starts)
    return found if starts == wanted else and_(found, is_one_of(held, wanted))


def _start(attribute: Attribute, held: Column[Any], pattern: str) -> ColumnElement[Any]:
    """Return what a pattern is compared with: the indexed start when that is all it needs."""
    prefix = pattern.rstrip("*")
    fits = 0 < len(prefix) < tables.INDEXED_CHARACTERS and not WILD.search(prefix)
    return tables.start_of(held) if fits and attribute.keyword in _START_INDEXED else held


def _text_reach(attribute: Attribute, text: str) -> Reach:
    if attribute.keyword in _START_INDEXED:  # numbers that were given out in order of time
        if not WILD.search(text):
            return Reach.INDEX
        found = _TRIGRAM.search(text) or not WILD.search(text[0])
        return Reach.PROBE if found else Reach.WALK
    indexed = attribute.keyword in _TRIGRAM_INDEXED and _TRIGRAM.search(text)
    return Reach.INDEX if indexed else Reach.WALK


def is_wild(attribute: Attribute, text: str) -> bool:
    """Whether a value has wild cards where the VR allows them."""
    return attribute.vr in WILD_VRS and WILD.search(text) is not None


def is_one_of(held: ColumnElement[Any], wanted: tuple[str, ...]) -> ColumnElement[bool]:
    """Match any of some values."""
    if len(wanted) == 1:
        return held == wanted[0]
    return held == any_(literal([*wanted], ARRAY(Text)))


def _any_member(
    values: Any,  # noqa: ANN401 - SQLAlchemy's set-returning function
    attribute: Attribute,
    text: str,
) -> ColumnElement[bool]:
    member = values.column_valued("member")
    matches = like(member, text) if is_wild(attribute, text) else member == text
    return select(member).where(matches).exists()


def like(held: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """Match a pattern with the wild cards of DICOM."""
    return held.like(_escape(pattern).replace("*", "%").replace("?", "_"), escape=ESCAPE)


def _escape(text: str) -> str:
    return re.sub(r"([!%_])", r"!\1", text)


# Person names


def _names(
    attribute: Attribute, wanted: tuple[str, ...], level: Level, *, fuzzy: bool
) -> Condition | None:
    """Match folded words in any order, or a pattern over a whole folded group."""
    at_study = attribute.keyword in _COPIED and level is not Level.PATIENT
    table = tables.studies if at_study else _TABLES[attribute.level]
    held = table.c[attribute.column + tables.KEY_SUFFIX]
    found = [
        pattern_of_name(held, text)
        if WILD.search(names.fold(text))
        else words(held, text, fuzzy=fuzzy)
        for text in wanted
    ]
    if any(one is None for one in found):
        return None
    clause = or_(*(one for one in found if one is not None))
    if attribute.keyword not in _TRIGRAM_INDEXED or not all(map(_name_is_indexed, wanted)):
        return Condition(clause)
    # patients come in the order of their names
    return Condition(clause, Reach.PROBE if level is Level.PATIENT else Reach.INDEX)


def _name_is_indexed(text: str) -> bool:
    """Return whether trigrams find it: the start of a word is one, so is each run of three.

    Other letters than Latin ones have trigrams or not, as the server's locale is.
    """
    folded = names.fold(text)
    begins_word = bool(folded) and not WILD.search(folded[0])
    return folded.isascii() and (begins_word or _TRIGRAM.search(folded) is not None)


def words(held: Column[Any], text: str, *, fuzzy: bool) -> ColumnElement[bool] | None:
    """Every word of the key is a word of the name, or with `fuzzy` begins one."""
    end = "%" if fuzzy else " %"
    clauses = [
        held.like(f"% {_escape(word)}{end}", escape=ESCAPE)
        for word in dict.fromkeys(names.words(text))
    ]
    return and_(*clauses) if clauses else None


def pattern_of_name(held: Column[Any], text: str) -> ColumnElement[bool] | None:
    """Every group of the key matches a whole group of the name."""
    folded = [names.fold(group) for group in text.split("=")]
    clauses = [_group(held, group) for group in folded if not is_universal(group)]
    return and_(*clauses) if clauses else None


def _group(held: Column[Any], pattern: str) -> ColumnElement[bool]:
    """Match one folded pattern against any whole group of a key ' W1 W2 = W3 '.

    The single space behind the last word also stands for the empty components that
    were left out: ``DOE^*`` finds DOE.
    """
    inner = pattern.strip("*")
    like = _escape(inner).replace("*", "%").replace("?", "_")
    open_start, open_end = pattern.startswith("*"), pattern.endswith("*")
    whole = WILD.search(inner) is None
    if whole and open_start and open_end:
        return held.like(f"%{like}%", escape=ESCAPE)
    if whole and open_end:
        return or_(held.like(f" {like}%", escape=ESCAPE), held.like(f"%= {like}%", escape=ESCAPE))
    # LIKE finds by the index what may match; the expression keeps inside one group
    expression = "".join(
        _IN_GROUP.get(part) or re.escape(part) for part in re.split(r"([*?])", inner) if part
    )
    start = "(^|=) " + ("[^=]*" if open_start else "")
    end = "" if open_end else " ($|=)"
    likely = f"% {'%' if open_start else ''}{like}{'' if open_end else ' '}%"
    return and_(
        held.like(likely, escape=ESCAPE), func.regexp_like(held, f"{start}{expression}{end}")
    )


_IN_GROUP: Final = {"*": "[^=]*", "?": "[^=]"}


# Dates and times


def _dates(attribute: Attribute, wanted: tuple[str, ...], _level: Level) -> Condition:
    held = column_of(attribute)
    return Condition(or_(*(between(held, *date_ends(text)) for text in wanted)))


def _times(attribute: Attribute, wanted: tuple[str, ...], _level: Level) -> Condition:
    held = key_of(attribute)
    return Condition(or_(*(between(held, *time_ends(text)) for text in wanted)))


def key_of(attribute: Attribute) -> Column[Any]:
    """Return the column that a time or a name is matched by."""
    return _TABLES[attribute.level].c[attribute.column + tables.KEY_SUFFIX]


def date_ends(text: str) -> tuple[str, str]:
    """Return the first and last day of a DA key as the index keeps them, '' when open."""
    low, high = temporal.da_range(text)
    return rows.date_text(low) if low else "", rows.date_text(high) if high else ""


def time_ends(text: str) -> tuple[str, str]:
    """Return the first and last time of a TM key as the index keeps them, '' when open."""
    low, high = temporal.tm_range(text)
    return (
        rows.time_text(low) if low is not None else "",
        rows.time_text(high) if high is not None else "",
    )


def between(held: ColumnElement[Any], low: str, high: str) -> ColumnElement[bool]:
    """Match a range with both ends inside; what is empty matches none."""
    if low and low == high:
        return held == low
    lower = held >= low if low else held != ""
    return and_(lower, held <= high) if high else lower


def combined(day: Attribute, moment: Attribute, days: str, moments: str) -> Condition | None:
    """Return one interval from a date key and a time key (PS3.4 C.2.2.2.5.1).

    An entity with a date and no time matches when its day is inside. None when
    either key is universal or has several values: they are matched apart then.

    Raises
    ------
    Malformed
        A value is none of its VR; the text names the keyword.
    """
    first, second = values_of(day, days), values_of(moment, moments)
    if len(first) != 1 or len(second) != 1:
        return None
    low_day, high_day = _named(day, date_ends, first[0])
    low_time, high_time = _named(moment, time_ends, second[0])
    date, time = column_of(day), key_of(moment)
    inside = [date != "", time != ""]
    if low_day:
        inside.append(tuple_(date, time) >= tuple_(literal(low_day), literal(low_time)))
    if high_day:
        last = high_time or "24"
        inside.append(tuple_(date, time) <= tuple_(literal(high_day), literal(last)))
    untimed = and_(time == "", between(date, low_day, high_day))
    return Condition(and_(between(date, low_day, high_day), or_(and_(*inside), untimed)))


def _named(
    attribute: Attribute, ends: Callable[[str], tuple[str, str]], text: str
) -> tuple[str, str]:
    try:
        return ends(text)
    except Malformed as error:
        raise Malformed(f"{attribute.keyword}: {error}") from error


_BUILDERS: Final[Mapping[Matching, Callable[[Attribute, tuple[str, ...], Level], Condition]]] = {
    Matching.UID: _uids,
    Matching.INTEGER: _integers,
    Matching.LIST: _members,
    Matching.TEXT: _texts,
    Matching.DATE: _dates,
    Matching.TIME: _times,
}
