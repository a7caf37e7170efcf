"""The one search that C-FIND and QIDO-RS share.

Hierarchical and relational queries are the same here: a unique key of an upper
level that is not given is universal. Answers come in a fixed order, so a page
continues behind the last answer of the one before, however deep:

    PATIENT   folded name, then the order of arrival
    STUDY     study date and time, latest first
    SERIES    the order of studies, then series number
    IMAGE     the order of series, then instance number

A query whose keys no index finds (``*A*`` alone) walks the studies, latest first, in
statements that look at a bounded number of them each, however few match.
"""

import base64
import binascii
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    RowMapping,
    Select,
    Tuple,
    and_,
    any_,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from storage.archive import custom, custom_matching, custom_rows, matching, tables
from storage.archive.attributes import Attribute, Matching, visible
from storage.archive.matching import Condition, Reach
from storage.archive.model import Custom, Level, Match, Page, Query
from storage.archive.tables import INSTANCE_NUMBER, LAST_NUMBER, SERIES_NUMBER
from storage.base.errors import Malformed
from storage.db.engine import Engine, Session, transaction

PAGE: Final = 200
"""Answers of one transaction of `iterate`."""
FIRST_SPAN: Final = 2_000
LAST_SPAN: Final = 50_000
"""Studies (or patients) that one statement of a search without an index looks at."""
FEW: Final = 1_000
"""As many studies (or patients) are fetched one by one and sorted."""

Position = tuple[str | int, ...]
"""The place of an answer in the order of its level."""

_patients, _studies = tables.patients.c, tables.studies.c
_series, _instances = tables.series.c, tables.instances.c

_STUDY_ORDER: Final = (_studies.study_date, _studies.study_time_key, _studies.id)
_PATIENT_ORDER: Final = (_patients.patient_name_key, _patients.id)
_SERIES_ORDER: Final = (SERIES_NUMBER, _series.id)
_INSTANCE_ORDER: Final = (INSTANCE_NUMBER, _instances.id)

_LAST_ID: Final = 2**63 - 1
_BEHIND: Final[Mapping[Level, Position]] = {
    Level.PATIENT: (),
    Level.STUDY: (),
    Level.SERIES: (LAST_NUMBER, _LAST_ID),
    Level.IMAGE: (LAST_NUMBER, _LAST_ID, LAST_NUMBER, _LAST_ID),
}
"""Completes the place of a study to the place behind everything in it."""
_ORDER: Final[Mapping[Level, tuple[ColumnElement[Any], ...]]] = {
    Level.PATIENT: _PATIENT_ORDER,
    Level.STUDY: _STUDY_ORDER,
    Level.SERIES: (*_STUDY_ORDER, *_SERIES_ORDER),
    Level.IMAGE: (*_STUDY_ORDER, *_SERIES_ORDER, *_INSTANCE_ORDER),
}
_PATIENT_COUNTS: Final = (
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
)


_EXAMPLE: Final[Mapping[Level, Position]] = {
    Level.PATIENT: ("", 0),
    Level.STUDY: ("", "", 0),
    Level.SERIES: ("", "", 0, 0, 0),
    Level.IMAGE: ("", "", 0, 0, 0, 0, 0),
}


@dataclass(frozen=True, slots=True)
class _Search:
    """A query that was read: its level and its conditions."""

    level: Level
    conditions: tuple[ColumnElement[bool], ...]
    walk: tuple[ColumnElement[bool], ...]
    """The conditions that the index of the order answers itself."""
    indexed: bool
    """Whether the database reaches the answers by an index."""
    probe: tuple[ColumnElement[bool], ...]
    """Conditions by which an index finds all answers; how many they are decides the way."""
    of_patient: bool
    """Whether a condition is about the patient's own row."""
    counts: bool
    """Whether the numbers of a patient's studies, series and instances are wanted."""
    custom: tuple[Custom, ...]
    """Attributes that an operator added and that are wanted."""


def find(
    session: Session,
    query: Query,
    *,
    limit: int,
    after: str | None = None,
    offset: int = 0,
    count: int = 0,
) -> Page:
    """Return at most `limit` answers behind `after`, the first `offset` of them left out.

    What follows is counted, up to `count` and within one span of a search without an index.

    Raises
    ------
    Malformed
        A key has no value of its VR, or `after` is no `Page.after` of this level.
    """
    search = _read(query)
    position = _decode(after, query.level) if after else None
    search = _narrowed(session, search)
    if offset:
        position = _skip(session, search, position, offset)
        if position is None:
            return Page(())
    found: list[tuple[Position, Match]] = []
    for rows, _ in _steps(session, search, position, limit + 1):
        found += rows
    matches = tuple(match for _, match in found[:limit])
    if len(found) <= limit:
        return Page(matches)
    last = found[limit - 1][0] if limit else position
    further, counted = _count_behind(session, search, last, count) if count else (1, False)
    return Page(matches, _encode(last) if limit and last else None, further, counted)


