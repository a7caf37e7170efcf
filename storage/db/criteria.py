"""What a search asks of a table, and the SQL of it: words, codes and periods of time.

The vocabulary is that of FHIR R4 3.1.1 (prefixes of dates, modifiers of texts), which says more
than any other wire of ours; what a name means is a table of rules beside the tables it searches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, Select, and_, any_, cast, false, func, not_, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from storage.base import names
from storage.base.clock import utc_now
from storage.base.errors import Malformed
from storage.db.engine import Session

NEAR: Final = 0.1
"""How much of the time between a date and now counts as about that date (FHIR R4 3.1.1.4.7)."""
NEAREST: Final = timedelta(days=30)
_WILD: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


class Prefix(StrEnum):
    """How a value compares with the one that was given."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"
    AP = "ap"


class Mode(StrEnum):
    """How a text is compared."""

    STARTS = "starts"
    CONTAINS = "contains"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Token:
    """A code of a system; `system` None: of any, '': of none; `code` '': any of the system."""

    system: str | None
    code: str


@dataclass(frozen=True, slots=True)
class Period:
    """A time as precise as it was given: from `first` up to `end`, without it; both aware."""

    prefix: Prefix
    first: datetime
    end: datetime

    @property
    def is_days(self) -> bool:
        """Whether it is one or more whole days."""
        return self.first.time() == self.end.time() == datetime.min.time()


@dataclass(frozen=True, slots=True)
class Words:
    """A text."""

    text: str
    mode: Mode = Mode.STARTS


@dataclass(frozen=True, slots=True)
class Reference:
    """Another resource: of `kind`, '' when that was not said."""

    kind: str
    id: str


Value = Token | Period | Words | Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One condition: one of `values`, or absence, or what another resource has (`through`)."""

    name: str
    values: tuple[Value, ...] = ()
    negated: bool = False
    """None of the values; also when there is none at all."""
    missing: bool | None = None
    through: "Criterion | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A page of a search: at most `limit` behind the id `after`."""

    criteria: tuple[Criterion, ...] = ()
    limit: int = 50
    after: int | None = None
    newest_first: bool = True


