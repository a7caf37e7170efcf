"""Mutated conversations: nothing dies, nothing grows, nobody else notices (RELIABILITY: N06)."""

import contextlib
import logging
import os
import random
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacs.scp.limits import Limits
from pacs.upper_layer import pdu
from pacs.upper_layer.connection import Timeouts
from storage.spool import Spool
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.raw_peer import (
    CT_CONTEXT,
    ECHO_CONTEXT,
    RawPeer,
    echo_request,
    message,
    request_pdu,
    store_request,
)
from tests.fixtures.server import listening

CONVERSATIONS = int(os.environ.get("LIENTHONG_TEST_FUZZ", "600"))
SEED = int(os.environ.get("LIENTHONG_TEST_SEED", "20261124"))
QUICK = Timeouts(request_s=0.3, pdu_s=0.3, idle_s=0.5, dataset_s=0.3, artim_s=0.1)

Parts = list[bytes]


def whole_conversation() -> Parts:
    dataset = ct_slice()
    return [
        request_pdu(),
        message(ECHO_CONTEXT, echo_request()),
        message(CT_CONTEXT, store_request(dataset.SOPInstanceUID), encode(dataset)),
        pdu.RELEASE_REQUEST,
    ]


def flip_bytes(parts: Parts, chance: random.Random) -> Parts:
    at = chance.randrange(len(parts))
    changed = bytearray(parts[at])
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return [*parts[:at], bytes(changed), *parts[at + 1 :]]


def flip_heads(parts: Parts, chance: random.Random) -> Parts:
    """Change the first bytes, where lengths and types are."""
    at = chance.randrange(len(parts))
    changed = bytearray(parts[at])
    changed[chance.randrange(min(14, len(changed)))] = chance.choice((0, 1, 2, 3, 4, 127, 128, 255))
    return [*parts[:at], bytes(changed), *parts[at + 1 :]]


def cut(parts: Parts, chance: random.Random) -> Parts:
    stream = b"".join(parts)
    return [stream[: chance.randrange(len(stream))]]


def leave_out(parts: Parts, chance: random.Random) -> Parts:
    stream = b"".join(parts)
    begin = chance.randrange(len(stream))
    return [stream[:begin], stream[begin + chance.randrange(1, 200) :]]


def shuffle(parts: Parts, chance: random.Random) -> Parts:
    return chance.choices(parts, k=chance.randrange(1, 6))


def insert(parts: Parts, chance: random.Random) -> Parts:
    stream = b"".join(parts)
    at = chance.randrange(len(stream))
    return [stream[:at], chance.randbytes(chance.choice((1, 4, 100, 5000))), stream[at:]]


MUTATORS: tuple[Callable[[Parts, random.Random], Parts], ...] = (
    flip_bytes,
    flip_heads,
    cut,
    leave_out,
    shuffle,
    insert,
)


def converse(port: int, parts: Parts, chance: random.Random) -> None:
    with contextlib.suppress(OSError), RawPeer(port, timeout_s=0.05) as peer:
        for part in parts:
            peer.send(part)
            if chance.random() < 0.5:
                peer.socket.recv(1000)
        peer.socket.recv(1000)


def echo_seconds(port: int) -> float:
    begun = time.monotonic()
    with RawPeer(port) as peer:
        assert peer.associate().echo() == 0
    return time.monotonic() - begun


class GoodSender:
    """Stores valid objects all along, and counts."""

    def __init__(self, port: int) -> None:
        self.statuses: list[int | None] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        dataset = ct_slice()
        command, data = store_request(dataset.SOPInstanceUID), encode(dataset)
        with RawPeer(self._port) as peer:
            peer.associate()
            while not self._stop.wait(0.02):
                self.statuses.append(peer.store(command, data).status)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_mutated_conversations_harm_nobody(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    chance = random.Random(SEED)
    original = whole_conversation()
    limits = Limits(max_associations_per_peer=512, timeouts=QUICK)
    with listening(spool, limits) as listener:
        good = GoodSender(listener.port)
        threads = threading.active_count()
        memory = 0
        slowest_s = 0.0
        for number in range(CONVERSATIONS):
            parts = chance.choice(MUTATORS)(original, chance)
            converse(listener.port, parts, chance)
            if number % 50 == 0:
                slowest_s = max(slowest_s, echo_seconds(listener.port))
            if number == 50:
                memory = resident_bytes()
        grown = resident_bytes() - memory
        good.stop()
        time.sleep(2 * QUICK.idle_s)
        left = threading.active_count() - threads

    assert [record.getMessage() for record in caplog.records] == [], f"seed {SEED}"
    assert slowest_s < 1
    assert grown < 20 << 20
    assert left <= 0
    assert set(good.statuses) == {0}
