"""The one search that C-FIND and QIDO-RS share.

Hierarchical and relational queries are the same here: a unique key of an upper
level that is not given is universal. Answers come in a fixed order
(`storage.archive.positions`), so a page continues behind the last answer of the one
before, however deep.

A query whose keys no index finds (``*A*`` alone) walks the studies, latest first, in
statements that look at a bounded number of them each, however few match.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    RowMapping,
    Select,
    any_,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from storage.archive import custom, custom_matching, custom_rows, matching, positions, tables
from storage.archive.attributes import Attribute, Matching, visible
from storage.archive.matching import Condition, Reach
from storage.archive.model import Custom, Level, Match, Page, Query
from storage.archive.positions import Position
from storage.db.engine import Engine, Session, transaction

PAGE: Final = 200
"""Answers of one transaction of `iterate`."""
FIRST_SPAN: Final = 2_000
LAST_SPAN: Final = 50_000
"""Studies (or patients) that one statement of a search without an index looks at."""
FEW: Final = 1_000
"""As many studies (or patients) are fetched one by one and sorted."""

_patients, _studies = tables.patients.c, tables.studies.c
_series, _instances = tables.series.c, tables.instances.c

_PATIENT_COUNTS: Final = (
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
)


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
    position = positions.decode(after, query.level) if after else None
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
    return Page(matches, positions.encode(last) if limit and last else None, further, counted)


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
    spine = positions.spine(search.level)[-1]
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
        (
            positions.place_of(row, search.level),
            _match(row, search.level, counts.get(row[_PATIENT], {})),
        )
        for row in found
    ]
    if search.custom:
        rows = _with_custom(session, search, rows)
    if len(rows) == wanted:
        return rows, rows[-1][0]
    return rows, (*edge, *positions.END[search.level]) if edge else None


def _wider(span: int) -> int:
    return min(span * 4, LAST_SPAN)


def _skip(
    session: Session, search: _Search, position: Position | None, offset: int
) -> Position | None:
    """Return the place of the `offset`-th answer behind `position`, None when there are fewer."""
    span = FIRST_SPAN
    while True:
        edge = _edge(session, search, position, span)
        places = _statement(search, position, edge, positions.places(search.level))
        row = session.execute(places.offset(offset - 1).limit(1)).one_or_none()
        if row is not None:
            return tuple(row)
        if edge is None:
            return None
        passed = select(func.count()).select_from(places.order_by(None).subquery())
        offset -= session.execute(passed).scalar_one()
        position = (*edge, *positions.END[search.level])
        span = _wider(span)


def _count_behind(
    session: Session, search: _Search, position: Position | None, most: int
) -> tuple[int, bool]:
    """Return how many answers lie behind `position`, and whether these are all."""
    edge = _edge(session, search, position, LAST_SPAN)
    places = _statement(search, position, edge, positions.places(search.level)).order_by(None)
    counted = select(func.count()).select_from(places.limit(most + 1).subquery())
    found = session.execute(counted).scalar_one()
    return min(found, most), found <= most and edge is None


def _edge(
    session: Session, search: _Search, position: Position | None, span: int
) -> Position | None:
    """Return the place of the last study that the next step looks at, None for all of them."""
    if search.indexed:
        return None
    order = positions.spine(search.level)
    statement = select(*order).where(*search.walk).order_by(*positions.along_spine(search.level))
    if position is not None:
        statement = statement.where(positions.at_or_behind(search.level, position))
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
        .order_by(*positions.in_order(level))
    )
    if level is Level.PATIENT:  # who is shown as another one is not there
        of_his = select(_studies.id).where(_studies.patient_ref == _patients.id)
        something = of_his.where(tables.SHOWN[Level.STUDY]).exists()
        statement = statement.where(_patients.survivor_ref.is_(None), something)
    else:
        statement = statement.where(tables.SHOWN[level])
    if position is not None:
        statement = statement.where(positions.behind(level, position))
    if edge is not None:
        statement = statement.where(positions.up_to(level, edge))
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


_PATIENT: Final = "_patient"


@cache
def _columns(level: Level) -> tuple[ColumnElement[Any], ...]:
    """Return what is selected: every attribute by keyword, the place, the patient's row id."""
    attributes = (row for row in visible(level).values() if row.column)
    patient = _patients.id if level is Level.PATIENT else _studies.patient_ref
    return (
        *(matching.column_of(row).label(row.keyword) for row in attributes),
        *positions.places(level),
        patient.label(_PATIENT),
    )


# The answer


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
    rows = [positions.row_ids(place) for place, _ in found]
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
