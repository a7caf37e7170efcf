"""The command line as a person meets it: help, mistakes, and hostile text on its screen."""

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import COMMANDS as COMMANDS_LISTED
from deploy.cli import app
from deploy.locking import only_one
from storage.archive import quarantine
from storage.archive.quarantine import Held, Reason
from storage.db.engine import create, transaction
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.serving import PROGRAM, free_port

COMMANDS = (
    *("serve", "migrate", "doctor", "import", "send", "peer", "peer add", "peer list"),
    *("peer remove", "peer echo", "token", "token create", "token list", "token revoke"),
    *("quarantine", "quarantine list", "quarantine export", "quarantine discard"),
    *("rejection", "rejection list", "rejection show", "rejection reject", "rejection restore"),
    *(
        "rejection export",
        "user",
        "user add",
        "user link",
        "user list",
        "user password",
        "user role",
    ),
    *("user disable", "user enable", "viewer", "viewer install"),
    *("attribute", "attribute add", "attribute list", "attribute remove", "reindex"),
    *("audit", "audit verify", "station", "station add", "station change", "station list"),
    *("station refer", "station revoke", "station wipe", "station device add", "station user add"),
    *("station-client", "station-client init", "station-client sync", "station-client pdf"),
)


def lienthong(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in `folder`, with those settings alone."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("LIENTHONG_")}
    return subprocess.run(
        [PROGRAM, *arguments],
        env={**known, **settings, "COLUMNS": "200"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def node(tmp_path: Path, database_url: str) -> Mapping[str, str]:
    """The settings of a node on a database of its own, of which nothing runs."""
    (tmp_path / "data").mkdir()
    return {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
        "LIENTHONG_DICOM_PORT": str(free_port()),
        "LIENTHONG_HTTP_PORT": str(free_port()),
        "LIENTHONG_VIEWER_PORT": "0",
        "LIENTHONG_HL7_PORT": str(free_port()),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    answer = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="lienthong")

    assert answer.exit_code == 0
    assert f"Usage: lienthong {command}" in answer.stdout


def test_every_command_that_is_listed_can_be_loaded() -> None:
    for name in COMMANDS_LISTED:
        answer = CliRunner().invoke(app, [name, "--help"], prog_name="lienthong")
        assert answer.exit_code == 0, name


HEAVY = ("numpy", "pydicom", "fastapi", "imagecodecs", "reportlab", "hl7apy", "pynetdicom")


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("--help", (*HEAVY, "sqlalchemy", "pydantic")),
        ("token create --help", HEAVY),
        ("serve --help", HEAVY),
    ],
)
def test_a_command_loads_no_more_than_it_needs(command: str, unneeded: tuple[str, ...]) -> None:
    program = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules));"
        "from deploy import cli; cli.main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    loaded = {*answer.stdout.splitlines()[-1].split()}
    assert "deploy.cli" in loaded
    assert not loaded & {*unneeded}


@pytest.mark.parametrize("arguments", ["", "nonsense", "peer", "peer add A h 99999", "import"])
def test_wrong_usage_is_2(tmp_path: Path, arguments: str) -> None:
    assert lienthong(tmp_path, *arguments.split()).returncode == 2


@pytest.mark.parametrize("command", ["doctor", "token create --role admin", "import ."])
def test_no_archive_is_begun_by_chance_where_a_command_is_tried(
    tmp_path: Path, command: str
) -> None:
    answer = lienthong(tmp_path, *command.split())

    assert answer.returncode == 1
    assert "LIENTHONG_DATA_DIR" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert [*tmp_path.iterdir()] == []


def test_doctor_names_what_does_not_answer_and_what_to_do(
    tmp_path: Path, node: Mapping[str, str]
) -> None:
    answer = lienthong(tmp_path, "doctor", **node)
    said = {line.split()[1]: line for line in answer.stdout.splitlines() if "│" in line}

    assert answer.returncode == 1
    assert "│ ok" in said["database"]
    assert "│ ok" in said["schema"]
    port = node["LIENTHONG_DICOM_PORT"]
    assert f"127.0.0.1:{port}: Connection refused" in said["dicom"]  # no emoji for ":1234:"
    assert "LIENTHONG_DICOM_PORT" in said["dicom"]
    assert "Connection refused" in said["http"]
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("name", "value", "part", "advice"),
    [
        ("DATABASE_URL", "postgresql://u:p@127.0.0.1:1/x", "database", "LIENTHONG_DATABASE_URL"),
        ("SPOOL_RESERVE_BYTES", str(1 << 60), "spool", "make room"),
        (
            "OBJECTS_URL",
            "s3://a:b@127.0.0.1:1/bucket?secure=false",
            "objects",
            "LIENTHONG_OBJECTS_URL",
        ),
    ],
)
def test_doctor_finds_the_broken_part(
    tmp_path: Path, node: Mapping[str, str], name: str, value: str, part: str, advice: str
) -> None:
    answer = lienthong(tmp_path, "doctor", **{**node, f"LIENTHONG_{name}": value})

    [line] = [one for one in answer.stdout.splitlines() if one.startswith(f"│ {part} ")]
    assert answer.returncode == 1
    assert "│ no" in line
    assert advice in line


