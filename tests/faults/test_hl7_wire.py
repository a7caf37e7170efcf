"""H02, H03, H05, H09: lines that break, pieces of any size, mutants and crowds, to the real role.

``LIENTHONG_TEST_MUTANTS`` sets how many mutants (2,000 for a release).
"""

import json
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest
from sqlalchemy import URL

from ris.hl7 import ledger
from ris.hl7.ledger import Search, State
from ris.hl7.mllp import frame
from storage.db.engine import Engine, create, transaction
from tests.fixtures.database import temporary_database
from tests.fixtures.hl7 import acknowledged, order_message
from tests.fixtures.hl7_role import Hl7Role
from tests.fixtures.hl7_traffic import Hospital
from tests.fixtures.mllp import MllpPeer
from tests.fixtures.processes import Use

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

MUTANTS = int(os.environ.get("LIENTHONG_TEST_MUTANTS", "600"))
MAX_FRAME = 5 << 20
ANSWERED_WITHIN_S = 10.0
"""A second on a machine of its own; the suite shares its cores with other work."""


@dataclass(frozen=True)
class Running:
    role: Hl7Role
    engine: Engine

    def kept(self) -> Counter[str]:
        """Count the messages of each control id in the ledger."""
        with transaction(self.engine) as session:
            found = ledger.search(session, Search(), 100_000)
        return Counter(one.control_id for one in found)

    def unfinished(self) -> int:
        with transaction(self.engine) as session:
            return ledger.count(session, State.RECEIVED)

    def defects(self) -> list[str]:
        """Return what it logged of its own faults."""
        found = (json.loads(line) for line in self.role.events())
        return [
            line.get("trace", line["event"])
            for line in found
            if line["event"] in {"hl7_defect", "hl7_verb_failed", "hl7_connection_failed"}
        ]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
    database_server: URL,
    empty_database_template: URL,
) -> Iterator[Running]:
    with temporary_database(database_server, str(empty_database_template.database)) as url:
        settings = {"LIENTHONG_MAX_HL7_MESSAGE_BYTES": str(MAX_FRAME)}
        role = Hl7Role(tmp_path_factory.mktemp("hl7-wire"), url, settings)
        engine = create(url)
        role.start()
        try:
            yield Running(role, engine)
        finally:
            role.stop()
            engine.dispose()


def test_message_that_breaks_off_at_any_byte_is_not_kept(running: Running) -> None:
    """H02: a connection for each byte of a kilobyte; nothing stored, nothing answered."""
    message = order_message("H02", "H02", extra=f"NTE|1||{'x' * 800}\r")
    whole = frame(message)
    before = running.kept()

    for offset in range(len(whole) - 1):  # without its last byte alone it counts as whole
        with MllpPeer(running.role.port) as peer:
            peer.send(whole[:offset])
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.until_closed() == []
    assert running.kept() == before
    with MllpPeer(running.role.port) as peer:
        assert acknowledged(peer.ask(message)) == ("AA", "H02")

    assert len(whole) > 1000
    assert running.kept()["H02"] == 1


def test_messages_in_one_stream_of_random_pieces_are_answered_in_order(running: Running) -> None:
    """H03: several in a segment, one in many; escaped frame bytes are content."""
    count, dice = 300, random.Random(3)
    messages = [
        order_message(f"H03.{n}", f"H03.{n}", patient=f"H03.{n % 20}", extra="NTE|1||\\X0B1C0D\\\r")
        for n in range(count)
    ]
    stream = b"".join(map(frame, messages))

    with MllpPeer(running.role.port, 60) as peer:
        at = 0
        while at < len(stream):
            step = dice.choice((1, 3, 200, 1460, 20_000))
            peer.send(stream[at : at + step])
            at += step
        answers = [acknowledged(peer.receive()) for _ in messages]

    assert answers == [("AA", f"H03.{n}") for n in range(count)]
    kept = running.kept()
    assert {kept[f"H03.{n}"] for n in range(count)} == {1}


def test_mutants_are_answered_and_harm_nobody(running: Running) -> None:
    """H05: whatever comes in a frame is answered at once, and nothing of ours fails."""
    dice = random.Random(5)
    originals = [one.octets for one in Hospital(5, patients=30).messages(300)]
    slowest, codes = 0.0, Counter[str]()
    before = Use.of(running.role.pid).resident_bytes

    with ExitStack() as lines:
        peer = lines.enter_context(MllpPeer(running.role.port, 30))
        for _ in range(MUTANTS):
            mutant = mutated(dice, dice.choice(originals))
            begun = time.monotonic()
            answer = peer.ask(mutant)
            codes[code := one_code(answer)] += 1
            if code != "batch":  # its messages are worked on one after the other
                slowest = max(slowest, time.monotonic() - begun)
        good = lines.enter_context(MllpPeer(running.role.port))
        assert acknowledged(good.ask(order_message("H05", "H05"))) == ("AA", "H05")

    grown = Use.of(running.role.pid).resident_bytes - before
    print(f"{MUTANTS} mutants: {dict(codes)}, slowest {slowest:.2f} s, grown {grown >> 20} MiB")
    assert running.defects() == []
    assert codes.keys() <= {"AA", "AE", "AR", "batch"}
    assert min(codes["AA"], codes["AE"], codes["AR"]) > MUTANTS // 50
    assert slowest < ANSWERED_WITHIN_S
    assert grown < 100 << 20
    assert running.unfinished() == 0