def iterate(engine: Engine, query: Query, limit: int) -> Iterator[Match]:
    """Yield at most `limit` answers, read in short transactions.

    What is stored or changed meanwhile may or may not be among them.

    Raises
    ------
    Malformed
        A key has no value of its VR. Raised before the first answer.
    """
    search = _read(query)
    position: Position | None = None
    span = FIRST_SPAN
    if search.probe:
        with transaction(engine) as session:
            search = _narrowed(session, search)
    while limit > 0:
        with transaction(engine) as session:
            rows, position = _step(session, search, position, min(limit, PAGE), span)
        yield from (match for _, match in rows)
        limit -= len(rows)
        span = _wider(span)
        if position is None:
            return


def unsupported(query: Query) -> frozenset[str]:
    """Return the keywords that are not returned, or not matched though a value is given."""
    known = visible(query.level)
    added = {one.name for one in query.custom}
    return frozenset(
        keyword
        for keyword, value in query.keys.items()
        if (keyword not in known and keyword not in added)
        or (
            keyword in known
            and known[keyword].matching is Matching.NONE
            and not matching.is_universal(value)
        )
    )


# Reading a query


def _read(query: Query) -> _Search:
    known = visible(query.level)
    given = {known[keyword]: value for keyword, value in query.keys.items() if keyword in known}
    found = list(_combined(given)) if query.combined_datetime else []
    for attribute, value in given.items():
        condition = matching.condition(attribute, value, query.level, fuzzy=query.fuzzy)
        if condition is not None:
            found.append((attribute, condition))
    for one in query.custom:
        condition = custom_matching.condition(one, query.keys.get(one.name, ""), fuzzy=query.fuzzy)
        if condition is not None:
            found.append((custom_matching.attribute_of(one), condition))
    return _Search(
        level=query.level,
        conditions=tuple(condition.clause for _, condition in found),
        walk=tuple(condition.clause for key, condition in found if key.keyword == "StudyDate"),
        indexed=any(condition.reach is Reach.INDEX for _, condition in found),
        probe=tuple(one.clause for _, one in found if one.reach is Reach.PROBE),
        of_patient=any(key.level is Level.PATIENT for key, _ in found),
        counts=query.level is Level.PATIENT or not query.keys.keys().isdisjoint(_PATIENT_COUNTS),
        custom=query.custom,
    )


def _combined(given: dict[Attribute, str]) -> Iterator[tuple[Attribute, Condition]]:
    """Take date and time keys that form one interval out of `given`."""
    by_keyword = {(key.keyword, key.level): key for key in given}
    for (keyword, level), day in by_keyword.items():
        moment = by_keyword.get((f"{keyword.removesuffix('Date')}Time", level))
        if day.matching is not Matching.DATE or moment is None:
            continue
        if moment.matching is not Matching.TIME:
            continue
        condition = matching.combined(day, moment, given[day], given[moment])
        if condition is not None:
            del given[day], given[moment]
            yield day, condition


# Walking


def _narrowed(session: Session, search: _Search) -> _Search:
    """Return the search for the few studies (or patients) that an index finds, if they are few."""
    if search.indexed or not search.probe:
        return search
    spine = _spine(search.level)[-1]
    statement = select(spine).where(*search.probe, *search.walk).limit(FEW + 1)
    ids = session.execute(statement).scalars().all()
    if len(ids) > FEW:
        return search
    found = spine == any_(literal([*ids], ARRAY(BigInteger)))
    return replace(search, conditions=(*search.conditions, found), indexed=True)


def _steps(
    session: Session, search: _Search, position: Position | None, wanted: int
) -> Iterator[tuple[list[tuple[Position, Match]], Position | None]]:
    """Yield steps until `wanted` answers were found or there are no more."""
    span = FIRST_SPAN
    while wanted > 0:
        rows, position = _step(session, search, position, wanted, span)
        yield rows, position
        wanted -= len(rows)
        span = _wider(span)
        if position is None:
            return


