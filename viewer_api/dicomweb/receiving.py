"""How one object that comes over HTTP gets into the spool, as every object does.

Success promises what C-STORE promises: the object is durable in the spool. One that can be
read but is not sound is kept for the quarantine and reported as failed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pacs import header, part10
from pacs.header import Header, HeaderReader
from pacs.part10 import Head, Provenance
from storage.base.clock import utc_now
from storage.base.errors import Conflict, ImagingError, Malformed
from storage.spool import Spool
from viewer_api.dicomweb.receipts import Stored
from viewer_api.problems import TooLarge


class OtherStudy(Conflict):
    """The object belongs to another study than the one that the path names."""


@dataclass(frozen=True, slots=True)
class Receiving:
    """Puts the objects of one request into the spool."""

    spool: Spool
    study: str
    """Study Instance UID of the path, '' when it names none."""
    source: str
    address: str
    most: int
    """Bytes of one object."""

    def put(self, head: Head, pieces: Iterator[bytes]) -> Stored:
        """Write one object into the spool, exactly as it comes, and tell its UIDs.

        Raises
        ------
        Malformed, Conflict
            It is not sound; kept, unless it is of another study than the path names or
            too large.
        StoreUnavailable
            The spool is full or broken; nothing is left behind.
        """
        provenance = Provenance(utc_now(), "stow", self.source, address=self.address)
        meta = part10.head(
            head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid, provenance
        )
        scan = _Scan(head)
        with self.spool.incoming(meta) as incoming:
            for piece in pieces:
                if incoming.size + len(piece) > self.most:
                    raise TooLarge(f"an object of more than {self.most} bytes")
                incoming.write(piece)
                scan.feed(piece)
            found = scan.finish()
            if found is not None and self.study:
                self._check_study(found)
        if scan.fault is not None or found is None:
            raise scan.fault or Malformed("no dataset")
        return Stored(
            sop_class_uid=found.text(header.SOP_CLASS_UID),
            sop_instance_uid=found.text(header.SOP_INSTANCE_UID),
            study_instance_uid=found.text(header.STUDY_INSTANCE_UID),
            series_instance_uid=found.text(header.SERIES_INSTANCE_UID),
        )

    def _check_study(self, found: Header) -> None:
        if found.text(header.STUDY_INSTANCE_UID) != self.study:
            raise OtherStudy("the object is of another study than the path names")


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
