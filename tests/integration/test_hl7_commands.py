"""``lienthong hl7`` as an operator uses it, on a node of which nothing runs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy import cli
from ris.hl7.ledger import State
from ris.hl7.pipeline import Pipeline
from ris.verbs import Domain
from storage.base.errors import ImagingError
from storage.db.engine import create
from tests.fixtures.hl7 import VIETNAM, order_message
from tests.fixtures.hl7_receiver import receiving

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command; an error of ours is an exit code of 1, as `main` makes it."""
    settings: Mapping[str, str] = {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, code: int = 0, given: bytes = b"") -> Result:
        result = CliRunner().invoke(cli.app, ["hl7", *arguments], input=given)
        if isinstance(result.exception, ImagingError):
            assert code == 1, result.exception
        else:
            assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def received(database_url: str, run: Run) -> Callable[[bytes], int]:
    """Lets a message come in and returns its number in the ledger."""
    from ris.hl7.senders import SenderBook  # noqa: PLC0415
    from storage.base.settings import UnknownPeers  # noqa: PLC0415

    run("list")

    def receive(octets: bytes) -> int:
        engine = create(database_url)
        try:
            book = SenderBook(engine, UnknownPeers.ACCEPT)
            Pipeline(engine, book, Domain(VIETNAM), VIETNAM).answer(octets, "10.0.0.7")
        finally:
            engine.dispose()
        newest = run("list", "--limit", "1", "--json").stdout
        return int(json.loads(newest)["id"])

    return receive


def test_messages_are_listed_by_what_people_know(
    run: Run, received: Callable[[bytes], int]
) -> None:
    received(order_message("4711"))
    dead = received(order_message("4712", "C2", "ZZ"))

    def ids(*options: str) -> list[int]:
        lines = run("list", "--json", *options).stdout.splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert len(ids()) == 2
    assert ids("--state", "dead") == [dead]
    assert len(ids("--order", "4711")) == len(ids("--accession", "4711")) == 1
    assert len(ids("--patient", "99002")) == 1
    assert ids("--since", "2099-01-01") == []
    assert "103 Table value not found" in run("list").stdout


def test_message_is_shown_as_it_came(run: Run, received: Callable[[bytes], int]) -> None:
    octets = order_message("4711")
    number = received(octets)

    shown = run("show", str(number)).stdout

    assert "ORC|NW|4711" in shown
    assert "MSA|AA|C1" in shown
    assert run("show", str(number), "--raw").stdout_bytes == octets
    run("show", "99999", code=1)


def test_dead_letter_is_corrected_from_a_file(
    run: Run, received: Callable[[bytes], int], tmp_path: Path
) -> None:
    number = received(order_message("4712", control="ZZ"))
    copy = tmp_path / "copy.hl7"
    copy.write_bytes(order_message("4712", control="NW"))

    run("replay", str(number), code=1)
    assert "OrderRequest" in run("replay", str(number), "--file", str(copy), "--dry-run").stdout
    assert "is applied" in run("replay", str(number), "--file", str(copy)).stdout

    states = [json.loads(one)["state"] for one in run("list", "--json").stdout.splitlines()]
    assert states == [State.APPLIED, State.CORRECTED]
    run("replay", str(number), code=1)


def test_dead_letter_is_corrected_in_an_editor(
    run: Run, received: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = received(order_message("4712", control="ZZ"))
    monkeypatch.delenv("VISUAL", raising=False)

    monkeypatch.setenv("EDITOR", "true")
    run("replay", str(number), "--edit", code=1)
    monkeypatch.setenv("EDITOR", "sed -i s/ORC|ZZ/ORC|NW/")
    assert "is applied" in run("replay", str(number), "--edit").stdout


def test_dry_run_shows_what_a_message_would_become_and_does_nothing(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "one.hl7"
    path.write_bytes(order_message("4711"))

    shown = run("dry-run", str(path), "--profile", "hispro").stdout

    assert "ORM^O01 of hispro, utf-8" in shown
    assert '"placer_order_number": "4711"' in shown
    assert run("list", "--json").stdout == ""
    path.write_bytes(order_message(control="ZZ"))
    run("dry-run", str(path), code=1)
    run("dry-run", str(tmp_path / "none"), code=1)


def test_senders_are_registered_with_what_differs(run: Run, tmp_path: Path) -> None:
    changes = tmp_path / "his.toml"
    changes.write_text('issuer = "BVDK"\n[stations]\nPSADT = "SA_01"\n')

    run("sender", "add", "his", "--profile", "hispro", "--application", "HIS")
    run("sender", "add", "his", "--changes", str(changes), "--address", "10.1.0.0/16")
    listed = run("sender", "list").stdout

    assert "BVDK" in listed
    assert "10.1.0.0/16" in listed
    run("sender", "add", "his", "--set", "isuer=BV", code=1)
    run("sender", "add", "his", "--profile", "none", code=1)
    run("sender", "remove", "his")
    run("sender", "remove", "his", code=1)
    assert "HISPRO" in run("sender", "profiles").stdout


def test_destinations_are_registered_paused_and_forgotten(run: Run) -> None:
    run("destination", "add", "his", "10.1.0.5", "2575", "--set", "version=2.4")
    run("destination", "pause", "his")
    assert "paused" in run("destination", "list").stdout
    run("destination", "resume", "his")
    assert "well" in run("destination", "list").stdout
    run("destination", "add", "his", "10.1.0.5", "2575", "--set", "versoin=2.4", code=1)
    run("destination", "add", "his", "10.1.0.5", "99999", code=2)
    run("destination", "remove", "his")
    run("destination", "remove", "his", code=1)
    assert run("outgoing").exit_code == 0
    run("resend", "1", code=1)
    run("discard", "1", code=1)


def test_messages_are_sent_from_files(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "one.hl7"
    path.write_bytes(order_message("4711"))

    with receiving() as receiver:
        address = f"127.0.0.1:{receiver.port}"
        assert "MSA|AA|C1" in run("send", address, str(path), str(path)).stdout
        receiver.usual = "AE"
        run("send", address, str(path), code=1)
    run("send", address, str(path), code=1)
    run("send", "nowhere", str(path), code=1)

    assert len(receiver.got) == 3
