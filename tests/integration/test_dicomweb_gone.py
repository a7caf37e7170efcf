"""A client that goes away in the middle of an answer: we stop reading for it."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.fixtures.dicom_files import ct_slice, set_pixels
from tests.fixtures.http import HttpNode
from tests.fixtures.patience import PATIENCE_S

PIECES = 64
"""Of a mebibyte, in the whole study."""


def read_pieces(node: HttpNode, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one with each piece that is read of the object store."""
    taken: list[int] = []
    stream = node.store.stream

    def counted(*place: Any, **options: Any) -> Iterator[bytes]:
        for piece in stream(*place, **options):
            taken.append(len(piece))
            yield piece

    monkeypatch.setattr(node.store, "stream", counted)
    return taken


def settled(taken: list[int]) -> int:
    """Return how many pieces were read when for a while no more are."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        before = len(taken)
        time.sleep(0.5)
        if len(taken) == before:
            return before
    raise AssertionError("it is still read")


@pytest.mark.parametrize("rest", ["", "/archive"])
def test_answer_that_nobody_takes_is_not_read_to_its_end(
    http_node: HttpNode, monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    first = ct_slice()
    set_pixels(first, np.zeros((4096, 4096), dtype="<u2"))
    datasets = [first]
    for _ in range(1):
        other = ct_slice(StudyInstanceUID=first.StudyInstanceUID)
        set_pixels(other, np.zeros((4096, 4096), dtype="<u2"))
        datasets.append(other)
    http_node.put(*datasets)
    taken = read_pieces(http_node, monkeypatch)
    request = (
        f"GET /dicom-web/studies/{first.StudyInstanceUID}{rest} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {http_node.token()}\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", http_node.port), timeout=30) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        connection.sendall(request.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")

    assert settled(taken) < PIECES - 16
    assert http_node.client().get("/dicom-web/studies").status_code == 200
