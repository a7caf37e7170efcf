"""The metadata of a series as one object: DICOM JSON, and where each frame lies.

    magic and version ─ length of the layout ─ layout (MessagePack) ─ gzip of the JSON array

It is made once, when the series has settled, and never changed. In the JSON a random
token stands for the root of the DICOMweb service, which depends on who asks. The layout
holds what was worked out once so that nobody has to again: the place of every frame,
and fast checksums of datasets and frames, taken when their SHA-256 was right.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import msgspec
from xxhash import xxh3_64_digest, xxh3_128, xxh3_128_digest

from pacs import contexts, correcting, dicom_json, frames, header, retrieve
from pacs.frames import FrameIndex, ImagePixel
from pacs.header import Header, HeaderReader
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotFound, NotSupported
from storage.objects import keys
from storage.objects.store import ObjectStore

VERSION: Final = 1
"""Counted up when the JSON or the layout changes; an object of another version is not read."""
WHOLE: Final = 8 << 20
"""Bytes up to which a dataset is read at once."""
MAX_TEXT: Final = 64 << 20
"""Bytes of JSON in one object: readers take in all of it."""
FRAME_CHECKSUM_BYTES: Final = 8

_HEAD: Final = struct.Struct("<4sIQ")
_MAGIC: Final = b"LTSM"
_GZIP_LEVEL: Final = 6
_GZIP_WINDOW: Final = 31
"""15 bits, and 16 for the gzip format (zlib manual, deflateInit2)."""
_PIXEL_DATA: Final = "7FE00010"
_BITS_STORED: Final = "00280101"
"""There with integer pixels only (PS3.3 C.7.6.3, C.7.6.24)."""
_LYING_PLAIN: Final = frozenset(
    {contexts.IMPLICIT_VR_LITTLE_ENDIAN, contexts.EXPLICIT_VR_LITTLE_ENDIAN}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance of the series."""

    stored: StoredInstance
    checksum: bytes
    """XXH3-128 of the dataset."""
    frames: FrameIndex | None = None
    """None when it has none, or they do not lie in the dataset as they are given."""
    frame_checksums: bytes = b""
    """XXH3-64 of each frame as it lies, `FRAME_CHECKSUM_BYTES` each."""
    image: ImagePixel | None = None

    def is_frame(self, number: int, lying: bytes) -> bool:
        """Whether these are the bytes in which frame `number`, counted from 1, lies."""
        end = number * FRAME_CHECKSUM_BYTES
        return xxh3_64_digest(lying) == self.frame_checksums[end - FRAME_CHECKSUM_BYTES : end]

    def check_frame(self, number: int, lying: bytes) -> None:
        """Raise `StoreUnavailable` unless these are the bytes in which frame `number` lies."""
        if not self.is_frame(number, lying):
            raise retrieve.rotten(self.stored)


@dataclass(frozen=True, slots=True)
class SeriesMetadata:
    """What the object holds."""

    token: str
    entries: tuple[Entry, ...]
    """In the order of `storage.archive.instances.locate`."""
    zipped: bytes

    def text(self) -> bytes:
        """Return the JSON array, with the token in place of the root."""
        return zlib.decompress(self.zipped, _GZIP_WINDOW)


class _Layout(msgspec.Struct, array_like=True):
    token: str
    entries: tuple[Entry, ...]


_decoder: Final = msgspec.msgpack.Decoder(_Layout)


