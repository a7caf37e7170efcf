"""Pixels are decoded and encoded in processes that may die (`pacs.codecs`), never in this one.

A process serves one frame at a time and is kept warm; at any trouble (a fault of the
codec, silence, too much memory or time, its death) it is killed and a new one is
started when it is needed. The caller gets pixels or one of our errors.
"""

import atexit
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import msgspec

from pacs import contexts
from pacs.frames import ImagePixel
from storage.base.errors import Malformed, NotSupported, Unavailable

TIMEOUT_S: Final = 30.0
MAX_FRAME_BYTES: Final = 256 << 20
"""Of one decoded frame."""
LENGTHS: Final = struct.Struct("<II")
"""With which each message starts: bytes of its JSON and of the frame behind that."""
_MAX_TEXT: Final = 1 << 16
_MAX_HEADERS: Final = 1 << 16
"""Of a codestream of few pixels."""
# What the process needs of our environment; settings and their secrets are not in it.
_ENVIRONMENT: Final = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR")
_THREADS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A native frame: little endian, colour by pixel, in cells of Bits Allocated."""

    pixels: bytes
    photometric_interpretation: str


@dataclass(frozen=True, slots=True)
class Coded:
    """A frame in another transfer syntax, and what its colours are called there."""

    codestream: bytes
    photometric_interpretation: str


class Request(msgspec.Struct, tag="frame"):
    """What a codec process is asked: to decode the frame that follows, or to recode it."""

    transfer_syntax_uid: str
    """Of the frame; native ones are Explicit VR Little Endian, whatever the object is."""
    image: ImagePixel
    target_transfer_syntax_uid: str = ""
    """'' to decode only."""
    quality: int = 90
    """Of lossy JPEG."""


class Answer(msgspec.Struct):
    """What it answers: the native frame that follows, or why there is none."""

    photometric_interpretation: str = ""
    fault: str = ""
    malformed: bool = False
    """The frame is at fault, not this product."""


class _Worker:
    """One decoder process."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pacs.codecs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | _THREADS,
            start_new_session=True,
        )

    def ask(
        self, request: bytes, content: Sequence[bytes], limit: int, timeout_s: float
    ) -> tuple[bytes, bytes]:
        """Return the text and the content of the answer; empty text when the process failed."""
        watch = threading.Timer(timeout_s, self._process.kill)
        watch.start()
        try:
            return self._exchange(request, content, limit)
        except OSError:
            return b"", b""
        finally:
            watch.cancel()

    def _exchange(
        self, request: bytes, content: Sequence[bytes], limit: int
    ) -> tuple[bytes, bytes]:
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            return b"", b""
        requests.write(LENGTHS.pack(len(request), sum(map(len, content))))
        requests.writelines((request, *content))
        requests.flush()
        start = answers.read(LENGTHS.size)
        if len(start) < LENGTHS.size:
            return b"", b""
        text_length, length = LENGTHS.unpack(start)
        if text_length > _MAX_TEXT or length > limit:
            return b"", b""
        text, pixels = answers.read(text_length), answers.read(length)
        return (text, pixels) if len(pixels) == length else (b"", b"")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and wait for it."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was written to the dead is lost, as it should be
                    stream.close()
        self._process.wait()


class Decoders:
    """A few warm decoder processes, started when they are first needed."""

    def __init__(self, processes: int = 0, timeout_s: float = TIMEOUT_S) -> None:
        self.processes = processes or os.cpu_count() or 1
        self._timeout_s = timeout_s
        self._free = threading.BoundedSemaphore(self.processes)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._closed = False

    def decode(self, frame: bytes, transfer_syntax_uid: str, image: ImagePixel) -> Decoded:
        """Decode one encapsulated frame.

        Raises
        ------
        Malformed
            The codestream is broken, or shows another image than the header tells of.
        NotSupported
            No codec reads it, the frame is larger than `MAX_FRAME_BYTES`, or decoding took
            more memory or time than it may.
        Unavailable
            The decoders are closed.
        """
        if transfer_syntax_uid not in contexts.DECODABLE:
            raise NotSupported(f"no codec for {contexts.name_of(transfer_syntax_uid)}")
        pixels, answer = self._ask(frame, Request(transfer_syntax_uid, image))
        return Decoded(pixels, answer.photometric_interpretation)

    def recode(
        self,
        frame: bytes,
        transfer_syntax_uid: str,
        image: ImagePixel,
        target_transfer_syntax_uid: str,
        quality: int = 90,
    ) -> Coded:
        """Encode one frame, native or not, in an encapsulated transfer syntax.

        Without loss, if the target can: then it was decoded again and compared.

        Raises
        ------
        Malformed, NotSupported, Unavailable
            As `decode`; also when the target cannot hold the pixels.
        """
        source = transfer_syntax_uid
        if source in contexts.NATIVE:
            source = contexts.EXPLICIT_VR_LITTLE_ENDIAN
        elif source not in contexts.DECODABLE:
            raise NotSupported(f"no codec for {contexts.name_of(source)}")
        request = Request(source, image, target_transfer_syntax_uid, quality)
        coded, answer = self._ask(frame, request)
        return Coded(coded, answer.photometric_interpretation)

    def _ask(self, frame: bytes, request: Request) -> tuple[bytes, Answer]:
        expected = request.image.decoded_bytes
        if expected > MAX_FRAME_BYTES:
            raise NotSupported(f"a frame of {expected} bytes is larger than {MAX_FRAME_BYTES}")
        limit = 2 * expected + _MAX_HEADERS if request.target_transfer_syntax_uid else expected
        name = contexts.name_of(request.transfer_syntax_uid)
        return self.ask(msgspec.json.encode(request), (frame,), limit, name)

    def ask(
        self, request: bytes, content: Sequence[bytes], limit: int, name: str
    ) -> tuple[bytes, Answer]:
        """Let a process answer a request in JSON with `content`; return what it made.

        Parameters
        ----------
        limit
            Bytes that an answer may have.
        name
            Of what was asked, for the text of errors.

        Raises
        ------
        Malformed, NotSupported
            The process said so, or did not survive.
        Unavailable
            The decoders are closed.
        """
        with self._worker() as worker:
            told, made = worker.ask(request, content, limit, self._timeout_s)
            answer = _read(told)
            if answer.fault or not made:
                worker.kill()
        if answer.fault:
            kind = Malformed if answer.malformed else NotSupported
            raise kind(f"{name}: {answer.fault}")
        return made, answer

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        with self._free:
            with self._lock:
                if self._closed:
                    raise Unavailable("the decoders are closed")
                worker = self._idle.pop() if self._idle else None
            worker = worker or _Worker()
            try:
                yield worker
            except BaseException:
                worker.kill()
                raise
            with self._lock:
                if not self._closed and worker.alive:
                    self._idle.append(worker)
                    return
            worker.kill()

    def close(self) -> None:
        """End every process; a decode that runs is not waited for."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()


def _read(text: bytes) -> Answer:
    if not text:
        return Answer(fault="the decoder was ended: it took too much memory or time, or crashed")
    try:
        return msgspec.json.decode(text, type=Answer)
    except msgspec.DecodeError:
        return Answer(fault="the decoder answered nonsense")


@cache
def shared() -> Decoders:
    """Return the decoders of this process; they end before it does."""
    atexit.register(close_shared)
    return Decoders()


def close_shared() -> None:
    """End the decoders of this process; who asks again gets new ones."""
    atexit.unregister(close_shared)
    shared().close()
    shared.cache_clear()
