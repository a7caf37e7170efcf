"""The MLLP port against peers that are odd, slow, silent, lying or many (H02, H03, H09)."""

import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest

from ris.hl7.listener import Door, Handler, Limits, Listener
from ris.hl7.mllp import frame
from storage.base.errors import StoreUnavailable
from storage.base.tls import ServerTls, TlsFiles
from tests.fixtures.certificates import Authority
from tests.fixtures.mllp import MllpPeer

QUICK = Limits(stall_s=0.4, frame_s=1.2, handshake_s=0.5)
MESSAGE = b"MSH|^~\\&|HIS|BV|||20260101||ORM^O01|1|P|2.3.1\rPID|1\r"


class Receiver:
    """Notes what it gets and answers with the same in capitals."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()

    def answer(self, message: bytes, _address: str) -> list[bytes]:
        self.got.append(message)
        assert self.gate.wait(10)
        return [b"ACK " + message.upper()]

    def refuse(self, head: bytes) -> bytes:
        return b"TOO LONG " + head[:3]


@contextmanager
def listening(
    receiver: Receiver, limits: Limits = QUICK, tls: ServerTls | None = None
) -> Iterator[Listener]:
    handler = Handler(receiver.answer, receiver.refuse)
    listener = Listener([Door(("127.0.0.1", 0), tls)], handler, limits)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop(grace_s=5)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def port(receiver: Receiver) -> Iterator[int]:
    with listening(receiver) as listener:
        yield listener.ports[0]


def test_one_connection_carries_many_messages(port: int, receiver: Receiver) -> None:
    with MllpPeer(port) as peer:
        answers = [peer.ask(MESSAGE + b"NTE|%d" % number) for number in range(50)]

    assert answers == [b"ACK " + message.upper() for message in receiver.got]
    assert len(answers) == 50


def test_thousand_messages_in_one_write_are_answered_in_order(
    port: int, receiver: Receiver
) -> None:
    messages = [MESSAGE + b"NTE|%d" % number for number in range(1000)]
    stream = b"".join(map(frame, messages))
    noise = random.Random(3)

    with MllpPeer(port) as peer:
        at = 0
        while at < len(stream):
            step = noise.choice([1, 7, 300, 5000])
            peer.send(stream[at : at + step])
            at += step
        answers = [peer.receive() for _ in messages]

    assert receiver.got == messages
    assert answers == [b"ACK " + message.upper() for message in messages]


def test_message_cut_at_any_byte_is_not_taken(port: int, receiver: Receiver) -> None:
    whole = frame(MESSAGE)

    for offset in range(len(whole) - 1):
        with MllpPeer(port) as peer:
            peer.send(whole[:offset])
    with MllpPeer(port) as peer:
        peer.ask(MESSAGE)

    assert receiver.got == [MESSAGE]


def test_last_byte_may_be_missing_when_nothing_follows(port: int) -> None:
    with MllpPeer(port) as peer:
        peer.send(frame(MESSAGE)[:-1])
        assert peer.receive().startswith(b"ACK ")
        assert peer.ask(MESSAGE).startswith(b"ACK ")


@pytest.mark.parametrize("missing", [0, 1], ids=["whole", "without the last CR"])
def test_sender_that_closes_its_half_gets_its_answer(port: int, missing: int) -> None:
    whole = frame(MESSAGE)

    with MllpPeer(port) as peer:
        peer.send(whole[: len(whole) - missing])
        peer.socket.shutdown(socket.SHUT_WR)
        assert len(peer.until_closed()) == 1


@pytest.mark.parametrize(
    "sent",
    [b"\x0bMSH|", b"\x0b", frame(MESSAGE) + b"\x0bMSH|half"],
    ids=["half", "start byte", "half after a whole one"],
)
def test_frame_that_stops_is_dropped(port: int, sent: bytes) -> None:
    begun = time.monotonic()

    with MllpPeer(port) as peer:
        peer.send(sent)
        peer.until_closed()

    assert 0.3 < time.monotonic() - begun < 3


def test_frame_that_trickles_is_dropped(port: int) -> None:
    begun = time.monotonic()

    with MllpPeer(port) as peer, suppress(ConnectionError):
        peer.send(b"\x0bMSH|")
        while time.monotonic() - begun < 5:
            peer.send(b"x")
            time.sleep(0.1)

    assert time.monotonic() - begun < 4


def test_idle_connection_stays(port: int) -> None:
    with MllpPeer(port) as peer:
        peer.ask(MESSAGE)
        time.sleep(1.5)
        assert peer.ask(MESSAGE)


def test_frame_without_end_is_refused_and_dropped(receiver: Receiver) -> None:
    limits = replace(QUICK, max_frame=100_000)

    with listening(receiver, limits) as listener, MllpPeer(listener.ports[0]) as peer:
        peer.send(b"\x0b" + MESSAGE + b"x" * 100_001)
        answers = peer.until_closed()

    assert answers == [b"TOO LONG MSH"]
    assert receiver.got == []


def test_many_stalled_connections_do_not_keep_a_good_sender_out(receiver: Receiver) -> None:
    limits = Limits(max_connections=100, max_connections_per_peer=50)

    with listening(receiver, limits) as listener, ExitStack() as others:
        good = others.enter_context(MllpPeer(listener.ports[0]))
        good.ask(MESSAGE)
        for _ in range(200):
            others.enter_context(MllpPeer(listener.ports[0])).send(b"\x0bMSH|never")
        begun = time.monotonic()
        good.ask(MESSAGE)
        with MllpPeer(listener.ports[0]) as late:
            late.ask(MESSAGE)

    assert len(receiver.got) == 3
    assert time.monotonic() - begun < 2


def test_peer_that_speaks_http_is_dropped(port: int, receiver: Receiver) -> None:
    with MllpPeer(port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        assert peer.until_closed() == []
    assert receiver.got == []


def test_empty_connections_are_no_matter(port: int) -> None:
    for _ in range(20):
        with MllpPeer(port):
            pass
    with MllpPeer(port) as peer:
        assert peer.ask(MESSAGE)


def test_message_at_work_is_answered_before_the_stop(receiver: Receiver) -> None:
    with listening(receiver) as listener, MllpPeer(listener.ports[0]) as peer:
        receiver.gate.clear()
        peer.send(frame(MESSAGE) + frame(MESSAGE))
        while not receiver.got:
            time.sleep(0.01)
        stopping = threading.Thread(target=listener.stop)
        stopping.start()
        time.sleep(0.2)
        receiver.gate.set()
        stopping.join(5)
        answers = peer.until_closed()

    assert not stopping.is_alive()
    assert len(answers) == len(receiver.got) == 1


def test_port_in_use_is_named(port: int) -> None:
    with pytest.raises(StoreUnavailable, match=f"HL7 port 127.0.0.1:{port}: Address already"):
        Listener(
            [Door(("127.0.0.1", 0)), Door(("127.0.0.1", port))],
            Handler(Receiver().answer, Receiver().refuse),
        )


@pytest.fixture
def tls_port(receiver: Receiver, authority: Authority) -> Iterator[int]:
    signed = authority.sign("hl7-server")
    with listening(receiver, tls=ServerTls(TlsFiles(signed.certificate, signed.key))) as listener:
        yield listener.ports[0]


def trusting(authority: Authority) -> ssl.SSLContext:
    """Return how a peer checks our certificate, by the authority and not by a name."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    return context


