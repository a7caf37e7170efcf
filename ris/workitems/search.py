"""Which workitems match the keys of a query (PS3.4 CC.2.8)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from sqlalchemy import ARRAY, ColumnElement, Text, literal, select
from sqlalchemy.sql.expression import any_

from ris.keys import Matcher, is_universal, vr_of
from ris.workitems import attributes, contents, records
from ris.workitems.contents import Json
from ris.workitems.tables import WorkitemRow
from storage.base import temporal
from storage.db.engine import Engine, Session, transaction

PAGE: Final = 200
"""Rows that are read and judged at a time."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Dotted keyword → value as sent."""
    combined_datetime: bool = False
    fuzzy: bool = False


class Filter:
    """Judges workitems by the keys of one query; `zone` is that of the hospital's clock.

    The Transaction UID is matched by nobody, nor what PS3.6 has no single tag for.

    Raises
    ------
    Malformed
        A key cannot be read; the text names its keyword.
    """

    def __init__(self, query: Query, zone: tzinfo) -> None:
        self._zone = zone
        self._keys = {
            keyword: temporal.local_dt(text, zone) if vr_of(keyword) == "DT" else text
            for keyword, text in query.keys.items()
            if not is_universal(text) and _is_matched(keyword)
        }
        self._matcher = Matcher(
            self._keys, combined_datetime=query.combined_datetime, fuzzy=query.fuzzy
        )

    def matches(self, whole: Json) -> bool:
        """Whether a workitem matches every key."""
        return self._matcher.matches(_localised(contents.plain(whole), self._zone))

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield what the database can tell of the keys."""
        for keyword, condition in _CONDITIONS.items():
            if text := self._keys.get(keyword):
                parts = [part.strip() for part in text.split("\\") if part.strip()]
                if not any(mark in part for part in parts for mark in "*?"):
                    yield condition(parts)
        if (start := self._keys.get(attributes.START)) and "\\" not in start:
            first, last = temporal.dt_range(start)
            yield WorkitemRow.start.between(first or datetime.min, last or datetime.max)  # noqa: DTZ901


def _is_matched(keyword: str) -> bool:
    known = all(tag_for_keyword(part) is not None for part in keyword.split("."))
    return known and keyword != attributes.TRANSACTION


def _localised(plain: Mapping[str, Any], zone: tzinfo) -> dict[str, Any]:
    return {
        keyword: [_localised(item, zone) for item in value]
        if isinstance(value, list)
        else temporal.local_dt(value, zone)
        if vr_of(keyword) == "DT"
        else value
        for keyword, value in plain.items()
    }


def _is_one_of(column: Any) -> Callable[[Sequence[str]], ColumnElement[bool]]:  # noqa: ANN401
    return lambda parts: column == any_(literal([*parts], ARRAY(Text)))


_CONDITIONS: Final[Mapping[str, Callable[[Sequence[str]], ColumnElement[bool]]]] = {
    "SOPInstanceUID": _is_one_of(WorkitemRow.sop_instance_uid),
    attributes.STATE: lambda parts: _is_one_of(WorkitemRow.state)([one.upper() for one in parts]),
    attributes.WORKLIST: _is_one_of(WorkitemRow.worklist_label),
    "PatientID": _is_one_of(WorkitemRow.patient_id),
    "StudyInstanceUID": lambda parts: WorkitemRow.study_instance_uids.overlap(
        literal([*parts], ARRAY(Text))
    ),
    f"{attributes.REQUESTS}.StudyInstanceUID": lambda parts: (
        WorkitemRow.study_instance_uids.overlap(literal([*parts], ARRAY(Text)))
    ),
}


def find(session: Session, query: Query, zone: tzinfo, limit: int, offset: int = 0) -> list[Json]:
    """Return at most `limit` workitems that match, from number `offset`, earliest start first.

    Raises
    ------
    Malformed
        A key cannot be read.
    """
    wanted = Filter(query, zone)
    found: list[Json] = []
    for ids in pages(_candidates(session, wanted)):
        found += _matching(session, wanted, ids)
        if len(found) >= offset + limit:
            break
    return found[offset : offset + limit]


def iterate(engine: Engine, query: Query, zone: tzinfo, limit: int) -> Iterator[Json]:
    """Yield at most `limit` workitems that match, read in short transactions.

    Raises
    ------
    Malformed
        A key cannot be read. Raised before the first.
    """
    wanted = Filter(query, zone)
    with transaction(engine) as session:
        ids = _candidates(session, wanted)
    left = limit
    for page in pages(ids):
        with transaction(engine) as session:
            found = _matching(session, wanted, page)[:left]
        yield from found
        left -= len(found)
        if not left:
            return


def matching_rows(session: Session, query: Query, zone: tzinfo) -> Iterator[tuple[int, Json]]:
    """Yield row id and workitem of all that match."""
    wanted = Filter(query, zone)
    for page in pages(_candidates(session, wanted)):
        for row in _rows(session, page):
            shown = records.whole(row)
            if wanted.matches(shown):
                yield row.id, shown


def _candidates(session: Session, wanted: Filter) -> Sequence[int]:
    statement = select(WorkitemRow.id).where(*wanted.conditions())
    return session.scalars(statement.order_by(WorkitemRow.start, WorkitemRow.id)).all()


def pages(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield `PAGE` row ids at a time."""
    for first in range(0, len(ids), PAGE):
        yield ids[first : first + PAGE]


def _matching(session: Session, wanted: Filter, ids: Sequence[int]) -> list[Json]:
    found = map(records.whole, _rows(session, ids))
    return [shown for shown in found if wanted.matches(shown)]


def _rows(session: Session, ids: Sequence[int]) -> list[WorkitemRow]:
    statement = select(WorkitemRow).where(WorkitemRow.id.in_(ids))
    found = {row.id: row for row in session.scalars(statement)}
    return [found[one] for one in ids if one in found]
