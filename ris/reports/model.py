"""What a report is: plain frozen data, as it leaves this package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ris.reports.states import Action, Situation, Status
from ris.requests import Code


@dataclass(frozen=True, slots=True)
class Practitioner:
    """A person who works on reports."""

    code: str
    """Ours, or the hospital's for its staff; goes out as XCN.1."""
    name: str
    qualification: str = ""
    """As it stands before the name: ``BS.CKII``."""
    licence_number: str = ""
    """Of the practice licence (CCHN)."""
    may_approve: bool = False


NOBODY: Final = Practitioner("", "")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number that the reader has measured."""

    name: str
    value: str
    """A decimal number as it was written."""
    unit: str = ""
    """In UCUM: ``mm``, ``cm2``, ``[hnsf'U]``."""
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Addendum:
    """Text that was added to a signed report; what stood there stays true."""

    text: str
    author: str
    added_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    r"""The text of a report, plain and NFC; a line break is ``\n``."""

    clinical_information: str = ""
    """Chẩn đoán lâm sàng: why the examination was asked for."""
    technique: str = ""
    """Kỹ thuật."""
    comparison: str = ""
    """Which earlier examination it was compared with."""
    findings: str = ""
    """Mô tả."""
    impression: str = ""
    """Kết luận."""
    recommendation: str = ""
    """Đề nghị."""
    measurements: tuple[Measurement, ...] = ()
    diagnoses: tuple[Code, ...] = ()
    """The impression in codes, most often of ICD-10."""
    addenda: tuple[Addendum, ...] = ()
    """Oldest first; only an addendum adds one."""


SECTIONS: Final = (
    "clinical_information",
    "technique",
    "comparison",
    "findings",
    "impression",
    "recommendation",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """The patient as a signed version has it."""

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    """In VR PN."""
    patient_birth_date: str = ""
    """``YYYYMMDD``, or what is known of it."""
    patient_sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One immutable step in the life of a report."""

    revision: int
    """Counts every step from 1."""
    version: int
    """Counts what others were told of, from 1; 0: this step was not issued."""
    status: Status
    action: Action
    content: Content
    author: Practitioner
    """Who did it."""
    reader: Practitioner
    """Who wrote the text as it is."""
    authored_at: datetime
    reason: str
    supersedes: int | None
    """The issued version that this one takes the place of."""
    subject: Subject
    images: Mapping[str, int]
    """Study Instance UID → how many images were held then."""
    verify_code: str
    """Leads from paper to the verify page; '' of a step that was not signed."""
    digest: str
    """SHA-256 over this version and the digest of the one before it, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Who works on a report, until when."""

    code: str
    name: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Flags:
    """What a reader of a signed report has to be warned of."""

    images_added: int = 0
    """Images that came after the signature; negative when some are gone."""
    demographics_changed: tuple[str, ...] = ()
    """Names of the fields of `Subject` that are others now."""
    order_missing: bool = False
    """It is for no order: no placer and no health station is told of it until it gets one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report with the newest of its versions."""

    uid: str
    status: Status
    revision: int
    version: int
    """Of the newest issued version; 0: none yet."""
    study_instance_uids: tuple[str, ...]
    order_ids: tuple[int, ...]
    accession_numbers: tuple[str, ...]
    language: str
    second_reading: bool
    """Two persons have to read it."""
    retraction_asked_by: str
    lock: Lock | None
    created_at: datetime
    changed_at: datetime
    source: str = ""
    """The system of another maker that writes it; '' it is written here."""
    latest: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a new report is about."""

    study_instance_uids: tuple[str, ...] = ()
    """Empty: those of the orders."""
    order_ids: tuple[int, ...] | None = None
    """None: those of the studies that have no report."""
    language: str = "vi"
    second_reading: bool = False
    content: Content = field(default_factory=Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One action on a report."""

    action: Action
    revision: int
    """The one that the person has seen; another one in between is a conflict."""
    content: Content | None = None
    """None: the text stays."""
    addendum: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SecondReading:
    """What a second reader thought of a text."""

    revision: int
    reader: Practitioner
    agreement: str
    comment: str
    read_at: datetime


def situation_of(report: Report, second_readers: frozenset[str]) -> Situation:
    """Return what decides which actions are allowed."""
    lock = report.lock
    return Situation(
        status=report.status,
        reader=report.latest.reader.code,
        locked_by=lock.code if lock else "",
        locked_name=lock.name if lock else "",
        locked_until=lock.until if lock else None,
        retraction_asked_by=report.retraction_asked_by,
        second_reading=report.second_reading,
        second_readers=second_readers,
    )


Json = dict[str, Any]
