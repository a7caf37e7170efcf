"""The embedded server, started, killed and shared by real processes.

The path that needs root runs when the tests do; so does the other one, then in a child
that became nobody.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from storage.base.errors import NotSupported, StoreUnavailable
from storage.base.settings import Settings
from storage.db import open_database, processes
from storage.db.cluster import bundled_programs
from storage.db.embedded import EmbeddedPostgres
from storage.db.engine import check, create
from tests.fixtures.patience import AT_ONCE_S, PATIENCE_S

AS_ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534


def everybody_reaches(program: str) -> bool:
    """Whether any account can pass every folder above `program`."""
    return all(folder.stat().st_mode & 0o001 for folder in Path(program).resolve().parents)


def mentioned(folder: Path) -> bool:
    """Whether a process works on `folder`, by its command line."""
    found = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found = found or os.fsencode(folder) in path.read_bytes()
    return found


# Enters, says so, and stays until its standard input ends.
USER = """
import sys
from pathlib import Path
from storage.db.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that was initialised and stopped, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "postgres"
    with EmbeddedPostgres(folder) as server, connect(server.url) as connection:
        connection.execute("CREATE TABLE kept (value text)")
    return folder.parent


@pytest.fixture
def copied(made_once: Path) -> Iterator[Callable[[Path], Path]]:
    """Copy the data folder under a given one; whatever still runs there in the end is stopped."""
    folders: list[Path] = []

    def copy(parent: Path) -> Path:
        folders.append(parent / "postgres")
        shutil.copytree(made_once, parent, dirs_exist_ok=True)
        return folders[-1]

    yield copy
    for folder in folders:
        if pid := processes.postmaster(folder / "cluster"):
            os.kill(pid, signal.SIGKILL)
        processes.end_orphans(folder / "cluster", patience_s=0)


@pytest.fixture
def data(copied: Callable[[Path], Path], tmp_path: Path) -> Path:
    return copied(tmp_path / "data")


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)


def ask(url: str, query: str) -> object:
    with connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def pid_of(folder: Path) -> int:
    pid = processes.postmaster(folder / "cluster")
    assert pid is not None
    return pid


