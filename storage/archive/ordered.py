"""What is shown of a study from the order that it belongs to, and how to take it back.

    studies.received, series.received   what the objects say of that, where something else is shown
    studies.order_correction            what is put into the objects on their way out
    series.changed_at                   set with it: metadata that was made before is out of date

Whoever decides says the whole of it each time, as with `corrections`; nothing said brings back what
the objects say. Objects are never touched.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import RowMapping, Table, select, update

from storage.archive import locks, rows, tables
from storage.archive.model import Level
from storage.archive.rows import Value
from storage.base.clock import utc_now
from storage.db.engine import Session

KEYWORDS: Final = ("AccessionNumber", "StudyDescription", "ReferringPhysicianName")
"""Of the study itself."""
REQUESTS: Final = "RequestAttributesSequence"
"""Of each series (PS3.3 C.7.3.1)."""
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "AccessionNumber": ("accession_number",),
    "StudyDescription": ("study_description",),
    "ReferringPhysicianName": ("referring_physician_name", "referring_physician_name_key"),
}
_OF_SERIES: Final[Mapping[str, str]] = {
    "RequestedProcedureID": "requested_procedure_id",
    "ScheduledProcedureStepID": "scheduled_procedure_step_id",
}
_studies, _series = tables.studies.c, tables.series.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One item of the Request Attributes Sequence (PS3.3 Table 10-9), by its keywords."""

    accession_number: str = ""
    requested_procedure_description: str = ""
    scheduled_procedure_step_id: str = ""
    requested_procedure_id: str = ""

    def item(self) -> dict[str, str]:
        """Return keyword → text, without what is empty."""
        return {_KEYWORD[name]: text for name, text in asdict(self).items() if text}


_KEYWORD: Final = {
    "accession_number": "AccessionNumber",
    "requested_procedure_description": "RequestedProcedureDescription",
    "scheduled_procedure_step_id": "ScheduledProcedureStepID",
    "requested_procedure_id": "RequestedProcedureID",
}


@dataclass(frozen=True, slots=True)
class Ordered:
    """What is shown of a study in place of what its objects say."""

    attributes: Mapping[str, str]
    """Of `KEYWORDS`, those that differ."""
    requests: Sequence[Request] = ()
    """What its series are said to be made for; a series that names one of them stays as it is."""


NOTHING: Final = Ordered({})


def said(session: Session, study_instance_uid: str) -> Mapping[str, str] | None:
    """Return what the objects of a study say of `KEYWORDS`, None when it is not held."""
    wanted = _studies.study_instance_uid == study_instance_uid
    row = session.execute(select(tables.studies).where(wanted)).mappings().one_or_none()
    if row is None:
        return None
    own = {**row, **(row["received"] or {})}
    return {keyword: str(own[names[0]]) for keyword, names in _COLUMNS.items()}


def show(session: Session, study_instance_uid: str, ordered: Ordered) -> None:
    """Show a study so from now on; one that is not held is left alone.

    Nothing is held when nothing changes. Else the study is, as the ingest holds it: the caller
    must not hold what the ingest waits for behind that.
    """
    if not _changes(session, study_instance_uid, ordered):
        return
    locks.take(session, [locks.study(study_instance_uid)])
    for table, row_id, values in _changes(session, study_instance_uid, ordered):
        session.execute(update(table).where(table.c.id == row_id).values(values))


_Change = tuple[Table, int, dict[str, Any]]


def _changes(session: Session, study_instance_uid: str, ordered: Ordered) -> list[_Change]:
    """Return what has to be written, the series before the study, as the ingest does."""
    wanted = _studies.study_instance_uid == study_instance_uid
    row = session.execute(select(tables.studies).where(wanted)).mappings().one_or_none()
    if row is None:
        return []
    items = [one.item() for one in ordered.requests]
    of_study = _shown(row, _columns(ordered.attributes))
    correction = _text(ordered)
    if correction != row["order_correction"]:
        of_study["order_correction"] = correction
    series = _series_of(session, row["id"])
    of_series = {
        one["id"]: _shown(one, _requested({**one, **(one["received"] or {})}, items))
        for one in series
    }
    if not of_study and not any(of_series.values()):
        return []
    now = utc_now()  # metadata that was made before is out of date
    found: list[_Change] = [
        (tables.series, row_id, {**values, "changed_at": now})
        for row_id, values in of_series.items()
    ]
    return [*found, *([(tables.studies, row["id"], of_study)] if of_study else [])]


def of_new_series(values: Mapping[str, Value], order_correction: str) -> dict[str, Any]:
    """Return the columns of a series that comes to a study, as they are shown; with `received`."""
    whole = json.loads(order_correction) if order_correction else {}
    wanted = _requested(values, whole.get(REQUESTS, ()))
    return {**wanted, "received": {name: values[name] for name in wanted} or None}


def _shown(row: RowMapping, wanted: Mapping[str, Value]) -> dict[str, Any]:
    """Return what to write so that a row shows these columns, and of the others what it was."""
    received = dict(row["received"] or {})
    own = {name: received.get(name, row[name]) for name in {*received, *wanted}}
    values: dict[str, Any] = {**own, **wanted}
    kept = {name: own[name] for name in wanted} or None
    if kept == row["received"] and all(row[name] == value for name, value in values.items()):
        return {}
    return {**values, "received": kept}


def _columns(attributes: Mapping[str, str]) -> dict[str, Value]:
    made = rows.values(Level.STUDY, attributes)
    return {name: made[name] for keyword in attributes for name in _COLUMNS[keyword]}


def _series_of(session: Session, study_id: int) -> Sequence[RowMapping]:
    statement = select(tables.series).where(_series.study_ref == study_id).order_by(_series.id)
    return session.execute(statement).mappings().all()


def _requested(own: Mapping[str, Any], items: Sequence[Mapping[str, str]]) -> dict[str, Value]:
    """Return the columns of a series whose objects name none of the requests, else none."""
    named = {*rows.members(own["requested_procedure_id"])}
    if not items or named & {item["RequestedProcedureID"] for item in items}:
        return {}
    return {
        column: "\\".join(filter(None, (item.get(keyword) for item in items)))
        for keyword, column in _OF_SERIES.items()
    }


def _text(ordered: Ordered) -> str:
    whole: dict[str, object] = {**ordered.attributes}
    if ordered.requests:
        whole[REQUESTS] = [one.item() for one in ordered.requests]
    if not whole:
        return ""
    return json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