def one_code(answer: bytes) -> str:
    found = [line for line in answer.split(b"\r") if line.startswith(b"MSA")]
    return (
        found[0].split(answer[3:4] if answer[:3] == b"MSH" else b"|")[1].decode()
        if (len(found) == 1)
        else "batch"
    )


CHARSETS = (
    *("UNICODE UTF-8", "8859/1", "8859/15", "ASCII", "UNICODE UTF-16", "GB 18030-2000", "TCVN3"),
    *("VNI", "VISCII", "WINDOWS-1258", "KLINGON", "8859/1~UNICODE UTF-8", "ISO IR87", "~", "\\T\\"),
)
PIECES = (
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\X", b"\\XZZ\\", b"\\X00\\"),
    *(b"\\X0D\\MSH|", b"\r", b"\n", b"\r\rMSH|^~\\&|A|B\r", b"|" * 300, b"^" * 300, b"~" * 600),
    *(b"&" * 300, b"\\", b'""', b"99999999999999", b"-1", b"20261399", b"Z" * 70_000, b"\xcc\x81"),
    *(b"1" * 300, b"' OR 1=1 --", b"%s%n", b"\xef\xbf\xbd", b"\xe2\x80\xae", b"1" * 65),
)


def mutated(dice: random.Random, octets: bytes) -> bytes:
    """Return `octets` spoilt once, twice or thrice, without the bytes of a frame."""
    for _ in range(dice.randrange(1, 4)):
        octets = dice.choice(MUTATORS)(dice, octets or b"MSH")
    return octets.replace(b"\x1c", b"?").replace(b"\x0b", b"?") or b"MSH"


def noisy(dice: random.Random, octets: bytes) -> bytes:
    at, noise = dice.randrange(len(octets)), dice.randbytes(dice.randrange(1, 9))
    return octets[:at] + noise + octets[at + len(noise) :]


def cut(dice: random.Random, octets: bytes) -> bytes:
    return octets[: dice.randrange(1, len(octets) + 1)]


def doubled(dice: random.Random, octets: bytes) -> bytes:
    """Without a part, or with it twice."""
    return octets[: dice.randrange(len(octets))] + octets[dice.randrange(len(octets)) :]


def hurt(dice: random.Random, octets: bytes) -> bytes:
    at = dice.randrange(len(octets))
    return octets[:at] + dice.choice(PIECES) + octets[at:]


def shuffled(dice: random.Random, octets: bytes) -> bytes:
    lines = octets.split(b"\r")
    dice.shuffle(lines)
    return b"\r".join(lines)


def repeated(dice: random.Random, octets: bytes) -> bytes:
    lines = octets.split(b"\r")
    line = dice.choice(lines)
    most = 20 if line.startswith(b"MSH") else 2500  # each MSH is a message to be worked on
    return b"\r".join([*lines, *[line] * dice.choice((2, 20, most))])


def recoded(dice: random.Random, octets: bytes) -> bytes:
    return octets.replace(b"UNICODE UTF-8", dice.choice(CHARSETS).encode())


def misplaced(dice: random.Random, octets: bytes) -> bytes:
    fields = octets.split(b"|")
    for _ in range(3):
        fields[dice.randrange(len(fields))] = dice.choice(fields)
    return b"|".join(fields)


MUTATORS = (noisy, cut, doubled, hurt, hurt, shuffled, repeated, recoded, misplaced)


def test_crowd_of_slow_and_endless_peers_keeps_no_good_sender_out(running: Running) -> None:
    """H09: 200 halves of frames, and a frame that never ends; a good sender notices nothing."""
    port, times = running.role.port, []
    before = Use.of(running.role.pid).resident_bytes

    with ExitStack() as others:
        slow = [others.enter_context(MllpPeer(port)) for _ in range(200)]
        for number, peer in enumerate(slow):
            peer.send(b"\x0bMSH|^~\\&|slow|"[: 1 + number % 12])
        endless = others.enter_context(MllpPeer(port, 30))
        refusal = send_without_end(endless)
        good = others.enter_context(MllpPeer(port))
        for number in range(30):
            begun = time.monotonic()
            answer = good.ask(order_message(f"H09.{number}", f"H09.{number}"))
            times.append(time.monotonic() - begun)
            assert acknowledged(answer) == ("AA", f"H09.{number}")
            for peer in slow[number::30]:
                with suppress(OSError):
                    peer.send(b"x")
        with MllpPeer(port) as late:
            assert acknowledged(late.ask(order_message("H09", "H09"))) == ("AA", "H09")

    grown = Use.of(running.role.pid).resident_bytes - before
    assert acknowledged(refusal)[0] == "AR"
    assert b"longer than this system takes" in refusal
    assert max(times) < 5
    assert grown < 150 << 20
    assert running.defects() == []


def send_without_end(peer: MllpPeer) -> bytes:
    """Send a frame that never ends until the other side has enough; return what it says."""
    peer.send(b"\x0bMSH|^~\\&|HIS|BV|||20260101||ORM^O01|ENDLESS|P|2.3.1\rNTE|1||")
    sent, piece = 0, b"x" * (1 << 16)
    with suppress(OSError):
        while sent < 1 << 30:
            peer.send(piece)
            sent += len(piece)
    assert sent < 64 << 20, "it took a gigabyte"
    answers = peer.until_closed()
    assert len(answers) == 1
    return answers[0]
