"""What lossless compression would save, found by doing it; nothing that is stored is changed.

Each frame is encoded, decoded again and compared (`pacs.codecs`). Whether the whole dataset
could be given back byte for byte is told as well: it is encoded back and its hash compared
with that of its reception.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from pacs import contexts, retrieve, transcode
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported
from storage.objects.store import ObjectStore

TARGETS: Final = {
    "htj2k": contexts.HTJ2K_LOSSLESS,
    "jpeg-ls": contexts.JPEG_LS_LOSSLESS,
}
MAX_BYTES: Final = 1 << 30
"""Of a dataset that is tried."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one object."""

    before: int
    """Bytes of the dataset as it is stored."""
    after: int
    """Bytes compressed; as before when it stays as it is."""
    same_bytes: bool = False
    """The dataset as it was received can be made again from the compressed one."""
    reason: str = ""
    """Why it stays as it is."""


def try_one(store: ObjectStore, stored: StoredInstance, target: str) -> Trial:
    """Compress an instance and compare.

    Parameters
    ----------
    target
        A transfer syntax of `TARGETS`.

    Raises
    ------
    StoreUnavailable
        It cannot be read, or is not what was received.
    """
    size = stored.dataset_size
    if contexts.is_encapsulated(stored.transfer_syntax_uid):
        return Trial(size, size, reason="compressed already")
    if size > MAX_BYTES:
        return Trial(size, size, reason=f"larger than {MAX_BYTES} bytes")
    dataset = retrieve.read_dataset(store, stored)
    try:
        made = transcode.transcode(dataset, stored.transfer_syntax_uid, target)
        if len(made) >= size:
            return Trial(size, size, reason="it would not be smaller")
        back = transcode.transcode(made, target, stored.transfer_syntax_uid)
    except (NotSupported, Malformed) as fault:
        return Trial(size, size, reason=str(fault).rpartition(": ")[2])
    same = hashlib.sha256(back).hexdigest() == stored.dataset_sha256
    return Trial(size, len(made), same_bytes=same)
