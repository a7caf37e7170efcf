"""A merge seen, tried and undone by hand: in the domain, over HTTP, on the command line."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from deploy import cli
from ris import unmerging
from ris.tables import IdentifierRow, PatientRow
from ris.unmerging import Listed
from ris.verbs import Domain
from storage.access.tokens import Role
from storage.base.errors import NotFound
from storage.db.engine import Engine, create, transaction
from tests.fixtures.his import ZONE, His, pid
from tests.fixtures.http import HttpNode

MERGES = "/api/v1/patients/merges"


@pytest.fixture
def merged(his: His) -> His:
    """Patient A, with order 1, was merged into B, with order 2."""
    return two_merged(his)


def two_merged(his: His) -> His:
    his.order("NW", "1", "A", person=pid("A", "NGUYỄN VĂN AN"))
    his.order("NW", "2", "B", person=pid("B", "TRẦN THỊ BÌNH", "19900202", "F"))
    assert his.merge("B", "A") == "AA"
    return his


def listed(his: His, number: str = "") -> list[Listed]:
    with transaction(his.engine) as session:
        return [*unmerging.journal(session, 50, number=number)]


def state(his: His) -> list[tuple[str, str]]:
    return [(one, his.shown(one).identifier.value) for one in ("A", "B")]


def test_journal_tells_who_was_merged_into_whom(merged: His) -> None:
    [found] = listed(merged)

    assert (found.prior.identifier.value, found.survivor.identifier.value) == ("A", "B")
    assert (found.merge.sender, found.merge.undone_at) == ("his", None)


@pytest.mark.parametrize("number", ["A", "B"])
def test_journal_is_found_by_either_patient(merged: His, number: str) -> None:
    merged.merge("D", "C")

    assert [one.prior.identifier.value for one in listed(merged, number)] == ["A"]


def test_chain_of_merges_is_found_by_any_of_it_newest_first(merged: His) -> None:
    merged.merge("C", "B")

    assert [one.prior.identifier.value for one in listed(merged, "A")] == ["B", "A"]


def test_nobody_has_no_merges(merged: His) -> None:
    assert listed(merged, "nobody") == []


def test_journal_has_pages(merged: His) -> None:
    merged.merge("D", "C")
    newest, oldest = listed(merged)

    with transaction(merged.engine) as session:
        [page] = unmerging.journal(session, 1, before=newest.merge.id)

    assert page == oldest


def test_preview_shows_what_will_be_and_does_nothing(merged: His) -> None:
    [found] = listed(merged)

    with transaction(merged.engine) as session:
        shown = unmerging.preview(session, found.merge.id)

    assert shown.prior.patient.patient_name == "NGUYỄN VĂN AN"
    assert shown.survivor.patient.patient_name == "TRẦN THỊ BÌNH"
    assert shown.prior.order_ids == [merged.only_order("1").id]
    assert shown.survivor.order_ids == [merged.only_order("2").id]
    assert state(merged) == [("A", "B"), ("B", "B")]
    assert listed(merged)[0].merge.undone_at is None


def test_preview_is_what_the_undo_leaves(merged: His) -> None:
    [found] = listed(merged)
    with transaction(merged.engine) as session:
        shown = unmerging.preview(session, found.merge.id)

    with transaction(merged.engine) as session:
        unmerging.undo(session, found.merge.id, "lan")

    assert state(merged) == [("A", "A"), ("B", "B")]
    assert (merged.shown("A"), merged.shown("B")) == (shown.prior.patient, shown.survivor.patient)
    assert listed(merged)[0].merge.undone_by == "lan"


def test_merge_is_undone_once(merged: His) -> None:
    [found] = listed(merged)
    with transaction(merged.engine) as session:
        Domain(ZONE).undo_merge(session, found.merge.id)

    for again in (unmerging.preview, unmerging.undo):
        with transaction(merged.engine) as session, pytest.raises(NotFound):
            again(session, found.merge.id)


def test_message_after_the_undo_goes_to_its_own_patient(merged: His) -> None:
    [found] = listed(merged)
    with transaction(merged.engine) as session:
        unmerging.undo(session, found.merge.id)

    merged.order("NW", "3", person=pid("A", "NGUYỄN VĂN AN"))

    assert merged.only_order("3").patient_id == merged.patient("A").id
    assert merged.shown("B").patient_name == "TRẦN THỊ BÌNH"


# Over HTTP


@pytest.fixture
def client(http_node: HttpNode) -> httpx.Client:
    two_merged(His(http_node.engine))
    return http_node.client(http_node.token(Role.TECHNOLOGIST))


def test_merge_is_listed_tried_and_undone_over_http(client: httpx.Client) -> None:
    [found] = client.get(MERGES, params={"patient_id": "a"}).json()
    path = f"{MERGES}/{found['merge']['id']}"

    tried = client.post(f"{path}/preview").json()
    still = client.get(MERGES).json()
    undone = client.post(f"{path}/undo")
    again = client.post(f"{path}/undo")

    assert tried["prior"]["patient"]["patient_name"] == "NGUYỄN VĂN AN"
    assert tried["later_study_instance_uids"] == []
    assert still[0]["merge"]["undone_at"] is None
    assert undone.json()["undone_at"]
    assert undone.json()["undone_by"]
    assert (undone.status_code, again.status_code) == (200, 404)


def test_who_may_not_reconcile_may_not_undo(http_node: HttpNode, client: httpx.Client) -> None:
    [found] = client.get(MERGES).json()
    viewer = http_node.client(http_node.token(Role.VIEWER))

    answers = [
        viewer.get(MERGES),
        viewer.post(f"{MERGES}/{found['merge']['id']}/preview"),
        viewer.post(f"{MERGES}/{found['merge']['id']}/undo"),
    ]

    assert [one.status_code for one in answers] == [403] * 3


# On the command line


@pytest.fixture
def run(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs ``lienthong patient``; returns what it prints."""
    settings: Mapping[str, str] = {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli.app, ["patient", *arguments])
        if done.exception is not None:
            raise done.exception
        return done.output

    return run


