"""The load's client against a server that answers with what it is told."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from tests.bench import web
from tests.bench.web import Client, Load, Target

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5 \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\nWarning: 299\r\n\r\n"
FAILED = b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nhello"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(3 * web.BUFFER)


@contextmanager
def answering(*connections: Sequence[bytes]) -> Iterator[int]:
    """Serve the answers of each connection in turn, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answers in connections:
                plug, _ = server.accept()
                with plug:
                    for answer in answers:
                        plug.recv(65536)
                        plug.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_answers_of_every_framing_follow_each_other_on_one_connection() -> None:
    with answering([SIZED, CHUNKED, EMPTY, SIZED]) as port, closing(Client(port)) as client:
        found = [client.get(b"x") for _ in range(4)]

    assert found == [(200, 5), (200, 13), (204, 0), (200, 5)]


def test_a_body_that_ends_with_the_connection_is_counted_and_followed_by_another() -> None:
    with answering([UNTIL_THE_END], [SIZED]) as port, closing(Client(port)) as client:
        found = [client.get(b"x"), client.get(b"x")]

    assert found == [(200, 3 * web.BUFFER), (200, 5)]


@pytest.mark.parametrize("answer", [FAILED, SIZED], ids=["status", "size"])
def test_an_answer_that_is_not_the_expected_one_ends_the_load(answer: bytes) -> None:
    with answering([answer]) as port:
        load = Load([b"x"], size=6 if answer is SIZED else 5, tolerance=0.1)

        with pytest.raises(RuntimeError, match="status"):
            load.run(port)


def test_a_load_stops_after_the_most_requests() -> None:
    with answering([SIZED] * 3) as port:
        measured = Load([b"x"], 5, seconds=60, most=3).run(port)

    assert measured["MB_s"] == pytest.approx(measured["req_s"] * 5 / 1e6)


def test_rates_count_from_the_first_request_to_the_last_answer() -> None:
    taken = [(10.0, 10.5), (10.2, 11.0), (10.5, 12.0)]

    assert web.summary(taken, 4_000_000) == pytest.approx(
        {"req_s": 1.5, "MB_s": 6.0, "p50_ms": 800.0, "p99_ms": 1500.0}
    )


def test_a_request_carries_what_its_target_demands() -> None:
    request = Target(80, {"Authorization": "Bearer x"}).request("/a", {"Accept": "b"})

    assert request == (
        b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAuthorization: Bearer x\r\nAccept: b\r\n\r\n"
    )
