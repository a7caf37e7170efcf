"""Messages are fed through a real socket pair: what is cut is the stream and the PDVs."""

import socket
import struct
from collections.abc import Iterator

import pytest

from pacs.upper_layer import dimse, pdu
from pacs.upper_layer.connection import Connection, Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.faults import AssociationLost, ProtocolFault, Released
from pacs.upper_layer.messages import COMMAND, LAST, Messages

QUICK = Timeouts(pdu_s=0.2, dataset_s=0.2)
REQUEST = Command(command_field=dimse.C_STORE_RQ, message_id=1, command_data_set_type=1)
COMMAND_SET = dimse.encode(REQUEST)
DATASET = bytes(range(256)) * 3


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Messages]]:
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield theirs, Messages(Connection(ours, QUICK), peer_max_length=16384)


@pytest.fixture(autouse=True)
def tcp_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket pair has no Nagle to turn off."""
    monkeypatch.setattr(socket, "IPPROTO_TCP", socket.SOL_SOCKET)
    monkeypatch.setattr(socket, "TCP_NODELAY", socket.SO_KEEPALIVE)


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxI", pdu.P_DATA, len(body)) + body


def in_pieces(data: bytes, size: int, control: int) -> list[bytes]:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        pdv(1, control | (LAST if at == len(pieces) - 1 else 0), piece)
        for at, piece in enumerate(pieces)
    ]


def read(messages: Messages) -> tuple[int, Command, bytes]:
    context_id, command = messages.read_command(0.2)
    data = b"".join(bytes(fragment) for fragment in messages.read_dataset(context_id))
    return context_id, command, data


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("together", [1, 3, 1000], ids=lambda n: f"{n} PDVs a PDU")
def test_message_is_the_same_however_it_is_cut(
    pair: tuple[socket.socket, Messages], size: int, together: int
) -> None:
    theirs, messages = pair
    pdvs = in_pieces(COMMAND_SET, size, COMMAND) + in_pieces(DATASET, size, 0)

    theirs.sendall(
        b"".join(p_data(*pdvs[at : at + together]) for at in range(0, len(pdvs), together))
    )

    assert read(messages) == (1, REQUEST, DATASET)


@pytest.mark.parametrize("first", range(1, 30))
def test_message_is_the_same_wherever_the_stream_pauses(
    pair: tuple[socket.socket, Messages], first: int
) -> None:
    theirs, messages = pair
    stream = p_data(pdv(1, COMMAND | LAST, COMMAND_SET), pdv(1, LAST, DATASET))

    theirs.sendall(stream[:first])
    assert not messages.waiting()
    theirs.sendall(stream[first:])

    assert messages.waiting()
    assert read(messages) == (1, REQUEST, DATASET)


def test_data_set_may_end_with_an_empty_fragment(pair: tuple[socket.socket, Messages]) -> None:
    theirs, messages = pair

    theirs.sendall(p_data(pdv(1, COMMAND | LAST, COMMAND_SET), pdv(1, 0, DATASET)))
    theirs.sendall(p_data(pdv(1, LAST, b"")))

    assert read(messages)[2] == DATASET


def test_two_messages_in_one_segment_are_two_messages(
    pair: tuple[socket.socket, Messages],
) -> None:
    theirs, messages = pair
    one = p_data(pdv(1, COMMAND | LAST, COMMAND_SET), pdv(1, LAST, DATASET))

    theirs.sendall(one + one)

    assert read(messages) == read(messages)


@pytest.mark.parametrize(
    "stream",
    [
        p_data(),
        p_data(b"\0\0\0"),
        p_data(pdv(1, COMMAND | LAST, COMMAND_SET)[:-1]),
        p_data(struct.pack(">IBB", 1, 1, 3)),
        p_data(struct.pack(">IBB", 0xFFFFFFFF, 1, 3)),
        p_data(pdv(1, COMMAND, COMMAND_SET[:10]), pdv(3, COMMAND | LAST, COMMAND_SET[10:])),
        p_data(pdv(1, COMMAND, COMMAND_SET[:10]), pdv(1, LAST, DATASET)),
        p_data(pdv(1, LAST, DATASET)),
        p_data(pdv(1, COMMAND | LAST, b"")),
        p_data(pdv(1, COMMAND | LAST, COMMAND_SET), pdv(3, LAST, DATASET)),
        p_data(pdv(1, COMMAND | LAST, COMMAND_SET), pdv(1, 0, DATASET), pdv(1, 3, COMMAND_SET)),
        p_data(*[pdv(1, COMMAND, bytes(30_000))] * 2) + p_data(pdv(1, COMMAND, bytes(30_000))),
        struct.pack(">BxI", pdu.ASSOCIATE_RQ, 4) + bytes(4),
        struct.pack(">BxI", pdu.RELEASE_RP, 4) + bytes(4),
        struct.pack(">BxI", 0x08, 4) + bytes(4),
        struct.pack(">BxI", pdu.P_DATA, 0xFFFFFFFF),
        struct.pack(">BxI", pdu.P_DATA, 65_543),
    ],
    ids=[
        "P-DATA without PDV",
        "PDV header cut",
        "PDV longer than its PDU",
        "PDV shorter than its header",
        "PDV of 4 GiB",
        "command in two contexts",
        "command that turns into data",
        "data before a command",
        "empty command",
        "data in another context",
        "command inside data",
        "command longer than 64 KiB",
        "association request again",
        "release reply",
        "unknown PDU type",
        "PDU of 4 GiB",
        "PDU longer than advertised",
    ],
)
def test_wrong_order_or_length_is_a_protocol_fault(
    pair: tuple[socket.socket, Messages], stream: bytes
) -> None:
    theirs, messages = pair
    theirs.sendall(stream)

    with pytest.raises(ProtocolFault):
        read(messages)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (pdu.RELEASE_REQUEST, Released),
        (pdu.encode_abort(0, 0), AssociationLost),
        (b"", AssociationLost),
        (p_data(pdv(1, COMMAND | LAST, COMMAND_SET))[:20], AssociationLost),
    ],
    ids=["release", "abort", "silence", "half a PDU, then silence"],
)
def test_peer_that_leaves_is_told_from_one_that_lies(
    pair: tuple[socket.socket, Messages], stream: bytes, error: type[Exception]
) -> None:
    theirs, messages = pair
    theirs.sendall(stream)

    with pytest.raises(error):
        messages.read_command(0.2)


@pytest.mark.parametrize("limit", [128, 200, 16384, 0], ids=lambda n: f"peer takes {n}")
@pytest.mark.parametrize("piece", [1, 100, 70_000])
def test_what_is_sent_fits_the_peer_and_is_read_again(limit: int, piece: int) -> None:
    theirs, ours = socket.socketpair()
    with theirs, ours:
        sender = Messages(Connection(theirs, QUICK), peer_max_length=limit)
        data = DATASET * 100 if piece > 1 else DATASET
        pieces = [data[at : at + piece] for at in range(0, len(data), piece)]

        parts = list(sender.encode(1, REQUEST, pieces))

        stream = b"".join(parts)
        lengths = _pdu_lengths(stream)
        assert not limit or max(lengths) <= limit
        if max(lengths) <= 65_536:
            theirs.sendall(stream)
            receiver = Messages(Connection(ours, QUICK), peer_max_length=0)
            assert read(receiver) == (1, REQUEST, data)


def test_empty_data_set_is_one_last_fragment() -> None:
    theirs, ours = socket.socketpair()
    with theirs, ours:
        Messages(Connection(theirs, QUICK), 0).send(1, REQUEST, ())

        assert read(Messages(Connection(ours, QUICK), 0)) == (1, REQUEST, b"")


def _pdu_lengths(stream: bytes) -> list[int]:
    lengths, position = [], 0
    while position < len(stream):
        kind, length = struct.unpack_from(">BxI", stream, position)
        assert kind == pdu.P_DATA
        lengths.append(length)
        position += 6 + length
    return lengths
