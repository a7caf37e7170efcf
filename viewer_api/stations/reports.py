"""Reports that were released to a station: text, paper, key images, receipts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pacs import reporting
from pacs.render.options import Options, Viewport
from pacs.series_metadata import Entry as ImageEntry
from ris import deliveries
from ris.releases import receipts, releasing
from ris.releases.model import ReceiptKind, State
from ris.releases.receipts import NewReceipt
from ris.reports import documents, key_images, queries
from ris.reports.documents import Document
from ris.reports.issued import Issued
from ris.reports.key_images import KeyImage
from ris.stations import faults, feed, limits
from ris.stations.faults import Awaited, Invalid, Missing, Refused, Stale, fault
from ris.stations.feed import Item
from storage.archive import instances
from storage.audit.model import Kind
from storage.base.clock import utc_now
from storage.base.errors import NotSupported
from storage.db.engine import Session
from viewer_api.dicomweb import contents, representations
from viewer_api.problems import language_of
from viewer_api.stations import views
from viewer_api.stations.views import ReportView
from viewer_api.stations.visits import Doing, Here, Visit

router = APIRouter(prefix="/stations/v1/reports", tags=["health stations"])

WIDTH: Final = 768
QUALITY: Final = 75
_EARLIEST: Final = 2000
_LATEST: Final = 9000
"""Years; a clock that is wrong by more than that says nothing."""
PDF: Final = "application/pdf"
JPEG: Final = "image/jpeg"
_VIEW: Final = TypeAdapter(ReportView)
_RECEIPTS: Final = {
    ReceiptKind.PRINTED: Kind.PRINT,
    ReceiptKind.READ: Kind.VIEW,
}

ReportId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
VersionWanted = Annotated[int | None, Query(ge=1, le=2**63 - 1)]
Language = Annotated[str, Query(max_length=10)]


@dataclass(frozen=True, slots=True)
class KeyImageView:
    """A picture that the reader has chosen for who has sent the patient."""

    id: int
    label: str
    w: int
    h: int
    bytes: int
    """Of the picture as it comes when no size is asked for."""


_IMAGES: Final = TypeAdapter(list[KeyImageView])


class ReceiptRequest(BaseModel):
    """What became of a version. `happened_at` is when it did, by a clock that was put right."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Annotated[int, Field(ge=1, le=2**63 - 1)]
    kind: ReceiptKind
    happened_at: datetime | None = None
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    """Of the paper as it arrived."""
    person: Annotated[str, Field(max_length=200)] = ""
    """Who did it, where the device sent it later without him."""


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """A receipt as it was kept."""

    report: str
    version: int
    kind: str
    happened_at: str
    received_at: str


_RECEIPT: Final = TypeAdapter(ReceiptView)


@router.get("/{report_id}", response_model=ReportView)
def get_report(
    request: Request,
    visit: Here,
    report_id: ReportId,
    version: VersionWanted = None,
    lang: Language = "",
) -> Response:
    """Return a report with its text. 409 with `current` when `version` was replaced."""
    with visit.doing(Kind.VIEW, report_uid=report_id) as doing:
        one, told = _own(doing, visit, report_id, version)
        zone, language = visit.parts.settings.zone, lang or language_of(request)
        etag = views.entity_tag(report_id, told.version.digest, told.paper_sha256, one, language)
        if unchanged := contents.not_modified(request, etag):
            doing.tell(details={"unchanged": True})
            return unchanged
        shown = views.report(one, told, zone, language, utc_now())
        return views.answer(
            request, _VIEW, shown, {"ETag": etag, "Cache-Control": "private, no-cache"}
        )


