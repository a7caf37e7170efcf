"""A report as DICOM objects of its study: Encapsulated PDF, Basic Text SR, Key Object Selection.

PS3.3 A.45.1, A.35.1 and A.35.4; PS3.16 TID 2000, 1204, 1001, 2001 and 2010. Patient and study
are as the archive has them, so that the objects belong to the study whatever was corrected
since. The same report makes the same bytes: UIDs are made of its names, times are its own.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final
from uuid import UUID

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

from pacs import contexts, part10
from pacs.part10 import Provenance
from pacs.rejecting import KEY_OBJECT_SELECTION
from storage.archive.model import Match, StoredInstance
from storage.archive.rejection_rules import SCHEME, Title
from storage.base.clock import utc_now
from storage.spool import Spool, SpoolRecord

ENCAPSULATED_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
BASIC_TEXT_SR: Final = "1.2.840.10008.5.1.4.1.1.88.11"
DOCUMENT_CLASSES: Final = frozenset({ENCAPSULATED_PDF, BASIC_TEXT_SR, KEY_OBJECT_SELECTION})
DOCUMENTS: Final[Mapping[str, str]] = {"pdf": ENCAPSULATED_PDF, "sr": BASIC_TEXT_SR}
"""The documents that every signed version has."""
UTF8: Final = "ISO_IR 192"
MANUFACTURER: Final = "Lienthong"
MOST_EVIDENCE: Final = 2000
"""Instances that one object names."""

Coded = tuple[str, str, str]
"""Code value, scheme, meaning."""

RADIOLOGY_REPORT: Final = ("11528-7", "LN", "Radiology Report")
LANGUAGE: Final = ("121049", "DCM", "Language of Content Item and Descendants")
OBSERVER_TYPE: Final = ("121005", "DCM", "Observer Type")
PERSON: Final = ("121006", "DCM", "Person")
OBSERVER_NAME: Final = ("121008", "DCM", "Person Observer Name")
FOR_PROVIDER: Final = ("113002", "DCM", "For Referring Provider")
OF_INTEREST: Final = ("113000", "DCM", "Of Interest")
REJECTED: Final = (str(Title.SAFETY), SCHEME, Title.SAFETY.meaning)
REJECTION_SERIES: Final = 9900
"""Number of the series of rejection notes."""
DESCRIPTION: Final = ("113012", "DCM", "Key Object Description")
LANGUAGES: Final[Mapping[str, Coded]] = {
    "vi": ("vi", "RFC5646", "Vietnamese"),
    "en": ("en", "RFC5646", "English"),
}
# section of ours → heading (CID 7001) and element (CID 7002)
SECTIONS: Final[Mapping[str, tuple[Coded, Coded]]] = {
    "clinical_information": (("121060", "DCM", "History"), ("121060", "DCM", "History")),
    "technique": (
        ("121064", "DCM", "Current Procedure Descriptions"),
        ("121065", "DCM", "Procedure Description"),
    ),
    "comparison": (
        ("121068", "DCM", "Previous Findings"),
        ("121069", "DCM", "Previous Finding"),
    ),
    "findings": (("121070", "DCM", "Findings"), ("121071", "DCM", "Finding")),
    "impression": (("121072", "DCM", "Impressions"), ("121073", "DCM", "Impression")),
    "recommendation": (
        ("121074", "DCM", "Recommendations"),
        ("121075", "DCM", "Recommendation"),
    ),
    "addendum": (("55107-7", "LN", "Addendum Document"), ("121077", "DCM", "Conclusion")),
}
_STUDY: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
)
# PS3.3: type 2 of the modules, present even when empty
_EMPTY_TOO: Final = frozenset(_STUDY) - {"IssuerOfPatientID", "StudyDescription"}


@dataclass(frozen=True, slots=True)
class Request:
    """One order that the report answers (PS3.3 C.17.2, Referenced Request Sequence)."""

    study_instance_uid: str
    accession_number: str
    placer_order_number: str
    filler_order_number: str
    requested_procedure_id: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the objects say of a version of a report."""

    report_uid: str
    version: int
    study: Match
    """The study by DICOM keyword."""
    title: str
    language: str
    author: str
    organization: str
    at: datetime
    """When the version was made: local time of the hospital."""
    completion_flag: str
    verification_flag: str
    preliminary_flag: str
    sections: Sequence[tuple[str, str]]
    """Name of a section, its text."""
    requests: Sequence[Request] = ()
    evidence: Sequence[StoredInstance] = ()
    """The images that it is about."""
    superseded: int = 0
    """The version whose document this one takes the place of; 0: none."""


