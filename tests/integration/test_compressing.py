"""Lossless compression by rules: another object is shown, the received bytes stay at hand."""

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import generate_uid

from pacs import commitment, contexts, part10, retrieve
from pacs.compressing import Compressing, Pace
from pacs.ingest import Ingest
from pacs.part10 import Provenance
from pacs.settling import Settling
from storage.archive import compressions, instances, quarantine
from storage.archive.commitments import Reference
from storage.archive.compressions import Rule, State, Terms
from storage.archive.model import StoredInstance
from storage.base.clock import utc_now
from storage.base.errors import NotFound, StoreUnavailable
from storage.db.engine import Engine, transaction
from storage.objects.directory import DirectoryStore
from storage.objects.s3 import S3Store
from storage.objects.store import ObjectStore
from storage.spool import Spool
from tests.fixtures.dicom_files import ct_slice, encode, multi_frame, set_pixels
from tests.fixtures.http import HttpNode, multipart_parts
from tests.fixtures.objects import SeaweedFS
from tests.fixtures.serving import PROGRAM
from viewer_api.places import Places

NEVER = threading.Event()
EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN
HTJ2K = contexts.HTJ2K_LOSSLESS
AT_ONCE = Pace(timedelta(days=9), ripe=timedelta(0), rest=0.0)
SMOOTH = np.add.outer(np.arange(160), np.arange(120)).astype("<u2")


class Archive:
    """An archive without any wire."""

    def __init__(self, engine: Engine, store: ObjectStore, folder: Path) -> None:
        self.engine, self.store, self.folder = engine, store, folder
        self.spool = Spool(folder / "spool")

    def put(self, *datasets: Dataset, syntax: str = EXPLICIT) -> None:
        for dataset in datasets:
            came = Provenance(utc_now(), "c-store", "CT01")
            uids = dataset.SOPClassUID, dataset.SOPInstanceUID
            with self.spool.incoming(part10.head(*uids, syntax, came)) as incoming:
                incoming.write(encode(dataset, syntax))
        work = Ingest(self.engine, self.store, self.spool)
        while work.run_once():
            pass

    def rule(self, target: str = HTJ2K, **terms: Any) -> int:
        with transaction(self.engine) as session:
            return compressions.add(session, Terms(target, **terms), utc_now())

    def rules(self) -> list[Rule]:
        with transaction(self.engine) as session:
            return compressions.rules(session)

    def compress(self, pace: Pace = AT_ONCE, store: ObjectStore | None = None) -> None:
        work = Compressing(self.engine, store or self.store, self.folder / "work", pace)
        while work.run_once(NEVER):
            pass

    def located(self, dataset: Dataset) -> StoredInstance:
        with transaction(self.engine) as session:
            [found] = instances.locate(session, {"SOPInstanceUID": dataset.SOPInstanceUID})
        return found

    def delete_disused(self) -> int:
        settling = Settling(self.engine, self.store, self.folder / "settling", 0)
        return settling.delete_disused(timedelta(seconds=-1))

    def held_keys(self) -> set[str]:
        return {one.key for one in self.store.list()}

    def verify(self, dataset: Dataset) -> Sequence[bool]:
        work = Compressing(self.engine, self.store, self.folder / "work", AT_ONCE)
        with transaction(self.engine) as session:
            kept = compressions.of_study(session, dataset.StudyInstanceUID)
        return [work.is_whole(one) for one in kept]

    def undo(self, dataset: Dataset) -> Sequence[bool]:
        work = Compressing(self.engine, self.store, self.folder / "work", AT_ONCE)
        with transaction(self.engine) as session:
            kept = compressions.of_study(session, dataset.StudyInstanceUID)
        return [work.undo(one) for one in kept]


@pytest.fixture
def archive(engine: Engine, tmp_path: Path) -> Archive:
    return Archive(engine, DirectoryStore(tmp_path / "objects"), tmp_path)


@pytest.fixture
def on_s3(engine: Engine, tmp_path: Path, seaweedfs: SeaweedFS, bucket: str) -> Iterator[Archive]:
    store = S3Store.from_url(seaweedfs.url(bucket))
    yield Archive(engine, store, tmp_path)
    store.close()


def smooth(**values: Any) -> Dataset:
    dataset = ct_slice(**values)
    set_pixels(dataset, SMOOTH)
    return dataset


def received_again(archive: Archive, dataset: Dataset) -> bytes:
    return retrieve.received_dataset(archive.store, archive.located(dataset))


