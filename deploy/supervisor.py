"""One tree for the roles of a node: start, watch, restart, stop in order.

    serve ─┬─ embedded PostgreSQL (its own session, stopped last)
           ├─ dicom    answers DICOM associations, fills the spool
           ├─ hl7      answers HL7 over MLLP, tells other systems
           ├─ api      answers HTTP, fills the spool
           └─ worker   empties the spool into the object store and the index

Each role is a process of its own, so that one that dies takes nothing along.
It holds the read end of a pipe whose write end is here: when the supervisor is
gone, even by ``kill -9``, the pipe closes and the role stops by itself.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

log = logging.getLogger(__name__)

LIFELINE: Final = "LIENTHONG_LIFELINE_FD"
"""Names the inherited file descriptor whose end of file means: the supervisor is gone."""

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
HEALTHY_AFTER_S: Final = 30.0
POLL_S: Final = 0.05


@dataclass(slots=True)
class Role:
    """One supervised process."""

    name: str
    command: Sequence[str]
    delay_s: float = field(default=0.0, kw_only=True)
    """It is started so much later: those that are needed first have the processors until then."""
    stage: int = 0
    """Roles of one stage are stopped together, those of a later one after them."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class Supervisor:
    """Keeps `roles` running until it is told to stop.

    Roles are started in order and stopped stage by stage: those that take work in
    before those that work it off.
    """

    roles: Sequence[Role]
    grace_s: float
    """How long a role may take to finish what it has begun, in seconds."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _stop: threading.Event = field(default_factory=threading.Event)
    _hurry: threading.Event = field(default_factory=threading.Event)

    def run(self, while_running: Callable[[], None] = lambda: None) -> None:
        """Start every role and stay until SIGTERM, SIGINT or `stop`.

        `while_running` is called on every round, a few times a second. A second
        signal ends the roles at once.
        """
        on_signals(self._on_signal)
        read_end, write_end = os.pipe()
        try:
            for role in self.roles:
                if role.delay_s:
                    role.restart_at = time.monotonic() + role.delay_s
                else:
                    self._start(role, read_end)
            while not self._stop.wait(POLL_S):
                for role in self.roles:
                    self._watch(role, read_end)
                while_running()
        finally:
            self._stop_all()
            os.close(write_end)
            os.close(read_end)

    def stop(self) -> None:
        """Ask for an orderly stop; `run` returns when it is done."""
        self._stop.set()

    def _on_signal(self, number: int) -> None:
        log.info("stop_requested", extra={"signal": signal.Signals(number).name})
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _start(self, role: Role, lifeline: int) -> None:
        role.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            role.command,
            env={**self.environment, LIFELINE: str(lifeline)},
            pass_fds=(lifeline,),
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops in order
        )
        role.started_at = time.monotonic()
        log.info("role_started", extra={"role_name": role.name, "pid": role.process.pid})

    def _watch(self, role: Role, lifeline: int) -> None:
        now = time.monotonic()
        if role.running:
            if now - role.started_at > HEALTHY_AFTER_S:
                role.pause_s = FIRST_PAUSE_S
            return
        if role.process is not None:
            code, role.process = role.process.returncode, None
            role.restart_at = now + role.pause_s
            log.error(
                "role_died",
                extra={"role_name": role.name, "exit_code": code, "pause_s": role.pause_s},
            )
            role.pause_s = min(role.pause_s * 2, LONGEST_PAUSE_S)
        if now >= role.restart_at:
            self._start(role, lifeline)

    def _stop_all(self) -> None:
        for stage in sorted({role.stage for role in self.roles}):
            self._stop_together([role for role in self.roles if role.stage == stage])
        log.info("all_roles_stopped")

    def _stop_together(self, roles: Sequence[Role]) -> None:
        left = {role.name: role.process for role in roles if role.process is not None}
        for process in left.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + self.grace_s
        while any(process.poll() is None for process in left.values()):
            if time.monotonic() > deadline or self._hurry.is_set():
                break
            time.sleep(POLL_S)
        for name, process in left.items():
            if process.poll() is None:
                log.error("role_killed", extra={"role_name": name, "pid": process.pid})
                process.kill()
                process.wait()


def role_command(name: str, config: str | None) -> list[str]:
    """Return the command that runs one role in a process of its own."""
    command = [sys.executable, "-m", "deploy.roles", name]
    return [*command, config] if config else command


def stop_event() -> threading.Event:
    """Return an event that is set by SIGTERM, SIGINT or the end of the supervisor."""
    event = threading.Event()
    on_signals(lambda _: event.set())
    lifeline = os.environ.get(LIFELINE)
    if lifeline is not None:
        threading.Thread(
            target=_await_end, args=(int(lifeline), event), name="lifeline", daemon=True
        ).start()
    return event


def on_signals(handle: Callable[[int], None]) -> None:
    """Call `handle` for each SIGTERM and SIGINT, in a thread of its own.

    A signal handler runs in the middle of whatever the main thread does, perhaps while it
    holds the lock that the handler would wait for, of an event or of a log: so the handler
    itself only writes into a pipe.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def note(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):  # thousands wait already
            os.write(write_end, bytes([number]))

    def tell() -> None:
        while number := os.read(read_end, 1):
            handle(number[0])

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    threading.Thread(target=tell, name="signals", daemon=True).start()


def _await_end(descriptor: int, event: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 1):
            pass
    log.warning("supervisor_gone")
    event.set()
