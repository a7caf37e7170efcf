import os
import subprocess
import sys
import time

from tests.bench import memory

HOLDER = "import sys; kept = bytearray(80_000_000); print(flush=True); sys.stdin.read()"


def test_what_a_child_holds_counts_for_its_parent_and_under_its_name() -> None:
    before = memory.held_mb(os.getpid())
    command = [sys.executable, "-c", HOLDER, "the holder"]

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        grown = memory.held_mb(os.getpid()) - before
        named = memory.held_mb(os.getpid(), "the holder")
        child.communicate()

    assert 75 < named < 120
    assert grown > 75


def test_the_peak_outlives_what_was_held() -> None:
    command = [sys.executable, "-c", HOLDER, "the holder"]

    with (
        memory.Peak.of(os.getpid(), "the holder") as peak,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout
        child.stdout.readline()
        time.sleep(5 * memory.EVERY_S)
        child.communicate()

    assert 75 < peak.receiver_mb < peak.mb
