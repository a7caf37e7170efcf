"""Objects in a bucket of an S3 server, through the `minio` SDK: the only door to it.

An acknowledged put may still be lost by a power cut of the server for some minutes
(`settles`): whoever needs custody re-reads the object later, before it lets go its own copy.
"""

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NewConnectionError,
    ReadTimeoutError,
)

from storage.base.errors import ImagingError, Malformed, NotFound, StoreUnavailable
from storage.objects.connections import pools
from storage.objects.keys import check_key, check_prefix, is_key
from storage.objects.pieces import PIECE_BYTES, Pieces, check_range
from storage.objects.store import ObjectStat

_Answer = TypeVar("_Answer")

_TROUBLE: Final = (MinioException, HTTPError, ParseError)
_REFUSED: Final = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
)
_HAVE_BUCKET: Final = frozenset({"BucketAlreadyExists", "BucketAlreadyOwnedByYou"})
_PASSES: Final = frozenset({"SlowDown", "RequestTimeout", "OperationAborted"})
_RANGE_NOT_SATISFIABLE: Final = 416
_PART_BYTES: Final = 8 << 20
"""A larger object is sent in parts of this size, so that memory stays constant."""
_MOST_PARTS: Final = 9_000  # S3 allows 10,000
_READ_BYTES: Final = 256 << 10
"""So much is read again at most when a connection breaks."""
_PAGE: Final = 1_000
_WORKERS: Final = 4
_FIRST_PAUSE_S: Final = 0.1
_CHECK_TIMEOUT_S: Final = 5.0
_MOST_RESUMES: Final = 3
_FLAGS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class S3Address:
    """Where the bucket is and how to open it."""

    endpoint: str
    """``host:port``"""
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    secure: bool = True
    region: str = "us-east-1"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``s3://KEY:SECRET@host:port/bucket?secure=false&region=…``.

        Key and secret are percent-encoded where they hold ``/ @ : ?``.

        Raises
        ------
        Malformed
            The text names what is wrong, and never the secret.
        """
        try:
            parts = urlsplit(url)
            endpoint = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
            options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        except ValueError:
            raise Malformed("objects URL: it is not a URL") from None
        bucket = parts.path.strip("/")
        if parts.scheme != "s3" or not endpoint or not parts.username or not parts.password:
            raise Malformed("objects URL: not of the form s3://KEY:SECRET@host:port/bucket")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise Malformed(f"objects URL: {bucket!r} is no name of a bucket")
        if unknown := options.keys() - {"secure", "region"}:
            raise Malformed(f"objects URL: unknown {', '.join(sorted(unknown))}")
        secure = _FLAGS.get(options.get("secure", "true"))
        if secure is None:
            raise Malformed("objects URL: secure is true or false")
        return cls(
            endpoint=endpoint,
            bucket=bucket,
            access_key=unquote(parts.username),
            secret_key=unquote(parts.password),
            secure=secure,
            region=options.get("region", "us-east-1"),
        )


class S3Store:
    """Objects in one bucket, which is made when it is absent. One object per process.

    Parameters
    ----------
    read_timeout_s
        How long each read or write on a connection may take: a server that hangs gives
        `StoreUnavailable` after that time. Connecting has `connections.CONNECT_TIMEOUT_S`.
    retry_s
        Passing trouble is tried again, with growing pauses, for no longer than this.
    """

    settles = True

    def __init__(
        self,
        address: S3Address,
        read_timeout_s: float = 30.0,
        retry_s: float = 5.0,
    ) -> None:
        self._bucket = address.bucket
        self._place = f"S3 {address.endpoint}/{address.bucket}"
        self._read_timeout_s = read_timeout_s
        self._retry_s = retry_s
        self._client = _client(address, read_timeout_s)
        self._quick = _client(address, min(_CHECK_TIMEOUT_S, read_timeout_s))
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="s3")
        self._probe = f"check/{uuid4().hex}"  # not hexadecimal, so no key

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the store at ``s3://KEY:SECRET@host:port/bucket?secure=…&region=…``."""
        return cls(S3Address.parse(url))

    def put_files(self, items: Sequence[tuple[str, Path]]) -> None:
        """Store each file under its key, some at a time; all are taken on return, or it raises."""
        for key, _ in items:
            check_key(key)
        puts = [self._pool.submit(self._put, key, path) for key, path in items]
        _, rest = wait(puts, return_when=FIRST_EXCEPTION)
        for put in rest:
            put.cancel()  # and what runs already ends within the time-out
        wait(rest)
        for put in puts:
            if not put.cancelled():
                put.result()

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes ``[offset, offset + length)``, to the end when `length` is None."""
        return b"".join(self.stream(key, offset, length))

    def at_hand(self, key: str, offset: int, length: int) -> None:  # noqa: ARG002
        """Nothing is: every object is asked for over the network."""
        return

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = PIECE_BYTES
    ) -> Iterator[bytes]:
        """Yield the same bytes in pieces; a connection that breaks is resumed where it broke."""
        check_key(key)
        check_range(offset, length)
        if length == 0:
            self.stat(key)
            return iter(())
        download = _Download(
            lambda position, left, etag: self._call(
                lambda: self._open(key, position, left, etag), f"object {key}"
            ),
            offset,
            length,
        )
        return Pieces(lambda: self._piece(download, chunk), download.close)

    def sha256(self, key: str, offset: int = 0, length: int | None = None) -> str:
        """Re-read bytes ``[offset, offset + length)`` and return their SHA-256 in hex."""
        digest = hashlib.sha256()
        for piece in self.stream(key, offset, length):
            digest.update(piece)
        return digest.hexdigest()

    def is_file(self, key: str, path: Path) -> bool:  # noqa: ARG002
        """No object here is a file of this machine."""
        return False

    def stat(self, key: str) -> ObjectStat:
        """Return the object's size."""
        check_key(key)
        found = self._call(lambda: self._client.stat_object(self._bucket, key), f"object {key}")
        return ObjectStat(key, found.size or 0)

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        check_key(key)
        try:
            self._call(lambda: self._client.remove_object(self._bucket, key), f"object {key}")
        except NotFound:
            return

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Yield every object whose key starts with `prefix`, ordered by key."""
        check_prefix(prefix)
        return self._list(prefix)

    def check(self) -> None:
        """Raise `StoreUnavailable` unless the store takes writes and answers reads now."""

        def probe() -> bool:
            sent = self._probe.encode()
            self._quick.put_object(self._bucket, self._probe, BytesIO(sent), len(sent))
            with self._quick.get_object(self._bucket, self._probe) as answer:
                got = answer.read()
            self._quick.remove_object(self._bucket, self._probe)
            return got == sent

        try:
            same = self._call(probe, "the probe", tries=1)
        except NotFound as error:
            raise StoreUnavailable(f"{self._place}: {error} after it was put") from error
        if not same:
            raise StoreUnavailable(f"{self._place}: a probe did not read as written")

    def metadata(self, key: str) -> Mapping[str, str]:
        """Return what was stored beside the object: ``sha256`` of the whole of it, in hex."""
        check_key(key)
        found = self._call(lambda: self._client.stat_object(self._bucket, key), f"object {key}")
        begin = "x-amz-meta-"
        return {
            name.lower().removeprefix(begin): value
            for name, value in (found.metadata or {}).items()
            if name.lower().startswith(begin)
        }

    def close(self) -> None:
        """Let go the threads and connections."""
        self._pool.shutdown()

    def _put(self, key: str, path: Path) -> None:
        try:
            size = path.stat().st_size
            if self._size(key) == size:
                return
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._call(lambda: self._upload(key, path, size, digest), f"object {key}")
        except FileNotFoundError:
            raise NotFound(f"no file {path}") from None
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror or error}") from error
        if size > _PART_BYTES and self._size(key) != size:
            raise StoreUnavailable(f"{self._place}: object {key} has not the size that was sent")

    def _upload(self, key: str, path: Path, size: int, digest: str) -> None:
        with path.open("rb") as file:
            self._client.put_object(
                self._bucket,
                key,
                file,
                size,
                metadata={"sha256": digest},
                part_size=max(_PART_BYTES, -(-size // _MOST_PARTS)),
                num_parallel_uploads=1,
            )

    def _size(self, key: str) -> int | None:
        try:
            return self.stat(key).size
        except NotFound:
            return None

    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        after: str | None = None
        while True:
            page = self._call(lambda: self._page(prefix, after), "the list")  # noqa: B023 (called at once)
            for found in page:
                if is_key(found.key):
                    yield found
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def _page(self, prefix: str, after: str | None) -> Sequence[ObjectStat]:
        found = self._client.list_objects(
            self._bucket, prefix=prefix, recursive=True, start_after=after
        )
        return [ObjectStat(each.object_name or "", each.size or 0) for each in islice(found, _PAGE)]

    def _open(
        self, key: str, position: int, left: int | None, etag: str | None
    ) -> BaseHTTPResponse | None:
        """Open the object at `position`; None when it ends before."""
        try:
            return self._client.get_object(
                self._bucket,
                key,
                offset=position,
                length=left or 0,
                request_headers={"If-Match": etag} if etag else None,
            )
        except (S3Error, ServerError) as error:
            if _status(error) == _RANGE_NOT_SATISFIABLE:
                return None
            raise

    def _piece(self, download: "_Download", chunk: int) -> bytes:
        try:
            return download.read(chunk)
        except _TROUBLE as error:
            raise self._translate(error, "a download") from error

    def _call(self, act: Callable[[], _Answer], subject: str, tries: int = 6) -> _Answer:
        """Return what `act` returns; try again what may pass; raise only errors of ours."""
        give_up_s = time.monotonic() + self._retry_s
        pause_s = _FIRST_PAUSE_S
        made_bucket = False
        while True:
            tries -= 1
            try:
                return act()
            except _TROUBLE as error:
                if _code(error) == "NoSuchBucket" and not made_bucket:
                    made_bucket = True
                    self._make_bucket()
                    tries += 1
                    continue
                late = time.monotonic() + pause_s > give_up_s
                if tries <= 0 or late or not _may_pass(error):
                    raise self._translate(error, subject) from error
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads the retries)
            pause_s *= 2

    def _make_bucket(self) -> None:
        try:
            self._quick.make_bucket(self._bucket)
        except _TROUBLE as error:
            if _code(error) not in _HAVE_BUCKET:
                raise self._translate(error, "the bucket") from error

    def _translate(self, error: Exception, subject: str) -> ImagingError:
        code = _code(error)
        if code == "NoSuchKey":
            return NotFound(f"no {subject}")
        if code in _REFUSED:
            reason = f"the server refuses our credentials or rights ({code})"
        elif code:
            reason = code
        elif _timed_out(error):
            reason = f"no answer within {self._read_timeout_s:g} s"
        elif isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            reason = "cannot connect"
        else:
            reason = type(error).__name__
        return StoreUnavailable(f"{self._place}: {subject}: {reason}")


class _Download:
    """One object's bytes over as many connections as it takes."""

    def __init__(
        self,
        connect: Callable[[int, int | None, str | None], BaseHTTPResponse | None],
        position: int,
        length: int | None,
    ) -> None:
        self._connect = connect
        self._position = position
        self._resumes = 0
        self._response = connect(position, length, None)
        self._etag: str | None = None
        self._left = 0
        if self._response is not None:
            self._etag = self._response.headers.get("etag")
            self._left = int(self._response.headers.get("content-length", 0))

    def read(self, chunk: int) -> bytes:
        """Return at most `chunk` bytes, nothing at the end."""
        while self._left:
            try:
                wanted = min(chunk, _READ_BYTES, self._left)
                piece = self._response.read(wanted) if self._response else b""
                if not piece:
                    raise IncompleteRead(0, self._left)
            except HTTPError:
                self._resume()
            else:
                self._position += len(piece)
                self._left -= len(piece)
                self._resumes = 0
                return piece
        return b""

    def _resume(self) -> None:
        self.close()
        self._resumes += 1
        if self._resumes > _MOST_RESUMES:
            raise IncompleteRead(0, self._left)
        self._response = self._connect(self._position, self._left, self._etag)

    def close(self) -> None:
        """Give the connection back when it is at its end, and close it otherwise."""
        if self._response is not None:
            if self._left:
                self._response.close()
            self._response.release_conn()
            self._response = None


def _client(address: S3Address, timeout_s: float) -> Minio:
    return Minio(
        address.endpoint,
        access_key=address.access_key,
        secret_key=address.secret_key,
        secure=address.secure,
        region=address.region,
        http_client=pools(timeout_s, 4 * _WORKERS),
    )


def _code(error: Exception) -> str:
    return error.code or "" if isinstance(error, S3Error) else ""


def _status(error: Exception) -> int:
    if isinstance(error, ServerError):
        return error.status_code
    return int(error.response.status) if isinstance(error, S3Error) else 0


def _may_pass(error: Exception) -> bool:
    """Whether it is worth to try again at once."""
    if isinstance(error, S3Error):
        return _status(error) >= 500 or error.code in _PASSES  # noqa: PLR2004 (5xx)
    return not _timed_out(error)


def _timed_out(error: Exception) -> bool:
    """Whether a connection that stood did not answer, or did not take what was sent."""
    return isinstance(error, ReadTimeoutError) or isinstance(error.__context__, TimeoutError)
