"""The counters and lists of series and studies made anew, of what is shown of them.

The ingest adds what it adds (`writing`); when objects are hidden, or shown again, what is left
is counted. Whoever calls holds the locks of the studies.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    CollectionAggregate,
    Column,
    ColumnElement,
    Select,
    any_,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from storage.archive import tables
from storage.archive.model import Level
from storage.db.engine import Session

_STUDIES: Final = tables.studies.c
_SERIES: Final = tables.series.c
_INSTANCES: Final = tables.instances.c


def recount(
    session: Session, series: Collection[int], studies: Collection[int], now: datetime
) -> None:
    """Count what is shown of these series, and then of the studies that they are of."""
    counted = select(func.count()).where(
        _INSTANCES.series_ref == _SERIES.id, tables.SHOWN[Level.IMAGE]
    )
    session.execute(
        update(tables.series)
        .where(_SERIES.id == _any(series))
        .values(number_of_instances=counted.scalar_subquery(), changed_at=now)
    )
    session.execute(
        update(tables.studies)
        .where(_STUDIES.id == _any(studies))
        .values(
            number_of_series=_of_series(func.count()).scalar_subquery(),
            number_of_instances=_of_series(
                func.coalesce(func.sum(_SERIES.number_of_instances), 0)
            ).scalar_subquery(),
            modalities=_listed(_of_series(_members(_SERIES.modality))),
            sop_classes=_listed(
                _of_series(_INSTANCES.sop_class_uid)
                .join(tables.instances, _INSTANCES.series_ref == _SERIES.id)
                .where(tables.SHOWN[Level.IMAGE])
            ),
            changed_at=now,
        )
    )


def _of_series(wanted: ColumnElement[Any]) -> Select[Any]:
    """Return a query of the series of a study of which something is shown."""
    return (
        select(wanted)
        .select_from(tables.series)
        .where(_SERIES.study_ref == _STUDIES.id, tables.SHOWN[Level.SERIES])
        .correlate(tables.studies)
    )


def _members(values: Column[str]) -> ColumnElement[str]:
    """Return the values of a multi-valued text, each in a row."""
    return func.unnest(func.string_to_array(func.replace(values, " ", ""), "\\"))


def _listed(found: Select[Any]) -> ColumnElement[Any]:
    """Return the different values of a query as an array in order."""
    return func.array(found.distinct().order_by(literal_column("1")).scalar_subquery())


def _any(ids: Collection[int]) -> CollectionAggregate[bool]:
    return any_(literal([*ids], ARRAY(BigInteger)))
