"""How a stored SOP Instance is read again: whole, in pieces, or in another transfer syntax.

What was received is what is given back, but for attributes that were corrected since
(`pacs.correcting`), and for pixels that were compressed without loss since, which can be
undone (`pacs.reversible`): `outgoing` and `dataset_as` are for those who ask, the others read
what is kept. Every whole read is compared with the
hash taken at reception, so a rotten byte is an error and never a picture. Where a fast
checksum is known that was taken when the hash was right (`pacs.series_metadata`), it
serves as well, at a fortieth of the cost.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Final

from xxhash import xxh3_128, xxh3_128_digest

from pacs import contexts, correcting, header, reversible, transcode
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported, StoreUnavailable
from storage.objects.store import ObjectStore

CHUNK: Final = 1 << 20
FIRST_READ: Final = 64 << 10


def read_dataset(store: ObjectStore, instance: StoredInstance, checksum: bytes = b"") -> bytes:
    """Return the dataset as it was received; `checksum` is its XXH3-128 if that is known.

    Raises
    ------
    StoreUnavailable
        The store does not answer, or the bytes are not those that were received.
    """
    dataset = store.read(instance.object_key, instance.dataset_offset, instance.dataset_size)
    if checksum:
        whole = xxh3_128_digest(dataset) == checksum
    else:
        whole = hashlib.sha256(dataset).hexdigest() == instance.dataset_sha256
    if not whole:
        raise rotten(instance)
    return dataset


def stream_dataset(
    store: ObjectStore, instance: StoredInstance, checksum: bytes = b""
) -> Iterator[bytes]:
    """Yield the dataset as it was received in pieces, with constant memory.

    The last piece is given only when the whole has the right hash, so a reader
    never takes a rotten object for a complete one.

    Raises
    ------
    StoreUnavailable
        As `read_dataset`, possibly after some pieces.
    """
    digest = xxh3_128() if checksum else hashlib.sha256()
    kept = b""
    place = instance.object_key, instance.dataset_offset, instance.dataset_size
    for piece in store.stream(*place, chunk=CHUNK):
        if kept:
            yield kept
        digest.update(piece)
        kept = piece
    if digest.digest() != (checksum or bytes.fromhex(instance.dataset_sha256)):
        raise rotten(instance)
    yield kept


def read_range(store: ObjectStore, instance: StoredInstance, offset: int, length: int) -> bytes:
    """Return at most `length` bytes of the dataset from `offset`, and never what lies behind it.

    An object may hold other instances as well.
    """
    within = max(0, min(length, instance.dataset_size - offset))
    return store.read(instance.object_key, instance.dataset_offset + offset, within)


def outgoing(store: ObjectStore, instance: StoredInstance, checksum: bytes = b"") -> bytes:
    """Return the dataset as it goes out, in the transfer syntax that it is stored in.

    Raises
    ------
    StoreUnavailable
        As `read_dataset`.
    NotSupported
        What was corrected cannot be written into it.
    """
    dataset = read_dataset(store, instance, checksum)
    return _corrected(dataset, instance, instance.transfer_syntax_uid)


def _corrected(dataset: bytes, instance: StoredInstance, transfer_syntax_uid: str) -> bytes:
    if not instance.correction:
        return dataset
    correction = correcting.read(instance.correction)
    return correcting.corrected(dataset, transfer_syntax_uid, correction)


def received_dataset(store: ObjectStore, instance: StoredInstance) -> bytes:
    """Return the dataset as it was received, also of one that lies compressed since.

    Raises
    ------
    StoreUnavailable
        The store does not answer, or the bytes are not those that were put.
    NotSupported, Malformed
        What comes out is not what was received; nobody saw that when it was compressed.
    """
    dataset = read_dataset(store, instance)
    if not instance.received_transfer_syntax_uid:
        return dataset
    rest = store.read(instance.object_key, instance.dataset_offset + instance.dataset_size)
    compressed = reversible.Compressed(dataset, rest)
    received = reversible.restore(compressed, instance.transfer_syntax_uid)
    if hashlib.sha256(received).hexdigest() != instance.received_sha256:
        raise rotten(instance)
    return received


def outgoing_pieces(
    store: ObjectStore, instance: StoredInstance, checksum: bytes = b""
) -> Iterator[bytes]:
    """Yield the dataset as it goes out, in pieces; as `stream_dataset` and `outgoing`."""
    if not instance.correction:
        yield from stream_dataset(store, instance, checksum)
        return
    made = _splice(store, instance)
    if made is None:
        yield outgoing(store, instance, checksum)
        return
    yield made.head
    passed = 0
    for piece in stream_dataset(store, instance, checksum):
        if behind := piece[max(0, made.skipped - passed) :]:
            yield behind
        passed += len(piece)


def outgoing_size(store: ObjectStore, instance: StoredInstance) -> int:
    """Return how many bytes the dataset has as it goes out."""
    if not instance.correction:
        return instance.dataset_size
    made = _splice(store, instance)
    if made is None:
        return len(outgoing(store, instance))
    return len(made.head) + instance.dataset_size - made.skipped


def outgoing_range(store: ObjectStore, instance: StoredInstance, offset: int, length: int) -> bytes:
    """Return at most `length` bytes from `offset` of the dataset as it goes out."""
    if not instance.correction:
        return read_range(store, instance, offset, length)
    made = _splice(store, instance)
    if made is None:
        return outgoing(store, instance)[offset : offset + length]
    head = made.head[offset : offset + length]
    behind = made.skipped + max(0, offset - len(made.head))
    return head + read_range(store, instance, behind, length - len(head))


def _splice(store: ObjectStore, instance: StoredInstance) -> correcting.Splice | None:
    """Return the corrected beginning of a dataset, None for one that is deflated."""
    if instance.transfer_syntax_uid == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return None
    start = header_bytes(store, instance)
    correction = correcting.read(instance.correction)
    return correcting.splice(start, instance.transfer_syntax_uid, correction)


def dataset_as(
    store: ObjectStore,
    instance: StoredInstance,
    accepted: Collection[str],
    *,
    lossy: bool = False,
) -> tuple[str, bytes]:
    """Return (transfer syntax, dataset) in one of the `accepted` transfer syntaxes.

    The stored one is given whenever it is accepted; otherwise the first one, in the order
    of `accepted` if that has one, to which the object can be converted.

    Parameters
    ----------
    lossy
        Also with loss: the dataset is then that of another SOP Instance
        (`transcode.derived_uid`).

    Raises
    ------
    NotSupported
        None of them is possible; the text says why.
    """
    stored, received = instance.transfer_syntax_uid, instance.received_transfer_syntax_uid
    if stored not in accepted and received and received == next(iter(_in_order(accepted)), ""):
        with suppress(NotSupported, Malformed):  # then it is written anew, with the same values
            return received, _corrected(received_dataset(store, instance), instance, received)
    dataset = outgoing(store, instance)
    if stored in accepted:
        return stored, dataset
    reasons = []
    for target in _in_order(accepted):
        if lossy or not transcode.is_derived(stored, target):
            try:
                return target, transcode.transcode(dataset, stored, target)
            except NotSupported as error:
                reasons.append(str(error))
    raise NotSupported(
        "; ".join(reasons)
        or f"stored in {instance.transfer_syntax_uid}, which the receiver does not take"
    )


def _in_order(accepted: Collection[str]) -> Sequence[str]:
    if isinstance(accepted, Sequence):
        return [target for target in accepted if target in contexts.TRANSCODE_TARGETS]
    return [target for target in contexts.TRANSCODE_TARGETS if target in accepted]


def header_bytes(store: ObjectStore, instance: StoredInstance) -> bytes:
    """Return the start of the dataset up to its pixel data, or all of it when there is none."""
    length = min(FIRST_READ, instance.dataset_size)
    while True:
        start = store.read(instance.object_key, instance.dataset_offset, length)
        end = header.pixel_data_at(start, instance.transfer_syntax_uid)
        if end is not None:
            return start[:end]
        if length >= instance.dataset_size:
            return start
        length = min(length * 8, instance.dataset_size)


def rotten(instance: StoredInstance) -> StoreUnavailable:
    """Return what is raised when the stored bytes of an instance are not those received."""
    return StoreUnavailable(
        f"SOP Instance {instance.sop_instance_uid}: the stored bytes are not those received"
    )
