"""Associations inside TLS (PS3.15 B.12): what is agreed, and who cannot disturb it (N02)."""

import contextlib
import logging
import os
import random
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from deploy import probes
from pacs import part10
from pacs.scp.limits import Limits
from pacs.upper_layer import pdu
from pacs.upper_layer.connection import Connection, Timeouts
from pacs.upper_layer.faults import AssociationLost
from pacs.upper_layer.secure import TlsConnection
from storage.base.clock import utc_now
from storage.base.errors import PeerUnavailable
from storage.base.settings import Settings
from storage.base.tls import ServerTls, TlsFiles, server_context
from storage.spool import Spool
from tests.fixtures.certificates import Authority, Signed
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.patience import AT_ONCE_S, PATIENCE_S
from tests.fixtures.raw_peer import CT_CONTEXT, RawPeer, message, request_pdu, store_request
from tests.fixtures.server import listening

QUICK = Timeouts(handshake_s=0.5, request_s=0.5, pdu_s=0.5, idle_s=30.0, dataset_s=1.0, artim_s=0.3)
SLACK_S = AT_ONCE_S
LIMITS = Limits(max_associations_per_peer=512, timeouts=QUICK)


@pytest.fixture
def files(server_certificate: Signed) -> TlsFiles:
    return TlsFiles(server_certificate.certificate, server_certificate.key)


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """The context of a client that trusts our authority."""
    return client(authority)


@pytest.fixture
def tls_port(spool: Spool, files: TlsFiles) -> Iterator[int]:
    with listening(spool, LIMITS, tls=ServerTls(files)) as listener:
        assert listener.tls_port is not None
        yield listener.tls_port


def client(authority: Authority, shown: Signed | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def echo_seconds(port: int, context: ssl.SSLContext) -> float:
    begun = time.monotonic()
    with RawPeer(port, tls=context) as peer:
        assert peer.associate().echo() == 0
    return time.monotonic() - begun


def refused(port: int, context: ssl.SSLContext) -> str:
    """Return why no association comes about."""
    with pytest.raises((ssl.SSLError, ConnectionError)) as raised, RawPeer(port, tls=context) as p:
        p.associate()
    return str(raised.value)


# What is agreed


def test_time_out_of_the_handshake_is_the_one_that_was_promised() -> None:
    assert Timeouts().handshake_s <= 5


def test_large_object_arrives_bit_for_bit(
    tls_port: int, trusting: ssl.SSLContext, spool: Spool
) -> None:
    pixels = os.urandom(3 << 20)
    dataset = ct_slice(PixelData=pixels)
    data = encode(dataset)

    with RawPeer(tls_port, tls=trusting) as peer:
        status = peer.associate().store(store_request(dataset.SOPInstanceUID), data).status
        peer.send(pdu.RELEASE_REQUEST)
        kinds = peer.until_closed()

    assert status == 0
    assert kinds == [pdu.RELEASE_RP]
    [record] = spool.sealed(10)
    content = record.path.read_bytes()
    assert content[part10.read_head(content).length :] == data


@pytest.mark.parametrize(
    ("version", "suites", "agreed"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        (ssl.TLSVersion.TLSv1_3, "", "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_suite_of_the_profile_is_agreed(
    tls_port: int, trusting: ssl.SSLContext, version: ssl.TLSVersion, suites: str, agreed: str
) -> None:
    trusting.minimum_version = trusting.maximum_version = version
    if suites:
        trusting.set_ciphers(suites)

    with RawPeer(tls_port, tls=trusting) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        assert (peer.socket.cipher() or ("",))[0] == agreed
        assert peer.associate().echo() == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "suites"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "DHE-RSA-AES256-SHA"),
    ],
    ids=["TLS 1.1", "no forward secrecy", "CBC", "DHE and SHA-1"],
)
def test_what_bcp_195_forbids_is_refused(
    tls_port: int, trusting: ssl.SSLContext, version: ssl.TLSVersion, suites: str
) -> None:
    trusting.set_ciphers(suites)
    trusting.minimum_version = trusting.maximum_version = version

    said = refused(tls_port, trusting)

    assert "alert" in said.lower()


