"""What stations see, as JSON: times with the hospital's offset, names of fields in English."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final, TypeVar

import imagecodecs
from fastapi import Request
from fastapi.responses import Response
from pydantic import TypeAdapter

from ris.releases.model import Basis, State
from ris.reports.faults import VIETNAMESE
from ris.reports.issued import Issued
from ris.reports.model import Measurement, Practitioner, Subject
from ris.reports.states import NAMES
from ris.stations.feed import Item
from storage.base import names
from viewer_api import media

SMALL: Final = 1000
"""Bytes; what is shorter is not worth to be compressed."""
LEVEL: Final = 6
T = TypeVar("T")

LABELS: Final[Mapping[str, str]] = {
    "patient": "Người bệnh",
    "title": "Chỉ định",
    "performed_at": "Thời điểm chụp",
    "signed_at": "Thời điểm duyệt",
    "signed_by": "Người duyệt",
    "clinical_information": "Chẩn đoán lâm sàng",
    "technique": "Kỹ thuật",
    "comparison": "So sánh",
    "findings": "Mô tả",
    "conclusion": "Kết luận",
    "recommendation": "Đề nghị",
    "version": "Phiên bản",
    "status": "Trạng thái",
}


@dataclass(frozen=True, slots=True)
class PatientView:
    """The patient as the released version has him."""

    id: str
    name: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class PaperView:
    """The signed paper."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class BasisView:
    """Why the station may see it."""

    kind: str
    id: str
    ends_at: str | None


@dataclass(frozen=True, slots=True)
class ItemView:
    """One report as it is now. `state` says what to do with the copy: keep, suspend or delete."""

    id: str
    state: str
    version: int
    changed_at: str
    reason: str = ""
    status: str = ""
    status_name: str = ""
    patient: PatientView | None = None
    title: str = ""
    modality: str = ""
    performed_at: str | None = None
    signed_at: str | None = None
    signed_by: str = ""
    critical: str = ""
    basis: BasisView | None = None
    paper: PaperView | None = None
    key_images: int = 0
    kind: str = "report"


@dataclass(frozen=True, slots=True)
class ChangesView:
    """A page of the feed. `wipe`: every copy has to be deleted now."""

    items: Sequence[ItemView]
    next_cursor: str
    more: bool
    resync: bool
    wipe: bool
    keep_days: int
    """How long copies may be kept."""
    server_time: str


@dataclass(frozen=True, slots=True)
class PersonView:
    """Who read or signed."""

    name: str
    qualification: str
    licence_number: str


@dataclass(frozen=True, slots=True)
class AddendumView:
    """What was added to a signed text."""

    text: str
    author: str
    added_at: str


@dataclass(frozen=True, slots=True)
class ReportView:
    """One report with its text; no text while its approval is withdrawn."""

    id: str
    state: str
    version: int
    status: str
    status_name: str
    patient: PatientView
    title: str
    modality: str
    performed_at: str | None
    clinical_information: str
    technique: str
    comparison: str
    findings: str
    conclusion: str
    recommendation: str
    measurements: Sequence[Measurement]
    addenda: Sequence[AddendumView]
    reason: str
    signed_at: str
    signed_by: PersonView
    read_by: PersonView
    critical: str
    basis: BasisView
    paper: PaperView | None
    key_images: int
    digest: str
    """SHA-256 that chains the version to those before it."""
    labels: Mapping[str, str]
    server_time: str


def item(one: Item, zone: tzinfo, language: str) -> ItemView:
    """Return an item of the feed."""
    release, told = one.release, one.issued
    plain: dict[str, Any] = {
        "id": release.report_uid,
        "state": release.state,
        "version": release.version,
        "changed_at": shown(release.changed_at, zone),
        "reason": release.reason,
    }
    if told is None or release.state is State.DELETED:
        return ItemView(**plain)
    version = told.version
    return ItemView(
        **plain,
        status=version.status,
        status_name=NAMES[version.status].words.told(language),
        patient=_patient(version.subject),
        title=told.title,
        modality=told.study.modality,
        performed_at=_local(told.study.performed_at, zone),
        signed_at=shown(version.authored_at, zone),
        signed_by=version.author.name,
        critical=told.critical,
        basis=_basis(one.basis, zone),
        paper=_paper(told),
        key_images=told.key_images,
    )


def report(one: Item, told: Issued, zone: tzinfo, language: str, now: datetime) -> ReportView:
    """Return a report with its text."""
    version, usable = told.version, one.release.state is State.RELEASED
    content = version.content
    return ReportView(
        id=one.release.report_uid,
        state=one.release.state,
        version=version.version,
        status=version.status,
        status_name=NAMES[version.status].words.told(language),
        patient=_patient(version.subject),
        title=told.title,
        modality=told.study.modality,
        performed_at=_local(told.study.performed_at, zone),
        clinical_information=content.clinical_information if usable else "",
        technique=content.technique if usable else "",
        comparison=content.comparison if usable else "",
        findings=content.findings if usable else "",
        conclusion=content.impression if usable else "",
        recommendation=content.recommendation if usable else "",
        measurements=content.measurements if usable else (),
        addenda=[
            AddendumView(each.text, each.author, shown(each.added_at, zone))
            for each in content.addenda
            if usable
        ],
        reason=version.reason,
        signed_at=shown(version.authored_at, zone),
        signed_by=_person(version.author),
        read_by=_person(version.reader),
        critical=told.critical,
        basis=_basis(one.basis, zone),
        paper=_paper(told),
        key_images=told.key_images,
        digest=version.digest,
        labels=LABELS if language == VIETNAMESE else {},
        server_time=shown(now, zone),
    )


def shown(at: datetime, zone: tzinfo) -> str:
    """Return an instant with the hospital's offset."""
    return at.astimezone(zone).isoformat(timespec="seconds")


def patient_of(name: str, number: str, born: str, sex: str) -> PatientView:
    """Return a patient as he is known now."""
    return PatientView(number, names.in_reading_order(name), born, sex)


def answer(
    request: Request, adapter: TypeAdapter[T], content: T, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON, compressed for who takes that, and nothing for who has it already."""
    body = adapter.dump_json(content)
    given = {"Content-Type": media.JSON, "Vary": "Accept-Encoding", **(headers or {})}
    if len(body) > SMALL and media.takes_gzip(request.headers.get("accept-encoding", "")):
        body = bytes(imagecodecs.gzip_encode(body, LEVEL))
        given["Content-Encoding"] = "gzip"
    return Response(body, headers=given)


def entity_tag(*facts: object) -> str:
    """Return a strong ETag of what follows from `facts`."""
    text = "\n".join(map(str, facts))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def _patient(subject: Subject) -> PatientView:
    return patient_of(
        subject.patient_name, subject.patient_id, subject.patient_birth_date, subject.patient_sex
    )


def _person(person: Practitioner) -> PersonView:
    return PersonView(person.name, person.qualification, person.licence_number)


def _basis(basis: Basis, zone: tzinfo) -> BasisView:
    ends = shown(basis.ends_at, zone) if basis.ends_at else None
    return BasisView(basis.kind, basis.uid, ends)


def _paper(told: Issued) -> PaperView | None:
    return PaperView(told.paper_sha256, told.paper_size) if told.paper_sha256 else None


def _local(at: datetime | None, zone: tzinfo) -> str | None:
    return at.replace(tzinfo=zone).isoformat(timespec="seconds") if at else None
