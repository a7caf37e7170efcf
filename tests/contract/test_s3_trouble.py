"""The S3 store while a real server dies, hangs, refuses or cuts the line."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.base.errors import NotFound, StoreUnavailable
from storage.objects.s3 import S3Address, S3Store
from tests.fixtures.objects import SeaweedFS
from tests.fixtures.patience import AT_ONCE_S

KEY = "ab/cd/abcd/0123"
TIMEOUT_S = 1.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def impatient(server: SeaweedFS, bucket: str) -> S3Store:
    return S3Store(S3Address.parse(server.url(bucket)), read_timeout_s=TIMEOUT_S, retry_s=0.5)


def test_acknowledged_objects_outlive_a_kill_of_the_server(
    own_seaweedfs: SeaweedFS, bucket: str, tmp_path: Path
) -> None:
    store = impatient(own_seaweedfs, bucket)
    acknowledged: dict[str, str] = {}
    stop = threading.Event()

    def put_until_it_fails(worker: int) -> None:
        for number in range(10_000):
            content = os.urandom(20_000)
            path = tmp_path / f"{worker}-{number}"
            path.write_bytes(content)
            key = f"aa/{worker:02x}/{number:04x}"
            try:
                store.put_files([(key, path)])
            except StoreUnavailable:
                return
            acknowledged[key] = hashlib.sha256(content).hexdigest()
            if len(acknowledged) >= 100:
                stop.set()

    workers = [threading.Thread(target=put_until_it_fails, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    assert stop.wait(60)
    own_seaweedfs.kill()
    for worker in workers:
        worker.join()
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        store.check()
    own_seaweedfs.start()

    assert {key: store.sha256(key) for key in acknowledged} == acknowledged
    assert {found.key for found in store.list()} >= set(acknowledged)


def test_server_that_is_away_is_unavailable_for_every_call(bucket: str, file: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        url = f"s3://key:secret@127.0.0.1:{nobody.getsockname()[1]}/{bucket}?secure=false"
        store = S3Store(S3Address.parse(url), retry_s=0.3)
        started_s = time.monotonic()

        for call in (
            lambda: store.put_files([(KEY, file)]),
            lambda: store.read(KEY),
            lambda: store.stream(KEY),
            lambda: store.stat(KEY),
            lambda: store.delete(KEY),
            lambda: list(store.list()),
            store.check,
        ):
            with pytest.raises(StoreUnavailable, match="cannot connect"):
                call()

    assert time.monotonic() - started_s < 6 * AT_ONCE_S


def test_hung_server_is_unavailable_in_bounded_time_and_then_works_again(
    own_seaweedfs: SeaweedFS, bucket: str, file: Path
) -> None:
    store = impatient(own_seaweedfs, bucket)
    store.put_files([(KEY, file)])
    big = file.with_name("big")
    big.write_bytes(os.urandom(30_000_000))

    own_seaweedfs.pause()
    for call in (
        lambda: store.put_files([(f"aa/{number:02x}", big) for number in range(50)]),
        lambda: store.read(KEY),
        lambda: list(store.list()),
        store.check,
    ):
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer within 1 s"):
            call()
        assert time.monotonic() - started_s < 4 * TIMEOUT_S
    own_seaweedfs.resume()

    assert store.read(KEY) == b"0123456789"
    store.put_files([("aa/bb", big)])
    assert store.stat("aa/bb").size == 30_000_000


def test_server_that_stops_within_an_upload_is_unavailable_in_bounded_time(
    own_seaweedfs: SeaweedFS, bucket: str, tmp_path: Path
) -> None:
    store = impatient(own_seaweedfs, bucket)
    big = tmp_path / "big"
    big.write_bytes(os.urandom(200_000_000))
    faults: list[Exception] = []

    def put() -> None:
        try:
            store.put_files([(KEY, big)])
        except StoreUnavailable as fault:
            faults.append(fault)

    putting = threading.Thread(target=put)
    putting.start()
    time.sleep(0.3)
    own_seaweedfs.pause()
    putting.join(10 * TIMEOUT_S)
    hangs = putting.is_alive()
    own_seaweedfs.resume()
    putting.join()

    assert not hangs
    assert len(faults) == 1
    with pytest.raises(NotFound):  # half of it is not there
        store.stat(KEY)


def test_wrong_secret_is_said_clearly_and_not_shown(
    seaweedfs: SeaweedFS, bucket: str, file: Path
) -> None:
    store = S3Store.from_url(seaweedfs.url(bucket, secret_key="wrong%2Fsecret"))

    for call in (
        lambda: store.put_files([(KEY, file)]),
        lambda: store.read(KEY),
        lambda: store.stat(KEY),
        lambda: list(store.list()),
        store.check,
    ):
        with pytest.raises(StoreUnavailable, match="refuses our credentials") as raised:
            call()
        assert "wrong/secret" not in str(raised.value)


def test_object_carries_its_own_sha256(seaweedfs: SeaweedFS, bucket: str, file: Path) -> None:
    address = S3Address.parse(seaweedfs.url(bucket))
    S3Store(address).put_files([(KEY, file)])

    found = S3Store(address).metadata(KEY)

    assert found["sha256"] == hashlib.sha256(b"0123456789").hexdigest()


class CuttingProxy:
    """Passes TCP on, and cuts every connection after so many bytes of answer."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self.cut_after: int | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            for pump in (self._ask, self._answer):
                threading.Thread(target=pump, args=(near, far), daemon=True).start()

    @staticmethod
    def _ask(near: socket.socket, far: socket.socket) -> None:
        try:
            while data := near.recv(65536):
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        passed = 0
        with near, far:
            try:
                while data := far.recv(65536):
                    room = len(data) if self.cut_after is None else self.cut_after - passed
                    near.sendall(data[: max(room, 0)])
                    passed += len(data)
                    if room < len(data):
                        self.cuts += 1
                        near.shutdown(socket.SHUT_RDWR)
                        return
            except OSError:
                pass


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[CuttingProxy]:
    cutting = CuttingProxy(seaweedfs.port)
    yield cutting
    cutting.close()


