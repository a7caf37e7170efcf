"""Mutated conversations: nothing dies, nothing grows, nobody else notices (RELIABILITY: N06).

``LIENTHONG_TEST_FUZZ`` sets how many (100,000 for a release), ``LIENTHONG_TEST_SEED`` which.
"""

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from pacs.scp.limits import Limits
from pacs.upper_layer import pdu
from pacs.upper_layer.connection import Timeouts
from storage.spool import Spool
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.processes import Use
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

CONVERSATIONS = int(os.environ.get("LIENTHONG_TEST_FUZZ", "2000"))
SEED = int(os.environ.get("LIENTHONG_TEST_SEED", "20261124"))
ATTACKERS = 8
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


def attack(port: int, seed: int, count: int) -> None:
    chance = random.Random(seed)
    original = whole_conversation()
    for _ in range(count):
        converse(port, chance.choice(MUTATORS)(original, chance), chance)


def settled(before: Use) -> Use:
    """Return what we use when everybody has gone, at the latest after some seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while (use := Use.of(os.getpid())).threads > before.threads and time.monotonic() < deadline:
        time.sleep(0.05)
    return use


@pytest.mark.timeout(7200 if CONVERSATIONS > 10_000 else 300)
def test_mutated_conversations_harm_nobody(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    limits = Limits(max_associations_per_peer=512, timeouts=QUICK)
    with listening(spool, limits) as listener:
        good = GoodSender(listener.port)
        attack(listener.port, SEED, 50)  # what is made once is made now
        before = settled(Use.of(os.getpid()))
        attackers = [
            threading.Thread(
                target=attack, args=(listener.port, SEED + number, CONVERSATIONS // ATTACKERS)
            )
            for number in range(1, ATTACKERS + 1)
        ]
        for attacker in attackers:
            attacker.start()
        echoes = []
        while any(attacker.is_alive() for attacker in attackers):
            echoes.append(echo_seconds(listener.port))
            for record in spool.sealed(1000):
                spool.remove(record)
            time.sleep(0.2)
        after = settled(before)
        good.stop()

    print(f"{CONVERSATIONS} conversations, seed {SEED}: echo at most {max(echoes):.3f} s")
    print(f"{len(good.statuses)} good objects; {before} -> {after}")
    assert [record.getMessage() for record in caplog.records] == [], f"seed {SEED}"
    assert max(echoes) < 1
    assert after.resident_bytes - before.resident_bytes < 20 << 20
    assert after.threads <= before.threads
    assert after.descriptors <= before.descriptors
    assert set(good.statuses) == {0}
    assert list(spool.folder.glob("*.part")) == []
