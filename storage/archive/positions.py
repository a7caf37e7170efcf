"""The order of answers, and the place of each in it.

PATIENT   folded name, then the order of arrival
STUDY     study date and time, latest first
SERIES    the order of studies, then series number
IMAGE     the order of series, then instance number
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, RowMapping, Tuple, and_, literal, or_, tuple_

from storage.archive import custom, tables
from storage.archive.model import Level
from storage.archive.tables import INSTANCE_NUMBER, LAST_NUMBER, SERIES_NUMBER
from storage.base.errors import Malformed

Position = tuple[str | int, ...]
"""The place of an answer in the order of its level."""

_patients, _studies = tables.patients.c, tables.studies.c
_series, _instances = tables.series.c, tables.instances.c

_STUDY_ORDER: Final = (_studies.study_date, _studies.study_time_key, _studies.id)
_PATIENT_ORDER: Final = (_patients.patient_name_key, _patients.id)
_SERIES_ORDER: Final = (SERIES_NUMBER, _series.id)
_INSTANCE_ORDER: Final = (INSTANCE_NUMBER, _instances.id)

_LAST_ID: Final = 2**63 - 1
END: Final[Mapping[Level, Position]] = {
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
_EXAMPLE: Final[Mapping[Level, Position]] = {
    Level.PATIENT: ("", 0),
    Level.STUDY: ("", "", 0),
    Level.SERIES: ("", "", 0, 0, 0),
    Level.IMAGE: ("", "", 0, 0, 0, 0, 0),
}


def spine(level: Level) -> tuple[Column[Any], ...]:
    """Return the order of the studies, or patients, that a search of a level walks along."""
    return _PATIENT_ORDER if level is Level.PATIENT else _STUDY_ORDER


def along_spine(level: Level) -> Iterator[ColumnElement[Any]]:
    """Yield what a statement is ordered by that looks at studies, or patients, alone."""
    return _directed(spine(level), level)


def in_order(level: Level) -> Iterator[ColumnElement[Any]]:
    """Yield what the answers of a level are ordered by."""
    return _directed(_ORDER[level], level)


def _directed(order: Sequence[ColumnElement[Any]], level: Level) -> Iterator[ColumnElement[Any]]:
    for column in order:
        latest_first = level is not Level.PATIENT and column in _STUDY_ORDER
        yield column.desc() if latest_first else column.asc()


def behind(level: Level, position: Position) -> ColumnElement[bool]:
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


def up_to(level: Level, edge: Position) -> ColumnElement[bool]:
    """Compare with the place of the last study, or patient, that is looked at."""
    walked, last = tuple_(*spine(level)), _literals(edge)
    return walked <= last if level is Level.PATIENT else walked >= last


def at_or_behind(level: Level, position: Position) -> ColumnElement[bool]:
    """Tell the studies, or patients, in which there may be answers behind `position`."""
    if level is Level.PATIENT:
        return tuple_(*_PATIENT_ORDER) > _literals(position)
    studies, of_study = tuple_(*_STUDY_ORDER), _literals(position[:3])
    return studies < of_study if level is Level.STUDY else studies <= of_study


def _literals(values: Position) -> Tuple:
    return tuple_(*map(literal, values))


@cache
def places(level: Level) -> tuple[ColumnElement[Any], ...]:
    """Return what is selected for `place_of`."""
    return tuple(column.label(f"_{index}") for index, column in enumerate(_ORDER[level]))


def place_of(row: RowMapping, level: Level) -> Position:
    """Return the place of an answer."""
    return tuple(row[f"_{index}"] for index in range(len(_ORDER[level])))


def row_ids(place: Position) -> dict[Level, int]:
    """Return the numbers of the rows of an answer: each level's order ends with one."""
    return {
        level: int(place[last])
        for level, last in zip(custom.LEVELS, (2, 4, 6), strict=True)
        if last < len(place)
    }


def encode(position: Position) -> str:
    """Return a place as a text that others hand back."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode(text: str, level: Level) -> Position:
    """Read what `encode` wrote.

    Raises
    ------
    Malformed
        It is not the place of an answer of that level.
    """
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