def _step(
    session: Session, search: _Search, position: Position | None, wanted: int, span: int
) -> tuple[list[tuple[Position, Match]], Position | None]:
    """Return up to `wanted` answers behind `position`, and where to go on, None at the end.

    One statement of bounded cost; it may find nothing and still not be the end.
    """
    edge = _edge(session, search, position, span)
    statement = _statement(search, position, edge).limit(wanted)
    found = session.execute(statement).mappings().all()
    counts = _count(session, {row[_PATIENT] for row in found}) if search.counts else {}
    rows = [
        (_place(row, search.level), _match(row, search.level, counts.get(row[_PATIENT], {})))
        for row in found
    ]
    if search.custom:
        rows = _with_custom(session, search, rows)
    if len(rows) == wanted:
        return rows, rows[-1][0]
    return rows, (*edge, *_BEHIND[search.level]) if edge else None


def _wider(span: int) -> int:
    return min(span * 4, LAST_SPAN)


def _skip(
    session: Session, search: _Search, position: Position | None, offset: int
) -> Position | None:
    """Return the place of the `offset`-th answer behind `position`, None when there are fewer."""
    span = FIRST_SPAN
    while True:
        edge = _edge(session, search, position, span)
        places = _statement(search, position, edge, _places(search.level))
        row = session.execute(places.offset(offset - 1).limit(1)).one_or_none()
        if row is not None:
            return tuple(row)
        if edge is None:
            return None
        passed = select(func.count()).select_from(places.order_by(None).subquery())
        offset -= session.execute(passed).scalar_one()
        position = (*edge, *_BEHIND[search.level])
        span = _wider(span)


def _count_behind(
    session: Session, search: _Search, position: Position | None, most: int
) -> tuple[int, bool]:
    """Return how many answers lie behind `position`, and whether these are all."""
    edge = _edge(session, search, position, LAST_SPAN)
    places = _statement(search, position, edge, _places(search.level)).order_by(None)
    counted = select(func.count()).select_from(places.limit(most + 1).subquery())
    found = session.execute(counted).scalar_one()
    return min(found, most), found <= most and edge is None


def _edge(
    session: Session, search: _Search, position: Position | None, span: int
) -> Position | None:
    """Return the place of the last study that the next step looks at, None for all of them."""
    if search.indexed:
        return None
    order = _spine(search.level)
    statement = select(*order).where(*search.walk).order_by(*_ordered(order, search.level))
    if position is not None:
        statement = statement.where(_at_or_behind(search.level, position))
    row = session.execute(statement.offset(span - 1).limit(1)).one_or_none()
    return tuple(row) if row else None


# The statement


def _statement(
    search: _Search,
    position: Position | None,
    edge: Position | None,
    columns: Sequence[ColumnElement[Any]] = (),
) -> Select[Any]:
    """Return the answers between two places, or only the `columns` that hold their places."""
    level = search.level
    statement = (
        select(*(columns or _columns(level)))
        .select_from(_joined(level, with_patient=search.of_patient or not columns))
        .where(*search.conditions)
        .order_by(*_ordered(_ORDER[level], level))
    )
    if level is Level.PATIENT:  # who is shown as another one is not there
        of_his = select(_studies.id).where(_studies.patient_ref == _patients.id)
        something = of_his.where(tables.SHOWN[Level.STUDY]).exists()
        statement = statement.where(_patients.survivor_ref.is_(None), something)
    else:
        statement = statement.where(tables.SHOWN[level])
    if position is not None:
        statement = statement.where(_behind(level, position))
    if edge is not None:
        spine, last = tuple_(*_spine(level)), _literals(edge)
        statement = statement.where(spine <= last if level is Level.PATIENT else spine >= last)
    return statement


def _joined(level: Level, *, with_patient: bool) -> FromClause:
    if level is Level.PATIENT:
        return tables.patients
    joined: FromClause = tables.studies
    if with_patient:
        joined = joined.join(tables.patients, _studies.patient_ref == _patients.id)
    if level is not Level.STUDY:
        joined = joined.join(tables.series, _series.study_ref == _studies.id)
    if level is Level.IMAGE:
        joined = joined.join(tables.instances, _instances.series_ref == _series.id)
    return joined


def _spine(level: Level) -> tuple[Column[Any], ...]:
    return _PATIENT_ORDER if level is Level.PATIENT else _STUDY_ORDER


def _ordered(order: Sequence[ColumnElement[Any]], level: Level) -> Iterator[ColumnElement[Any]]:
    for column in order:
        latest_first = level is not Level.PATIENT and column in _STUDY_ORDER
        yield column.desc() if latest_first else column.asc()


