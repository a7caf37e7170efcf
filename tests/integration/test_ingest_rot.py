"""Bytes that change after they were received are never taken for what was received."""

import time
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pacs import part10, retrieve
from pacs.ingest import Ingest
from pacs.part10 import Provenance
from storage.archive import incidents, instances, quarantine
from storage.base.clock import utc_now
from storage.base.errors import StoreUnavailable
from storage.db.engine import Engine, transaction
from storage.objects.directory import DirectoryStore
from storage.spool import Spool, SpoolRecord, members
from tests.fixtures.dicom_files import ct_slice, encode

EXPLICIT = str(ExplicitVRLittleEndian)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def ingest(engine: Engine, store: DirectoryStore, spool: Spool) -> Ingest:
    return Ingest(engine, store, spool)


def head_of(slice_: Dataset) -> bytes:
    provenance = Provenance(utc_now(), "c-store", "MODALITY")
    return part10.head(slice_.SOPClassUID, slice_.SOPInstanceUID, EXPLICIT, provenance)


def receive(spool: Spool) -> SpoolRecord:
    slice_ = ct_slice()
    with spool.incoming(head_of(slice_)) as incoming:
        incoming.write(encode(slice_, EXPLICIT))
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


def pack(spool: Spool, *slices: Dataset) -> SpoolRecord:
    for slice_ in slices:
        spool.append(head_of(slice_), encode(slice_, EXPLICIT))
    while any(spool.folder.glob("*.open")):
        time.sleep(0.01)
    [record] = [record for record in spool.sealed(100) if record.packed]
    return record


def test_a_pack_becomes_one_object_and_every_dataset_comes_back(ingest, spool, store, engine):
    slices = [ct_slice(SOPInstanceUID=generate_uid()) for _ in range(3)]
    pack(spool, *slices)

    assert ingest.run_once() == 3

    assert len(list(store.list())) == 1
    assert spool.sealed(10) == []
    with transaction(engine) as session:
        for slice_ in slices:
            [held] = instances.locate(session, {"SOPInstanceUID": slice_.SOPInstanceUID})
            assert retrieve.read_dataset(store, held) == encode(slice_, EXPLICIT)
            assert b"".join(retrieve.stream_dataset(store, held)) == encode(slice_, EXPLICIT)
            assert len(retrieve.read_range(store, held, held.dataset_size - 4, 100)) == 4
            assert retrieve.read_range(store, held, held.dataset_size + 4, 100) == b""


def test_what_contradicts_in_a_pack_is_held_with_its_own_bytes(ingest, spool, store, engine):
    slice_ = ct_slice()
    other = ct_slice(SOPInstanceUID=slice_.SOPInstanceUID, AccessionNumber="OTHER")
    pack(spool, slice_, other, slice_)

    while ingest.run_once():
        pass

    assert spool.sealed(10) == []
    with transaction(engine) as session:
        [found] = instances.locate(session, {"SOPInstanceUID": slice_.SOPInstanceUID})
        [held] = quarantine.list_held(session)
    assert retrieve.read_dataset(store, found) == encode(slice_, EXPLICIT)
    assert held.reason == "other_parent"
    kept = store.read(held.object_key, held.dataset_offset, held.dataset_size)
    assert kept == encode(other, EXPLICIT)
    assert held.object_key != found.object_key


def test_a_rotten_object_in_a_pack_costs_no_other(ingest, spool, engine):
    slices = [ct_slice(SOPInstanceUID=generate_uid()) for _ in range(3)]
    record = pack(spool, *slices)
    found, _ = members(memoryview(record.path.read_bytes()))
    rot(record.path, found[1].end - 1)

    while ingest.run_once():
        pass

    parked = [one.packed for one in spool.parked()]
    assert sorted(parked) == [False, True]  # the pack as it is, and the object
    with transaction(engine) as session:
        stored = [
            len(instances.locate(session, {"SOPInstanceUID": slice_.SOPInstanceUID}))
            for slice_ in slices
        ]
    assert stored == [1, 0, 1]


def test_a_pack_that_is_ingested_twice_changes_nothing(ingest, spool, store, engine):
    slices = [ct_slice(SOPInstanceUID=generate_uid()) for _ in range(2)]
    record = pack(spool, *slices)
    content = record.path.read_bytes()
    ingest.run_once()
    record.path.write_bytes(content)  # as when the process dies before it lets go of it

    assert ingest.run_once() == 2
    with transaction(engine) as session:
        assert quarantine.count(session) == 0
    assert len(list(store.list())) == 1


def test_a_character_set_that_nobody_knows_is_noticed_once_for_a_study(ingest, spool, engine):
    first = ct_slice()
    same = {
        "StudyInstanceUID": first.StudyInstanceUID,
        "SeriesInstanceUID": first.SeriesInstanceUID,
    }
    for slice_ in (first, ct_slice(**same)):
        with spool.incoming(head_of(slice_)) as incoming:
            incoming.write(encode(slice_, EXPLICIT).replace(b"ISO_IR 192", b"ISO_IR 999"))

    while ingest.run_once():
        pass

    with transaction(engine) as session:
        noticed = incidents.list_open(session)
    assert [one.kind for one in noticed] == ["character_set"]
    assert noticed[0].study_instance_uid == first.StudyInstanceUID
    assert "(0008,0005)" in noticed[0].detail
