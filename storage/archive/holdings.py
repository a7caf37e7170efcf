"""What the index holds of the studies, series, instances and patients of one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import CollectionAggregate, Text, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from storage.archive import patients, rejection_rules, rejections, tables
from storage.archive.compression_tables import compressions
from storage.archive.model import ReceivedInstance
from storage.archive.patients import Identifier, Patient
from storage.archive.rejection_rules import Title
from storage.archive.rows import Value
from storage.db.engine import Session


@dataclass(slots=True, eq=False)
class Study:
    """A study that is held, or about to be, and what the batch adds to it."""

    patient: Patient
    values: dict[str, Value]
    received_at: datetime
    id: int | None = None
    """None until the row is written."""
    filled: dict[str, Value] = field(default_factory=dict)
    modalities: set[str] = field(default_factory=set)
    sop_classes: set[str] = field(default_factory=set)
    added_series: int = 0
    added: int = 0


@dataclass(slots=True, eq=False)
class Series:
    """A series that is held, or about to be, and what the batch adds to it."""

    study: Study
    values: dict[str, Value]
    received_at: datetime
    id: int | None = None
    """None until the row is written."""
    filled: dict[str, Value] = field(default_factory=dict)
    added: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What decides about another instance with the same SOP Instance UID, as it was received."""

    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    dataset_sha256: str
    hidden: str = rejection_rules.SHOWN


_ELSEWHERE: Final = Study(Patient({}), {}, datetime.min.replace(tzinfo=UTC))
"""The study of a series whose study is not in the batch."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Rows by UID; the batch adds its own as it goes."""

    instances: dict[str, Known]
    studies: dict[str, Study]
    series: dict[str, Series]
    people: dict[Identifier, list[Patient]]
    """Whom a study that is not held may belong to, oldest first."""
    rejected: Mapping[str, Title]
    """Why objects of the batch are rejected, that notes name which came before them."""


def read(session: Session, received: Sequence[ReceivedInstance]) -> Holdings:
    """Return what is held of the UIDs and patients of `received`."""
    studies = _studies(session, received)
    return Holdings(
        instances=_instances(session, received),
        studies=studies,
        series=_series(session, received, studies),
        people=_candidates(session, received, studies),
        rejected=rejections.titles_of(
            session,
            {
                one.attributes["SOPInstanceUID"]: one.attributes["StudyInstanceUID"]
                for one in received
            },
        ),
    )


def _uids(received: Sequence[ReceivedInstance], keyword: str) -> CollectionAggregate[bool]:
    return any_(literal([*{one.attributes[keyword] for one in received}], ARRAY(Text)))


def _instances(session: Session, received: Sequence[ReceivedInstance]) -> dict[str, Known]:
    instances, series, studies = tables.instances.c, tables.series.c, tables.studies.c
    was = compressions.c
    found = session.execute(
        select(
            instances.sop_instance_uid,
            studies.study_instance_uid,
            series.series_instance_uid,
            func.coalesce(was.transfer_syntax_uid, instances.transfer_syntax_uid),
            func.coalesce(was.dataset_sha256, instances.dataset_sha256),
            instances.hidden,
        )
        .join(tables.series, series.id == instances.series_ref)
        .join(tables.studies, studies.id == series.study_ref)
        .outerjoin(compressions, was.instance_ref == instances.id)
        .where(instances.sop_instance_uid == _uids(received, "SOPInstanceUID"))
    )
    return {uid: Known(*facts) for uid, *facts in found}


def _studies(session: Session, received: Sequence[ReceivedInstance]) -> dict[str, Study]:
    wanted = tables.studies.c.study_instance_uid == _uids(received, "StudyInstanceUID")
    found = session.execute(select(tables.studies).where(wanted)).mappings().all()
    own = {row["id"]: row["own_patient_ref"] or row["patient_ref"] for row in found}
    people = patients.load(session, own.values())
    return {
        row["study_instance_uid"]: Study(
            people[own[row["id"]]],
            {**row},
            row["received_at"],
            row["id"],
            modalities={*row["modalities"]},
            sop_classes={*row["sop_classes"]},
        )
        for row in found
    }


def _series(
    session: Session, received: Sequence[ReceivedInstance], studies: dict[str, Study]
) -> dict[str, Series]:
    held = tables.series.c
    found = session.execute(
        select(tables.series, tables.studies.c.study_instance_uid)
        .join(tables.studies, tables.studies.c.id == held.study_ref)
        .where(held.series_instance_uid == _uids(received, "SeriesInstanceUID"))
    ).mappings()
    return {
        row["series_instance_uid"]: Series(
            studies.get(row["study_instance_uid"], _ELSEWHERE),
            {**row},
            row["received_at"],
            row["id"],
        )
        for row in found
    }


def _candidates(
    session: Session, received: Sequence[ReceivedInstance], studies: dict[str, Study]
) -> dict[Identifier, list[Patient]]:
    identifiers = {
        patients.identifier(one.attributes)
        for one in received
        if one.attributes["StudyInstanceUID"] not in studies
    }
    ids = patients.ids_of(session, identifiers)
    held = (study.patient for study in studies.values())
    loaded = {patient.id: patient for patient in held if patient.id is not None}
    missing = {row_id for some in ids.values() for row_id in some} - loaded.keys()
    loaded.update(patients.load(session, missing))
    return {identifier: [loaded[row_id] for row_id in some] for identifier, some in ids.items()}
