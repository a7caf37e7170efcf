"""Bytes that change after they were received are never taken for what was received."""

from pathlib import Path

import pytest

from pacs import part10
from pacs.ingest import Ingest
from pacs.part10 import Provenance
from storage.base.clock import utc_now
from storage.base.errors import StoreUnavailable
from storage.db.engine import Engine
from storage.objects.directory import DirectoryStore
from storage.spool import Spool, SpoolRecord
from tests.fixtures.dicom_files import ct_slice, encode


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def ingest(engine: Engine, store: DirectoryStore, spool: Spool) -> Ingest:
    return Ingest(engine, store, spool)


def receive(spool: Spool) -> SpoolRecord:
    slice_ = ct_slice()
    head = part10.head(
        slice_.SOPClassUID,
        slice_.SOPInstanceUID,
        "1.2.840.10008.1.2.1",
        Provenance(utc_now(), "c-store", "MODALITY"),
    )
    with spool.incoming(head) as incoming:
        incoming.write(encode(slice_, "1.2.840.10008.1.2.1"))
    return incoming.record


def rot(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_a_rotten_spool_record_is_parked_and_the_others_go_on(ingest, spool, store):
    sound, rotten, other = (receive(spool) for _ in range(3))
    rot(rotten.path, rotten.path.stat().st_size - 1)

    done = {one.record.name: one for one in ingest.take(spool.sealed(10))}

    assert [record.name for record in spool.parked()] == [rotten.name]
    assert spool.sealed(10) == []
    assert len(list(store.list())) == 2
    assert done[rotten.name].verdict is None
    assert {done[one.name].verdict for one in (sound, other)} == {"stored"}


def test_a_record_that_was_cut_short_is_parked(ingest, spool, store):
    record = receive(spool)
    with record.path.open("r+b") as file:
        file.truncate(record.dataset_size - 1)

    ingest.run_once()

    assert [parked.name for parked in spool.parked()] == [record.name]
    assert list(store.list()) == []


def test_an_object_that_rotted_does_not_stand_for_a_second_reception(ingest, spool, store):
    first = receive(spool)
    content = first.path.read_bytes()
    ingest.run_once()
    [held] = store.list()
    rot(store.folder / held.key, held.size - 1)
    with spool.incoming(content[: -first.dataset_size]) as incoming:
        incoming.write(content[-first.dataset_size :])

    with pytest.raises(StoreUnavailable, match="another hash"):
        ingest.run_once()
    ingest.run_once()

    assert (store.folder / held.key).read_bytes() == content
    assert spool.sealed(10) == []
