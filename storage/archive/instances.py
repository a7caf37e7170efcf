"""Received instances become rows; what contradicts the index is told apart.

    lock the studies and patients of the batch, in one order
    read what is held of them  →  a verdict for each instance  →  write, counters once
    another transaction was faster with a UID  →  undo, and do it again

Counters and ModalitiesInStudy count what this transaction really inserted, so the
same batch recorded twice changes nothing the second time.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Text, any_, bindparam, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.schema import Table

from storage.archive import incidents, matching, patients, rows, tables
from storage.archive.attributes import REQUIRED, of_level, visible
from storage.archive.incidents import Incident, Kind
from storage.archive.model import Level, Outcome, ReceivedInstance, StoredInstance, Verdict
from storage.archive.patients import Identifier, Likeness, Patient
from storage.archive.quarantine import Reason
from storage.archive.rows import Value
from storage.base.errors import Malformed, StoreUnavailable
from storage.base.values import is_uid
from storage.db.engine import Session

ATTEMPTS: Final = 5

_RETRIEVE_KEYS: Final = tuple(
    visible(Level.IMAGE)[keyword]
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
)
_LOCATED: Final = (
    tables.studies.c.study_instance_uid,
    tables.series.c.series_instance_uid,
    tables.instances.c.sop_instance_uid,
    tables.instances.c.sop_class_uid,
    tables.instances.c.transfer_syntax_uid,
    func.coalesce(tables.instances.c.number_of_frames, 1).label("number_of_frames"),
    tables.instances.c.object_key,
    tables.instances.c.dataset_offset,
    tables.instances.c.dataset_size,
    tables.instances.c.dataset_sha256,
)
_PATIENT_KEYWORDS: Final = tuple(row.keyword for row in of_level(Level.PATIENT) if row.received)
_NOTICED: Final = {
    Kind.PATIENT_CONFLICT: "the same Patient ID came with another name or birth date",
    Kind.OTHER_PATIENT_ID: "the same person came with another Patient ID",
}
_STORED: Final = Outcome(Verdict.STORED)
_DUPLICATE: Final = Outcome(Verdict.DUPLICATE)
_TAKE_LOCKS: Final = text(
    "SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key"
)


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


class _Raced(Exception):
    """Another transaction inserted one of our UIDs between our read and our write."""


@dataclass(slots=True, eq=False)
class _Study:
    patient: Patient
    values: dict[str, Value]
    received_at: datetime
    id: int | None = None
    filled: dict[str, Value] = field(default_factory=dict)
    modalities: set[str] = field(default_factory=set)
    sop_classes: set[str] = field(default_factory=set)
    added_series: int = 0
    added: int = 0


@dataclass(slots=True, eq=False)
class _Series:
    study: _Study
    values: dict[str, Value]
    received_at: datetime
    id: int | None = None
    filled: dict[str, Value] = field(default_factory=dict)
    added: int = 0


_ELSEWHERE: Final = _Study(Patient({}), {}, datetime.min.replace(tzinfo=UTC))
"""The study of a series whose study is not in the batch."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What decides about an instance with the same SOP Instance UID."""

    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    dataset_sha256: str


def record(session: Session, received: Sequence[ReceivedInstance]) -> list[Outcome]:
    """Index `received` and return the outcome of each, in order.

    The locks end with the transaction: whoever else changes a study's counters or
    lists takes the same ones.

    The transaction of `session` decides whether all of it happened. Instances with
    a conflict leave no row; the caller quarantines them.

    Raises
    ------
    Malformed
        An instance has no place in the hierarchy; nothing is recorded.
    StoreUnavailable
        Other transactions were faster with the same UIDs again and again.
    """
    if not received:
        return []
    for one in received:
        _check(one)
    _lock(session, received)
    for _ in range(ATTEMPTS):
        try:
            with session.begin_nested():
                return _Batch(session, received).record()
        except _Raced:
            continue
    raise StoreUnavailable("the index is changed by others at the same UIDs")