def test_what_a_rule_is_for_is_compressed(archive: Archive) -> None:
    ct, mr = smooth(), smooth(Modality="MR")
    archive.put(ct, mr)
    before = archive.located(ct)
    archive.rule(modality="CT")

    archive.compress()

    after = archive.located(ct)
    assert after.transfer_syntax_uid == HTJ2K
    assert after.dataset_size < before.dataset_size / 3
    assert received_again(archive, ct) == encode(ct)
    assert archive.located(mr).transfer_syntax_uid == EXPLICIT
    [rule] = archive.rules()
    assert (rule.compressed, rule.bytes_before) == (1, before.dataset_size)
    assert rule.bytes_after == after.dataset_size
    assert not rule.left_as_is


@pytest.mark.parametrize(
    "terms",
    [
        {"modality": "MR"},
        {"source_ae_title": "MR01"},
        {"transfer_syntax_uid": IMPLICIT},
        {"older_than_days": 1},
    ],
    ids=lambda terms: next(iter(terms)),
)
def test_what_a_rule_is_not_for_stays(archive: Archive, terms: dict[str, Any]) -> None:
    ct = smooth()
    archive.put(ct)
    archive.rule(**terms)

    archive.compress()

    assert archive.located(ct).transfer_syntax_uid == EXPLICIT


def test_what_is_still_too_new_is_looked_at_later(archive: Archive) -> None:
    ct = smooth()
    archive.put(ct)
    archive.rule()

    archive.compress(Pace(timedelta(0)))
    assert archive.located(ct).transfer_syntax_uid == EXPLICIT

    archive.compress()
    assert archive.located(ct).transfer_syntax_uid == HTJ2K


def test_what_cannot_be_is_left_with_its_reason(archive: Archive) -> None:
    noise = smooth()
    set_pixels(noise, np.random.default_rng(1).integers(0, 1 << 16, (40, 40), dtype=np.uint16))
    paper = ct_slice()
    del paper.PixelData
    archive.put(noise, paper, smooth())
    archive.rule()

    archive.compress()

    [rule] = archive.rules()
    assert rule.compressed == 1
    assert rule.left_as_is == {"it would not be smaller": 1, "no integer pixel data": 1}


def test_received_object_goes_when_its_time_is_over(archive: Archive) -> None:
    film = multi_frame(3)
    set_pixels(film, np.stack([SMOOTH, SMOOTH + 1, SMOOTH + 2]))
    film.NumberOfFrames = 3
    archive.put(film)
    first = archive.located(film).object_key
    archive.rule()
    archive.compress()

    archive.delete_disused()
    assert first in archive.held_keys(), "its time is not over"
    archive.compress(Pace(timedelta(0)))
    archive.delete_disused()

    assert archive.held_keys() == {archive.located(film).object_key}
    assert received_again(archive, film) == encode(film)
    assert archive.verify(film) == [True]


def test_received_object_stays_when_the_compressed_one_rots(archive: Archive) -> None:
    ct = smooth()
    archive.put(ct)
    first = archive.located(ct).object_key
    archive.rule()
    archive.compress()
    rot(archive, archive.located(ct))

    archive.compress(Pace(timedelta(0)))
    archive.delete_disused()

    assert first in archive.held_keys()
    assert archive.verify(ct) == [False]
    assert archive.undo(ct) == [True]
    assert retrieve.read_dataset(archive.store, archive.located(ct)) == encode(ct)


def rot(archive: Archive, stored: StoredInstance) -> None:
    path = archive.folder / "objects" / stored.object_key
    content = bytearray(path.read_bytes())
    content[stored.dataset_offset + stored.dataset_size // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("released", [False, True], ids=["kept", "released"])
def test_undo_gives_back_what_was_received(archive: Archive, *, released: bool) -> None:
    ct = smooth()
    archive.put(ct, syntax=IMPLICIT)
    archive.rule()
    archive.compress()
    if released:
        archive.compress(Pace(timedelta(0)))
        archive.delete_disused()

    assert archive.undo(ct) == [True]

    found = archive.located(ct)
    archive.delete_disused()
    archive.compress()
    assert found == archive.located(ct), "no rule looks at it again"
    assert found.transfer_syntax_uid == IMPLICIT
    assert found.received_transfer_syntax_uid == ""
    assert retrieve.read_dataset(archive.store, found) == encode(ct, IMPLICIT)
    assert archive.held_keys() == {found.object_key}


@pytest.mark.parametrize("released", [False, True], ids=["kept", "released"])
def test_what_comes_again_is_judged_by_what_was_received(
    archive: Archive, *, released: bool
) -> None:
    ct = smooth()
    other = smooth(SOPInstanceUID=ct.SOPInstanceUID)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(other, keyword, ct[keyword].value)
    other.ImageComments = "other bytes"
    archive.put(ct)
    archive.rule()
    archive.compress()
    if released:
        archive.compress(Pace(timedelta(0)))
        archive.delete_disused()
    shown = archive.located(ct)
    before = archive.held_keys()

    archive.put(ct)
    archive.put(other)
    archive.delete_disused()

    assert archive.located(ct) == shown
    with transaction(archive.engine) as session:
        [held] = quarantine.list_held(session)
    assert archive.held_keys() - before == {held.object_key}


class Dying:
    """A store whose process dies at the nth time that it is asked something."""

    def __init__(self, store: ObjectStore, lives: int) -> None:
        self._store, self._lives = store, lives

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._store, name)
        if not callable(known):
            return known

        def asked(*arguments: Any, **options: Any) -> Any:
            self._lives -= 1
            if self._lives < 0:
                raise KeyboardInterrupt
            made = known(*arguments, **options)
            self._lives -= 1
            if self._lives < 0:
                raise KeyboardInterrupt
            return made

        return asked