class Builder:
    """Makes the object of a series, instance by instance."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._token = new_token()
        self._packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
        self._zipped = [self._packer.compress(b"[")]
        self._text_bytes = 0
        self._entries: list[Entry] = []

    def add(self, stored: StoredInstance) -> None:
        """Read one instance, whole, and note what is told of it.

        Raises
        ------
        StoreUnavailable
            The store does not answer, or the bytes are not those that were received.
        NotFound
            The object is not there.
        Malformed
            It is no dataset.
        NotSupported
            The series is too large for one object.
        """
        examine = _examine_whole if stored.dataset_size <= WHOLE else _examine_pieces
        start, entry = examine(self._store, stored)
        text = instance_json(start, stored, self._token)
        self._zipped.append(self._packer.compress(b"," + text if self._entries else text))
        self._entries.append(entry)
        self._text_bytes += len(text)
        if self._text_bytes > MAX_TEXT:
            raise NotSupported(f"more than {MAX_TEXT} bytes of metadata in one series")

    def finish(self) -> bytes:
        """Return the content of the object."""
        self._zipped += (self._packer.compress(b"]"), self._packer.flush())
        layout = msgspec.msgpack.encode(_Layout(self._token, tuple(self._entries)))
        return b"".join((_HEAD.pack(_MAGIC, VERSION, len(layout)), layout, *self._zipped))


def key_of(study_instance_uid: str, content: bytes) -> str:
    """Return the key of an object of `content`: its checksum as well."""
    return keys.metadata_key(study_instance_uid, hashlib.sha256(content).hexdigest())


def read(store: ObjectStore, key: str, study_instance_uid: str) -> SeriesMetadata:
    """Return what the object `key` holds.

    Raises
    ------
    NotFound
        It is not there.
    Malformed
        Its bytes are not those that were put, or of another version of this product.
    StoreUnavailable
        The store does not answer.
    """
    content = store.read(key)
    if key_of(study_instance_uid, content) != key:
        raise Malformed(f"object {key}: the bytes are not those that were put")
    try:
        magic, version, length = _HEAD.unpack_from(content)
        if (magic, version) != (_MAGIC, VERSION):
            raise Malformed(f"object {key}: version {version} of the metadata of a series")
        end = _HEAD.size + length
        layout = _decoder.decode(memoryview(content)[_HEAD.size : end])
    except (struct.error, msgspec.DecodeError) as error:
        raise Malformed(f"object {key}: {error}") from error
    return SeriesMetadata(layout.token, layout.entries, content[end:])


def fingerprint(found: Iterable[StoredInstance]) -> str:
    """Return what changes when an instance of these comes, goes or changes."""
    digest = hashlib.sha256(str(VERSION).encode())
    for stored in found:
        digest.update(f"\n{stored.version}".encode())
    return digest.hexdigest()


def new_token() -> str:
    """Return a text that no dataset contains: it was not there before."""
    return f"root-{uuid4().hex}"


def instance_json(start: bytes, stored: StoredInstance, token: str) -> bytes:
    """Return the DICOM JSON object of a dataset, of which `start` reaches to its pixel data.

    Raises
    ------
    Malformed
        The encoding is broken.
    """
    uids = stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    base = "{}/studies/{}/series/{}/instances/{}/bulkdata".format(token, *uids)
    made = dicom_json.dataset_json(start, stored.transfer_syntax_uid, lambda path: f"{base}/{path}")
    if stored.correction:
        correcting.put_json(made, correcting.read(stored.correction))
    made["00083002"] = {"vr": "UI", "Value": [stored.transfer_syntax_uid]}
    if len(start) < stored.dataset_size and _BITS_STORED in made and _PIXEL_DATA not in made:
        vr = "OB" if contexts.is_encapsulated(stored.transfer_syntax_uid) else "OW"
        made[_PIXEL_DATA] = {"vr": vr, "BulkDataURI": f"{base}/{_PIXEL_DATA}"}
    return dicom_json.encode(dict(sorted(made.items())))


def _examine_whole(store: ObjectStore, stored: StoredInstance) -> tuple[bytes, Entry]:
    dataset = retrieve.read_dataset(store, stored)

    def piece(offset: int, length: int) -> bytes:
        return dataset[offset : offset + length]

    found = header.scan(dataset, stored.transfer_syntax_uid)
    end = _pixels_at(found, len(dataset))
    return dataset[:end], _entry(stored, xxh3_128_digest(dataset), found, piece)


def _examine_pieces(store: ObjectStore, stored: StoredInstance) -> tuple[bytes, Entry]:
    def piece(offset: int, length: int) -> bytes:
        return retrieve.read_range(store, stored, offset, length)

    reader, digest = HeaderReader(stored.transfer_syntax_uid), xxh3_128()
    for chunk in retrieve.stream_dataset(store, stored):
        reader.feed(chunk)
        digest.update(chunk)
    found = reader.finish()
    start = piece(0, _pixels_at(found, stored.dataset_size))
    return start, _entry(stored, digest.digest(), found, piece)


def _pixels_at(found: Header, size: int) -> int:
    """Return where the pixel data begins; positions in a deflated dataset mean nothing here."""
    deflated = found.transfer_syntax_uid == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    pixels = found.pixel_data
    return size if deflated or pixels is None else pixels.element_offset


def _entry(stored: StoredInstance, checksum: bytes, found: Header, read: frames.Read) -> Entry:
    syntax = stored.transfer_syntax_uid
    if syntax not in _LYING_PLAIN and not contexts.is_encapsulated(syntax):
        return Entry(stored, checksum)
    try:
        index = frames.locate(found, read)
    except (NotFound, Malformed):
        return Entry(stored, checksum)
    taken = (
        xxh3_64_digest(frames.lying_bytes(index, number, read))
        for number in range(1, index.count + 1)
    )
    return Entry(stored, checksum, index, b"".join(taken), _image(found))


def _image(found: Header) -> ImagePixel | None:
    try:
        return frames.image_pixel(found)
    except Malformed:
        return None
