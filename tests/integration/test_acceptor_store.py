"""C-STORE over the wire: what is kept, what is answered (RELIABILITY: N10, R05, R09)."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from pacs import part10
from storage.spool import Spool
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.raw_peer import CT, RawPeer, store_request
from tests.fixtures.server import listening
from tests.fixtures.spooled import spooled

PATIENT = "NGUYỄN"


def stored(spool: Spool) -> list[bytes]:
    return [record.path.read_bytes() for record in spooled(spool, 100)]


def test_object_is_spooled_byte_for_byte_with_its_provenance(port: int, spool: Spool) -> None:
    dataset = ct_slice()
    data = encode(dataset)

    with RawPeer(port) as peer:
        response = peer.associate(calling="CT01").store(
            store_request(dataset.SOPInstanceUID, message_id=77), data
        )

    assert (response.status, response.message_id_being_responded_to) == (0, 77)
    assert response.affected_sop_instance_uid == dataset.SOPInstanceUID
    [content] = stored(spool)
    head = part10.read_head(content)
    assert content[head.length :] == data
    assert head.sop_class_uid == CT
    assert head.sop_instance_uid == dataset.SOPInstanceUID
    assert head.provenance is not None
    assert (head.provenance.wire, head.provenance.source_ae_title) == ("c-store", "CT01")
    assert (head.provenance.called_ae_title, head.provenance.address) == ("ARCHIVE", "127.0.0.1")


def without(keyword: str) -> Callable[[Dataset], bytes]:
    def make(dataset: Dataset) -> bytes:
        delattr(dataset, keyword)
        return encode(dataset)

    return make


def with_value(keyword: str, value: str) -> Callable[[Dataset], bytes]:
    def make(dataset: Dataset) -> bytes:
        setattr(dataset, keyword, value)
        return encode(dataset)

    return make


def nested(depth: int) -> Callable[[Dataset], bytes]:
    def make(dataset: Dataset) -> bytes:
        opening = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
        return encode(dataset)[:0] + opening * depth

    return make


@pytest.mark.parametrize(
    ("make", "status", "named"),
    [
        (with_value("SOPInstanceUID", "1.2.3"), 0xA900, "(0008,0018)"),
        (with_value("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"), 0xA900, "(0008,0016)"),
        (without("SOPInstanceUID"), 0xC000, "(0008,0018)"),
        (with_value("StudyInstanceUID", ""), 0xC000, "(0020,000D)"),
        (without("SeriesInstanceUID"), 0xC000, "(0020,000E)"),
        (lambda dataset: encode(dataset)[:-7], 0xC000, "cut off"),
        (lambda _: b"this is not DICOM at all, but it is long enough", 0xC000, ""),
        (lambda _: b"", 0xC000, ""),
        (nested(33), 0xC000, "(0008,1140)"),
        (nested(20_000), 0xC000, "(0008,1140)"),
    ],
    ids=[
        "other instance UID",
        "other class UID",
        "no instance UID",
        "empty study UID",
        "no series UID",
        "cut off",
        "no DICOM",
        "empty",
        "33 sequences deep",
        "20,000 sequences deep",
    ],
)
def test_faulty_object_is_answered_by_name_and_kept(
    port: int, spool: Spool, make: Callable[[Dataset], bytes], status: int, named: str
) -> None:
    dataset = ct_slice()
    command = store_request(dataset.SOPInstanceUID)
    data = make(dataset)

    with RawPeer(port) as peer:
        response = peer.associate().store(command, data)
        echoed = peer.echo()

    assert response.status == status
    assert response.error_comment
    assert named in response.error_comment
    assert echoed == 0
    assert [content[part10.read_head(content).length :] for content in stored(spool)] == [data]


@pytest.mark.parametrize(
    "uid",
    ["../../../../etc/passwd", "/etc/passwd", "1.2.3\0/../x", "..%2f..%2f", "1" * 65, "CON", ""],
)
def test_hostile_uid_never_becomes_a_path(
    port: int, spool: Spool, uid: str, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_dir()}

    with RawPeer(port) as peer:
        response = peer.associate().store(store_request(uid), encode(ct_slice()))

    assert response.status == 0xA900
    [record] = spooled(spool, 10)
    assert record.path.parent == spool.folder
    assert {path for path in tmp_path.rglob("*") if path.is_dir()} == before


def test_no_text_of_the_patient_is_answered_or_logged(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    dataset = ct_slice(StudyInstanceUID="")

    with RawPeer(port) as peer:
        response = peer.associate().store(store_request(dataset.SOPInstanceUID), encode(dataset))

    said = f"{response.error_comment} {[record.__dict__ for record in caplog.records]}"
    assert PATIENT not in said
    assert dataset.PatientID not in said


@pytest.mark.parametrize("size", [1, 300_000], ids=["packed", "a file of its own"])
def test_spool_that_is_full_says_so_and_works_again_by_itself(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    dataset = ct_slice()
    dataset.PixelData = bytes(2 * size)
    command, data = store_request(dataset.SOPInstanceUID), encode(dataset)
    write, writev = os.write, os.writev
    full = [True]

    def writing(descriptor: int, buffer: bytes) -> int:
        if full[0] and len(buffer) > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, buffer)

    def writing_parts(descriptor: int, buffers: list[bytes]) -> int:
        if full[0]:  # as the disk does it: what fits, and an answer of less
            return writev(descriptor, buffers[:1])
        return writev(descriptor, buffers)

    monkeypatch.setattr(os, "write", writing)
    monkeypatch.setattr(os, "writev", writing_parts)
    with listening(spool) as listener, RawPeer(listener.port) as peer:
        peer.associate()
        refused = peer.store(command, data)
        left = [path for path in spool.folder.iterdir() if path.is_file()]
        full[0] = False
        taken = peer.store(command, data)

    assert refused.status == 0xA700
    assert left == []
    assert taken.status == 0
    assert len(stored(spool)) == 1


def test_spool_that_is_gone_is_out_of_resources(spool: Spool, port: int) -> None:
    for path in spool.folder.iterdir():
        path.rename(spool.folder.parent / path.name)
    spool.folder.rmdir()

    with RawPeer(port) as peer:
        response = peer.associate().store(store_request("1.2"), encode(ct_slice()))

        assert response.status == 0xA700
        assert peer.echo() == 0