@pytest.mark.parametrize("lives", range(12))
def test_a_death_at_any_moment_leaves_one_of_the_two(archive: Archive, lives: int) -> None:
    ct = smooth()
    archive.put(ct)
    archive.rule()
    done = False
    for pace in (AT_ONCE, Pace(timedelta(0), timedelta(0), 0.0)):
        try:
            archive.compress(pace, Dying(archive.store, lives))
            done = True
        except KeyboardInterrupt:
            done = False
        assert received_again(archive, ct) == encode(ct)
        expire_claims(archive)

    archive.compress(Pace(timedelta(0), timedelta(0), 0.0))
    archive.delete_disused()

    assert archive.located(ct).transfer_syntax_uid == HTJ2K
    assert received_again(archive, ct) == encode(ct)
    assert archive.held_keys() == {archive.located(ct).object_key}
    assert done or lives < 12


def expire_claims(archive: Archive) -> None:
    with transaction(archive.engine) as session:
        for rule in compressions.rules(session):
            compressions.give_back(session, rule.id)


def test_a_store_that_gives_back_something_else_is_not_trusted(archive: Archive) -> None:
    class Forgetful(DirectoryStore):
        def sha256(self, *_place: Any, **_length: Any) -> str:
            return "0" * 64

    ct = smooth()
    archive.put(ct)
    archive.rule()

    archive.compress(store=Forgetful(archive.folder / "objects"))

    assert archive.located(ct).transfer_syntax_uid == EXPLICIT
    assert archive.rules()[0].left_as_is == {"the store gave back something else": 1}


def test_one_rotten_object_does_not_stop_the_others(archive: Archive) -> None:
    first, second = smooth(), smooth()
    archive.put(first)
    archive.put(second)
    rot(archive, archive.located(first))
    archive.rule()

    archive.compress()

    assert archive.located(second).transfer_syntax_uid == HTJ2K
    assert archive.rules()[0].left_as_is == {"it cannot be read as it was received": 1}


def test_a_store_that_is_away_stops_the_rule_where_it_is(archive: Archive) -> None:
    class Away(DirectoryStore):
        def read(self, *_place: Any) -> bytes:
            raise StoreUnavailable("away")

        def check(self) -> None:
            raise StoreUnavailable("away")

    ct = smooth()
    archive.put(ct)
    archive.rule()

    with pytest.raises(StoreUnavailable):
        archive.compress(store=Away(archive.folder / "objects"))
    archive.compress()

    assert archive.located(ct).transfer_syntax_uid == HTJ2K


def test_a_paused_rule_goes_on_where_it_was(archive: Archive) -> None:
    ct = smooth()
    archive.put(ct)
    rule = archive.rule()
    _set(archive, rule, State.PAUSED)
    archive.compress()
    assert archive.located(ct).transfer_syntax_uid == EXPLICIT

    _set(archive, rule, State.ACTIVE)
    archive.compress()
    _set(archive, rule, State.REMOVED)

    assert archive.located(ct).transfer_syntax_uid == HTJ2K
    assert not archive.rules()
    with pytest.raises(NotFound):
        _set(archive, rule, State.ACTIVE)


def _set(archive: Archive, rule: int, state: State) -> None:
    with transaction(archive.engine) as session:
        compressions.set_state(session, rule, state)


def test_two_workers_do_not_do_the_same(archive: Archive) -> None:
    archive.put(smooth())
    rule = archive.rule()
    with transaction(archive.engine) as session:
        assert compressions.claim(session, rule, utc_now())
        assert not compressions.claim(session, rule, utc_now())
        assert compressions.claim(session, rule, utc_now() + 2 * compressions.CLAIM)