def locate(session: Session, keys: Mapping[str, str]) -> list[StoredInstance]:
    r"""Return where the instances under `keys` lie, by study, series and instance number.

    `keys` has PatientID and the UIDs of a study, series or instance, in any
    combination; a UID may be a list, separated by ``\`` (PS3.4 C.4.2.2.1). Other
    keys are ignored.

    Raises
    ------
    Malformed
        No key is given, or one is no UID.
    """
    given = {row: keys.get(row.keyword, "") for row in _RETRIEVE_KEYS}
    found = [matching.condition(row, value, Level.IMAGE) for row, value in given.items() if value]
    conditions = [one.clause for one in found if one is not None and one.selective]
    if not conditions or len(conditions) < len(found):
        raise Malformed("a retrieval names a Patient ID or UIDs without wild cards")
    series, studies = tables.series, tables.studies
    statement = (
        select(*_LOCATED)
        .select_from(tables.instances)
        .join(series, series.c.id == tables.instances.c.series_ref)
        .join(studies, studies.c.id == series.c.study_ref)
        .where(*conditions)
        .order_by(
            studies.c.id,
            tables.SERIES_NUMBER,
            series.c.id,
            tables.INSTANCE_NUMBER,
            tables.instances.c.id,
        )
    )
    return [StoredInstance(**row) for row in session.execute(statement).mappings()]


def _check(one: ReceivedInstance) -> None:
    for keyword in REQUIRED:
        if not is_uid(one.attributes.get(keyword, "")):
            raise Malformed(f"{keyword} is not a UID")


def _lock(session: Session, received: Sequence[ReceivedInstance]) -> None:
    """Take the studies and patients of the batch, always in the same order."""
    studies = {f"study\n{one.attributes['StudyInstanceUID']}" for one in received}
    identifiers = {patients.identifier(one.attributes) for one in received}
    people = {f"patient\n{issuer}\n{text}" for text, issuer in identifiers if text}
    session.execute(_TAKE_LOCKS, {"keys": sorted(map(_lock_key, studies | people))})


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


