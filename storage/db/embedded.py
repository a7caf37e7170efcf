"""The PostgreSQL that this product brings along, shared by every process of one node.

Whoever needs it enters: takes a shared lock and starts the server when it does not run.
The last one who leaves stops it. A server that outlived its users is adopted; one that
was killed is started again, by the next who enters or within a second by those inside.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from sqlalchemy import URL

from storage.base.errors import ImagingError, StoreUnavailable
from storage.db import processes
from storage.db.cluster import DATABASE, ROLE, SOCKET, Cluster, bundled_programs, own, write

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 60.0
"""How long a server may stay silent at its start; while it says that it recovers, it may go on."""
STOP_TIMEOUT_S: Final = 30.0
WATCH_EVERY_S: Final = 0.5
SOCKET_PATH_MAX: Final = 103
"""Of `sun_path`, without the NUL, on the strictest system."""


class EmbeddedPostgres:
    """A server on the data in `folder`; its password lies in `secrets_dir`."""

    def __init__(
        self,
        folder: Path,
        secrets_dir: Path | None = None,
        *,
        programs: Path | None = None,
        linger: bool = False,
    ) -> None:
        """Start nothing yet; with `linger` the server goes on when the last user leaves."""
        self._cluster = Cluster(folder.absolute(), programs or bundled_programs())
        self._password_file = (secrets_dir or folder.parent / "secrets").absolute() / "postgres"
        self._linger = linger
        self._inside: int | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _frames: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The SQLAlchemy URL, with the password."""
        host = str(_socket_folder(self._cluster.run))
        made = URL.create(
            "postgresql+psycopg", ROLE, self._password(), database=DATABASE, query={"host": host}
        )
        scheme, _, rest = made.render_as_string(hide_password=False).partition("://")
        return f"{scheme}://{rest.replace('+', '%20')}"  # libpq does not read + as a space

    def start(self) -> str:
        """Enter: return the URL of a server that answers.

        Raises
        ------
        NotSupported
            The data were made by another major version of PostgreSQL.
        StoreUnavailable
            The server cannot be started; the text says why.
        """
        if self._inside is not None:
            return self.url
        with _as_ours(self._cluster.folder):
            self._cluster.folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._inside = _locked(self._cluster.folder / "users.lock", fcntl.LOCK_SH)
                try:
                    self._ensure()
                    url = self.url
                except BaseException:
                    self._leave()
                    raise
        self._stopping.clear()
        self._watcher = threading.Thread(target=self._watch, name="postgres-watch", daemon=True)
        self._watcher.start()
        return url

    def stop(self) -> None:
        """Leave; the last user to leave stops the server."""
        if self._inside is None:
            return
        self._stopping.set()
        if self._watcher:
            self._watcher.join()
        with _as_ours(self._cluster.folder), self._alone():
            self._leave()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which a server is started, stopped and looked after."""
        lock = _locked(self._cluster.folder / "start.lock", fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(lock)

    def _leave(self) -> None:
        """Give the shared lock back, and stop the server when nobody else has it."""
        if self._inside is not None:
            os.close(self._inside)
            self._inside = None
        if not self._linger and self._is_empty():
            self._shut_down()
            _forget_short_path(self._cluster.run)

    def _is_empty(self) -> bool:
        lock = os.open(self._cluster.folder / "users.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _watch(self) -> None:
        """Start the server again when it was killed, until we leave."""
        while not self._stopping.wait(WATCH_EVERY_S):
            if processes.postmaster(self._cluster.data) is not None:
                continue
            try:
                with _as_ours(self._cluster.folder), self._alone():
                    if not self._stopping.is_set():
                        log.warning("postgres_restarted")
                        self._ensure()
            except ImagingError as error:
                log.error("postgres_does_not_start", extra={"reason": str(error)})  # noqa: TRY400

    def _ensure(self) -> None:
        """Have a server that answers, whatever there was before."""
        self._cluster.lay()
        if not self._cluster.data.exists():
            self._cluster.create(self._new_password())
        self._cluster.check_version()
        self._cluster.adopt_ownership()
        if not self._password_file.is_file():
            self._reset_password()
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (state := self._state()) != "ready":
            if state == "busy":  # it recovers, or an older stop is under way
                deadline = time.monotonic() + START_TIMEOUT_S
            if processes.postmaster(self._cluster.data) is None:
                self._launch()
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"PostgreSQL does not answer: {self._last_words()}")
            time.sleep(processes.POLL_S)

    def _launch(self) -> None:
        """Start a server and wait until it took the folder, or died."""
        self._clear_remains()
        pid = self._cluster.launch()
        while processes.postmaster(self._cluster.data) is None:
            if not pid or not processes.is_alive(pid):
                raise StoreUnavailable(f"PostgreSQL does not start: {self._last_words()}")
            time.sleep(processes.POLL_S)

    def _clear_remains(self) -> None:
        """Remove what a killed server left; its process id may be another's by now."""
        processes.end_orphans(self._cluster.data)
        for left in (self._cluster.data / "postmaster.pid", self._cluster.run / f"{SOCKET}.lock"):
            left.unlink(missing_ok=True)

    def _state(self) -> str:
        """Return ready, busy or silent."""
        try:
            with psycopg.connect(
                host=str(_socket_folder(self._cluster.run)),
                user=ROLE,
                password=self._password(),
                dbname=DATABASE,
                connect_timeout=2,
            ):
                return "ready"
        except psycopg.OperationalError as error:
            said = str(error)
        if "password authentication failed" in said:
            raise StoreUnavailable(
                f"{self._password_file} does not hold the password of {self._cluster.data}: "
                "stop every process of this node and remove the file to get a new one"
            )
        if "too many clients" in said or "remaining connection slots" in said:
            return "ready"
        return "busy" if "the database system is" in said else "silent"

    def _password(self) -> str:
        return self._password_file.read_text("ascii").strip()

    def _reset_password(self) -> None:
        if processes.postmaster(self._cluster.data) is not None:
            raise StoreUnavailable(
                f"{self._password_file} is gone while the server runs: "
                "stop every process of this node to get a new one"
            )
        self._clear_remains()
        self._cluster.set_password(self._new_password())

    def _new_password(self) -> str:
        folder = self._password_file.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own(folder, None, 0o700)
        password = secrets.token_urlsafe(32)
        write(self._password_file, password + "\n", 0o600)
        return password

    def _shut_down(self) -> None:
        """Stop the server fast: sessions end, everything is written; else as after a crash."""
        for order, patience_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 10.0)):
            pid = processes.postmaster(self._cluster.data)
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)
            deadline = time.monotonic() + patience_s
            while processes.is_alive(pid) and time.monotonic() < deadline:
                time.sleep(processes.POLL_S)

    def _last_words(self) -> str:
        lines = self._cluster.start_log.read_text("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-3:]) or f"see {self._cluster.folder / 'log'}"


@contextmanager
def _as_ours(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = error.filename or folder
        raise StoreUnavailable(f"embedded PostgreSQL: {named}: {error.strerror}") from error


def _locked(path: Path, how: int) -> int:
    """Open `path` and wait for the lock; it is held until the descriptor is closed."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, how)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _socket_folder(run: Path) -> Path:
    """Return a name of `run` that fits into a socket address and that libpq takes as one host."""
    fits = len(os.fsencode(run / SOCKET)) <= SOCKET_PATH_MAX
    if fits and str(run).isprintable() and "," not in str(run):
        return run
    private = _short_folder(run)
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or not private.is_dir():
        raise StoreUnavailable(f"{private} belongs to somebody else")
    link = private / "run"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(run)
    return link


def _short_folder(run: Path) -> Path:
    name = hashlib.sha256(os.fsencode(run)).hexdigest()[:16]
    base = Path(tempfile.gettempdir())
    short = len(os.fsencode(base)) <= SOCKET_PATH_MAX // 2
    return (base if short else Path("/tmp")) / f"lienthong-{os.geteuid()}-{name}"  # noqa: S108


def _forget_short_path(run: Path) -> None:
    private = _short_folder(run)
    with contextlib.suppress(OSError):
        (private / "run").unlink()
    with contextlib.suppress(OSError):
        private.rmdir()