def test_commitment_vouches_for_the_compressed_object(archive: Archive) -> None:
    ct = smooth()
    archive.put(ct)
    archive.rule()
    archive.compress()
    asked = [Reference(ct.SOPClassUID, ct.SOPInstanceUID)]

    def located(keys: Mapping[str, str]) -> Sequence[StoredInstance]:
        with transaction(archive.engine) as session:
            return instances.locate(session, keys)

    assert not commitment.verify(located, archive.store, asked)
    rot(archive, archive.located(ct))
    assert commitment.verify(located, archive.store, asked)


def test_the_same_on_s3(on_s3: Archive) -> None:
    ct = smooth()
    on_s3.put(ct)
    on_s3.rule("1.2.840.10008.1.2.4.80")

    on_s3.compress()
    on_s3.compress(Pace(timedelta(0)))
    on_s3.delete_disused()

    assert on_s3.held_keys() == {on_s3.located(ct).object_key}
    assert received_again(on_s3, ct) == encode(ct)
    assert on_s3.undo(ct) == [True]
    assert retrieve.read_dataset(on_s3.store, on_s3.located(ct)) == encode(ct)


@pytest.fixture
def compressed(http_node: HttpNode, tmp_path: Path) -> tuple[HttpNode, Dataset]:
    """A node with a slice that was compressed after its series had settled."""
    ct = smooth(StudyInstanceUID=generate_uid())
    http_node.put(ct)
    http_node.settle()
    archive = Archive(http_node.engine, http_node.store, tmp_path / "archive")
    archive.rule()
    archive.compress()
    return http_node, ct


def _path(dataset: Dataset) -> str:
    return (
        f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )


def test_who_asks_gets_the_same_pixels(compressed: tuple[HttpNode, Dataset]) -> None:
    node, ct = compressed
    client = node.client()

    def part(path: str, accept: str) -> bytes:
        answer = client.get(path, headers={"Accept": f"multipart/related; {accept}"})
        [(_, content)] = multipart_parts(answer)
        return content

    native = part(_path(ct), f'type="application/dicom"; transfer-syntax={EXPLICIT}')
    kept = part(_path(ct), 'type="application/dicom"; transfer-syntax=*')
    frame = part(f"{_path(ct)}/frames/1", 'type="application/octet-stream"')

    assert native.endswith(encode(ct)), "the received bytes"
    found = dcmread(DicomBytesIO(kept))
    assert found.file_meta.TransferSyntaxUID == HTJ2K
    assert 0xFFFCFFFC not in found
    assert frame == SMOOTH.tobytes()


def test_a_settled_series_tells_of_the_compressed_object(
    compressed: tuple[HttpNode, Dataset],
) -> None:
    node, ct = compressed
    node.settle()
    Compressing(node.engine, node.store, node.settings.data_dir / "w", Pace(timedelta(0))).release(
        NEVER
    )
    folder = node.settings.data_dir / "s"
    Settling(node.engine, node.store, folder, 0).delete_disused(timedelta(seconds=-1))

    # another process of the node, which remembers nothing
    entry = Places(node.engine, node.store).of_series(ct.StudyInstanceUID, ct.SeriesInstanceUID)
    answer = node.client().get(f"{_path(ct)}/metadata")
    assert answer.status_code == 200, answer.text
    [told] = answer.json()

    assert told["00083002"]["Value"] == [HTJ2K]
    assert entry.metadata is not None
    assert [one.stored.transfer_syntax_uid for one in entry.entries] == [HTJ2K]


def test_the_savings_are_among_the_figures(compressed: tuple[HttpNode, Dataset]) -> None:
    node, _ = compressed

    figures = node.client().get("/metrics").text

    assert "lienthong_compression_compressed 1.0" in figures


def test_rules_are_kept_from_a_shell(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "data").mkdir()
    settings = {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [PROGRAM, "compression", *arguments]
        environment = {**os.environ, **settings, "COLUMNS": "200"}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    added = run("add", "--to", "jpeg-ls", "--modality", "ct", "--older-than", "30")
    rule = added.stdout.strip()
    shown = run("list").stdout
    paused = run("pause", rule)

    assert added.returncode == 0, added.stderr
    assert rule.isdigit()
    assert "CT, older than days: 30" in shown
    assert "jpeg-ls" in shown
    assert paused.returncode == 0
    assert "paused" in run("list").stdout
    assert run("add", "--to", "gif").returncode == 1
    assert run("verify", "1.2.3").stdout.startswith("1.2.3: 0 compressed")
    assert run("remove", rule).returncode == 0
    assert run("remove", rule).returncode == 1
