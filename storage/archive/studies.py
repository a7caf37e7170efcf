"""Which studies are held and what they say of themselves, for those who ask by UID."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from storage.archive import rows, tables
from storage.archive.model import Level
from storage.db.engine import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSeries:
    """One series of a study."""

    series_instance_uid: str
    modality: str
    scheduled_step_ids: tuple[str, ...]
    """Of its Request Attributes Sequence."""
    requested_procedure_ids: tuple[str, ...]
    performed_procedure_step_id: str
    source_ae_title: str
    """Who sent its first object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStudy:
    """What is held of a study, as it is shown; dates and times as DICOM writes them."""

    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    """As its objects say it."""
    study_date: str
    study_time: str
    study_description: str
    """As its objects say it."""
    modalities: tuple[str, ...]
    instances: int
    """That are not rejected."""
    received_at: datetime
    """When the first object came."""
    changed_at: datetime
    """When the last one did."""
    series: tuple[HeldSeries, ...]
    """Those of which something is shown; of a study that is rejected as a whole, none."""


def held(session: Session, study_instance_uids: Collection[str]) -> set[str]:
    """Return those of the studies of which an instance is in the index, rejected or not."""
    wanted = {uid for uid in study_instance_uids if uid}
    if not wanted:
        return set()
    uid = tables.studies.c.study_instance_uid
    found = session.scalars(select(uid).where(uid == any_(literal([*wanted], ARRAY(Text)))))
    return {*found}


def shown(session: Session, study_instance_uids: Collection[str]) -> set[str]:
    """Return those of the studies of which something is not rejected."""
    uid = tables.studies.c.study_instance_uid
    wanted = uid == any_(literal([*study_instance_uids], ARRAY(Text)))
    return {*session.scalars(select(uid).where(wanted, tables.SHOWN[Level.STUDY]))}


def describe(session: Session, study_instance_uid: str) -> HeldStudy | None:
    """Return what is held of a study, None when nothing is."""
    studies, people = tables.studies.c, tables.patients.c
    statement = (
        select(
            studies.id,
            studies.study_instance_uid,
            people.patient_id,
            people.issuer_of_patient_id,
            people.patient_name,
            people.patient_birth_date,
            people.patient_sex,
            _own(studies, "accession_number"),
            studies.study_date,
            studies.study_time,
            _own(studies, "study_description"),
            studies.modalities,
            studies.number_of_instances.label("instances"),
            studies.received_at,
            studies.changed_at,
        )
        .join(tables.patients, people.id == studies.patient_ref)
        .where(studies.study_instance_uid == study_instance_uid)
    )
    row = session.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    facts = {**row, "modalities": tuple(row["modalities"])}
    series = _series(session, facts.pop("id"))
    return HeldStudy(**facts, series=series)


def _series(session: Session, study_id: int) -> tuple[HeldSeries, ...]:
    series, instances = tables.series.c, tables.instances.c
    source = (
        select(instances.source_ae_title)
        .where(instances.series_ref == series.id, tables.SHOWN[Level.IMAGE])
        .order_by(tables.INSTANCE_NUMBER, instances.id)
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        select(
            series.series_instance_uid,
            series.modality,
            _own(series, "scheduled_procedure_step_id"),
            _own(series, "requested_procedure_id"),
            series.performed_procedure_step_id,
            func.coalesce(source, "").label("source_ae_title"),
        )
        .where(series.study_ref == study_id, tables.SHOWN[Level.SERIES])
        .order_by(series.id)
    )
    return tuple(
        HeldSeries(
            series_instance_uid=row.series_instance_uid,
            modality=row.modality,
            scheduled_step_ids=rows.members(row.scheduled_procedure_step_id),
            requested_procedure_ids=rows.members(row.requested_procedure_id),
            performed_procedure_step_id=row.performed_procedure_step_id,
            source_ae_title=row.source_ae_title,
        )
        for row in session.execute(statement)
    )


def _own(columns: ReadOnlyColumnCollection[str, Any], name: str) -> ColumnElement[str]:
    """Return what the objects say, where their order says something else (`ordered`)."""
    return func.coalesce(columns.received[name].astext, columns[name]).label(name)


def missing(session: Session, sop_instance_uids: Collection[str]) -> int:
    """Return how many of these objects did not come; a rejected one did."""
    wanted = {*sop_instance_uids}
    if not wanted:
        return 0
    uid = tables.instances.c.sop_instance_uid
    held = uid == any_(literal([*wanted], ARRAY(Text)))
    found = session.scalar(select(func.count()).select_from(tables.instances).where(held))
    return len(wanted) - (found or 0)