@router.get("/{report_id}/pdf")
def get_paper(
    request: Request, visit: Here, report_id: ReportId, version: VersionWanted = None
) -> Response:
    """Return the signed paper, or a part of it (Range); its SHA-256 is in a header.

    503 with Retry-After while the signature is awaited, 409 when `version` was replaced.
    """
    with visit.doing(Kind.DOWNLOAD, report_uid=report_id, details={"what": "paper"}) as doing:
        one, told = _own(doing, visit, report_id, version)
        _require_usable(visit, doing, one)
        document = documents.find(doing.session, report_id, told.version.revision)
        if document is None:
            raise Awaited(fault("paper_awaited"))
        etag = f'"{document.sha256}"'
        if unchanged := contents.not_modified(request, etag):
            doing.tell(details={"what": "paper", "unchanged": True})
            return unchanged
        part = contents.wanted_range(request, etag, document.size)
        if part is not None and not part:
            return contents.not_satisfiable(document.size)
        wanted = part or range(document.size)
        doing.tell(size=len(wanted))
        limits.load(doing.session, visit.station_id, visit.parts.settings.zone, len(wanted))
    content = reporting.signed_paper(visit.parts.store, document)
    headers = _headers(document, f"{report_id[:12]}-v{told.version.version}.pdf")
    if part is not None:
        headers = {**contents.partial(part, document.size, headers)}
    body = content[wanted.start : wanted.stop]
    return Response(body, 206 if part else 200, headers, PDF)


@router.get("/{report_id}/key-images", response_model=list[KeyImageView])
def list_key_images(request: Request, visit: Here, report_id: ReportId) -> Response:
    """List the pictures that the reader has chosen for who has sent the patient."""
    with visit.doing(Kind.LIST, report_uid=report_id, details={"what": "key images"}) as doing:
        chosen = _chosen(visit, doing, report_id)
    found = []
    for number, (image, entry) in enumerate(chosen, 1):
        try:
            picture = _picture(visit, image, entry, WIDTH)
        except Missing:
            continue  # one that cannot be drawn keeps no other away
        found.append(KeyImageView(number, image.label, *_size(picture), len(picture)))
    return views.answer(request, _IMAGES, found)


@router.get("/{report_id}/key-images/{number}")
def get_key_image(
    request: Request,
    visit: Here,
    report_id: ReportId,
    number: Annotated[int, Path(ge=1, le=1000)],
    w: Annotated[int, Query(ge=64, le=2048)] = WIDTH,
) -> Response:
    """Return one of them as JPEG, at most `w` pixels wide and high. Not for diagnosis."""
    with visit.doing(Kind.DOWNLOAD, report_uid=report_id, details={"what": "picture"}) as doing:
        chosen = _chosen(visit, doing, report_id)
        if number > len(chosen):
            raise Missing(fault("no_image"))
        image, entry = chosen[number - 1]
        etag = views.entity_tag(report_id, image, w)
        if unchanged := contents.not_modified(request, etag):
            return unchanged
    picture = _picture(visit, image, entry, w)
    with visit.reading() as session:
        limits.load(session, visit.station_id, visit.parts.settings.zone, len(picture))
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": "inline",
        "X-Intended-Use": "not for diagnosis",
    }
    return Response(picture, headers=headers, media_type=JPEG)


