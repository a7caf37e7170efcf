"""An HTTP load: keep-alive connections in processes of their own, reading and no more.

Each answer is checked for its status and its size, so that a failure never counts as speed.
"""

import gzip
import multiprocessing
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from typing import Final

BUFFER: Final = 1 << 20
NO_CONTENT: Final = 204
FOUND: Final = frozenset({200, NO_CONTENT})
"""PS3.18 10.6.3: a search without a match may be answered 204."""
PATIENCE_S: Final = 120.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_FORK: Final = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Target:
    """Where to ask, and what every request says."""

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, path: str, headers: Mapping[str, str]) -> bytes:
        """Return the bytes of a GET."""
        said = {"Host": f"127.0.0.1:{self.port}", **self.headers, **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


class Client:
    """One connection that is kept alive, or opened anew where the server wants that."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._connect()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), PATIENCE_S)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin = self._end = 0

    def get(self, request: bytes) -> tuple[int, int]:
        """Send `request`; return the status and the bytes of the body."""
        self._socket.sendall(request)
        head = self._until(b"\r\n\r\n")
        status = int(head[9:12])
        if _CHUNKED.search(head):
            return status, self._skip_chunks()
        if length := _LENGTH.search(head):
            self._skip(size := int(length[1]))
            return status, size
        return status, 0 if status == NO_CONTENT else self._skip_all()

    def _skip_all(self) -> int:
        """Read a body that ends with the connection (RFC 9112 6.3)."""
        total = self._end - self._begin
        while got := self._socket.recv_into(self._view):
            total += got
        self._socket.close()
        self._connect()
        return total

    def _skip_chunks(self) -> int:
        total = 0
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            self._skip(size + 2)
            total += size
        self._until(b"\r\n")
        return total

    def _until(self, mark: bytes) -> bytes:
        while (found := self._buffer.find(mark, self._begin, self._end)) < 0:
            left = self._end - self._begin
            self._view[:left] = bytes(self._view[self._begin : self._end])
            self._begin, self._end = 0, left
            self._end += self._receive(self._view[left:])
        text = bytes(self._view[self._begin : found])
        self._begin = found + len(mark)
        return text

    def _skip(self, size: int) -> None:
        held = min(size, self._end - self._begin)
        self._begin += held
        size -= held
        while size:
            size -= self._receive(self._view[:size])

    def _receive(self, view: memoryview) -> int:
        if got := self._socket.recv_into(view):
            return got
        raise ConnectionError("the server closed a connection that is kept alive")


@dataclass(frozen=True)
class Load:
    """What is asked, for how long and by how many; `size` is what every body must have."""

    requests: Sequence[bytes]
    size: int
    tolerance: float = 0.02
    """By which part of `size` a body may differ."""
    connections: int = 1
    seconds: float = 2.0
    most: int = 1_000_000
    """Requests of one connection at most, however fast."""

    def run(self, port: int) -> dict[str, float]:
        """Ask; return requests and megabytes a second, and what one request takes."""
        barrier = _FORK.Barrier(self.connections)
        pipes = []
        for number in range(self.connections):
            here, there = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=self._ask, args=(port, number, barrier, there))
            process.start()
            there.close()
            pipes.append((process, here))
        results = [here.recv() for _, here in pipes]
        for process, _ in pipes:
            process.join()
        if failed := [result for result in results if isinstance(result, str)]:
            raise RuntimeError(failed[0])
        return summary([taken for result in results for taken in result], self.size)

    def _ask(self, port: int, number: int, barrier: Barrier, pipe: Pipe) -> None:
        try:
            mine = self.requests[number :: self.connections] or self.requests
            with closing(Client(port)) as client:
                barrier.wait(PATIENCE_S)
                pipe.send(self._timed(client, mine))
        except Exception as error:  # noqa: BLE001 - it is told to the process that asked for this
            pipe.send(f"{type(error).__name__}: {error}")

    def _timed(self, client: Client, requests: Sequence[bytes]) -> list[tuple[float, float]]:
        taken: list[tuple[float, float]] = []
        begun = now = time.monotonic()
        while now - begun < self.seconds and len(taken) < self.most:
            status, size = client.get(requests[len(taken) % len(requests)])
            before, now = now, time.monotonic()
            if status not in FOUND or abs(size - self.size) > self.size * self.tolerance:
                raise ValueError(f"status {status}, {size} bytes instead of {self.size}")
            taken.append((before, now))
        return taken


def summary(taken: Sequence[tuple[float, float]], size: int) -> dict[str, float]:
    """Return rates and latencies of requests, given by begin and end in seconds."""
    wall = max(end for _, end in taken) - min(begin for begin, _ in taken)
    rate = len(taken) / wall
    latencies = sorted((end - begin) * 1000 for begin, end in taken)
    return {
        "req_s": rate,
        "MB_s": rate * size / 1e6,
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)],
    }


def once(target: Target, request: bytes) -> tuple[float, int]:
    """Ask once over a new connection; return the milliseconds and the bytes of the body."""
    with closing(Client(target.port)) as client:
        begun = time.monotonic()
        status, size = client.get(request)
        taken = (time.monotonic() - begun) * 1000
    if status not in FOUND:
        raise ValueError(f"status {status}")
    return taken, size


def content(target: Target, path: str, headers: Mapping[str, str]) -> bytes | None:
    """Return the body that a GET gives, unpacked; None when it is not given."""
    url = f"http://127.0.0.1:{target.port}{path}"
    request = urllib.request.Request(url, headers={**target.headers, **headers})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            body: bytes = answer.read()
            packed = answer.headers.get("Content-Encoding") == "gzip"
    except urllib.error.HTTPError:
        return None
    return gzip.decompress(body) if packed else body
