"""STOW-RS, DICOM objects in the parts of a body (PS3.18 10.5.2, 8.7.3.1).

part ─ split head ─ scan header while it streams into the spool ─┬─ sound  → referenced
└─ faulty → failed
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from pacs import header, part10
from pacs.elements import Scanner
from pacs.header import Header
from pacs.part10 import Head
from storage.base.errors import Conflict, ImagingError, Malformed, Unavailable
from viewer_api import media
from viewer_api.dicomweb.receipts import Failure, Receipt, Stored
from viewer_api.dicomweb.receiving import Receiving
from viewer_api.multipart import Part

log = logging.getLogger(__name__)

FIRST: Final = 64 << 10
"""Bytes in which a head is looked for first; one that is cut off gets `part10.MAX_META_BYTES`."""


def take(receiving: Receiving, parts: Iterator[Part]) -> Receipt:
    """Store each part; what is complete is kept even if the body breaks off later.

    Raises
    ------
    Malformed
        The body breaks off or is no multipart body. The text says how much is stored.
    """
    receipt = Receipt()
    try:
        for part in parts:
            outcome = _outcome(receiving, part)
            if isinstance(outcome, Stored):
                receipt.stored.append(outcome)
            else:
                log.warning("store_faulty", extra={"reason": str(outcome.error)})
                receipt.failed.append(outcome)
    except Malformed as error:
        done = len(receipt.stored)
        kept = f"; the {done} objects before it are stored" if done else ""
        raise type(error)(f"{error}{kept}") from error
    return receipt


def _outcome(receiving: Receiving, part: Part) -> Stored | Failure:
    body = _Body(part.body)
    try:
        _check_type(part)
        head = _head(body)
    except ImagingError as error:
        if body.broken:
            raise
        return Failure(error)
    try:
        return receiving.put(head, body.pieces())
    except (Conflict, Malformed, Unavailable) as error:
        if body.broken:
            raise
        return Failure(error, head.sop_class_uid, head.sop_instance_uid)


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


def _check_type(part: Part) -> None:
    content_type = part.headers.get("content-type")
    if content_type and media.parse(content_type).essence != media.DICOM:
        raise Malformed(f"a part of another type than {media.DICOM}")


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