def test_messages_come_over_tls(tls_port: int, authority: Authority) -> None:
    with MllpPeer(tls_port, tls=trusting(authority)) as peer:
        assert peer.ask(MESSAGE).startswith(b"ACK ")
        assert peer.ask(MESSAGE).startswith(b"ACK ")


@pytest.mark.parametrize("sent", [b"", frame(MESSAGE)], ids=["silent", "in plain text"])
def test_peer_without_tls_is_dropped(tls_port: int, receiver: Receiver, sent: bytes) -> None:
    begun = time.monotonic()

    with MllpPeer(tls_port) as peer:
        peer.send(sent)
        assert peer.until_closed() == []

    assert time.monotonic() - begun < 2
    assert receiver.got == []


def test_silent_tls_peers_keep_nobody_out(tls_port: int, authority: Authority) -> None:
    with ExitStack() as others:
        for _ in range(20):
            others.enter_context(MllpPeer(tls_port))
        with MllpPeer(tls_port, tls=trusting(authority)) as peer:
            assert peer.ask(MESSAGE)


def test_peer_must_show_a_certificate_where_it_is_wanted(
    receiver: Receiver, authority: Authority
) -> None:
    signed, client = authority.sign("hl7-strict"), authority.sign("his")
    files = TlsFiles(signed.certificate, signed.key, client_ca=authority.certificate)
    known = trusting(authority)
    known.load_cert_chain(client.certificate, client.key)

    with listening(receiver, tls=ServerTls(files)) as listener:
        with MllpPeer(listener.ports[0], tls=known) as peer:
            assert peer.ask(MESSAGE)
        with (
            MllpPeer(listener.ports[0], tls=trusting(authority)) as stranger,
            pytest.raises((ssl.SSLError, ConnectionError, AssertionError)),
        ):
            stranger.ask(MESSAGE)

    assert receiver.got == [MESSAGE]