def test_doctor_says_that_a_database_has_no_schema(tmp_path: Path, node: Mapping[str, str]) -> None:
    engine = create(node["LIENTHONG_DATABASE_URL"])
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()

    answer = lienthong(tmp_path, "doctor", **node)

    assert "lienthong migrate" in answer.stdout
    assert "Traceback" not in answer.stderr


def test_text_of_peers_is_shown_as_it_is(tmp_path: Path, node: Mapping[str, str]) -> None:
    hostile = "[/red][bold]:pill:\x1b[31m"
    engine = create(node["LIENTHONG_DATABASE_URL"])
    held = Held(datetime.now(UTC), Reason.MALFORMED, "00/aa/bb", 0, 1, "aa", detail=hostile)
    with transaction(engine) as session:
        quarantine.hold(session, held)
    engine.dispose()

    added = lienthong(tmp_path, "peer", "add", "[/X]", "127.0.0.1", "1", **node)
    peers = lienthong(tmp_path, "peer", "list", **node)
    listed = lienthong(tmp_path, "quarantine", "list", **node)

    assert (added.returncode, peers.returncode, listed.returncode) == (0, 0, 0)
    assert "[/X]" in peers.stdout
    assert r"[/red][bold]:pill:\x1b[31m" in listed.stdout


def test_two_imports_do_not_take_from_each_other(tmp_path: Path, node: Mapping[str, str]) -> None:
    (tmp_path / "files").mkdir()

    with only_one(tmp_path / "data" / "import.lock", "not in a test"):
        second = lienthong(tmp_path, "import", "files", **node)
    third = lienthong(tmp_path, "import", "files", **node)

    assert second.returncode == 1
    assert "another import runs" in second.stderr
    assert third.returncode == 0
    assert "0 failed of 0 files" in third.stdout


def test_no_name_of_a_file_moves_the_cursor(tmp_path: Path, node: Mapping[str, str]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in (b"\xff", b"\x1b[31m", b"a\nb"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(b"no DICOM")

    answer = lienthong(tmp_path, "import", "files", **node, PYTHONIOENCODING="utf-8:strict")

    assert answer.returncode == 1
    assert answer.stdout.splitlines()[:3] == [
        r"\x1b[31m: not DICOM: no dataset begins at byte 0",
        r"a\nb: not DICOM: no dataset begins at byte 0",
        r"\udcff: not DICOM: no dataset begins at byte 0",
    ]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, node: Mapping[str, str]) -> None:
    engine = create(node["LIENTHONG_DATABASE_URL"])
    with transaction(engine) as session:
        quarantine.hold(session, Held(datetime.now(UTC), Reason.MALFORMED, "00/aa/bb", 0, 1, "aa"))
        [held] = quarantine.list_held(session)
    engine.dispose()

    answer = lienthong(tmp_path, "quarantine", "export", str(held.id), sys.executable, **node)

    assert answer.returncode == 1
    assert answer.stderr == f"lienthong: {sys.executable}: File exists\n"


def test_send_names_each_failure_with_the_words_of_the_peer(
    tmp_path: Path, node: Mapping[str, str], port: int
) -> None:
    faulty = ct_slice(StudyInstanceUID="")
    (tmp_path / "faulty.dcm").write_bytes(part10_file(faulty))
    (tmp_path / "text.dcm").write_text("no DICOM at all")

    answer = lienthong(
        tmp_path, "send", f"ARCHIVE@127.0.0.1:{port}", "faulty.dcm", "text.dcm", **node
    )

    assert answer.returncode == 1
    assert answer.stdout.splitlines() == [
        "text.dcm: not DICOM: no dataset begins at byte 0",
        "faulty.dcm: the peer answers status C000: Study Instance UID (0020,000D) is empty",
        "0 sent, 2 failed of 2 files",
    ]