@contextlib.contextmanager
def another_user(folder: Path, **how: object) -> Iterator[subprocess.Popen[str]]:
    """A process that entered; killed in the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, **how,  # type: ignore[call-overload]
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline().startswith("postgresql"), "it did not enter"
            yield process
        finally:
            process.kill()


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def eventually(holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + timeout_s
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def modes_above(path: Path) -> list[int]:
    return [stat.S_IMODE(parent.stat().st_mode) for parent in path.parents]


def test_new_folder_is_initialised_as_promised(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "postgres"

    with EmbeddedPostgres(folder) as server:
        engine = create(server.url)
        check(engine)
        engine.dispose()
        found = {
            name: ask(server.url, f"SHOW {name}")
            for name in ("server_encoding", "data_checksums", "listen_addresses", "jit")
        }
        locale = ask(server.url, "SELECT datlocale FROM pg_database WHERE datname = 'lienthong'")
        rights = ask(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(server.url.replace(":", "x:", 2).replace("x:", ":", 1))

    assert found == {
        "server_encoding": "UTF8", "data_checksums": "on", "listen_addresses": "", "jit": "off",
    }  # fmt: skip
    assert locale == "C.UTF-8"
    assert rights is False
    assert stat.S_IMODE((folder.parent / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.parent / "secrets" / "postgres").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "cluster").stat().st_mode) == 0o700


def test_server_is_stopped_cleanly_by_the_last_who_leaves(data: Path) -> None:
    with EmbeddedPostgres(data) as server:
        pid = pid_of(data)
        with another_user(data) as other:
            pass_on = ask(server.url, "SELECT count(*) FROM kept")
            server.stop()
            still_there = pid_of(data) == pid
            leave(other)

    assert pass_on == 0
    assert still_there
    assert not processes.is_alive(pid)
    assert not (data / "cluster" / "postmaster.pid").exists()


def test_users_who_come_at_once_share_one_server(data: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes_ = [
            subprocess.Popen(
                [sys.executable, "-c", USER, str(data)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
            )
            for _ in range(3)
        ]  # fmt: skip
        for process in processes_:
            stack.enter_context(process)
            stack.callback(process.kill)
        urls = {process.stdout.readline() for process in processes_ if process.stdout}
        pid = pid_of(data)
        for process in processes_:
            leave(process)

    assert len(urls) == 1
    assert eventually(lambda: not processes.is_alive(pid))


def test_server_that_outlived_its_killed_users_is_adopted(data: Path) -> None:
    with another_user(data) as user:
        pid = pid_of(data)
        user.kill()
        user.wait()

    with EmbeddedPostgres(data):
        adopted = pid_of(data)

    assert adopted == pid
    assert not processes.is_alive(pid)


def test_killed_postmaster_is_replaced_for_who_enters_and_who_is_inside(data: Path) -> None:
    with EmbeddedPostgres(data) as server, connect(server.url) as busy:
        busy.execute("INSERT INTO kept VALUES ('before')")
        first = pid_of(data)
        os.kill(first, signal.SIGKILL)

        def is_back() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return ask(server.url, "SELECT count(*) FROM kept WHERE value = 'before'") == 1
            return False

        assert eventually(is_back)
        assert pid_of(data) != first
        with another_user(data):
            assert pid_of(data) != first


def test_start_after_everything_was_killed(data: Path) -> None:
    with another_user(data) as user:
        pid = pid_of(data)
        user.kill()
        user.wait()
        os.kill(pid, signal.SIGKILL)

    started = time.monotonic()
    with EmbeddedPostgres(data) as server:
        took_s = time.monotonic() - started
        assert ask(server.url, "SELECT count(*) FROM kept") == 0

    assert took_s < AT_ONCE_S


def test_process_id_that_was_given_to_another_process_is_recognised(data: Path) -> None:
    stale = f"{os.getpid()}\n{data}/cluster\n1\n5432\n../run\n\n  1  1\nready\n"
    (data / "cluster" / "postmaster.pid").write_text(stale)
    (data / "run" / ".s.PGSQL.5432.lock").write_text(stale)

    with EmbeddedPostgres(data):
        assert pid_of(data) != os.getpid()


def test_data_of_another_major_version_are_refused(data: Path) -> None:
    (data / "cluster" / "PG_VERSION").write_text("15\n")

    with pytest.raises(NotSupported, match=r"made by PostgreSQL 15 .* brings PostgreSQL 18"):
        EmbeddedPostgres(data).start()


def test_initialisation_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "cut" / "postgres"
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        stdin=subprocess.DEVNULL, start_new_session=True, cwd=REPOSITORY,
    ) as process:  # fmt: skip
        assert eventually(lambda: any(folder.glob("cluster.new-*/base")))
        process.kill()
    assert eventually(lambda: not mentioned(folder))  # what it had started ends with a broken pipe

    assert not (folder / "cluster").exists()
    with EmbeddedPostgres(folder) as server:
        assert ask(server.url, "SELECT 1") == 1

    assert not list(folder.glob("cluster.new-*"))


def test_lost_password_is_replaced_when_the_server_is_down(data: Path) -> None:
    (data.parent / "secrets" / "postgres").unlink()

    with EmbeddedPostgres(data) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_wrong_password_is_named_with_what_to_do(data: Path) -> None:
    (data.parent / "secrets" / "postgres").write_text("wrong")

    with pytest.raises(StoreUnavailable, match="does not hold the password"):
        EmbeddedPostgres(data).start()

    assert processes.postmaster(data / "cluster") is None


def test_server_that_does_not_start_says_why(data: Path) -> None:
    (data / "local.conf").write_text("shared_buffers = 'much'\n")

    with pytest.raises(StoreUnavailable, match=r"does not start.*shared_buffers"):
        EmbeddedPostgres(data).start()


def test_settings_of_the_operator_win(data: Path) -> None:
    (data / "local.conf").write_text("work_mem = '3MB'\nfsync = off\n")

    with EmbeddedPostgres(data) as server:
        engine = create(server.url)
        with pytest.raises(StoreUnavailable, match="power cut: fsync = off"):
            check(engine)
        engine.dispose()
        assert ask(server.url, "SHOW work_mem") == "3MB"


@pytest.mark.parametrize(
    "name",
    ["dữ liệu của bệnh viện", "a b, c", "50% ' \" $x \\ #", "x" * 120],
    ids=["vietnamese", "comma", "quotes", "long"],
)
def test_any_folder_name_will_do(name: str, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = copied(tmp_path / name)

    with EmbeddedPostgres(folder) as server:
        assert ask(server.url, "SELECT count(*) FROM kept") == 0
        engine = create(server.url)
        check(engine)
        engine.dispose()


def test_interrupt_from_the_terminal_does_not_reach_the_server(data: Path) -> None:
    with EmbeddedPostgres(data):
        assert os.getsid(pid_of(data)) != os.getsid(0)


def test_configured_database_is_used_as_it_is(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"data_dir": tmp_path / "none", "database_url": "postgresql://u:p@db.example:5433/x"}
    )

    with open_database(settings) as url:
        assert url == "postgresql+psycopg://u:p@db.example:5433/x"
    assert not (tmp_path / "none").exists()


def test_embedded_database_lies_in_the_data_folder(data: Path) -> None:
    with open_database(Settings.model_validate({"data_dir": data.parent})) as url:
        assert ask(url, "SELECT count(*) FROM kept") == 0


@pytest.mark.skipif(not AS_ROOT, reason="root gives the data to an account")
@pytest.mark.parametrize("closed_programs", [False, True])
def test_root_serves_from_folders_closed_to_everybody(
    copied: Callable[[Path], Path],
    closed_programs: bool,
) -> None:
    with tempfile.TemporaryDirectory(dir="/root") as deep:
        Path(deep, "inner").mkdir(mode=0o700)
        folder = copied(Path(deep, "inner", "data"))
        folder.parent.chmod(0o700)
        programs = bundled_programs()
        if closed_programs:
            shutil.copytree(programs.parent, Path(deep, "inner", "pg"))
            programs = Path(deep, "inner", "pg", "bin")
        before = modes_above(folder), modes_above(programs)

        with EmbeddedPostgres(folder, programs=programs) as server:
            account = Path(f"/proc/{pid_of(folder)}").stat().st_uid
            status = Path(f"/proc/{pid_of(folder)}/status").read_text()
            assert ask(server.url, "SELECT count(*) FROM kept") == 0

        assert account != 0
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000004" in status  # CAP_DAC_READ_SEARCH alone
        assert (modes_above(folder), modes_above(programs)) == before


@pytest.mark.skipif(not AS_ROOT, reason="root gives the data to an account")
def test_root_keeps_no_capability_where_none_is_needed(made_once: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as open_folder:
        Path(open_folder).chmod(0o755)
        shutil.copytree(made_once, Path(open_folder, "data"))
        Path(open_folder, "data").chmod(0o755)
        folder = Path(open_folder, "data", "postgres")

        with EmbeddedPostgres(folder):
            status = Path(f"/proc/{pid_of(folder)}/status").read_text()

    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{kind}:\t0000000000000000" in status


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
@pytest.mark.skipif(not everybody_reaches(sys.executable), reason="Python lies in a closed folder")
def test_other_users_run_their_own_and_are_told_when_it_is_not_theirs(data: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        os.chown(home, NOBODY, NOBODY)
        folder = Path(home, "data", "postgres")
        with another_user(folder, user=NOBODY, group=NOBODY, extra_groups=[]) as user:
            assert Path(f"/proc/{pid_of(folder)}").stat().st_uid == NOBODY
            with EmbeddedPostgres(folder) as server:  # root comes in too
                assert ask(server.url, "SELECT 1") == 1
            leave(user)
        assert eventually(lambda: processes.postmaster(folder / "cluster") is None)
        with another_user(folder, user=NOBODY, group=NOBODY, extra_groups=[]) as user:
            leave(user)

    refused = subprocess.run(
        [sys.executable, "-c", USER, str(data)],
        user=NOBODY, group=NOBODY, extra_groups=[], cwd=REPOSITORY,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "StoreUnavailable" in refused.stderr


def test_start_waits_for_a_stop_that_is_under_way(data: Path) -> None:
    with another_user(data) as user:
        pid = pid_of(data)
        user.kill()
        user.wait()
    os.kill(pid, signal.SIGINT)

    with EmbeddedPostgres(data) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_lock_of_a_user_is_not_inherited_by_the_server(data: Path) -> None:
    with another_user(data) as user:
        user.kill()
        user.wait()
        with (data / "users.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises when somebody holds it
