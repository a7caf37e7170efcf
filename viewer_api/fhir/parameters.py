"""The parameters of a search, read (FHIR R4 3.1.1); what is not known is refused.

A search that passes over a name it does not know finds too much, and somebody takes it for an
answer; who wants that says so (``Prefer: handling=lenient``).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from typing import Final

from storage.base.errors import Malformed
from storage.db.criteria import (
    Criterion,
    Mode,
    Period,
    Prefix,
    Reference,
    Token,
    Value,
    Words,
)

MAX_COUNT: Final = 200
DEFAULT_COUNT: Final = 50
MAX_VALUES: Final = 200
MAX_CRITERIA: Final = 40
MAX_LENGTH: Final = 200
CURSOR: Final = "_cursor"
_YEARS: Final = range(1000, 9999)
_DATE: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+\- ]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_PREFIX: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=\d)")
_REFERENCE: Final = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.\-]{1,64})(?:/_history/\d+)?")
_ID: Final = re.compile(r"[A-Za-z0-9.\-]{1,64}")


class Kind(StrEnum):
    """Search parameter types (FHIR R4 3.1.1.4)."""

    TOKEN = "token"  # noqa: S105 - a type
    STRING = "string"
    DATE = "date"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Param:
    """A search parameter."""

    kind: Kind
    targets: tuple[str, ...] = ()
    """Types that a reference leads to."""
    says: str = ""
    """What it is, in the capability statement."""


@dataclass(frozen=True, slots=True)
class Include:
    """``_include`` or ``_revinclude``: the parameter of a type, and where it leads."""

    source: str
    param: str
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search as it was asked for."""

    criteria: tuple[Criterion, ...] = ()
    count: int = DEFAULT_COUNT
    cursor: str = ""
    sort: str = "-_id"
    include: tuple[Include, ...] = ()
    revinclude: tuple[Include, ...] = ()
    elements: frozenset[str] = frozenset()
    summary: str = "false"
    total: str = "none"
    pairs: tuple[tuple[str, str], ...] = field(default=())
    """The parameters as they were given, but for the cursor."""


