"""Whether one entry matches the keys of a query (PS3.4 C.2.2.2), and which of them it does not.

    Patient's Name, as every PN   folded: accents, case and the order of words do not count
    dates and times               single value or range; DA and TM as ranges are one period of time
    UI                            a value or a list         IS DS US …   as numbers
    other text                    exactly, or `*` and `?`   CS           case does not count
    sequences                     one item matches all keys that stand in the sequence

The search and the explanation of a search ask the same matcher, so that they never disagree.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR

from storage.base import names, temporal
from storage.base.errors import Malformed
from storage.base.values import PADDING, is_uid

Attributes = Mapping[str, "str | Sequence[Attributes]"]
"""Keyword → text, several values by backslash, or the items of a sequence."""

_ONE_TEXT: Final = frozenset({"LT", "ST", "UT"})
"""In these a backslash is a letter."""
_NUMBERS: Final = frozenset({"DS", "IS", "US", "UL", "SS", "SL"})
_TIMES: Final = frozenset({"DA", "TM", "DT"})
_WILD: Final = re.compile(r"[*?]")

_Test = Callable[[str], bool]
"""Judges one value."""


@dataclass(frozen=True, slots=True)
class _Single:
    """A key on one attribute."""

    keyword: str
    test: _Test
    several: bool


@dataclass(frozen=True, slots=True)
class _Period:
    """A date key and a time key that are ranges, taken as one period."""

    day: str
    moment: str
    first: tuple[date, time]
    last: tuple[date, time]


@dataclass(frozen=True, slots=True)
class _Level:
    """The keys of a dataset or of an item."""

    singles: list[_Single] = field(default_factory=list)
    periods: list[_Period] = field(default_factory=list)
    sequences: dict[str, "_Level"] = field(default_factory=dict)


class Matcher:
    """Judges entries by the keys of one query.

    Parameters
    ----------
    keys
        Dotted keyword → value as sent; what is universal asks for nothing.
    combined_datetime
        A date and a time are one moment even where they are no ranges.
    fuzzy
        Each word of a name may be the beginning of a word.

    Raises
    ------
    Malformed
        A value is none of its VR; the text names the keyword.
    """

    def __init__(
        self, keys: Mapping[str, str], *, combined_datetime: bool = False, fuzzy: bool = False
    ) -> None:
        wanted = {keyword: text for keyword, text in keys.items() if not is_universal(text)}
        self._root = _level(wanted, "", combined=combined_datetime, fuzzy=fuzzy)

    def matches(self, entry: Attributes) -> bool:
        """Whether `entry` matches every key."""
        return next(_failing(self._root, entry, ""), None) is None

    def failing(self, entry: Attributes) -> list[str]:
        """Return the dotted keywords that `entry` does not match, in the order of the query.

        Of several items of a sequence the one counts that lacks least.
        """
        return list(_failing(self._root, entry, ""))


def is_universal(text: str) -> bool:
    """Whether a key with this value matches everything (PS3.4 C.2.2.2.3).

    Empty, or nothing but asterisks; and the hyphen of a range without ends, as some consoles
    send it.
    """
    parts = [part for text in text.replace("\0", "").split("\\") if (part := text.strip())]
    return not parts or any(part.strip("*- ") == "" and part.count("-") <= 1 for part in parts)


def vr_of(keyword: str) -> str:
    """Return the VR of a dotted keyword (PS3.6)."""
    return _vr(keyword.rpartition(".")[2])


@lru_cache(maxsize=512)
def _vr(keyword: str) -> str:
    return dictionary_VR(keyword)[:2]


# Reading the keys


def _level(wanted: Mapping[str, str], path: str, *, combined: bool, fuzzy: bool) -> _Level:
    own = {name: text for name, text in wanted.items() if "." not in name}
    made = _Level()
    for day in [name for name in own if name.endswith("Date")]:
        moment = day.removesuffix("Date") + "Time"
        if moment in own and (combined or ("-" in own[day] and "-" in own[moment])):
            period = _period(path, day, own[day], moment, own[moment])
            if period is not None:
                made.periods.append(period)
                del own[day], own[moment]
    for name, text in own.items():
        test = _any(path, name, text, fuzzy=fuzzy)
        if test is not None:
            made.singles.append(_Single(name, test, _vr(name) not in _ONE_TEXT))
    for sequence in dict.fromkeys(name.partition(".")[0] for name in wanted if "." in name):
        inner = {
            name.removeprefix(f"{sequence}."): text
            for name, text in wanted.items()
            if name.startswith(f"{sequence}.")
        }
        below = f"{path}{sequence}."
        made.sequences[sequence] = _level(inner, below, combined=combined, fuzzy=fuzzy)
    return made


def _period(path: str, day: str, days: str, moment: str, moments: str) -> _Period | None:
    if "\\" in days or "\\" in moments:
        return None
    first_day, last_day = _named(path + day, temporal.da_range, days)
    first_time, last_time = _named(path + moment, temporal.tm_range, moments)
    return _Period(
        day,
        moment,
        (first_day or date.min, (first_day and first_time) or time.min),
        (last_day or date.max, (last_day and last_time) or time.max),
    )


def _any(path: str, name: str, text: str, *, fuzzy: bool) -> _Test | None:
    """Return the test of a key with one or several values, None when it is universal."""
    vr = _vr(name)
    bare = text.replace("\0", "")
    parts = [bare] if vr in _ONE_TEXT else [part for part in bare.split("\\") if part.strip()]
    tests = []
    for part in parts:
        test = _test(path + name, vr, part.strip(PADDING), fuzzy=fuzzy)
        if test is None:
            return None
        tests.append(test)
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _test(keyword: str, vr: str, text: str, *, fuzzy: bool) -> _Test | None:
    if vr == "PN":
        return _name(text, fuzzy=fuzzy)
    if vr in _TIMES:
        return _between(keyword, vr, text)
    if vr == "UI":
        if not is_uid(text):
            raise Malformed(f"{keyword}: not a UID or a list of UIDs")
        return lambda value: value == text
    if vr in _NUMBERS:
        return _number(text)
    return _text(text.upper(), str.upper) if vr == "CS" else _text(text, str)


def _named(
    keyword: str,
    read: Callable[[str], tuple[temporal.Value | None, temporal.Value | None]],
    text: str,
) -> tuple[temporal.Value | None, temporal.Value | None]:
    try:
        return read(text)
    except Malformed as error:
        raise Malformed(f"{keyword}: {error}") from error


# Tests of one value


def _between(keyword: str, vr: str, text: str) -> _Test:
    if vr == "DA":
        first, last = _named(keyword, temporal.da_range, text)
        return lambda value: _inside(temporal.parse_da, value, first, last)
    if vr == "TM":
        begin, end = _named(keyword, temporal.tm_range, text)
        return lambda value: _inside(temporal.parse_tm, value, begin, end)
    since, until = _named(keyword, temporal.dt_range, text)
    return lambda value: _inside(temporal.parse_dt, value, since, until)


def _inside(
    read: Callable[[str], temporal.Value | None],
    text: str,
    first: temporal.Value | None,
    last: temporal.Value | None,
) -> bool:
    try:
        value = read(text)
    except Malformed:
        return False
    if value is None:
        return False
    return (first is None or first <= value) and (last is None or value <= last)


def _number(text: str) -> _Test:
    try:
        wanted = float(text)
    except ValueError:
        return lambda value: value == text
    return lambda value: _float(value) == wanted


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(wanted: str, shape: Callable[[str], str]) -> _Test:
    if not _WILD.search(wanted):
        return lambda value: shape(value) == wanted
    pattern = _pattern(wanted)
    return lambda value: pattern.fullmatch(shape(value)) is not None


def _name(text: str, *, fuzzy: bool) -> _Test | None:
    """Return the test of decision 3: words in any order, or a pattern over a whole group."""
    if not _WILD.search(text):
        wanted = {*names.words(text)}
        if fuzzy:
            return lambda value: all(
                any(word.startswith(start) for word in _words(value)) for start in wanted
            )
        return (lambda value: wanted <= _words(value)) if wanted else None
    groups = [folded for part in text.split("=") if (folded := names.fold(part)).strip("* ")]
    patterns = [_pattern(group) for group in groups]

    def fits(value: str) -> bool:
        held = [names.fold(group) for group in value.split("=")[: names.GROUPS]]
        # the space is what stands where a name ends and the pattern goes on: DOE^* finds DOE
        ends = [text for group in held if group for text in (group, f"{group} ")]
        return all(any(pattern.fullmatch(text) for text in ends) for pattern in patterns)

    return fits if patterns else None


@lru_cache(maxsize=8192)
def _words(name: str) -> frozenset[str]:
    return frozenset(word for group in name.split("=") for word in names.words(group))


def _pattern(wanted: str) -> re.Pattern[str]:
    """Return a pattern that takes time in proportion to the text, however many stars it has."""
    first, *rest = (
        "".join("." if one == "?" else re.escape(one) for one in part)
        for part in re.sub(r"\*+", "*", wanted).split("*")
    )
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


# Judging an entry


def _failing(level: _Level, entry: Attributes, path: str) -> Iterator[str]:
    for single in level.singles:
        if not any(single.test(value) for value in _values(entry, single)):
            yield path + single.keyword
    for period in level.periods:
        yield from (path + keyword for keyword in _outside(period, entry))
    for keyword, inner in level.sequences.items():
        items = entry.get(keyword, ())
        given: Sequence[Attributes] = () if isinstance(items, str) else items
        below = f"{path}{keyword}."
        judged = (list(_failing(inner, item, below)) for item in given or ({},))
        yield from min(judged, key=len)


def _values(entry: Attributes, single: _Single) -> Sequence[str]:
    value = entry.get(single.keyword, "")
    if not isinstance(value, str) or not value:
        return ()
    return value.split("\\") if single.several else (value,)


def _outside(period: _Period, entry: Attributes) -> tuple[str, ...]:
    """Return the keywords of a period that an entry is not in; none when it is."""
    held = [entry.get(keyword, "") for keyword in (period.day, period.moment)]
    day_text, moment_text = (text if isinstance(text, str) else "" for text in held)
    try:
        day, moment = temporal.parse_da(day_text), temporal.parse_tm(moment_text)
    except Malformed:
        return (period.day, period.moment)
    if day is None or not period.first[0] <= day <= period.last[0]:
        return (period.day,)
    if moment is None:  # no time is known: the day decides
        return ()
    return () if period.first <= (day, moment) <= period.last else (period.moment,)