def through(proxy: CuttingProxy, seaweedfs: SeaweedFS, bucket: str) -> S3Store:
    url = seaweedfs.url(bucket).replace(str(seaweedfs.port), str(proxy.port))
    return S3Store(S3Address.parse(url), read_timeout_s=5.0, retry_s=2.0)


def test_download_that_is_cut_is_resumed_where_it_broke(
    seaweedfs: SeaweedFS, proxy: CuttingProxy, bucket: str, tmp_path: Path
) -> None:
    content = os.urandom(5_000_000)
    path = tmp_path / "file"
    path.write_bytes(content)
    S3Store.from_url(seaweedfs.url(bucket)).put_files([(KEY, path)])
    store = through(proxy, seaweedfs, bucket)

    proxy.cut_after = 1_000_000

    assert store.read(KEY) == content
    assert store.read(KEY, 123_456, 3_000_000) == content[123_456:3_123_456]
    assert proxy.cuts >= 5


def test_download_that_never_gets_on_is_unavailable(
    seaweedfs: SeaweedFS, proxy: CuttingProxy, bucket: str, file: Path
) -> None:
    file.write_bytes(os.urandom(1_000_000))
    S3Store.from_url(seaweedfs.url(bucket)).put_files([(KEY, file)])
    store = through(proxy, seaweedfs, bucket)

    proxy.cut_after = 100_000

    with pytest.raises(StoreUnavailable, match="a download: IncompleteRead"):
        store.read(KEY)


def test_passing_trouble_is_tried_again(
    seaweedfs: SeaweedFS, proxy: CuttingProxy, bucket: str, file: Path
) -> None:
    store = through(proxy, seaweedfs, bucket)
    store.put_files([(KEY, file)])
    proxy.cut_after = 0
    healed = threading.Timer(0.5, lambda: setattr(proxy, "cut_after", None))
    healed.start()

    store.put_files([("aa/bb", file)])
    healed.join()

    assert proxy.cuts >= 2
    assert store.read("aa/bb") == b"0123456789"
