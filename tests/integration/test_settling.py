"""The metadata objects of series: made when a series settles, and never believed when stale."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import text

from pacs import series_metadata as objects
from pacs.settling import Settling
from storage.archive import series_metadata
from storage.archive.series_metadata import Held, State
from storage.base.clock import utc_now
from storage.base.errors import StoreUnavailable
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode

NEVER = threading.Event()


@pytest.fixture
def settling(http_node: HttpNode, tmp_path: Path) -> Settling:
    return Settling(http_node.engine, http_node.store, tmp_path / "parts", settle_s=0)


def series_of(count: int, study: str, series: str) -> list[Dataset]:
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return [ct_slice(InstanceNumber=number, **uids) for number in range(1, count + 1)]


def held(node: HttpNode, study: str) -> list[Held]:
    with transaction(node.engine) as session:
        return series_metadata.find(session, study)


def unsettled(node: HttpNode) -> list[State]:
    with transaction(node.engine) as session:
        return series_metadata.unsettled(session, 10)


def disused(node: HttpNode) -> Sequence[str]:
    with transaction(node.engine) as session:
        return series_metadata.disused(session, utc_now() + timedelta(hours=1), 10)


def test_settled_series_has_an_object(http_node: HttpNode, settling: Settling) -> None:
    slices = series_of(3, study := generate_uid(), generate_uid())
    http_node.put(*slices)

    assert settling.run_once(NEVER) == 1

    [one] = held(http_node, study)
    found = objects.read(http_node.store, one.key, study)
    uids = [entry.stored.sop_instance_uid for entry in found.entries]
    assert uids == [slice_.SOPInstanceUID for slice_ in slices]
    assert settling.run_once(NEVER) == 0
    assert not disused(http_node)


def test_series_that_still_changes_is_left_alone(http_node: HttpNode, tmp_path: Path) -> None:
    settling = Settling(http_node.engine, http_node.store, tmp_path / "parts", settle_s=0.2)
    study, series = generate_uid(), generate_uid()
    first, second = series_of(2, study, series)
    http_node.put(first)
    assert settling.run_once(NEVER) == 0
    http_node.put(second)
    threading.Event().wait(0.2)

    assert settling.run_once(NEVER) == 0, "it changed since it was seen first"
    threading.Event().wait(0.2)
    assert settling.run_once(NEVER) == 1


def test_later_instance_makes_the_object_stale_at_once(
    http_node: HttpNode, settling: Settling
) -> None:
    study, series = generate_uid(), generate_uid()
    first, second = series_of(2, study, series)
    http_node.put(first)
    settling.run_once(NEVER)
    [before] = held(http_node, study)

    http_node.put(second)

    assert held(http_node, study) == [Held(series, "")]
    assert settling.run_once(NEVER) == 1
    [after] = held(http_node, study)
    assert len(objects.read(http_node.store, after.key, study).entries) == 2
    assert disused(http_node) == [before.key]


def test_disused_object_is_deleted_after_its_grace(http_node: HttpNode, settling: Settling) -> None:
    study, series = generate_uid(), generate_uid()
    first, second = series_of(2, study, series)
    http_node.put(first)
    settling.run_once(NEVER)
    [before] = held(http_node, study)
    http_node.put(second)
    settling.run_once(NEVER)

    assert settling.delete_disused() == 0, "somebody may still read it"
    assert http_node.store.stat(before.key).size
    assert settling.delete_disused(timedelta(seconds=-1)) == 1
    assert settling.delete_disused(timedelta(seconds=-1)) == 0
    left = [found.key for found in http_node.store.list() if objects_key(found.key)]
    assert left == [one.key for one in held(http_node, study)]


def objects_key(key: str) -> bool:
    return len(key.rpartition("/")[2]) == 48


def test_object_of_a_series_that_changed_meanwhile_is_not_adopted(http_node: HttpNode) -> None:
    study, series = generate_uid(), generate_uid()
    first, second = series_of(2, study, series)
    http_node.put(first)
    [state] = unsettled(http_node)
    with transaction(http_node.engine) as session:
        series_metadata.announce(session, "aa/01", utc_now())
    http_node.put(second)

    with transaction(http_node.engine) as session:
        adopted = series_metadata.adopt(session, state, "aa/01", utc_now())

    assert not adopted
    assert held(http_node, study) == [Held(series, "")]
    assert disused(http_node) == ["aa/01"], "and it will be deleted"


def test_object_that_may_be_deleted_already_is_not_adopted(http_node: HttpNode) -> None:
    http_node.put(ct_slice())
    [state] = unsettled(http_node)
    with transaction(http_node.engine) as session:
        series_metadata.announce(session, "aa/01", utc_now())
    late = utc_now() + series_metadata.ADOPT_WITHIN

    with transaction(http_node.engine) as session:
        assert not series_metadata.adopt(session, state, "aa/01", late)
    with transaction(http_node.engine) as session:
        assert not series_metadata.adopt(session, state, "aa/02", utc_now())


def test_death_before_the_object_is_adopted_leaves_nothing_behind(
    http_node: HttpNode, tmp_path: Path
) -> None:
    """The announcement is there before the object, so the next process deletes it."""

    class Dies(Settling):
        def _make(self, state: State, stop: threading.Event) -> str | None:
            super()._make(state, stop)
            raise KeyboardInterrupt

    study = generate_uid()
    http_node.put(*series_of(1, study, generate_uid()))
    with pytest.raises(KeyboardInterrupt):
        Dies(http_node.engine, http_node.store, tmp_path / "parts", 0).run_once(NEVER)
    [orphan] = disused(http_node)
    assert http_node.store.stat(orphan).size

    survivor = Settling(http_node.engine, http_node.store, tmp_path / "parts", 0)
    assert survivor.run_once(NEVER) == 1
    assert survivor.delete_disused(timedelta(seconds=-1)) == 1

    [one] = held(http_node, study)
    assert [found.key for found in http_node.store.list() if objects_key(found.key)] == [one.key]


def test_series_with_a_rotten_object_is_tried_again_later(
    http_node: HttpNode, settling: Settling
) -> None:
    study = generate_uid()
    http_node.put(*series_of(1, study, series := generate_uid()))
    [path] = [path for path in http_node.store.folder.rglob("*") if path.is_file()]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    assert settling.run_once(NEVER) == 0
    assert settling.run_once(NEVER) == 0
    assert held(http_node, study) == [Held(series, "")]
    assert unsettled(http_node), "it is not given up"


def test_series_of_which_no_object_can_be_made_is_not_tried_again(
    http_node: HttpNode, settling: Settling
) -> None:
    study = generate_uid()
    http_node.put(*series_of(1, study, series := generate_uid()))
    with transaction(http_node.engine) as session:
        session.execute(text("UPDATE instances SET object_key = 'aa/bb'"))

    assert settling.run_once(NEVER) == 1

    assert held(http_node, study) == [Held(series, "")]
    assert not unsettled(http_node)


def test_rejected_object_is_made_anew(http_node: HttpNode, settling: Settling) -> None:
    study = generate_uid()
    http_node.put(*series_of(1, study, generate_uid()))
    settling.run_once(NEVER)
    [before] = held(http_node, study)

    with transaction(http_node.engine) as session:
        series_metadata.reject(session, before.key)

    assert settling.run_once(NEVER) == 1
    [after] = held(http_node, study)
    assert after.key not in {"", before.key}


def test_thread_goes_on_when_the_database_was_away(
    http_node: HttpNode, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_node.put(*series_of(1, study := generate_uid(), generate_uid()))
    monkeypatch.setattr("pacs.settling.LOOK_S", 0.01)
    stop, calls = threading.Event(), []
    once = settling.run_once

    def troubled(stop: threading.Event) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise StoreUnavailable("away")
        if len(calls) == 2:
            raise ValueError
        if len(calls) == 4:
            stop.set()
        return once(stop)

    settling.run_once = troubled  # type: ignore[method-assign] # a fault of what it stands on
    settling.run(stop)

    assert held(http_node, study)[0].key