class Reader:
    """Reads the parameters of searches; `types` are the parameters of each type."""

    def __init__(
        self,
        types: Mapping[str, Mapping[str, Param]],
        zone: tzinfo,
        kind_of: Callable[[str], str],
        *,
        lenient: bool = False,
    ) -> None:
        self._types = types
        self._zone = zone
        self._kind_of = kind_of
        self._lenient = lenient

    def read(self, kind: str, pairs: Iterable[tuple[str, str]]) -> Asked:
        """Read the parameters of a search for `kind`.

        Raises
        ------
        Malformed
            A parameter is not known or its value cannot be read; the text names it.
        """
        given = [(name, value) for name, value in pairs if value]
        criteria: list[Criterion] = []
        results: dict[str, object] = {}
        for name, value in given:
            if len(value) > MAX_LENGTH * MAX_VALUES:
                raise Malformed(f"{name[:MAX_LENGTH]}: too long")
            if name in _RESULT:
                results |= _RESULT[name](value, results)
            elif name not in {"_format", "_pretty"}:
                criteria += self._criterion(kind, name, value)
        if len(criteria) > MAX_CRITERIA:
            raise Malformed(f"more than {MAX_CRITERIA} parameters")
        kept = tuple((name, value) for name, value in given if name != CURSOR)
        return Asked(criteria=tuple(criteria), pairs=kept, **results)  # type: ignore[arg-type]

    def _criterion(self, kind: str, given: str, value: str) -> Iterator[Criterion]:
        try:
            yield self._one(kind, given, value)
        except _UnknownParameter:
            if not self._lenient:
                raise

    def _one(self, kind: str, given: str, value: str) -> Criterion:
        head, _, chained = given.partition(".")
        name, _, modifier = head.partition(":")
        param = self._types[kind].get(name)
        if param is None:
            known = ", ".join(sorted(self._types[kind]))
            raise _UnknownParameter(
                f"{name[:MAX_LENGTH]}: {kind} is not searched by it, but by {known}"
            )
        if chained:
            return self._chain(param, name, modifier, chained, value)
        if modifier == "missing":
            if value not in {"true", "false"}:
                raise Malformed(f"{name}:missing is true or false")
            return Criterion(name=name, missing=value == "true")
        read = self._values(param, name, modifier)
        texts = _split(value)
        if len(texts) > MAX_VALUES:
            raise Malformed(f"{name}: more than {MAX_VALUES} values")
        values = tuple(read(text) for text in texts)
        return Criterion(name=name, values=values, negated=modifier == "not")

    def _chain(self, param: Param, name: str, modifier: str, chained: str, value: str) -> Criterion:
        if param.kind is not Kind.REFERENCE or "." in chained:
            raise Malformed(f"{name}: a chain has two links, the first a reference")
        targets = [one for one in param.targets if modifier in {"", one}]
        if len(targets) != 1:
            raise Malformed(f"{name}: a chain leads to one of {', '.join(param.targets)}")
        if targets[0] not in self._types:
            raise Malformed(f"{name}: no chain leads on from it")
        return Criterion(name=name, through=self._one(targets[0], chained, value))

    def _values(self, param: Param, name: str, modifier: str) -> Callable[[str], Value]:
        def refuse() -> Malformed:
            return Malformed(f"{name}: the modifier {modifier[:40]} is not known here")

        if param.kind is Kind.TOKEN:
            if modifier not in {"", "not"}:
                raise refuse()
            return self._token
        if param.kind is Kind.STRING:
            if modifier not in {"", "exact", "contains"}:
                raise refuse()
            return lambda text: Words(text, Mode(modifier or Mode.STARTS))
        if modifier and (param.kind is Kind.DATE or modifier not in param.targets):
            raise refuse()
        if param.kind is Kind.DATE:
            return lambda text: _named(name, period, text, self._zone)
        return lambda text: _named(name, _reference, text, modifier)

    def _token(self, text: str) -> Token:
        system, bar, code = _parted(text)
        if not bar:
            return Token(None, system)
        return Token(self._kind_of(system) if system else "", code)


class _UnknownParameter(Malformed):
    """Nothing is searched by that name."""


def _named(name: str, read: Callable[..., Value], *given: object) -> Value:
    try:
        return read(*given)
    except Malformed as error:
        raise Malformed(f"{name}: {error}") from error


def period(text: str, zone: tzinfo) -> Period:
    """Return the period that a date stands for, with its prefix; without an offset in `zone`.

    Raises
    ------
    Malformed
        It is no date, or one of no year from 1000 to 9998.
    """
    found = _PREFIX.match(text)
    match = _DATE.fullmatch(text[len(found[0]) if found else 0 :])
    if match is None or int(match["year"]) not in _YEARS:
        raise Malformed("not a date as in 2026, 2026-01, 2026-01-31 or 2026-01-31T08:15:00+07:00")
    prefix = Prefix(found[0]) if found else Prefix.EQ
    year, month, day = (int(match[part] or 1) for part in ("year", "month", "day"))
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    try:
        second = min(second, 59) if second == 60 else second  # noqa: PLR2004 - a leap second
        first = datetime(year, month, day, hour, minute, second, tzinfo=_zone_of(match, zone))
    except ValueError:
        raise Malformed("there is no such date") from None
    if match["fraction"]:
        first += timedelta(microseconds=int(match["fraction"][:6].ljust(6, "0")))
    return Period(prefix, first.astimezone(zone), _end(match, first).astimezone(zone))


def _zone_of(match: "re.Match[str]", zone: tzinfo) -> tzinfo:
    given = (match["zone"] or "").replace(" ", "+")
    if not given:
        return zone
    if given == "Z":
        return UTC
    offset = timedelta(hours=int(given[1:3]), minutes=int(given[4:]))
    return timezone(-offset if given[0] == "-" else offset)