class _Batch:
    """One attempt: what is held of the batch's UIDs, and what is added to it."""

    def __init__(self, session: Session, received: Sequence[ReceivedInstance]) -> None:
        self._session = session
        self._received = received
        self._incidents: list[Incident] = []
        self._new_instances: list[tuple[ReceivedInstance, _Series]] = []
        self._judged: dict[tuple[str | None, ...], bool] = {}
        self._known = self._read_instances()
        self._studies = self._read_studies()
        self._series = self._read_series()
        self._people = self._read_candidates()

    def record(self) -> list[Outcome]:
        outcomes = [self._place(one) for one in self._received]
        if self._new_instances:
            self._write()
        return outcomes

    # What is held

    def _uids(self, keyword: str) -> Any:  # noqa: ANN401 - SQLAlchemy's own is not generic here
        return any_(literal([*{one.attributes[keyword] for one in self._received}], ARRAY(Text)))

    def _read_instances(self) -> dict[str, _Known]:
        instances, series, studies = tables.instances.c, tables.series.c, tables.studies.c
        found = self._session.execute(
            select(
                instances.sop_instance_uid,
                studies.study_instance_uid,
                series.series_instance_uid,
                instances.transfer_syntax_uid,
                instances.dataset_sha256,
            )
            .join(tables.series, series.id == instances.series_ref)
            .join(tables.studies, studies.id == series.study_ref)
            .where(instances.sop_instance_uid == self._uids("SOPInstanceUID"))
        )
        return {uid: _Known(*facts) for uid, *facts in found}

    def _read_studies(self) -> dict[str, _Study]:
        column = tables.studies.c.study_instance_uid
        found = (
            self._session.execute(
                select(tables.studies).where(column == self._uids("StudyInstanceUID"))
            )
            .mappings()
            .all()
        )
        people = patients.load(self._session, (row["patient_ref"] for row in found))
        return {
            row["study_instance_uid"]: _Study(
                people[row["patient_ref"]],
                {**row},
                row["received_at"],
                row["id"],
                modalities={*row["modalities"]},
                sop_classes={*row["sop_classes"]},
            )
            for row in found
        }

    def _read_series(self) -> dict[str, _Series]:
        """Read the series; one of a study that is not in the batch comes with that study."""
        held = tables.series.c
        found = self._session.execute(
            select(tables.series, tables.studies.c.study_instance_uid)
            .join(tables.studies, tables.studies.c.id == held.study_ref)
            .where(held.series_instance_uid == self._uids("SeriesInstanceUID"))
        ).mappings()
        return {
            row["series_instance_uid"]: _Series(
                self._studies.get(row["study_instance_uid"], _ELSEWHERE),
                {**row},
                row["received_at"],
                row["id"],
            )
            for row in found
        }

    def _read_candidates(self) -> dict[Identifier, list[Patient]]:
        """Read the patients that a new study may belong to."""
        identifiers = {
            patients.identifier(one.attributes)
            for one in self._received
            if one.attributes["StudyInstanceUID"] not in self._studies
        }
        if not identifiers:
            return {}
        ids = patients.ids_of(self._session, identifiers)
        held = (study.patient for study in self._studies.values())
        loaded = {patient.id: patient for patient in held if patient.id is not None}
        missing = {row_id for some in ids.values() for row_id in some} - loaded.keys()
        loaded.update(patients.load(self._session, missing) if missing else {})
        return {identifier: [loaded[row_id] for row_id in some] for identifier, some in ids.items()}

    # A verdict for each

    def _place(self, one: ReceivedInstance) -> Outcome:
        uid = one.attributes["SOPInstanceUID"]
        if known := self._known.get(uid):
            return _compare(known, one)
        study_uid = one.attributes["StudyInstanceUID"]
        series_uid = one.attributes["SeriesInstanceUID"]
        study, series = self._studies.get(study_uid), self._series.get(series_uid)
        if series and series.study is not study:
            return _conflict(
                Reason.SERIES_MISMATCH, f"series {series_uid} is held in another study"
            )
        if study is None:
            study = self._add_study(one)
        elif not self._belongs(study, one):
            return _conflict(
                Reason.PATIENT_MISMATCH, f"study {study_uid} is held of another patient"
            )
        self._add(one, study, series or self._add_series(one, study))
        return _STORED

    def _add_study(self, one: ReceivedInstance) -> _Study:
        values = rows.values(Level.STUDY, one.attributes)
        study = _Study(self._patient_of(one), values, one.received_at)
        self._studies[one.attributes["StudyInstanceUID"]] = study
        return study

    def _patient_of(self, one: ReceivedInstance) -> Patient:
        """Return the patient of a new study; a new one rather than a doubtful one."""
        identifier = patients.identifier(one.attributes)
        values = rows.values(Level.PATIENT, one.attributes)
        candidates = self._people.setdefault(identifier, []) if identifier[0] else []
        chosen = patients.choose(candidates, values)
        if chosen is not None:
            patients.fill(chosen, one.attributes)
            return chosen
        if candidates:
            self._notice(Kind.PATIENT_CONFLICT, one, identifier[0])
        patient = Patient(values)
        candidates.append(patient)
        return patient

    def _belongs(self, study: _Study, one: ReceivedInstance) -> bool:
        """Return whether the instance is of the study's patient; fill the patient's blanks."""
        attributes = one.attributes
        facts = (attributes["StudyInstanceUID"], *map(attributes.get, _PATIENT_KEYWORDS))
        if facts not in self._judged:
            self._judged[facts] = self._judge(study.patient, one)
        return self._judged[facts]

    def _judge(self, patient: Patient, one: ReceivedInstance) -> bool:
        identifier = patients.identifier(one.attributes)
        values = rows.values(Level.PATIENT, one.attributes)
        contradicts = patients.likeness(patient.values, values) is Likeness.OTHER
        if _same_identifier(patient.identifier, identifier):
            if contradicts:
                self._notice(Kind.PATIENT_CONFLICT, one, patient.patient_id)
            else:
                patients.fill(patient, one.attributes)
            return True
        if patient.patient_id and identifier[0]:
            same = patients.certainly_same(patient.values, values)
            if same:
                self._notice(Kind.OTHER_PATIENT_ID, one, patient.patient_id)
            return same
        if not patient.patient_id and not contradicts:
            patients.fill(patient, one.attributes)
        return not contradicts

    def _notice(self, kind: Kind, one: ReceivedInstance, held: str) -> None:
        sent = patients.identifier(one.attributes)[0]
        study_uid = one.attributes["StudyInstanceUID"]
        self._incidents.append(
            Incident(kind, study_uid, held, sent, _NOTICED[kind], one.received_at)
        )

    def _add_series(self, one: ReceivedInstance, study: _Study) -> _Series:
        series = _Series(study, rows.values(Level.SERIES, one.attributes), one.received_at)
        self._series[one.attributes["SeriesInstanceUID"]] = series
        study.added_series += 1
        return series

    def _add(self, one: ReceivedInstance, study: _Study, series: _Series) -> None:
        attributes = one.attributes
        for row, level in ((study, Level.STUDY), (series, Level.SERIES)):
            found = rows.fills(level, row.values, attributes)
            row.values.update(found)
            row.filled.update(found)
            row.added += 1
        modalities = rows.members(rows.clean(attributes.get("Modality", "")))
        study.modalities.update(member[: rows.MAX_MEMBER] for member in modalities)
        study.sop_classes.add(attributes["SOPClassUID"])
        self._new_instances.append((one, series))
        self._known[attributes["SOPInstanceUID"]] = _Known(
            attributes["StudyInstanceUID"],
            attributes["SeriesInstanceUID"],
            one.transfer_syntax_uid,
            one.dataset_sha256,
        )

    # What is added

    def _write(self) -> None:
        touched = {id(series): series for _, series in self._new_instances}
        series = [*touched.values()]
        studies = [*{id(one.study): one.study for one in series}.values()]
        people = [*{id(one.patient): one.patient for one in studies}.values()]
        latest = max(one.received_at for one, _ in self._new_instances)
        patients.write(self._session, people, latest)
        self._insert_studies([one for one in studies if one.id is None])
        self._insert_series([one for one in series if one.id is None])
        self._insert(tables.instances, "sop_instance_uid", [*map(_row, self._new_instances)])
        self._update_series(series, latest)
        self._update_studies(studies, latest)
        incidents.note(self._session, self._incidents)

    def _insert(
        self, table: Table, uid: str, added: Iterable[Mapping[str, object]]
    ) -> dict[str, int]:
        """Insert in the order of the UIDs, so that two transactions never wait in a circle."""
        ordered = sorted(added, key=lambda row: str(row[uid]))
        statement = insert(table).on_conflict_do_nothing().returning(table.c[uid], table.c.id)
        ids: dict[str, int] = {}
        if ordered:
            ids = dict(self._session.execute(statement, ordered).tuples().all())
        if len(ids) < len(ordered):
            raise _Raced
        return ids

    def _insert_studies(self, new: Sequence[_Study]) -> None:
        ids = self._insert(
            tables.studies,
            "study_instance_uid",
            [
                {
                    **one.values,
                    **one.patient.copied,
                    "patient_ref": one.patient.id,
                    "received_at": one.received_at,
                    "changed_at": one.received_at,
                }
                for one in new
            ],
        )
        for one in new:
            one.id = ids[str(one.values["study_instance_uid"])]

    def _insert_series(self, new: Sequence[_Series]) -> None:
        ids = self._insert(
            tables.series,
            "series_instance_uid",
            [
                {
                    **one.values,
                    "study_ref": one.study.id,
                    "received_at": one.received_at,
                    "changed_at": one.received_at,
                }
                for one in new
            ],
        )
        for one in new:
            one.id = ids[str(one.values["series_instance_uid"])]

    def _update_series(self, series: Sequence[_Series], changed_at: datetime) -> None:
        counted = [{"row_id": one.id, "added": one.added, "at": changed_at} for one in series]
        self._session.execute(_COUNT_SERIES, counted)
        self._fill(tables.series, series)

    def _update_studies(self, studies: Sequence[_Study], changed_at: datetime) -> None:
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
        self._session.execute(_COUNT_STUDIES, counted)
        self._fill(tables.studies, studies)

    def _fill(self, table: Table, held: Iterable[_Study | _Series]) -> None:
        for one in held:
            if one.filled:
                statement = update(table).where(table.c.id == one.id).values(one.filled)
                self._session.execute(statement)


