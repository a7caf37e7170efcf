"""The tree of roles with real processes and real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.patience import PATIENCE_S

ROLE = """
import os, sys, time
from pathlib import Path
from deploy.supervisor import stop_event
name, folder = sys.argv[1], Path(sys.argv[2])
stop = stop_event()
with (folder / "events").open("a") as events:
    events.write(f"start {name} {os.getpid()}\\n")
stop.wait()
time.sleep(float(sys.argv[3]))
with (folder / "events").open("a") as events:
    events.write(f"stop {name} {os.getpid()}\\n")
"""

TREE = """
import sys
from deploy.supervisor import Role, Supervisor
folder, grace, linger = sys.argv[1], float(sys.argv[2]), sys.argv[3]
role = open(folder + "/role.py").read()
command = [sys.executable, "-c", role]
stages = {"first": 0, "beside": 0, "second": 1}
roles = [Role(name, [*command, name, folder, linger], stage) for name, stage in stages.items()]
Supervisor(roles, grace).run()
"""


class Tree:
    """A supervisor process over two roles that write down what happens to them."""

    def __init__(self, folder: Path, grace_s: float = 10, linger_s: float = 0) -> None:
        self.folder = folder
        (folder / "role.py").write_text(ROLE)
        self.process = subprocess.Popen(
            [sys.executable, "-c", TREE, str(folder), str(grace_s), str(linger_s)]
        )

    def events(self) -> list[tuple[str, str, int]]:
        path = self.folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(word, name, int(pid)) for word, name, pid in map(str.split, lines)]

    def pids(self) -> dict[str, int]:
        return {name: pid for word, name, pid in self.events() if word == "start"}


def eventually(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    running = Tree(tmp_path)
    eventually(lambda: len(running.pids()) == 3)
    yield running
    running.process.kill()
    running.process.wait()


def test_a_role_that_dies_is_started_again(tree: Tree) -> None:
    killed = tree.pids()["first"]

    os.kill(killed, signal.SIGKILL)

    eventually(lambda: tree.pids()["first"] != killed)
    assert alive(tree.pids()["second"])


def test_sigterm_stops_the_roles_in_order_and_leaves_nothing(tree: Tree) -> None:
    pids = tree.pids()

    tree.process.send_signal(signal.SIGTERM)

    assert tree.process.wait(PATIENCE_S) == 0
    stopped = [name for word, name, _ in tree.events() if word == "stop"]
    assert {*stopped[:2]} == {"first", "beside"}
    assert stopped[2:] == ["second"]
    assert not any(alive(pid) for pid in pids.values())


def test_roles_stop_by_themselves_when_the_supervisor_is_killed(tree: Tree) -> None:
    pids = tree.pids()

    tree.process.kill()

    eventually(lambda: not any(alive(pid) for pid in pids.values()))
    assert {name for word, name, _ in tree.events() if word == "stop"} == pids.keys()


def test_roles_of_a_stage_are_stopped_together(tmp_path: Path) -> None:
    tree = Tree(tmp_path, linger_s=2)
    eventually(lambda: len(tree.pids()) == 3)

    tree.process.send_signal(signal.SIGTERM)
    eventually(lambda: sum(word == "stop" for word, *_ in tree.events()) == 2)
    second = tree.pids()["second"]

    assert alive(second)
    assert tree.process.wait(PATIENCE_S) == 0
    assert not alive(second)


def test_a_role_that_lingers_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    tree = Tree(tmp_path, grace_s=0.3, linger_s=60)
    eventually(lambda: len(tree.pids()) == 3)
    pids = tree.pids()

    tree.process.send_signal(signal.SIGTERM)

    assert tree.process.wait(PATIENCE_S) == 0
    assert not any(alive(pid) for pid in pids.values())


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    tree = Tree(tmp_path, grace_s=60, linger_s=60)
    eventually(lambda: len(tree.pids()) == 3)

    tree.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    tree.process.send_signal(signal.SIGTERM)

    assert tree.process.wait(PATIENCE_S) == 0


def test_a_signal_waits_for_no_lock_that_it_interrupted():
    program = (
        "import os, signal, threading, time\n"
        "from deploy.supervisor import on_signals\n"
        "lock, told = threading.Lock(), threading.Event()\n"
        "def handle(number):\n"
        "    with lock:\n"
        "        told.set()\n"
        "on_signals(handle)\n"
        "with lock:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.1)\n"
        "raise SystemExit(0 if told.wait(10) else 1)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)

    assert ended.returncode == 0
