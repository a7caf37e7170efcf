"""What peers that do nothing, or harm, cost everybody else: ours and Orthanc.

``python -m tests.bench.attacks`` prints the table of `deploy/docs/reliability.md`. A witness
asks for an association and a C-ECHO while each attack is held, for 30 s at most.
"""

import random
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from pydicom.uid import generate_uid

from pacs.upper_layer import pdu
from tests.bench import peers
from tests.bench.peers import Archive
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.processes import Use
from tests.fixtures.raw_peer import CT_CONTEXT, RawPeer, message, request_pdu, store_request
from tests.fixtures.serving import descendants
from tests.integration import test_acceptor_fuzz as fuzz

GIVE_UP_S: Final = 30.0
MIB: Final = 1 << 20
_HALF_STORE: Final = message(CT_CONTEXT, store_request("1.2.3"), bytes(20_000))[:-1000]
_FOUR_GIB: Final = struct.pack(">BxI", pdu.P_DATA, 0xFFFFFFFF)

Attack = Callable[[Archive, ExitStack], None]


def connections(count: int, sent: bytes) -> Attack:
    """Return an attack: so many connections that send `sent` and nothing more."""

    def attack(archive: Archive, held: ExitStack) -> None:
        until = time.monotonic() + GIVE_UP_S / 3
        for _ in range(count):
            with suppress(OSError):
                held.enter_context(RawPeer(archive.dicom_port, 1)).send(sent)
            if time.monotonic() > until:  # its queue is full
                return

    return attack


def associations(count: int, sent: bytes = b"") -> Attack:
    """Return an attack: so many associations that send `sent` and nothing more."""

    def attack(archive: Archive, held: ExitStack) -> None:
        until = time.monotonic() + GIVE_UP_S
        for _ in range(count):
            with suppress(OSError, AssertionError):
                peer = held.enter_context(RawPeer(archive.dicom_port, 2))
                peer.associate(called=archive.ae_title).send(sent)
            if time.monotonic() > until:
                return

    return attack


ATTACKS: Final[dict[str, Attack]] = {
    "nobody": connections(0, b""),
    "1 silent connection": connections(1, b""),
    "1 half PDU header": connections(1, b"\x01\0\0"),
    "1 half A-ASSOCIATE-RQ": connections(1, request_pdu()[:100]),
    "4 associations that stall in a PDU": associations(4, _HALF_STORE),
    "30 idle associations": associations(30),
    "300 silent connections": connections(300, b""),
}


def echo_after(archive: Archive) -> float | None:
    """Return after how many seconds C-ECHO is answered; None when it is not in time."""
    begun = time.monotonic()
    while (left_s := begun + GIVE_UP_S - time.monotonic()) > 0:
        with suppress(OSError, AssertionError), RawPeer(archive.dicom_port, left_s) as peer:
            peer.associate(called=archive.ae_title).echo()
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def held(archive: Archive, attack: Attack) -> str:
    """Hold an attack and say how long the witness waits."""
    with ExitStack() as stack:
        attack(archive, stack)
        took_s = echo_after(archive)
    wait_until_well(archive)
    return f"> {GIVE_UP_S:.0f} s" if took_s is None else shown(took_s)


def wait_until_well(archive: Archive) -> None:
    """Wait until nobody is in the way any more."""
    while (took_s := echo_after(archive)) is None or took_s > 1:
        pass


def fuzzed(archive: Archive, count: int = 1000) -> str:
    """Hold mutated conversations; say what became of memory, threads and echo."""
    before = resident_bytes(archive)
    chance = random.Random(fuzz.SEED)
    original = fuzz.whole_conversation()
    slowest_s = 0.0
    for number in range(count):
        parts = chance.choice(fuzz.MUTATORS)(original, chance)
        fuzz.converse(archive.dicom_port, parts, chance)
        if number % 100 == 0:
            slowest_s = max(slowest_s, echo_after(archive) or GIVE_UP_S)
    grown = (resident_bytes(archive) - before) / MIB
    return f"alive, {grown:+.0f} MiB, echo at most {shown(slowest_s)}"


def resident_bytes(archive: Archive) -> int:
    """Return what the whole tree holds."""
    return sum(Use.of(pid).resident_bytes for pid in descendants(archive.pid))


def duplicated(archive: Archive) -> str:
    """Store another object under a UID that is known; say what is answered."""
    first = ct_slice()
    other = ct_slice(SOPInstanceUID=first.SOPInstanceUID, SeriesInstanceUID=generate_uid())
    with RawPeer(archive.dicom_port) as peer:
        peer.associate(called=archive.ae_title)
        answers = [
            peer.store(store_request(one.SOPInstanceUID), encode(one)).status
            for one in (first, other)
        ]
    return ", ".join(f"{status:04X}" for status in answers)


def long_pdu(archive: Archive) -> str:
    """Announce a PDU of 4 GiB in an association; say when the connection ends."""
    with RawPeer(archive.dicom_port, GIVE_UP_S) as peer:
        peer.associate(called=archive.ae_title).send(_FOUR_GIB + bytes(1000))
        begun = time.monotonic()
        try:
            kinds = peer.until_closed()
        except TimeoutError:
            return f"held > {GIVE_UP_S:.0f} s"
    answer = "A-ABORT" if kinds == [pdu.ABORT] else "closed"
    return f"{answer} after {shown(time.monotonic() - begun)}"


def shown(seconds: float) -> str:
    """Return a time for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def rows(archives: Sequence[Archive]) -> Iterable[str]:
    """Yield the lines of the table, each when its figures are there."""
    yield f"| attack | {' | '.join(archive.name for archive in archives)} |"
    yield "|---|" + "---|" * len(archives)
    for name, attack in ATTACKS.items():
        yield line(f"C-ECHO beside {name}", archives, lambda one, how=attack: held(one, how))  # type: ignore[misc]
    yield line("PDU of 4 GiB announced", archives, long_pdu)
    yield line("1,000 mutated conversations", archives, fuzzed)
    yield line("other object under a known UID", archives, duplicated)


def line(name: str, archives: Sequence[Archive], figure: Callable[[Archive], str]) -> str:
    """Return one line; the archives are tried at the same time, since most of it is waiting."""
    found: dict[str, str] = {}

    def attempt(archive: Archive) -> None:
        found[archive.name] = figure(archive)

    threads = [threading.Thread(target=attempt, args=(archive,)) for archive in archives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"| {name} | {' | '.join(found.get(archive.name, 'failed') for archive in archives)} |"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        made = []
        for start in (peers.lienthong, peers.orthanc):
            folder = Path(name) / start.__name__
            folder.mkdir()
            if archive := start(folder):
                made.append(stack.enter_context(archive))
        for each in rows(made):
            print(each, flush=True)


if __name__ == "__main__":
    main()