def _compare(known: _Known, one: ReceivedInstance) -> Outcome:
    """Judge an instance whose SOP Instance UID is held already."""
    uid = one.attributes["SOPInstanceUID"]
    parents = one.attributes["StudyInstanceUID"], one.attributes["SeriesInstanceUID"]
    if parents != (known.study_instance_uid, known.series_instance_uid):
        return _conflict(Reason.OTHER_PARENT, f"instance {uid} is held in another series")
    content = one.transfer_syntax_uid, one.dataset_sha256
    if content != (known.transfer_syntax_uid, known.dataset_sha256):
        return _conflict(Reason.DUPLICATE_UID, f"instance {uid} is held with other bytes")
    return _DUPLICATE


def _conflict(reason: Reason, detail: str) -> Outcome:
    return Outcome(Verdict.CONFLICT, reason, detail)


def _same_identifier(one: Identifier, other: Identifier) -> bool:
    """Return whether the Patient IDs are equal and the issuers do not contradict."""
    issuers = {one[1], other[1]} - {""}
    return bool(one[0]) and one[0] == other[0] and len(issuers) <= 1


def _row(item: tuple[ReceivedInstance, _Series]) -> dict[str, object]:
    one, series = item
    return {
        **rows.values(Level.IMAGE, one.attributes),
        "series_ref": series.id,
        "transfer_syntax_uid": one.transfer_syntax_uid,
        "object_key": one.object_key,
        "dataset_offset": one.dataset_offset,
        "dataset_size": one.dataset_size,
        "dataset_sha256": one.dataset_sha256,
        "source_ae_title": rows.clean(one.source_ae_title),
        "received_at": one.received_at,
    }
