"""Whom a report is about, and how many images were held of him.

The patient of an order is the one that the hospital knows; without an order it is the one of
the study. A study and an order of one report belong together when the patient has the number
that the study came with, or at least its name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, time
from typing import Final

from ris import orders, patients
from ris.model import Patient
from ris.reports.model import Flags, Subject, Version
from storage.archive import search
from storage.archive.model import Level, Match, Query
from storage.base import names
from storage.base.errors import Malformed
from storage.base.temporal import parse_da, parse_tm
from storage.db.engine import Session

DOCUMENTS: Final = frozenset({"SR", "DOC", "KO", "PR", "PLAN", "REG", "SEG"})
"""Modalities of series that hold no images: what is said of images, ours among them."""
MOST_SERIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the archive knows of the examination."""

    modality: str = ""
    """Of its images; '' none is held."""
    description: str = ""
    performed_at: datetime | None = None
    """Study Date and Time: what the device's clock said."""


_FIELDS: Final[Mapping[str, str]] = {
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
}


def of_study(session: Session, study_instance_uid: str) -> Subject | None:
    """Return the patient of a study; None when the study is not held."""
    query = Query(Level.STUDY, {"StudyInstanceUID": study_instance_uid})
    found = search.find(session, query, limit=1).matches
    return _subject(found[0]) if found else None


def study_of(session: Session, study_instance_uids: Sequence[str]) -> StudyFacts:
    """Return what is known of the first of these studies that is held."""
    for uid in study_instance_uids:
        found = search.find(session, Query(Level.STUDY, {"StudyInstanceUID": uid}), limit=1).matches
        if found:
            return _study(found[0])
    return StudyFacts()


def studies_of(
    session: Session, several: Iterable[tuple[str, ...]]
) -> Mapping[tuple[str, ...], StudyFacts]:
    """Return for each of several lists of studies what `study_of` does, in one query for all."""
    lists = {*several}
    uids = sorted({uid for uids in lists for uid in uids})
    query = Query(Level.STUDY, {"StudyInstanceUID": "\\".join(uids)})
    matches = search.find(session, query, limit=len(uids)).matches if uids else ()
    held = {str(one["StudyInstanceUID"]): one for one in matches}
    found = ((uids, next((held[uid] for uid in uids if uid in held), None)) for uids in lists)
    return {uids: _study(match) if match else StudyFacts() for uids, match in found}


def _study(match: Match) -> StudyFacts:
    modalities = match["ModalitiesInStudy"] or ()
    listed = [modalities] if isinstance(modalities, str) else [*modalities]
    images = [one for one in listed if one not in DOCUMENTS]
    return StudyFacts(
        modality=images[0] if images else "",
        description=str(match["StudyDescription"]),
        performed_at=_clinical_time(str(match["StudyDate"]), str(match["StudyTime"])),
    )


def _clinical_time(day: str, moment: str) -> datetime | None:
    try:
        parsed = parse_da(day)
        return datetime.combine(parsed, parse_tm(moment) or time.min) if parsed else None
    except Malformed:
        return None


def of_order(session: Session, order_id: int) -> tuple[Patient, Subject]:
    """Return the patient of an order, who stands for those merged into him.

    Raises
    ------
    NotFound
        There is no such order.
    """
    patient = patients.shown(session, orders.get(session, order_id).patient_id)
    number = patient.identifier
    born = patient.patient_birth_date
    return patient, Subject(
        patient_id=number.value,
        issuer_of_patient_id=number.issuer,
        patient_name=patient.patient_name,
        patient_birth_date=f"{born:%Y%m%d}" if born else patient.patient_birth_date_sent,
        patient_sex=patient.patient_sex,
    )


def present(
    session: Session, order_ids: Sequence[int], study_instance_uids: Sequence[str]
) -> Subject | None:
    """Return the patient as he is known now; None when nothing of him is held any more."""
    if order_ids:
        return of_order(session, order_ids[0])[1]
    found = (of_study(session, uid) for uid in study_instance_uids)
    return next((subject for subject in found if subject), None)


def belongs_to(subject: Subject, patient: Patient) -> bool:
    """Return whether a study of `subject` may be one of `patient`."""
    numbers = {one.value for one in patient.identifiers}
    named = subject.patient_name and patient.patient_name
    return subject.patient_id in numbers or bool(
        named and names.same_person_name(subject.patient_name, patient.patient_name)
    )


def images_of(session: Session, study_instance_uids: Sequence[str]) -> dict[str, int]:
    """Return how many images are held of each study."""
    return {uid: _images(session, uid) for uid in study_instance_uids}


def flags_of(version: Version, subject: Subject | None, images: Mapping[str, int]) -> Flags:
    """Return what has changed since `version` was signed."""
    added = sum(images.values()) - sum(version.images.values())
    if subject is None:
        return Flags(added)
    then, now = asdict(version.subject), asdict(subject)
    return Flags(added, tuple(name for name in then if then[name] != now[name]))


def _images(session: Session, study_instance_uid: str) -> int:
    query = Query(Level.SERIES, {"StudyInstanceUID": study_instance_uid})
    found = search.find(session, query, limit=MOST_SERIES).matches
    return sum(
        int(one["NumberOfSeriesRelatedInstances"] or 0)
        for one in found
        if one["Modality"] not in DOCUMENTS
    )


def _subject(match: Match) -> Subject:
    return Subject(**{name: str(match.get(keyword, "")) for name, keyword in _FIELDS.items()})
