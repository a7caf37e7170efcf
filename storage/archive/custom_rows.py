"""The values of attributes that an operator added: kept, and read again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from storage.archive import attributes, rows, tables
from storage.archive.custom import LEVELS, NUMBER_VRS
from storage.archive.custom_tables import custom_values
from storage.archive.model import Custom, Level, StoredInstance
from storage.db.engine import Session

MAX_MEMBERS: Final = 100
MAX_VALUE: Final = 1024
"""Characters of a value that are kept."""

_VALUES: Final = custom_values.c
_OWNERS: Final[Mapping[Level, ColumnElement[int]]] = {
    Level.STUDY: tables.studies.c.id,
    Level.SERIES: tables.series.c.id,
    Level.IMAGE: tables.instances.c.id,
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A stored instance with the numbers of its rows by level."""

    stored: StoredInstance
    ids: Mapping[Level, int]


def key(vr: str, member: str) -> str:
    """Return what a value is matched by, '' when it is none of its VR."""
    if vr == "PN":
        return rows.name_key(member)
    if vr == "DA":
        return rows.date_key(member)
    if vr == "TM":
        return rows.time_key(member)
    return number_key(member) if vr in NUMBER_VRS else member


def number_key(text_: str) -> str:
    """Return a number in one spelling: 1.50 is 1.5."""
    try:
        number = Decimal(text_.strip())
    except InvalidOperation:
        return ""
    return str(number.normalize() + 0) if number.is_finite() else ""


def write(session: Session, found: Iterable[tuple[Custom, int, str]]) -> None:
    """Keep values, each of an attribute and a row of its level; the first of a row stays."""
    first: dict[tuple[int, int], tuple[Custom, str]] = {}
    for custom, owner, sent in found:
        if sent:
            first.setdefault((custom.id, owner), (custom, sent))
    added = [
        {
            "attribute_ref": custom.id,
            "owner": owner,
            "position": position,
            "value": member,
            "key": key(custom.vr, member),
        }
        for (_, owner), (custom, sent) in sorted(first.items(), key=lambda pair: pair[0])
        for position, member in enumerate(_members(custom, sent))
    ]
    if added:
        session.execute(_INSERTION, {"rows": msgspec.json.encode(added).decode()})


def _members(custom: Custom, sent: str) -> list[str]:
    clean = rows.clean(sent)
    if custom.vr in attributes.BACKSLASH_VRS:
        return [clean[:MAX_VALUE]]
    return [part.strip()[:MAX_VALUE] for part in clean.split("\\")[:MAX_MEMBERS]]


_ADDED: Final = (
    func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    .table_valued(
        column("attribute_ref", BigInteger),
        column("owner", BigInteger),
        column("position", Integer),
        column("value", Text),
        column("key", Text),
        name="added",
    )
    .render_derived(with_types=True)
)
_INSERTION: Final = (
    insert(custom_values)
    .from_select(
        ["attribute_ref", "owner", "position", "value", "key"],
        select(*_ADDED.c).where(
            ~exists().where(
                _VALUES.attribute_ref == _ADDED.c.attribute_ref, _VALUES.owner == _ADDED.c.owner
            )
        ),
    )
    .on_conflict_do_nothing()
)


def values(
    session: Session, customs: Sequence[Custom], ids: Mapping[Level, Iterable[int]]
) -> dict[tuple[int, int], tuple[str, ...]]:
    """Return values by attribute and row, of the rows whose numbers are given by level."""
    wanted = [(custom.id, one) for custom in customs for one in {*ids.get(custom.level, ())}]
    if not wanted:
        return {}
    pairs = (
        func.unnest(
            literal([custom for custom, _ in wanted], ARRAY(BigInteger)),
            literal([owner for _, owner in wanted], ARRAY(BigInteger)),
        )
        .table_valued("attribute_ref", "owner", name="wanted")
        .render_derived()
    )
    same = and_(_VALUES.attribute_ref == pairs.c.attribute_ref, _VALUES.owner == pairs.c.owner)
    statement = (
        select(_VALUES.attribute_ref, _VALUES.owner, _VALUES.value)
        .join(pairs, same)
        .order_by(_VALUES.attribute_ref, _VALUES.owner, _VALUES.position)
    )
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    for custom, owner, value in session.execute(statement):
        found[custom, owner] = (*found.get((custom, owner), ()), value)
    return found


def owner_of(level: Level) -> ColumnElement[int]:
    """Return the column that values of a level belong to."""
    return _OWNERS[level]


# Reading what was there before


def placed(session: Session, after: int, last: int, limit: int) -> list[Placed]:
    """Return the next instances behind number `after`, up to number `last`."""
    studies, series, instances = tables.studies.c, tables.series.c, tables.instances.c
    found = session.execute(
        select(
            studies.study_instance_uid,
            series.series_instance_uid,
            instances.sop_instance_uid,
            instances.sop_class_uid,
            instances.transfer_syntax_uid,
            func.coalesce(instances.number_of_frames, 1),
            instances.object_key,
            instances.dataset_offset,
            instances.dataset_size,
            instances.dataset_sha256,
            studies.id,
            series.id,
            instances.id,
        )
        .join(tables.series, series.id == instances.series_ref)
        .join(tables.studies, studies.id == series.study_ref)
        .where(instances.id > after, instances.id <= last)
        .order_by(instances.id)
        .limit(limit)
    )
    return [
        Placed(StoredInstance(*row[:10]), dict(zip(LEVELS, row[10:], strict=True))) for row in found
    ]


def have(session: Session, custom: Custom, owners: Iterable[int]) -> set[int]:
    """Return which of some rows have a value of the attribute already."""
    wanted = any_(literal([*{*owners}], ARRAY(BigInteger)))
    found = select(_VALUES.owner).where(
        _VALUES.attribute_ref == custom.id, _VALUES.owner == wanted, _VALUES.position == 0
    )
    return {*session.scalars(found)}


def row_of(custom: Custom, ids: Mapping[Level, Any]) -> int:
    """Return the number of the row that a value of the attribute belongs to."""
    return int(ids[custom.level])
