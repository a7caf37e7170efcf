"""STOW-RS, the Store Transaction (PS3.18 10.5): DICOM objects in one multipart body.

    part ─ split head ─ scan header while it streams into the spool ─┬─ sound  → referenced
                                                                     └─ faulty → failed

Success promises what C-STORE promises: the object is durable in the spool. One that can be
read but is not sound is kept for the quarantine and reported as failed.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import header, part10
from pacs.elements import Scanner
from pacs.header import Header, HeaderReader
from pacs.part10 import Head, Provenance
from storage.access.tokens import Action
from storage.base import values
from storage.base.clock import utc_now
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotSupported,
    Unavailable,
)
from storage.spool import Spool
from viewer_api import deps, media, multipart, uploads
from viewer_api.dicomweb import receipts
from viewer_api.dicomweb.receipts import Failure, Receipt, Stored
from viewer_api.multipart import Part
from viewer_api.problems import UnsupportedMediaType

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.STORE))]
)

FIRST: Final = 64 << 10
"""Bytes in which a head is looked for first; one that is cut off gets `part10.MAX_META_BYTES`."""
TAKEN: Final = 'multipart/related; type="application/dicom"'


class OtherStudy(Conflict):
    """The object belongs to another study than the one that the path names."""


@router.post("/studies")
def store(request: Request) -> Response:
    """Store instances of any studies."""
    return _store(request, "")


@router.post("/studies/{study}")
def store_study(request: Request, study: str) -> Response:
    """Store instances of one study; those of another are refused."""
    return _store(request, values.uid(study))


def _store(request: Request, study: str) -> Response:
    chosen = media.choose(media.accepted(request), receipts.OFFERS)
    if chosen is None:
        raise NotSupported(
            f"the result of storing is served as {media.DICOM_JSON} or {media.DICOM_XML}"
        )
    boundary = _boundary(request)
    parts = deps.parts(request)
    source, address = deps.caller_of(request).label, deps.address_of(request)
    receiving = Receiving(parts.spool, study, source, address)
    with parts.uploads.place():
        body = uploads.chunks(request, parts.settings.max_object_bytes)
        receipt = receiving.take(multipart.Reader(body, boundary).parts())
    return receipts.answer(receipt, deps.dicomweb_url(request), chosen)


def _boundary(request: Request) -> str:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedMediaType("a body with a Content-Encoding; send it as it is")
    try:
        content_type = media.parse(request.headers.get("content-type", ""))
    except Malformed as error:
        raise UnsupportedMediaType(f"{error}; {TAKEN} is taken") from error
    part_type = content_type.parameters.get("type", media.DICOM).lower()
    if content_type.essence != media.MULTIPART_RELATED or part_type != media.DICOM:
        raise UnsupportedMediaType(f"{TAKEN} is taken")
    return multipart.boundary_of(content_type)


@dataclass(frozen=True, slots=True)
class Receiving:
    """Puts the parts of one request into the spool."""

    spool: Spool
    study: str
    """Study Instance UID of the path, '' when it names none."""
    source: str
    address: str

    def take(self, parts: Iterator[Part]) -> Receipt:
        """Store each part; what is complete is kept even if the body breaks off later.

        Raises
        ------
        Malformed
            The body breaks off or is no multipart body. The text says how much is stored.
        """
        receipt = Receipt()
        try:
            for part in parts:
                self._take(part, receipt)
        except Malformed as error:
            done = len(receipt.stored)
            kept = f"; the {done} objects before it are stored" if done else ""
            raise type(error)(f"{error}{kept}") from error
        if not receipt.stored and not receipt.failed:
            raise Malformed("the body holds no part")
        return receipt

    def _take(self, part: Part, receipt: Receipt) -> None:
        outcome = self._outcome(part)
        if isinstance(outcome, Stored):
            receipt.stored.append(outcome)
        else:
            log.warning("store_faulty", extra={"reason": str(outcome.error)})
            receipt.failed.append(outcome)

    def _outcome(self, part: Part) -> Stored | Failure:
        body = _Body(part.body)
        try:
            _check_type(part)
            head = _head(body)
        except ImagingError as error:
            if body.broken:
                raise
            return Failure(error)
        try:
            found = self._spooled(head, body)
        except (Conflict, Malformed, Unavailable) as error:
            if body.broken:
                raise
            return Failure(error, head.sop_class_uid, head.sop_instance_uid)
        return Stored(
            sop_class_uid=found.text(header.SOP_CLASS_UID),
            sop_instance_uid=found.text(header.SOP_INSTANCE_UID),
            study_instance_uid=found.text(header.STUDY_INSTANCE_UID),
            series_instance_uid=found.text(header.SERIES_INSTANCE_UID),
        )

    def _spooled(self, head: Head, body: "_Body") -> Header:
        """Write one object into the spool, exactly as it was sent, and return its header.

        Raises
        ------
        Malformed, Conflict
            It is not sound; kept, unless it is of another study than the path names.
        StoreUnavailable
            The spool is full or broken; nothing is left behind.
        """
        provenance = Provenance(utc_now(), "stow", self.source, address=self.address)
        meta = part10.head(
            head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid, provenance
        )
        scan = _Scan(head)
        with self.spool.incoming(meta) as incoming:
            for piece in body.pieces():
                incoming.write(piece)
                scan.feed(piece)
            found = scan.finish()
            if found is not None and self.study:
                self._check_study(found)
        if scan.fault is not None or found is None:
            raise scan.fault or Malformed("no dataset")
        return found

    def _check_study(self, found: Header) -> None:
        if found.text(header.STUDY_INSTANCE_UID) != self.study:
            raise OtherStudy("the object is of another study than the path names")


class _Body:
    """The body of a part, of which the first bytes may be looked at before they are read.

    `broken` tells a fault of the request from one of the object.
    """

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._seen = bytearray()
        self.broken = False

    def peek(self, size: int) -> bytes:
        """Return the first `size` bytes, fewer when the body is shorter."""
        while len(self._seen) < size and (piece := self._next()):
            self._seen += piece
        return bytes(self._seen)

    def skip(self, size: int) -> None:
        """Drop the first bytes, which must have been looked at."""
        del self._seen[:size]

    def pieces(self) -> Iterator[bytes]:
        """Yield the rest."""
        if self._seen:
            yield bytes(self._seen)
        while piece := self._next():
            yield piece

    def _next(self) -> bytes:
        try:
            return next(self._source, b"")
        except ImagingError:
            self.broken = True
            raise


class _Scan:
    """Scans the header of one object; the first fault ends the scan, not the reception."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._reader = HeaderReader(head.transfer_syntax_uid)
        self.fault: ImagingError | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the dataset."""
        if self.fault is None:
            try:
                self._reader.feed(piece)
            except Malformed as fault:
                self.fault = fault

    def finish(self) -> Header | None:
        """Return the header, None when it cannot be read; `fault` may be set in both cases."""
        if self.fault is not None:
            return None
        try:
            found = self._reader.finish()
        except Malformed as fault:
            self.fault = fault
            return None
        try:
            header.check(found, self._head.sop_class_uid, self._head.sop_instance_uid)
        except (Malformed, Conflict) as fault:
            self.fault = fault
        return found


def _check_type(part: Part) -> None:
    content_type = part.headers.get("content-type")
    if content_type and media.parse(content_type).essence != media.DICOM:
        raise NotSupported(f"a part of another type than {media.DICOM}")


def _head(body: _Body) -> Head:
    """Read and skip what stands before the dataset, in every shape that files have.

    UIDs that the file meta information lacks are taken from the dataset.
    """
    start = body.peek(FIRST)
    try:
        head = part10.split(start)
    except Malformed:
        longer = body.peek(part10.MAX_META_BYTES + FIRST)
        if len(longer) == len(start):
            raise
        start, head = longer, part10.split(longer)
    if not head.sop_class_uid or not head.sop_instance_uid:
        head = _completed(head, start)
    body.skip(head.length)
    return head


def _completed(head: Head, start: bytes) -> Head:
    scanner = Scanner(head.transfer_syntax_uid)
    with contextlib.suppress(Malformed):  # all that is wrong may be that it goes on
        scanner.read(start[head.length :])
    if scanner.codec is None:
        raise Malformed("no dataset")
    seen = Header(scanner, scanner.codec)
    return Head(
        sop_class_uid=head.sop_class_uid or seen.text(header.SOP_CLASS_UID),
        sop_instance_uid=head.sop_instance_uid or seen.text(header.SOP_INSTANCE_UID),
        transfer_syntax_uid=head.transfer_syntax_uid,
        provenance=None,
        length=head.length,
    )
