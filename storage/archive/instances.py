"""Received instances become rows; what contradicts the index is told apart.

    lock the studies and patients of the batch, in one order
    read what is held of them  →  a verdict for each instance  →  write, counters once
    another transaction was faster with a UID  →  undo, and do it again

Counters and ModalitiesInStudy count what this transaction really inserted, so the
same batch recorded twice changes nothing the second time.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select, true

from storage.archive import (
    holdings,
    incidents,
    locks,
    matching,
    patients,
    rejection_rules,
    rejections,
    rows,
    tables,
    writing,
)
from storage.archive.attributes import REQUIRED, of_level, visible
from storage.archive.compression_tables import compressions
from storage.archive.holdings import Known, Series, Study
from storage.archive.incidents import Incident, Kind
from storage.archive.matching import Reach
from storage.archive.model import Level, Outcome, ReceivedInstance, StoredInstance, Verdict
from storage.archive.patients import Identifier, Likeness, Patient
from storage.archive.quarantine import Reason
from storage.archive.rejection_rules import Title
from storage.archive.writing import Placed, Raced
from storage.base.errors import Malformed, StoreUnavailable
from storage.base.values import is_uid
from storage.db.engine import Session

ATTEMPTS: Final = 5

_RETRIEVE_KEYS: Final = tuple(
    visible(Level.IMAGE)[keyword]
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
)
LOCATED: Final = (
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
    (tables.studies.c.correction + tables.studies.c.order_correction).label("correction"),
    func.coalesce(compressions.c.transfer_syntax_uid, "").label("received_transfer_syntax_uid"),
    func.coalesce(compressions.c.dataset_sha256, "").label("received_sha256"),
)
"""Columns of a `StoredInstance`, with `compressions` outer-joined."""
_NAMES: Final = tuple(column.name for column in LOCATED)
_PATIENT_KEYWORDS: Final = tuple(row.keyword for row in of_level(Level.PATIENT) if row.received)
_NOTICED: Final = {
    Kind.PATIENT_CONFLICT: "the same Patient ID came with another name or birth date",
    Kind.OTHER_PATIENT_ID: "the same person came with another Patient ID",
}
_STORED: Final = Outcome(Verdict.STORED)
_DUPLICATE: Final = Outcome(Verdict.DUPLICATE)


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
        except Raced:
            continue
    raise StoreUnavailable("the index is changed by others at the same UIDs")


class Scope(StrEnum):
    """Which objects are looked for."""

    SHOWN = "shown"
    """What is neither rejected nor a rejection note: for everybody who looks or fetches."""
    VOUCHED = "vouched"
    """These and the notes: what storage commitment vouches for."""
    KEPT = "kept"
    """All that is here: for those who look after rejections."""


_WITHIN: Final[Mapping[Scope, ColumnElement[bool]]] = {
    Scope.SHOWN: tables.SHOWN[Level.IMAGE],
    Scope.VOUCHED: tables.instances.c.hidden.in_([rejection_rules.SHOWN, rejection_rules.NOTE]),
    Scope.KEPT: true(),
}


def locate(
    session: Session, keys: Mapping[str, str], scope: Scope = Scope.SHOWN
) -> list[StoredInstance]:
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
    if any(matching.WILD.search(value) for value in given.values()):
        raise Malformed("a retrieval takes no wild cards")
    found = [matching.condition(row, value, Level.IMAGE) for row, value in given.items() if value]
    conditions = [one.clause for one in found if one and one.reach is Reach.INDEX]
    if not conditions or len(conditions) < len(found):
        raise Malformed("a retrieval names a Patient ID or UIDs")
    series, studies = tables.series, tables.studies
    statement = (
        select(*LOCATED)
        .select_from(tables.instances)
        .join(series, series.c.id == tables.instances.c.series_ref)
        .join(studies, studies.c.id == series.c.study_ref)
        .outerjoin(compressions, compressions.c.instance_ref == tables.instances.c.id)
        .where(*conditions, _WITHIN[scope])
        .order_by(
            studies.c.id,
            tables.SERIES_NUMBER,
            series.c.id,
            tables.INSTANCE_NUMBER,
            tables.instances.c.id,
        )
    )
    return [*map(stored_of, session.execute(statement).mappings())]


def stored_of(row: Mapping[Any, Any]) -> StoredInstance:
    """Return the instance of a row that has the columns of `LOCATED`."""
    return StoredInstance(**{name: row[name] for name in _NAMES})


def _check(one: ReceivedInstance) -> None:
    for keyword in REQUIRED:
        if not is_uid(one.attributes.get(keyword, "")):
            raise Malformed(f"{keyword} is not a UID")


def _lock(session: Session, received: Sequence[ReceivedInstance]) -> None:
    """Take the studies and patients of the batch, always in the same order."""
    studies = {locks.study(uid) for one in received for uid in studies_of(one)}
    identifiers = {patients.identifier(one.attributes) for one in received}
    people = {locks.patient(text, issuer) for text, issuer in identifiers if text}
    locks.take(session, studies | people)


def studies_of(one: ReceivedInstance) -> set[str]:
    """Return the study of an instance, and those of which it rejects something."""
    named = one.note.named if one.note else ()
    return {one.attributes["StudyInstanceUID"], *(each.study_instance_uid for each in named)}


class _Batch:
    """One attempt: what is held of the batch's UIDs, and what is added to it."""

    def __init__(self, session: Session, received: Sequence[ReceivedInstance]) -> None:
        self._session = session
        self._received = received
        self._incidents: list[Incident] = []
        self._added: list[Placed] = []
        self._again: list[str] = []
        """Held instances that came again though their time was over."""
        self._judged: dict[tuple[str | None, ...], bool] = {}
        self._held = holdings.read(session, received)

    def record(self) -> list[Outcome]:
        outcomes = [self._place(one) for one in self._received]
        if self._added:
            writing.write(self._session, self._added)
            incidents.note(self._session, self._incidents)
            rejections.apply(self._session, [one.received for one in self._added])
        if self._again:
            rejections.came_again(self._session, self._again)
        return outcomes

    # A verdict for each

    def _place(self, one: ReceivedInstance) -> Outcome:
        uid = one.attributes["SOPInstanceUID"]
        if known := self._held.instances.get(uid):
            outcome = _compare(known, one)
            if outcome is _DUPLICATE and known.hidden == Title.EXPIRED:
                self._again.append(uid)
            return outcome
        study_uid = one.attributes["StudyInstanceUID"]
        series_uid = one.attributes["SeriesInstanceUID"]
        study, series = self._held.studies.get(study_uid), self._held.series.get(series_uid)
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

    def _add_study(self, one: ReceivedInstance) -> Study:
        values = rows.values(Level.STUDY, one.attributes)
        study = Study(self._patient_of(one), values, one.received_at)
        self._held.studies[one.attributes["StudyInstanceUID"]] = study
        return study

    def _patient_of(self, one: ReceivedInstance) -> Patient:
        """Return the patient of a new study; a new one rather than a doubtful one."""
        identifier = patients.identifier(one.attributes)
        values = rows.values(Level.PATIENT, one.attributes)
        candidates = self._held.people.setdefault(identifier, []) if identifier[0] else []
        chosen = patients.choose(candidates, values)
        if chosen is not None:
            patients.fill(chosen, one.attributes)
            return chosen
        if candidates:
            self._notice(Kind.PATIENT_CONFLICT, one, identifier[0])
        patient = Patient(values)
        candidates.append(patient)
        return patient

    def _belongs(self, study: Study, one: ReceivedInstance) -> bool:
        """Return whether the instance is of the study's patient; fill the patient's blanks."""
        attributes = one.attributes
        facts = (attributes["StudyInstanceUID"], *map(attributes.get, _PATIENT_KEYWORDS))
        if facts not in self._judged:
            self._judged[facts] = self._judge(study.patient, one)
        return self._judged[facts]

    def _judge(self, patient: Patient, one: ReceivedInstance) -> bool:
        identifier = patients.identifier(one.attributes)
        values = rows.values(Level.PATIENT, one.attributes)
        contradicts = patients.alike(patient, values) is Likeness.OTHER
        shown = patient.shown
        if shown and _same_identifier(shown.identifier, identifier) and not contradicts:
            return True
        if _same_identifier(patient.identifier, identifier):
            if contradicts:
                self._notice(Kind.PATIENT_CONFLICT, one, patient.patient_id)
            else:
                patients.fill(patient, one.attributes)
            return True
        if patient.patient_id and identifier[0]:
            same = patients.is_certainly(patient, values)
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

    def _add_series(self, one: ReceivedInstance, study: Study) -> Series:
        series = Series(study, rows.values(Level.SERIES, one.attributes), one.received_at)
        self._held.series[one.attributes["SeriesInstanceUID"]] = series
        return series

    def _add(self, one: ReceivedInstance, study: Study, series: Series) -> None:
        attributes = one.attributes
        hidden = self._hidden(one)
        if hidden == rejection_rules.SHOWN:
            self._count(one, study, series)
        self._added.append(Placed(one, series, hidden))
        self._held.instances[attributes["SOPInstanceUID"]] = Known(
            attributes["StudyInstanceUID"],
            attributes["SeriesInstanceUID"],
            one.transfer_syntax_uid,
            one.dataset_sha256,
            hidden,
        )

    def _hidden(self, one: ReceivedInstance) -> str:
        """Return why an instance is hidden from the beginning; its own batch may hide it yet."""
        title = self._held.rejected.get(one.attributes["SOPInstanceUID"])
        titles = [title] if title else []
        return rejection_rules.hidden_as(titles, is_note=one.note is not None)

    def _count(self, one: ReceivedInstance, study: Study, series: Series) -> None:
        """Count an instance that is shown, and let it fill the blanks of its study."""
        attributes = one.attributes
        if not series.values.get("number_of_instances") and not series.added:
            study.added_series += 1
        for row, level in ((study, Level.STUDY), (series, Level.SERIES)):
            found = rows.fills(level, row.values, attributes)
            row.values.update(found)
            row.filled.update(found)
            row.added += 1
        modalities = rows.members(rows.clean(attributes.get("Modality", "")))
        study.modalities.update(member[: rows.MAX_MEMBER] for member in modalities)
        study.sop_classes.add(attributes["SOPClassUID"])


def _compare(known: Known, one: ReceivedInstance) -> Outcome:
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
