"""Many rows in one statement, counters once per batch."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import JSON, Table, Text, bindparam, cast, column, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql.dml import ReturningInsert

from storage.archive import custom_rows, ordered, rejection_rules, rows, tables
from storage.archive.holdings import Series, Study
from storage.archive.model import Custom, Level, ReceivedInstance
from storage.archive.patients import Patient
from storage.db.engine import Session


@dataclass(frozen=True, slots=True)
class Placed:
    """A new instance and the series it goes into."""

    received: ReceivedInstance
    series: Series
    hidden: str = rejection_rules.SHOWN


_COUNT_SERIES: Final = (
    update(tables.series)
    .where(tables.series.c.id == bindparam("row_id"))
    .values(
        number_of_instances=tables.series.c.number_of_instances + bindparam("added"),
        changed_at=bindparam("at"),
    )
)
_COUNT_STUDIES: Final = (
    update(tables.studies)
    .where(tables.studies.c.id == bindparam("row_id"))
    .values(
        number_of_series=tables.studies.c.number_of_series + bindparam("added_series"),
        number_of_instances=tables.studies.c.number_of_instances + bindparam("added"),
        modalities=bindparam("all_modalities"),
        sop_classes=bindparam("all_sop_classes"),
        changed_at=bindparam("at"),
    )
)


class Raced(Exception):
    """Another transaction inserted one of our UIDs between our read and our write."""


def write(session: Session, added: Sequence[Placed]) -> None:
    """Insert `added` with the patients, studies and series that are new; count them.

    Raises
    ------
    Raced
        A UID is there already; the caller undoes what was written.
    """
    series = [*{id(one.series): one.series for one in added}.values()]
    studies = [*{id(one.study): one.study for one in series}.values()]
    people = [*{id(one.patient): one.patient for one in studies}.values()]
    changed_at = max(one.received.received_at for one in added)
    _write_patients(session, people, changed_at)
    _insert_studies(session, [one for one in studies if one.id is None])
    _insert_series(session, [one for one in series if one.id is None])
    ids = _insert(session, tables.instances, "sop_instance_uid", [*map(_instance_row, added)])
    custom_rows.write(session, _custom(added, ids))
    _count(session, studies, series, changed_at)
    _fill(session, tables.series, series)
    _fill(session, tables.studies, studies)


# Rows in bulk


@cache
def _insertion(table: Table, names: tuple[str, ...], uid: str) -> ReturningInsert[Any]:
    """Return a statement whose text does not depend on how many rows there are.

    The rows come as one JSON text: the driver builds an array in Python, value by value,
    which takes as long as the rest of the transaction.
    """
    types = {name: rows_type(table, name) for name in names}
    added = (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        .table_valued(*(column(name, kind) for name, kind in types.items()), name="added")
        .render_derived(with_types=True)
    )
    return (
        insert(table)
        .from_select([*names], select(*added.c))
        .on_conflict_do_nothing()
        .returning(table.c[uid], table.c.id)
    )


def rows_type(table: Table, name: str) -> Any:  # noqa: ANN401 - any type of a column
    """Return the type of a column without its collation, which an array has not."""
    kind = table.c[name].type
    return Text() if isinstance(kind, Text) else kind


def _insert(
    session: Session, table: Table, uid: str, added: Collection[Mapping[str, object]]
) -> dict[str, int]:
    """Insert in the order of the UIDs, so that two transactions never wait in a circle."""
    if not added:
        return {}
    in_order = sorted(added, key=lambda row: str(row[uid]))
    content = msgspec.json.encode(in_order).decode()
    inserted = session.execute(_insertion(table, tuple(in_order[0]), uid), {"rows": content}).all()
    if len(inserted) < len(in_order):
        raise Raced
    return {name: row_id for name, row_id in inserted}  # noqa: C416 - a Row is no tuple to mypy


def _insert_studies(session: Session, new: Sequence[Study]) -> None:
    added = [
        {
            **one.values,
            **one.patient.copied,
            "patient_ref": (one.patient.shown or one.patient).id,
            "own_patient_ref": one.patient.id if _is_elsewhere(one.patient) else None,
            "correction": one.patient.correction,
            "received_at": one.received_at,
            "changed_at": one.received_at,
        }
        for one in new
    ]
    ids = _insert(session, tables.studies, "study_instance_uid", added)
    for one in new:
        one.id = ids[str(one.values["study_instance_uid"])]


def _insert_series(session: Session, new: Sequence[Series]) -> None:
    added = [
        {
            **one.values,
            **ordered.of_new_series(one.values, str(one.study.values.get("order_correction", ""))),
            "study_ref": one.study.id,
            "received_at": one.received_at,
            "changed_at": one.received_at,
        }
        for one in new
    ]
    ids = _insert(session, tables.series, "series_instance_uid", added)
    for one in new:
        one.id = ids[str(one.values["series_instance_uid"])]


def _instance_row(placed: Placed) -> dict[str, object]:
    one = placed.received
    return {
        **rows.values(Level.IMAGE, one.attributes),
        "series_ref": placed.series.id,
        "transfer_syntax_uid": one.transfer_syntax_uid,
        "object_key": one.object_key,
        "dataset_offset": one.dataset_offset,
        "dataset_size": one.dataset_size,
        "dataset_sha256": one.dataset_sha256,
        "source_ae_title": rows.clean(one.source_ae_title),
        "received_at": one.received_at,
        "hidden": placed.hidden,
    }


def _custom(added: Sequence[Placed], ids: Mapping[str, int]) -> Iterator[tuple[Custom, int, str]]:
    """Yield the values of attributes that an operator added, with the row that has each."""
    for placed in added:
        one, series = placed.received, placed.series
        if one.custom:
            uid = one.attributes["SOPInstanceUID"]
            rows = {Level.STUDY: series.study.id, Level.SERIES: series.id, Level.IMAGE: ids[uid]}
            for attribute, sent in one.custom.items():
                yield attribute, custom_rows.row_of(attribute, rows), sent


# Patients


def _is_elsewhere(patient: Patient) -> bool:
    """Return whether the studies of a patient are shown under another."""
    return patient.shown is not None and patient.shown.id != patient.id


def _write_patients(session: Session, people: Sequence[Patient], received_at: datetime) -> None:
    new = [one for one in people if one.id is None]
    filled = [one for one in people if one.id is not None and one.filled]
    if new:
        number = func.nextval(func.pg_get_serial_sequence("patients", "id"))
        numbers = select(number).select_from(func.generate_series(1, len(new)))
        for one, row_id in zip(new, session.execute(numbers).scalars(), strict=True):
            one.id = row_id
        added = [{"id": one.id, **one.values, "received_at": received_at} for one in new]
        _insert(session, tables.patients, "id", added)
        arrived = [{"patient_ref": one.id} for one in new]
        session.execute(insert(tables.arrived_patients), arrived)
    for one in filled:
        _fill_patient(session, one)
    _identify(session, new + [one for one in filled if "patient_id" in one.filled])


def _fill_patient(session: Session, one: Patient) -> None:
    """Fill the blanks of a patient; where something else is shown, of what its objects say."""
    if one.shown is not None and not _is_elsewhere(one):
        patients = tables.patients
        received = patients.c.received.op("||")(cast(one.filled, JSONB))
        session.execute(update(patients).where(patients.c.id == one.id).values(received=received))
        return
    _fill(session, tables.patients, [one])
    copied = {name: one.filled[name] for name in one.copied.keys() & one.filled.keys()}
    if copied:
        copies = update(tables.studies).where(tables.studies.c.patient_ref == one.id)
        session.execute(copies.values(copied))


def _identify(session: Session, people: Sequence[Patient]) -> None:
    added = [
        {"patient_ref": one.id, "identifier": one.patient_id, "issuer": one.identifier[1]}
        for one in people
        if one.patient_id
    ]
    _insert(session, tables.patient_identifiers, "patient_ref", added)


# What was there before


def _count(
    session: Session, studies: Sequence[Study], series: Sequence[Series], changed_at: datetime
) -> None:
    session.execute(
        _COUNT_SERIES,
        [{"row_id": one.id, "added": one.added, "at": changed_at} for one in series],
    )
    counted = [
        {
            "row_id": one.id,
            "added_series": one.added_series,
            "added": one.added,
            "all_modalities": sorted(one.modalities),
            "all_sop_classes": sorted(one.sop_classes),
            "at": changed_at,
        }
        for one in studies
    ]
    session.execute(_COUNT_STUDIES, counted)


def _fill(session: Session, table: Table, held: Iterable[Study | Series | Patient]) -> None:
    for one in held:
        if one.filled:
            session.execute(update(table).where(table.c.id == one.id).values(one.filled))