@pytest.fixture
def elsewhere(database_url: str, run: Callable[..., str]) -> Iterator[His]:
    run("merges")
    engine: Engine = create(database_url)
    yield two_merged(His(engine))
    engine.dispose()


def test_merge_is_listed_tried_and_undone_on_the_command_line(
    elsewhere: His, run: Callable[..., str]
) -> None:
    [found] = listed(elsewhere)
    number = str(found.merge.id)

    assert "A (BVDK)" in run("merges", "--patient-id", "b")
    assert "is undone" not in run("undo-merge", number, "--preview")
    assert state(elsewhere) == [("A", "B"), ("B", "B")]
    assert "is undone" in run("undo-merge", number)
    assert state(elsewhere) == [("A", "A"), ("B", "B")]
    assert "command line" in run("merges")
    with pytest.raises(NotFound):
        run("undo-merge", number)


def test_a_merge_and_its_undoing_change_both_patients(his: His) -> None:
    def changed() -> dict[str, datetime]:
        with his.engine.connect() as connection:
            rows = connection.execute(
                select(IdentifierRow.value, PatientRow.changed_at)
                .join(PatientRow, PatientRow.id == IdentifierRow.patient_ref)
                .where(IdentifierRow.value.in_(["A", "B"]))
            )
            return {row.value: row.changed_at for row in rows}

    his.admit("A")
    his.admit("B")
    before = changed()
    his.merge("B", "A")
    merged = changed()
    [entry] = listed(his)
    with transaction(his.engine) as session:
        Domain(ZONE).undo_merge(session, entry.merge.id)

    assert min(merged.values()) > max(before.values())
    assert min(changed().values()) > max(merged.values())
