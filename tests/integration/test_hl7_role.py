"""The `hl7` role as `lienthong serve` runs it."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.hl7 import acknowledged, order_message
from tests.fixtures.mllp import MllpPeer
from tests.fixtures.serving import Serving


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """A started server on the embedded defaults."""
    server = Serving(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_orders_come_in_and_are_seen_everywhere(serving: Serving) -> None:
    """Ready means that HL7 answers; an order is kept, counted and told to a destination."""
    with MllpPeer(serving.hl7_port) as peer:
        assert acknowledged(peer.ask(order_message("4711"))) == ("AA", "C1")
        assert acknowledged(peer.ask(order_message("4711"))) == ("AA", "C1")
        assert acknowledged(peer.ask(order_message("4712", "C2", "ZZ"))) == ("AE", "C2")

    with serving.client() as client:
        assert client.get("/health/ready").json()["parts"]["hl7"] == {"state": "up"}
        figures = client.get("/metrics").text
    assert re.search(r'lienthong_hl7_messages_total\{code="AA",wire="mllp"\} 2\.0', figures)
    assert re.search(r'lienthong_hl7_messages_total\{code="AE",wire="mllp"\} 1\.0', figures)
    told = serving.run("doctor").stdout
    assert "dead letters" in told
    assert "1 HL7 messages failed" in told


def ask_until_answered(port: int, message: bytes) -> bytes:
    """Send a message as a sender does: again, until somebody answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with MllpPeer(port) as peer:
                return peer.ask(message)
        except OSError:  # the one before is dying, the next one is on its way
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_role_that_is_killed_takes_up_what_it_left(serving: Serving) -> None:
    """H01: a message that was written down and not done is done after the restart."""
    before = serving.role("hl7")
    with MllpPeer(serving.hl7_port) as peer:
        peer.ask(order_message("4711"))
        os.kill(before, signal.SIGKILL)

    answer = ask_until_answered(serving.hl7_port, order_message("4711"))
    assert acknowledged(answer) == ("AA", "C1")
    assert serving.role("hl7") != before
