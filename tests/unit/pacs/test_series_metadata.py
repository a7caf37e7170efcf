import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from xxhash import xxh3_128_digest

from pacs import frames, retrieve, series_metadata
from pacs.series_metadata import Builder, Entry, SeriesMetadata
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotFound, NotSupported, StoreUnavailable
from storage.objects.directory import DirectoryStore
from tests.fixtures.dicom_files import ct_slice, encapsulated, encode, multi_frame

STUDY = "2.25.1"
OFFSET = 100
"""Bytes in front of the dataset in an object."""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


def put(store: DirectoryStore, key: str, content: bytes) -> None:
    path = store.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def stored(
    store: DirectoryStore, dataset: Dataset, syntax: str = ExplicitVRLittleEndian
) -> StoredInstance:
    content = encode(dataset, syntax)
    digest = hashlib.sha256(content).hexdigest()
    put(store, f"aa/bb/{digest}", bytes(OFFSET) + content + b"behind")
    return StoredInstance(
        study_instance_uid=STUDY,
        series_instance_uid="2.25.1.1",
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(syntax),
        number_of_frames=int(dataset.get("NumberOfFrames", 1)),
        object_key=f"aa/bb/{digest}",
        dataset_offset=OFFSET,
        dataset_size=len(content),
        dataset_sha256=digest,
    )


def rle(slice_: Dataset) -> Dataset:
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.compress(RLELossless, generate_instance_uid=False)
    return slice_


def made(store: DirectoryStore, found: Sequence[StoredInstance]) -> SeriesMetadata:
    builder = Builder(store)
    for one in found:
        builder.add(one)
    content = builder.finish()
    key = series_metadata.key_of(STUDY, content)
    put(store, key, content)
    return series_metadata.read(store, key, STUDY)


def frame(store: DirectoryStore, entry: Entry, number: int) -> bytes:
    assert entry.frames is not None

    def read(offset: int, length: int) -> bytes:
        return retrieve.read_range(store, entry.stored, offset, length)

    return frames.frame_bytes(entry.frames, number, read)


def test_json_has_every_instance(store: DirectoryStore) -> None:
    slices = [ct_slice(InstanceNumber=number) for number in range(1, 5)]

    found = made(store, [stored(store, slice_) for slice_ in slices])

    numbers = [one["00200013"]["Value"] for one in json.loads(found.text())]
    assert numbers == [[1], [2], [3], [4]]


def test_json_is_sent_as_it_lies_once_the_root_is_in_it(store: DirectoryStore) -> None:
    found = made(store, [stored(store, ct_slice())])

    [one] = json.loads(gzip.decompress(found.zipped).replace(found.token.encode(), b"http://a"))

    assert one["7FE00010"]["BulkDataURI"].startswith("http://a/studies/2.25.1/series/2.25.1.1/")


def test_order_of_the_instances_is_kept(store: DirectoryStore) -> None:
    some = [stored(store, ct_slice()) for _ in range(3)]

    found = made(store, some)

    assert [entry.stored for entry in found.entries] == some


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_native_frames_are_found(store: DirectoryStore, syntax: str) -> None:
    movie = multi_frame(3)

    [entry] = made(store, [stored(store, movie, syntax)]).entries

    pixels = [frame(store, entry, number) for number in (1, 2, 3)]
    assert b"".join(pixels) == movie.PixelData
    assert [entry.is_frame(n, pixels[1]) for n in (1, 2, 3)] == [False, True, False]
    with pytest.raises(StoreUnavailable, match="not those received"):
        entry.check_frame(3, pixels[2][:-1] + b"?")


@pytest.mark.parametrize("table", [True, False], ids=["offset table", "no offset table"])
def test_encapsulated_frames_are_found(store: DirectoryStore, table: bool) -> None:
    codes = [b"\xff\xd8\xff" + bytes([n]) * 31 for n in (1, 2, 3)]
    movie = encapsulated(multi_frame(3), codes, table=table)

    [entry] = made(store, [stored(store, movie, "1.2.840.10008.1.2.4.50")]).entries

    assert [frame(store, entry, number) for number in (1, 2, 3)] == codes
    entry.check_frame(3, codes[2])


def test_large_objects_are_read_in_pieces(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [stored(store, multi_frame(3)), stored(store, rle(ct_slice()), RLELossless)]
    whole = made(store, some)

    monkeypatch.setattr(series_metadata, "WHOLE", 0)
    in_pieces = made(store, some)

    assert in_pieces.entries == whole.entries
    assert in_pieces.text().replace(in_pieces.token.encode(), b"") == whole.text().replace(
        whole.token.encode(), b""
    )


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_frames_that_do_not_lie_as_they_are_given_have_no_place(
    store: DirectoryStore, syntax: str
) -> None:
    slice_ = ct_slice()
    content = encode(slice_, syntax)

    [entry] = made(store, [stored(store, slice_, syntax)]).entries

    assert entry.frames is None
    assert entry.checksum == xxh3_128_digest(content)


def test_object_without_frames_is_told_of(store: DirectoryStore) -> None:
    report = ct_slice()
    del report.PixelData

    found = made(store, [stored(store, report)])

    assert found.entries[0].frames is None
    assert "7FE00010" not in json.loads(found.text())[0]


def test_broken_pixel_data_does_not_hide_the_rest(store: DirectoryStore) -> None:
    short = ct_slice(Rows=9999)

    [entry] = made(store, [stored(store, short)]).entries

    assert entry.frames is None


def test_rotten_dataset_is_never_described(store: DirectoryStore) -> None:
    one = stored(store, ct_slice())
    path = store.folder / one.object_key
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)

    with pytest.raises(StoreUnavailable, match="not those received"):
        Builder(store).add(one)


def test_series_is_not_larger_than_a_reader_can_take(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_metadata, "MAX_TEXT", 2000)
    builder = Builder(store)
    builder.add(stored(store, ct_slice()))

    with pytest.raises(NotSupported, match="more than 2000 bytes"):
        builder.add(stored(store, ct_slice()))


def test_changed_object_is_not_read(store: DirectoryStore) -> None:
    builder = Builder(store)
    builder.add(stored(store, ct_slice()))
    content = builder.finish()
    key = series_metadata.key_of(STUDY, content)
    for at in range(0, len(content), 7):
        put(store, key, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])

        with pytest.raises(Malformed, match="not those that were put"):
            series_metadata.read(store, key, STUDY)


@pytest.mark.parametrize(
    "content",
    [b"", b"LTSM", b"LTSM\x02\0\0\0" + bytes(8), b"LTSM\x01\0\0\0\4\0\0\0\0\0\0\0\xff\xff\xff\xff"],
    ids=["empty", "cut off", "another version", "no layout"],
)
def test_what_is_not_ours_is_not_read(store: DirectoryStore, content: bytes) -> None:
    key = series_metadata.key_of(STUDY, content)
    put(store, key, content)

    with pytest.raises(Malformed):
        series_metadata.read(store, key, STUDY)


def test_absent_object_is_told_apart(store: DirectoryStore) -> None:
    with pytest.raises(NotFound):
        series_metadata.read(store, "aa/bb", STUDY)


def test_token_differs_each_time() -> None:
    assert series_metadata.new_token() != series_metadata.new_token()


def test_fingerprint_tells_instances_apart(store: DirectoryStore) -> None:
    one, two = stored(store, ct_slice(SOPInstanceUID=generate_uid())), stored(store, multi_frame())

    prints = {series_metadata.fingerprint(some) for some in ([one], [two], [one, two], [two, one])}

    assert len(prints) == 4