@router.post("/{report_id}/receipt", status_code=201, response_model=ReceiptView)
def take_receipt(
    request: Request,
    visit: Here,
    report_id: ReportId,
    body: ReceiptRequest,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """Take what became of a version: delivered, read, printed, handed over, deleted.

    Also of a version that was replaced since, and of a report that was taken back: it was the
    station's own then. Sent again with the same Idempotency-Key it is the same receipt.
    """
    kind = _RECEIPTS.get(body.kind, Kind.RECEIPT)
    facts = {"report_uid": report_id, "report_version": body.version}
    with visit.doing(kind, **facts, details={"receipt": str(body.kind)}) as doing:
        release = releasing.to_station(doing.session, visit.station_id, report_id)
        if release is None:
            raise faults.no_report()
        doing.tell(patient_id=release.patient_id)
        _check_receipt(doing.session, report_id, release.version, body)
        person = visit.visitor.person
        kept = receipts.note(
            doing.session,
            NewReceipt(
                station_id=visit.station_id,
                report_uid=report_id,
                version=body.version,
                kind=body.kind,
                key=idempotency_key,
                happened_at=body.happened_at,
                actor=visit.visitor.actor,
                actor_name=person.full_name if person else body.person,
                device=visit.visitor.device,
                sha256=body.sha256,
            ),
        )
        deliveries.of_receipt(doing.session, kept, visit.visitor.station.code)
    zone = visit.parts.settings.zone
    shown = ReceiptView(
        report_id,
        kept.version,
        kept.kind,
        views.shown(kept.happened_at, zone),
        views.shown(kept.received_at, zone),
    )
    answer = views.answer(request, _RECEIPT, shown)
    answer.status_code = 201
    return answer


def _own(doing: Doing, visit: Visit, report_id: str, version: int | None) -> tuple[Item, Issued]:
    """Return a report that was released to the station and still is.

    Raises
    ------
    Missing
        It was not, or there is none.
    Stale
        Another version is the current one.
    """
    found = releasing.readable(doing.session, visit.station_id, report_id)
    if found is None:
        raise faults.no_report()
    release, basis = found
    doing.tell(
        report_version=release.version,
        basis=basis.kind,
        evidence=basis.uid,
        patient_id=release.patient_id,
    )
    [one] = feed.items(doing.session, [release])
    if one.issued is None:
        raise faults.no_report()
    if version is not None and version != release.version:
        if version > release.version:
            raise Missing(fault("no_version", "/version", asked=version))
        raise Stale(version, release.version)
    return one, one.issued


def _require_usable(visit: Visit, doing: Doing, one: Item) -> None:
    if one.release.state is not State.RELEASED:
        raise Refused(fault("suspended"))
    limits.require_room(doing.session, visit.station_id, visit.parts.settings.zone)


def _headers(document: Document, name: str) -> dict[str, str]:
    return {
        "ETag": f'"{document.sha256}"',
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "X-Content-SHA256": document.sha256,
        "Content-Disposition": f'inline; filename="{name}"',
    }


def _chosen(visit: Visit, doing: Doing, report_id: str) -> list[tuple[KeyImage, ImageEntry]]:
    """Return the reader's choice, or what Key Object Selections say (PS3.16 CID 7010, 113002)."""
    one, told = _own(doing, visit, report_id, None)
    _require_usable(visit, doing, one)
    session = doing.session
    chosen = [one for one in key_images.of_report(session, report_id) if one.for_provider]
    if not chosen:
        received = reporting.selected(visit.parts.store, session, told.report)
        chosen = [one for one in received if one.for_provider][: key_images.MOST]
    found = []
    for image in chosen:
        uids = image.study_instance_uid, image.sop_instance_uid
        keys = dict(zip(("StudyInstanceUID", "SOPInstanceUID"), uids, strict=True))
        held = instances.locate(session, keys)
        if held:
            found.append((image, ImageEntry(held[0], checksum=b"")))
    return found


def _picture(visit: Visit, image: KeyImage, entry: ImageEntry, side: int) -> bytes:
    asked = Options(viewport=Viewport(side, side), quality=QUALITY)
    try:
        with contents.content_of(entry.stored):
            return representations.make(visit.parts, entry, (image.frame,), asked, JPEG)
    except NotSupported as error:
        raise Missing(fault("no_image")) from error


def _size(jpeg: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG file (ITU-T T.81 B.2.2)."""
    at = 2
    while at + 9 <= len(jpeg):
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # noqa: PLR2004
            return int.from_bytes(jpeg[at + 7 : at + 9]), int.from_bytes(jpeg[at + 5 : at + 7])
        at += 2 + length
    return 0, 0


def _check_receipt(session: Session, report_id: str, current: int, body: ReceiptRequest) -> None:
    at = body.happened_at
    if at is not None and (at.tzinfo is None or not _EARLIEST <= at.year < _LATEST):
        raise Invalid(fault("bad_time", "/happened_at"))
    if body.version > current:
        raise Missing(fault("no_version", "/version", asked=body.version))
    if not body.sha256:
        return
    issued = queries.versions(session, report_id, issued=True)
    revision = next((one.revision for one in issued if one.version == body.version), 0)
    document = documents.find(session, report_id, revision)
    if document is None or document.sha256 != body.sha256:
        raise Invalid(fault("wrong_hash", "/sha256"))