def test_only_who_shows_a_trusted_certificate_comes_in_where_that_is_asked(
    spool: Spool, files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other", "Other CA").sign("ct")
    mutual = TlsFiles(files.certificate, files.key, authority.certificate)
    with listening(spool, LIMITS, tls=ServerTls(mutual)) as listener:
        port = listener.tls_port or 0

        echo_seconds(port, client(authority, authority.sign("ct01")))

        assert "certificate required" in refused(port, client(authority))
        assert "unknown ca" in refused(port, client(authority, stranger))
        assert "expired" in refused(port, client(authority, authority.sign("old", days=-1)))


def test_renewed_certificate_is_shown_to_the_next_peer(
    spool: Spool, authority: Authority, tmp_path: Path
) -> None:
    old, new = authority.sign("old name"), authority.sign("new name")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    shutil.copy(old.certificate, files.certificate)
    shutil.copy(old.key, files.key or "")

    def shown(port: int) -> str:
        with RawPeer(port, tls=client(authority)) as peer:
            assert isinstance(peer.socket, ssl.SSLSocket)
            return str((peer.socket.getpeercert() or {})["subject"])

    with listening(spool, LIMITS, tls=ServerTls(files)) as listener:
        port = listener.tls_port or 0
        assert "old name" in shown(port)
        with RawPeer(port, tls=client(authority)) as long_standing:
            long_standing.associate()
            shutil.copy(new.certificate, files.certificate)
            assert "old name" in shown(port)  # the key does not fit yet
            shutil.copy(new.key, files.key or "")
            assert "new name" in shown(port)
            assert long_standing.echo() == 0


def test_both_ports_share_the_limit(
    spool: Spool, files: TlsFiles, trusting: ssl.SSLContext
) -> None:
    limits = Limits(max_associations=2, timeouts=QUICK)
    with listening(spool, limits, tls=ServerTls(files)) as listener:
        port = listener.tls_port or 0
        with RawPeer(listener.port) as one, RawPeer(port, tls=trusting) as two:
            one.associate()
            two.associate()
            with RawPeer(port, tls=trusting) as three:
                three.send(request_pdu())
                assert three.until_closed() == [pdu.ASSOCIATE_RJ]


# What the doctor sees


def test_doctor_sees_how_long_the_certificate_is_valid(
    spool: Spool, authority: Authority, files: TlsFiles
) -> None:
    mutual = TlsFiles(files.certificate, files.key, authority.certificate)
    with listening(spool, LIMITS, tls=ServerTls(mutual)) as listener:
        settings = Settings(dicom_tls_port=listener.tls_port or 0)

        left = expires(settings, mutual) - utc_now()

    assert 89 <= left.days <= 90
    with pytest.raises(PeerUnavailable, match="refused"):
        expires(settings, mutual)


def test_doctor_sees_a_certificate_that_has_expired_or_is_another(
    spool: Spool, authority: Authority, files: TlsFiles
) -> None:
    expired = authority.sign("long ago", days=-1)
    with listening(
        spool, LIMITS, tls=ServerTls(TlsFiles(expired.certificate, expired.key))
    ) as listener:
        settings = Settings(dicom_tls_port=listener.tls_port or 0)

        with pytest.raises(PeerUnavailable, match="has expired"):
            probes.certificate_expires(
                settings.bind, settings.dicom_tls_port, TlsFiles(expired.certificate)
            )
        with pytest.raises(PeerUnavailable, match="unable to get local issuer"):
            expires(settings, files)


# Who disturbs (N02)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\0\x01\0"], ids=["silent", "half hello"])
def test_peers_that_never_finish_the_handshake_hold_up_nobody(
    tls_port: int, trusting: ssl.SSLContext, sent: bytes
) -> None:
    with ExitStack() as stack:
        begun = time.monotonic()
        for _ in range(200):
            silent = stack.enter_context(RawPeer(tls_port))
            silent.send(sent)

        echoes = sorted(echo_seconds(tls_port, trusting) for _ in range(10))
        kinds = silent.until_closed()
        dropped_s = time.monotonic() - begun

    assert echoes[5] < QUICK.handshake_s, "they wait for the silent ones"
    assert dropped_s < QUICK.handshake_s + 2 * SLACK_S
    assert kinds == []


def test_handshake_that_drips_is_dropped(tls_port: int) -> None:
    hello = client_hello()
    begun = time.monotonic()
    with RawPeer(tls_port) as peer, pytest.raises(ConnectionError):  # noqa: PT012 - it drips
        for byte in hello * 100:
            peer.send(bytes((byte,)))
            time.sleep(0.02)

    assert time.monotonic() - begun < QUICK.handshake_s + SLACK_S


def test_peer_without_tls_gets_no_answer_and_is_dropped(
    tls_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    begun = time.monotonic()
    with RawPeer(tls_port) as peer:
        peer.send(request_pdu())
        with contextlib.suppress(ConnectionResetError):
            while peer.socket.recv(1000):  # the alert of TLS
                pass

    assert time.monotonic() - begun < SLACK_S
    assert wait_for(lambda: "tls_refused" in caplog.messages)


def test_tls_peer_on_the_other_port_is_dropped(port: int, trusting: ssl.SSLContext) -> None:
    begun = time.monotonic()

    with pytest.raises((ssl.SSLError, ConnectionError)):
        RawPeer(port, tls=trusting)

    assert time.monotonic() - begun < AT_ONCE_S


@pytest.mark.parametrize(
    ("send", "kinds", "within_s"),
    [
        (b"", [], QUICK.request_s),
        (request_pdu() + message(CT_CONTEXT, store_request("1.2"), bytes(20_000))[:-1000],
         [pdu.ASSOCIATE_AC, pdu.ABORT], QUICK.pdu_s),
        (request_pdu() + b"\x04\0\xff\xff\xff\xff", [pdu.ASSOCIATE_AC, pdu.ABORT], 0.1),
        (request_pdu() + b"GET / HTTP/1.1", [pdu.ASSOCIATE_AC, pdu.ABORT], 0.1),
    ],
    ids=["silent after the handshake", "stalls in a PDU", "PDU of 4 GiB", "no DICOM"],
)  # fmt: skip
def test_time_outs_and_limits_hold_inside_tls(
    tls_port: int, trusting: ssl.SSLContext, send: bytes, kinds: list[int], within_s: float
) -> None:
    with RawPeer(tls_port, tls=trusting) as peer:
        begun = time.monotonic()
        peer.send(send)

        assert peer.until_closed() == kinds
        assert time.monotonic() - begun < within_s + SLACK_S


def test_stop_aborts_what_does_not_finish_inside_tls(
    spool: Spool, files: TlsFiles, trusting: ssl.SSLContext
) -> None:
    with (
        listening(spool, LIMITS, tls=ServerTls(files)) as listener,
        RawPeer(listener.tls_port or 0) as silent,
        RawPeer(listener.tls_port or 0, tls=trusting) as peer,
    ):
        peer.associate()
        begun = time.monotonic()

        listener.stop(grace_s=0.1)

        assert peer.until_closed() == [pdu.ABORT]
        assert silent.until_closed() == []
        assert time.monotonic() - begun < AT_ONCE_S


def test_mutated_handshakes_are_dropped_and_leave_no_thread(
    tls_port: int, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    chance = random.Random(20261124)
    hello = client_hello()
    threads = threading.active_count()
    for _ in range(300):
        changed = bytearray(hello)
        for _ in range(chance.choice((1, 2, 8))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        cut = chance.choice((None, None, chance.randrange(len(changed))))
        with contextlib.suppress(OSError), RawPeer(tls_port, timeout_s=0.01) as peer:
            peer.send(bytes(changed[:cut]))
            peer.socket.recv(1000)

    assert echo_seconds(tls_port, trusting) < AT_ONCE_S
    assert wait_for(lambda: threading.active_count() <= threads)
    assert caplog.messages == []


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


# The connection itself


@pytest.fixture
def ends(
    files: TlsFiles, trusting: ssl.SSLContext
) -> Iterator[tuple[ssl.SSLSocket, TlsConnection]]:
    """Both ends of an open connection: the peer's, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname(), 5)
        ours = TlsConnection(server.accept()[0], QUICK, server_context(files))
    opening = threading.Thread(target=ours.open)
    opening.start()
    with trusting.wrap_socket(theirs) as peer:
        opening.join()
        yield peer, ours
    ours.close()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_look_for_a_pdu_never_blocks_and_finds_it_when_it_is_whole(
    ends: tuple[ssl.SSLSocket, Connection],
) -> None:
    peer, ours = ends
    begun = time.monotonic()
    assert not ours.has_pdu()
    peer.sendall(pdu.RELEASE_REQUEST[:7])
    assert not ours.has_pdu()
    assert time.monotonic() - begun < QUICK.pdu_s

    peer.sendall(pdu.RELEASE_REQUEST[7:] + pdu.RELEASE_REPLY)

    assert wait_for(ours.has_pdu)
    assert ours.read_pdu(1)[0] == pdu.RELEASE_RQ
    assert ours.read_pdu(1)[0] == pdu.RELEASE_RP


def test_peer_that_takes_nothing_is_given_up(files: TlsFiles, trusting: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname(), 5)
        hasty = Timeouts(send_s=0.3)
        ours = TlsConnection(server.accept()[0], hasty, server_context(files))
    opening = threading.Thread(target=ours.open)
    opening.start()
    with trusting.wrap_socket(theirs):
        opening.join()
        begun = time.monotonic()

        with pytest.raises(AssociationLost):
            ours.send(bytes(1 << 20) for _ in range(50))

        assert time.monotonic() - begun < AT_ONCE_S
    ours.close()


def expires(settings: Settings, files: TlsFiles) -> datetime:
    return probes.certificate_expires(settings.bind, settings.dicom_tls_port, files)