def uid_of(*names: object) -> str:
    """Return a UID (PS3.5 B.2) that is always the same for the same names."""
    digest = bytearray(hashlib.sha256("\n".join(map(str, names)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # version 8 of RFC 9562: made by our own rule
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{UUID(bytes=bytes(digest)).int}"


def instance_uid(kind: str, report_uid: str, version: int) -> str:
    """Return the SOP Instance UID of a document of a version; `kind`: ``pdf``, ``sr``, ``ko``."""
    return uid_of("instance", kind, report_uid, version)


def encapsulated_pdf(facts: Facts, pdf: bytes) -> Dataset:
    """Return the paper as an object (PS3.3 A.45.1)."""
    dataset = _document(facts, ENCAPSULATED_PDF, "pdf", "DOC")
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.DocumentTitle = facts.title
    dataset.ConceptNameCodeSequence = Items([_code(RADIOLOGY_REPORT)])
    dataset.VerificationFlag = facts.verification_flag
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return dataset


def basic_text_sr(facts: Facts) -> Dataset:
    """Return the text as an object (PS3.3 A.35.1, PS3.16 TID 2000)."""
    dataset = _document(facts, BASIC_TEXT_SR, "sr", "SR")
    dataset.ReferencedPerformedProcedureStepSequence = Items([])
    dataset.CompletionFlag = facts.completion_flag
    dataset.VerificationFlag = facts.verification_flag
    dataset.PreliminaryFlag = facts.preliminary_flag
    if facts.verification_flag == "VERIFIED":
        dataset.VerifyingObserverSequence = Items([_verifier(facts)])
    if facts.superseded:
        dataset.PredecessorDocumentsSequence = Items([_predecessor(facts)])
    if facts.requests:
        dataset.ReferencedRequestSequence = Items([_request(one) for one in facts.requests])
    dataset.PerformedProcedureCodeSequence = Items([])
    if facts.evidence:
        evidence = _evidence(facts.evidence[:MOST_EVIDENCE])
        dataset.CurrentRequestedProcedureEvidenceSequence = Items(evidence)
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = Items([_code(RADIOLOGY_REPORT)])
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentTemplateSequence = Items([_template("2000")])
    dataset.ContentSequence = Items(
        [
            _item("HAS CONCEPT MOD", "CODE", LANGUAGE, coded=LANGUAGES[facts.language]),
            _item("HAS OBS CONTEXT", "CODE", OBSERVER_TYPE, coded=PERSON),
            _item("HAS OBS CONTEXT", "PNAME", OBSERVER_NAME, text=facts.author),
            *(_section(name, text) for name, text in facts.sections if text),
        ]
    )
    return dataset


def key_objects(
    facts: Facts, title: Coded, chosen: Sequence[tuple[StoredInstance, int]], description: str
) -> Dataset:
    """Return a Key Object Selection (PS3.3 A.35.4, PS3.16 TID 2010).

    Parameters
    ----------
    chosen
        Instances, and the frame of each, counted from 1; 0: the whole of it.
    """
    name = f"ko {title[0]} " + " ".join(
        f"{instance.sop_instance_uid}/{frame}" for instance, frame in chosen
    )
    dataset = _document(facts, KEY_OBJECT_SELECTION, name, "KO")
    if facts.requests:
        dataset.ReferencedRequestSequence = Items([_request(one) for one in facts.requests])
    _select(dataset, title, chosen, description)
    return dataset


def rejection_note(
    study: Match,
    title: Title,
    rejected: Sequence[StoredInstance],
    *,
    author: str,
    reason: str,
    at: datetime,
) -> Dataset:
    """Return a Key Object Selection that rejects objects of a study (IHE RAD TF-2 4.66).

    Each has a UID and a series of its own: who rejects twice means it twice.

    Parameters
    ----------
    study
        By DICOM keyword, as the archive shows it.
    at
        Local time of the hospital.
    """
    dataset = _of_study(study, KEY_OBJECT_SELECTION, "KO", at)
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.SeriesNumber = REJECTION_SERIES
    dataset.SeriesDescription = title.meaning
    observer = (
        _item("HAS OBS CONTEXT", "CODE", OBSERVER_TYPE, coded=PERSON),
        _item("HAS OBS CONTEXT", "PNAME", OBSERVER_NAME, text=author),
    )
    coded = (str(title), SCHEME, title.meaning)
    _select(dataset, coded, [(one, 0) for one in rejected], reason, observer)
    return dataset


def _select(
    dataset: Dataset,
    title: Coded,
    chosen: Sequence[tuple[StoredInstance, int]],
    description: str,
    context: Sequence[Dataset] = (),
) -> None:
    """Make a dataset select these objects (PS3.16 TID 2010)."""
    dataset.ReferencedPerformedProcedureStepSequence = Items([])
    evidence = _evidence([instance for instance, _ in chosen])
    dataset.CurrentRequestedProcedureEvidenceSequence = Items(evidence)
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = Items([_code(title)])
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentTemplateSequence = Items([_template("2010")])
    content = [_item("CONTAINS", "TEXT", DESCRIPTION, text=description)] if description else []
    dataset.ContentSequence = Items([*context, *content, *(_chosen(*one) for one in chosen)])


def put(spool: Spool, dataset: Dataset, ae_title: str) -> SpoolRecord:
    """Let an object that was made here go the way of every received one.

    Raises
    ------
    StoreUnavailable
        The spool is full or broken.
    """
    uids = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    provenance = Provenance(utc_now(), "import", ae_title)
    head = part10.head(*uids, contexts.EXPLICIT_VR_LITTLE_ENDIAN, provenance)
    with spool.incoming(head) as incoming:
        incoming.write(encode(dataset))
    return incoming.record


def encode(dataset: Dataset) -> bytes:
    """Return the bytes of a dataset in Explicit VR Little Endian, without a head."""
    output = BytesIO()
    stream = DicomIO(output)
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, dataset)
    return output.getvalue()


def _document(facts: Facts, sop_class_uid: str, kind: str, modality: str) -> Dataset:
    dataset = _of_study(facts.study, sop_class_uid, modality, facts.at)
    dataset.SOPInstanceUID = instance_uid(kind, facts.report_uid, facts.version)
    dataset.SeriesInstanceUID = uid_of("series", kind, facts.report_uid, facts.version)
    dataset.SeriesNumber = 9000 + facts.version
    dataset.SeriesDescription = f"{RADIOLOGY_REPORT[2]} {facts.version}"
    return dataset


def _of_study(study: Match, sop_class_uid: str, modality: str, at: datetime) -> Dataset:
    """Return a dataset with patient and study as the archive has them."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = UTF8
    for keyword in _STUDY:
        value = study.get(keyword, "")
        if value or keyword in _EMPTY_TOO:
            setattr(dataset, keyword, value)
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = modality
    dataset.Manufacturer = MANUFACTURER
    dataset.InstanceNumber = 1
    dataset.ContentDate = f"{at:%Y%m%d}"
    dataset.ContentTime = f"{at:%H%M%S}"
    return dataset


def _verifier(facts: Facts) -> Dataset:
    item = Dataset()
    item.VerifyingObserverName = facts.author
    item.VerifyingObserverIdentificationCodeSequence = Items([])
    item.VerifyingOrganization = facts.organization or MANUFACTURER
    item.VerificationDateTime = f"{facts.at:%Y%m%d%H%M%S}"
    return item


def _predecessor(facts: Facts) -> Dataset:
    before = document(facts, "sr", facts.superseded)
    return _named(before.study_instance_uid, [before])


def document(facts: Facts, kind: str, version: int) -> StoredInstance:
    """Return the names of a document of a version in the study; it may be yet to come."""
    return StoredInstance(
        str(facts.study["StudyInstanceUID"]),
        uid_of("series", kind, facts.report_uid, version),
        instance_uid(kind, facts.report_uid, version),
        DOCUMENTS[kind],
        *("", 0, "", 0, 0, ""),
    )


def _request(request: Request) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = request.study_instance_uid
    item.ReferencedStudySequence = Items([])
    item.AccessionNumber = request.accession_number
    item.PlacerOrderNumberImagingServiceRequest = request.placer_order_number
    item.FillerOrderNumberImagingServiceRequest = request.filler_order_number
    item.RequestedProcedureID = request.requested_procedure_id
    item.RequestedProcedureDescription = request.description[:64]
    item.RequestedProcedureCodeSequence = Items([])
    return item


def _evidence(instances: Sequence[StoredInstance]) -> list[Dataset]:
    by_study: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        by_study.setdefault(instance.study_instance_uid, []).append(instance)
    return [_named(study, instances) for study, instances in by_study.items()]


def _named(study_instance_uid: str, instances: Sequence[StoredInstance]) -> Dataset:
    """Return the item that names instances of a study by series (PS3.3 C.17.2.1)."""
    by_series: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        by_series.setdefault(instance.series_instance_uid, []).append(instance)
    item = Dataset()
    item.StudyInstanceUID = study_instance_uid
    item.ReferencedSeriesSequence = Items(
        [_named_series(uid, some) for uid, some in by_series.items()]
    )
    return item


def _named_series(series_instance_uid: str, instances: Sequence[StoredInstance]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    unique = {one.sop_instance_uid: one for one in instances}.values()
    item.ReferencedSOPSequence = Items([_reference(one) for one in unique])
    return item


def _reference(instance: StoredInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


def _section(name: str, text: str) -> Dataset:
    heading, element = SECTIONS[name]
    container = _item("CONTAINS", "CONTAINER", heading)
    container.ContinuityOfContent = "SEPARATE"
    container.ContentSequence = Items([_item("CONTAINS", "TEXT", element, text=text)])
    return container


def _chosen(instance: StoredInstance, frame: int) -> Dataset:
    value_type = "COMPOSITE" if instance.sop_class_uid in DOCUMENT_CLASSES else "IMAGE"
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = value_type
    reference = _reference(instance)
    if frame and instance.number_of_frames > 1:
        reference.ReferencedFrameNumber = frame
    item.ReferencedSOPSequence = Items([reference])
    return item


def _item(
    relationship: str,
    value_type: str,
    concept: Coded,
    *,
    text: str = "",
    coded: Coded | None = None,
) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = Items([_code(concept)])
    if value_type == "TEXT":
        item.TextValue = text.replace("\n", "\r\n")
    elif value_type == "PNAME":
        item.PersonName = text
    elif coded is not None:
        item.ConceptCodeSequence = Items([_code(coded)])
    return item


def _template(identifier: str) -> Dataset:
    item = Dataset()
    item.MappingResource = "DCMR"
    item.TemplateIdentifier = identifier
    return item


def _code(coded: Coded) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = coded
    return item


def decode(content: bytes, transfer_syntax_uid: str) -> Dataset:
    """Return the dataset of bytes without a head."""
    return dcmread(BytesIO(part10.head("", "", transfer_syntax_uid) + content), force=True)


def title_of(dataset: Dataset) -> str:
    """Return the code of the title of a Key Object Selection, '' when it has none."""
    titles = dataset.get("ConceptNameCodeSequence") or ()
    return str(titles[0].get("CodeValue", "")) if titles else ""


def chosen_in(dataset: Dataset) -> Iterator[tuple[str, str, int]]:
    """Yield the images that a Key Object Selection names: SOP class, instance, frame (or 0)."""
    for item in dataset.get("ContentSequence", ()):
        if item.get("ValueType") not in {"IMAGE", "COMPOSITE", "WAVEFORM"}:
            continue
        for reference in item.get("ReferencedSOPSequence", ()):
            frames = reference.get("ReferencedFrameNumber") or 0
            first = frames if isinstance(frames, int) else frames[0]
            yield reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID, int(first)
