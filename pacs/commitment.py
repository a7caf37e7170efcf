"""Whether we can vouch for SOP Instances: what is held is read again (PS3.4 Annex J).

A row of the index is no proof. An instance is committed when its bytes in the
object store have the SHA-256 that was taken at reception; of one that was compressed since,
the SHA-256 that was taken when the received dataset had been made again of it
(`pacs.compressing`).
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from storage.archive.commitments import Reference
from storage.archive.model import StoredInstance
from storage.base.errors import NotFound
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

Locate = Callable[[Mapping[str, str]], Sequence[StoredInstance]]
"""Finds the instances under unique keys, UID lists by backslash."""

# PS3.3 C.14.1.1, Failure Reason (0008,1197)
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119

_AT_ONCE: Final = 500


def verify(locate: Locate, store: ObjectStore, references: Sequence[Reference]) -> dict[str, int]:
    """Return SOP Instance UID → Failure Reason of those that we cannot vouch for.

    Raises
    ------
    StoreUnavailable
        The index or the object store does not answer: nothing is known.
    """
    return {
        reference.sop_instance_uid: reason
        for reference, held in _held(locate, references)
        if (reason := _failure(store, reference, held))
    }


def _held(
    locate: Locate, references: Sequence[Reference]
) -> Iterator[tuple[Reference, StoredInstance | None]]:
    for begin in range(0, len(references), _AT_ONCE):
        some = references[begin : begin + _AT_ONCE]
        uids = "\\".join(reference.sop_instance_uid for reference in some)
        found = {one.sop_instance_uid: one for one in locate({"SOPInstanceUID": uids})}
        for reference in some:
            yield reference, found.get(reference.sop_instance_uid)


def _failure(store: ObjectStore, reference: Reference, held: StoredInstance | None) -> int:
    if held is None:
        return NO_SUCH_OBJECT
    if held.sop_class_uid != reference.sop_class_uid:
        return CLASS_INSTANCE_CONFLICT
    if _digest(store, held) == held.dataset_sha256:
        return 0
    log.error("stored_bytes_differ", extra={"sop_instance_uid": held.sop_instance_uid})
    return PROCESSING_FAILURE


def _digest(store: ObjectStore, held: StoredInstance) -> str:
    digest = hashlib.sha256()
    try:
        for piece in store.stream(held.object_key, held.dataset_offset, held.dataset_size):
            digest.update(piece)
    except NotFound:
        return ""
    return digest.hexdigest()