def _end(match: "re.Match[str]", first: datetime) -> datetime:
    if match["month"] is None:
        return first.replace(year=first.year + 1)
    if match["day"] is None:
        later = first.replace(day=28) + timedelta(days=4)
        return later.replace(day=1)
    if match["hour"] is None:
        return first + timedelta(days=1)
    if match["second"] is None:
        return first + timedelta(minutes=1)
    digits = len((match["fraction"] or "")[:6])
    return first + (timedelta(microseconds=10 ** (6 - digits)) if digits else timedelta(seconds=1))


def _reference(text: str, kind: str) -> Reference:
    """Read ``id``, ``Type/id`` or the URL of a resource, with or without a version."""
    if _ID.fullmatch(text):
        return Reference(kind, text)
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise Malformed("not a reference as in 12, Patient/12 or https://host/fhir/Patient/12")
    if kind and match[1] != kind:
        raise Malformed(f"a reference to {kind} is wanted")
    return Reference(match[1], match[2])


def _split(text: str) -> list[str]:
    r"""Return the values that commas part; ``\,`` is a comma."""
    return [_plain(one) for one in re.split(r"(?<!\\),", text) if one]


_ESCAPED: Final = re.compile(r"\\([,$\\])")


def _plain(text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise Malformed(f"a value of more than {MAX_LENGTH} characters")
    return _ESCAPED.sub(r"\1", text).replace("\0", "")


def _parted(text: str) -> tuple[str, str, str]:
    r"""Part a token at its bar; ``\|`` is none."""
    found = re.search(r"(?<!\\)\|", text)
    if found is None:
        return text.replace("\\|", "|"), "", ""
    return text[: found.start()], "|", text[found.end() :].replace("\\|", "|")


# What is said of the result


def _count(value: str, _so_far: Mapping[str, object]) -> dict[str, object]:
    if not value.isascii() or not value.isdecimal() or len(value) > 9:  # noqa: PLR2004
        raise Malformed("_count: not a number")
    if int(value) == 0:
        return {"summary": "count"}
    return {"count": min(int(value), MAX_COUNT)}


def _one_of(name: str, *known: str) -> "Callable[[str, Mapping[str, object]], dict[str, object]]":
    def read(value: str, _so_far: Mapping[str, object]) -> dict[str, object]:
        if value not in known:
            raise Malformed(f"_{name}: one of {', '.join(known)}")
        return {name: value}

    return read


def _elements(value: str, so_far: Mapping[str, object]) -> dict[str, object]:
    before: Iterable[str] = so_far.get("elements", ())  # type: ignore[assignment]
    return {"elements": frozenset({*before, *(one.strip() for one in value.split(","))} - {""})}


def _includes(name: str) -> "Callable[[str, Mapping[str, object]], dict[str, object]]":
    def read(value: str, so_far: Mapping[str, object]) -> dict[str, object]:
        parts = value.split(":")
        if len(parts) not in {2, 3}:
            raise Malformed(f"_{name}: TYPE:parameter or TYPE:parameter:TYPE")
        before: Sequence[Include] = so_far.get(name, ())  # type: ignore[assignment]
        return {name: (*before, Include(*parts))}

    return read


def _cursor(value: str, _so_far: Mapping[str, object]) -> dict[str, object]:
    return {"cursor": value}


def _sort(value: str, _so_far: Mapping[str, object]) -> dict[str, object]:
    return {"sort": value}


_RESULT: Final[Mapping[str, Callable[[str, Mapping[str, object]], dict[str, object]]]] = {
    "_count": _count,
    "_sort": _sort,
    "_total": _one_of("total", "none", "estimate", "accurate"),
    "_summary": _one_of("summary", "true", "false", "count", "text", "data"),
    "_elements": _elements,
    "_include": _includes("include"),
    "_revinclude": _includes("revinclude"),
    CURSOR: _cursor,
}