class Target(Protocol):
    """A column that holds times, or periods."""

    def not_before(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it begins at `moment` or later."""

    def over_by(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it is over at `moment`."""

    @property
    def present(self) -> ColumnElement[bool]:
        """Whether there is one."""


@dataclass(frozen=True, slots=True)
class Instants:
    """A column of instants; `local`: of the wall clock in the zone of what is asked for."""

    column: Any
    local: bool = False

    def not_before(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it is at `moment` or later."""
        found: ColumnElement[bool] = self.column >= self._of(moment)
        return found

    def over_by(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it is before `moment`."""
        found: ColumnElement[bool] = self.column < self._of(moment)
        return found

    @property
    def present(self) -> ColumnElement[bool]:
        """Whether there is one."""
        found: ColumnElement[bool] = self.column.is_not(None)
        return found

    def _of(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=None) if self.local else moment


def within(target: Target, period: Period) -> ColumnElement[bool]:
    """Compare a column with a period, as FHIR R4 3.1.1.4.7 (date) has it for each prefix."""
    first, end = period.first, period.end
    if period.prefix is Prefix.AP:
        slack = min(abs(utc_now() - first) * NEAR, NEAREST)
        near = not_(target.over_by(first - slack)) & not_(target.not_before(end + slack))
        return near & target.present
    begins, ends = target.not_before(first), target.over_by(end)
    point = isinstance(target, Instants)
    found = {
        Prefix.EQ: begins & ends,
        Prefix.NE: not_(begins) | not_(ends),
        Prefix.GT: not_(ends),
        Prefix.LT: not_(begins),
        Prefix.GE: begins if point else begins | not_(ends),
        Prefix.LE: ends if point else ends | not_(begins),
        Prefix.SA: target.not_before(end),
        Prefix.EB: target.over_by(first),
    }[period.prefix]
    return found & target.present


def dated(target: Target) -> "Rule":
    """Return the rule of a column of times."""
    return Rule(each(partial(_in_period, target)), target.present)


def _in_period(target: Target, wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return within(target, wanted) if isinstance(wanted, Period) else false()


def name_like(key: Any, words: Words) -> ColumnElement[bool]:  # noqa: ANN401 - a column
    """Compare the folded key of a name: each word of `words` begins one of the name's."""
    folded = names.fold(words.text).translate(_WILD)
    if words.mode is Mode.CONTAINS:
        found: ColumnElement[bool] = key.like(f"%{folded}%") if folded else false()
        return found
    if not folded:
        return false()
    every = (key.like(f"% {word}%") for word in folded.split())
    first: ColumnElement[bool] = next(every)
    for one in every:
        first &= one
    return first


def name_is(name: Any, key: Any, text: str) -> ColumnElement[bool]:  # noqa: ANN401 - columns
    """Compare a name (VR PN) as it is read, or one of its components, exactly."""
    shown = func.split_part(name, "=", 1)
    parts = [func.split_part(shown, "^", number) for number in (4, 1, 3, 2, 5)]
    joined = func.btrim(func.regexp_replace(func.concat_ws(" ", *parts), " +", " ", "g"))
    one_of = or_(joined == text, *(part == text for part in parts))
    return name_like(key, Words(text)) & one_of


def family_like(name: Any, key: Any, words: Words) -> ColumnElement[bool]:  # noqa: ANN401
    """Compare the family name: the first component, or what stands first in an undivided name."""
    if words.mode is Mode.EXACT:
        same: ColumnElement[bool] = func.split_part(func.split_part(name, "=", 1), "^", 1) == (
            words.text
        )
        return name_like(key, words) & same
    return _like_at(key, words, first=True)


def given_like(name: Any, key: Any, words: Words) -> ColumnElement[bool]:  # noqa: ANN401
    """Compare a given or middle name: what does not stand first."""
    if words.mode is Mode.EXACT:
        shown = func.split_part(name, "=", 1)
        found = or_(*(func.split_part(shown, "^", number) == words.text for number in (2, 3)))
        return name_like(key, words) & found
    return _like_at(key, words, first=False)


def _like_at(key: Any, words: Words, *, first: bool) -> ColumnElement[bool]:  # noqa: ANN401
    folded = names.fold(words.text).translate(_WILD)
    if not folded:
        return false()
    anywhere = "%" if words.mode is Mode.CONTAINS else ""
    if not first:
        later: ColumnElement[bool] = key.like(f" % {anywhere}{folded}%")
        return later
    if not anywhere:
        begun: ColumnElement[bool] = key.like(f" {folded}%")
        return begun
    found: ColumnElement[bool] = func.split_part(key, " ", 2).like(f"%{folded}%")
    return and_(found, key.like(f"%{folded}%"))


def escaped(text: str) -> str:
    """Return `text` for a LIKE pattern that stands for itself."""
    return text.translate(_WILD)


def text_like(column: Any, words: Words) -> ColumnElement[bool]:  # noqa: ANN401 - a column
    """Compare a text; capitals count as small letters unless it is to be exact."""
    if words.mode is Mode.EXACT:
        same: ColumnElement[bool] = column == words.text
        return same
    start = "%" if words.mode is Mode.CONTAINS else ""
    found: ColumnElement[bool] = column.ilike(start + escaped(words.text) + "%")
    return found


@dataclass(frozen=True, slots=True)
class Rule:
    """What a criterion of one name means."""

    matches: Callable[[Sequence[Any]], ColumnElement[bool]]
    """Whether it is one of the values."""
    present: ColumnElement[bool]
    """Whether there is any."""
    through: Callable[[Criterion], ColumnElement[bool]] | None = None
    """Whether the resource that is referred to meets a criterion."""


Rules = Mapping[str, Rule]


def each(matches: Callable[[Any], ColumnElement[bool]]) -> Callable[[Sequence[Any]], Any]:
    """Return what compares several values by comparing each."""
    return lambda values: or_(false(), *map(matches, values))


def among(column: Any, found: Select[Any]) -> ColumnElement[bool]:  # noqa: ANN401 - a column
    """Whether a value is one of a subquery, which is asked first: an index serves any mixture."""
    return one_of(column, func.array(found.correlate(None).scalar_subquery()))


def one_of(column: Any, values: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Whether a value is one of an array."""
    found: ColumnElement[bool] = column == any_(values)
    return found


def overlapping(column: Any, found: Select[Any], kind: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Whether an array of `kind` has a value of a subquery."""
    values = cast(func.array(found.correlate(None).scalar_subquery()), ARRAY(kind))
    overlap: ColumnElement[bool] = column.overlap(values)
    return overlap


def conditions(rules: Rules, criteria: Sequence[Criterion]) -> list[ColumnElement[bool]]:
    """Return the SQL of criteria.

    Raises
    ------
    Malformed
        A criterion has no rule.
    """
    return [_condition(rules, one) for one in criteria]


def _condition(rules: Rules, criterion: Criterion) -> ColumnElement[bool]:
    rule = rules.get(criterion.name)
    if rule is None:
        raise Malformed(f"{criterion.name}: nothing is searched by it")
    if criterion.through is not None:
        if rule.through is None:
            raise Malformed(f"{criterion.name}: no chain leads on from it")
        return rule.through(criterion.through)
    if criterion.missing is not None:
        return not_(rule.present) if criterion.missing else rule.present
    found = rule.matches(criterion.values)
    return not_(func.coalesce(found, false())) if criterion.negated else found


def page_ids(
    session: Session,
    key: Any,  # noqa: ANN401 - a column
    where: Sequence[ColumnElement[bool]],
    wanted: Wanted,
) -> list[int]:
    """Return the ids of a page, in the order of ids."""
    statement: Select[Any] = select(key).where(*where)
    if wanted.after is not None:
        behind = key < wanted.after if wanted.newest_first else key > wanted.after
        statement = statement.where(behind)
    order = key.desc() if wanted.newest_first else key.asc()
    return [*session.scalars(statement.order_by(order).limit(wanted.limit))]


def count(session: Session, key: Any, where: Sequence[ColumnElement[bool]]) -> int:  # noqa: ANN401
    """Return how many match."""
    return (
        session.scalar(select(func.count()).select_from(select(key).where(*where).subquery())) or 0
    )