def _behind(level: Level, position: Position) -> ColumnElement[bool]:
    """Compare with the place of the last answer; the first part is one that an index answers."""
    if level is Level.PATIENT:
        return tuple_(*_PATIENT_ORDER) > _literals(position)
    studies, of_study = tuple_(*_STUDY_ORDER), _literals(position[:3])
    if level is Level.STUDY:
        return studies < of_study
    series, of_series = tuple_(*_SERIES_ORDER), _literals(position[3:5])
    further = [studies < of_study, series > of_series]
    if level is Level.IMAGE:
        later = tuple_(*_INSTANCE_ORDER) > _literals(position[5:])
        further.append(and_(series == of_series, later))
    return and_(studies <= of_study, or_(*further))


def _at_or_behind(level: Level, position: Position) -> ColumnElement[bool]:
    if level is Level.PATIENT:
        return tuple_(*_PATIENT_ORDER) > _literals(position)
    studies, of_study = tuple_(*_STUDY_ORDER), _literals(position[:3])
    return studies < of_study if level is Level.STUDY else studies <= of_study


def _literals(values: Position) -> Tuple:
    return tuple_(*map(literal, values))


_PATIENT: Final = "_patient"


@cache
def _columns(level: Level) -> tuple[ColumnElement[Any], ...]:
    """Return what is selected: every attribute by keyword, the place, the patient's row id."""
    attributes = (row for row in visible(level).values() if row.column)
    patient = _patients.id if level is Level.PATIENT else _studies.patient_ref
    return (
        *(matching.column_of(row).label(row.keyword) for row in attributes),
        *_places(level),
        patient.label(_PATIENT),
    )


@cache
def _places(level: Level) -> tuple[ColumnElement[Any], ...]:
    return tuple(column.label(f"_{index}") for index, column in enumerate(_ORDER[level]))


# The answer


def _place(row: RowMapping, level: Level) -> Position:
    return tuple(row[f"_{index}"] for index in range(len(_ORDER[level])))


def _match(row: RowMapping, level: Level, counts: Mapping[str, int]) -> Match:
    found = {
        attribute.keyword: _shown(attribute, row[attribute.keyword])
        for attribute in visible(level).values()
        if attribute.column
    }
    return {**found, **counts}


def _shown(attribute: Attribute, value: str | int | Sequence[str] | None) -> Any:  # noqa: ANN401
    if not value and value != 0:
        return ""
    if isinstance(value, list):
        return tuple(value)
    if attribute.multiple and isinstance(value, str):
        return tuple(value.split("\\"))
    return value


def _with_custom(
    session: Session, search: _Search, found: list[tuple[Position, Match]]
) -> list[tuple[Position, Match]]:
    """Add the values of attributes that an operator added; '' where there is none."""
    rows = [_row_ids(place) for place, _ in found]
    ids = {level: [row[level] for row in rows if level in row] for level in custom.LEVELS}
    values = custom_rows.values(session, search.custom, ids)
    return [
        (
            place,
            {
                **match,
                **{one.name: values.get((one.id, row[one.level]), "") for one in search.custom},
            },
        )
        for (place, match), row in zip(found, rows, strict=True)
    ]


def _row_ids(place: Position) -> dict[Level, int]:
    """Return the numbers of the rows of an answer: each level's order ends with one."""
    return {
        level: int(place[last])
        for level, last in zip(custom.LEVELS, (2, 4, 6), strict=True)
        if last < len(place)
    }


def _count(session: Session, patient_ids: Collection[int]) -> dict[int, dict[str, int]]:
    """Add up the counters of each patient's studies."""
    wanted = any_(literal([*patient_ids], ARRAY(BigInteger)))
    sums = (
        func.count(),
        func.sum(_studies.number_of_series),
        func.sum(_studies.number_of_instances),
    )
    statement = (
        select(_studies.patient_ref, *sums)
        .where(_studies.patient_ref == wanted, tables.SHOWN[Level.STUDY])
        .group_by(_studies.patient_ref)
    )
    return {
        patient: dict(zip(_PATIENT_COUNTS, numbers, strict=True))
        for patient, *numbers in session.execute(statement)
    }


# The place of an answer as a text that others hand back


def _encode(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _decode(text: str, level: Level) -> Position:
    try:
        padded = text + "=" * (-len(text) % 4)
        position = json.loads(base64.b64decode(padded, altchars="-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        position = None
    kinds = [type(value) for value in _EXAMPLE[level]]
    if not isinstance(position, list) or [type(value) for value in position] != kinds:
        raise Malformed("after: not the end of a page of this level")
    if any(isinstance(value, int) and abs(value) > _LAST_ID for value in position):
        raise Malformed("after: not the end of a page of this level")
    return tuple(position)
