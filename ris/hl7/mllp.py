r"""Frames of the Minimal Lower Layer Protocol (HL7 v2.5.1 Appendix C), read from any pieces.

    0B  message  1C 0D        ␋MSH|^~\&|…␍PID|…␍ ␜␍

What senders make of it: noise before the first byte, no last ``0D``, a ``0A`` behind it, no
``0B`` at all, several frames in one segment or one frame in thousands, a frame left unfinished
and begun again. Bytes go in, messages come out; nothing here knows of sockets or of time.
"""

import re
from typing import Final

from storage.base.errors import Malformed

START: Final = b"\x0b"
END: Final = b"\x1c"
CR: Final = b"\r"
SILENCE_S: Final = 0.2
"""After an end byte alone: so long without another byte, and the frame is complete."""

MAX_FRAME: Final = 32 << 20
MAX_NOISE: Final = 4096
"""Bytes outside any frame after which the peer is taken for something else than a sender."""

_NOISE: Final = b"\0\r\n\t "
_HEADS: Final = (b"MSH", b"FHS", b"BHS")
_HEAD_LENGTH: Final = 3
_AFTER_END: Final = b"\r\n\x0b"
# A start byte is content unless a message begins behind it: then the frame before was given up.
_RESTART: Final = re.compile(rb"\x0b(?=(?:MSH|FHS|BHS)[^A-Za-z0-9\s])")


class FrameTooLong(Malformed):
    """A frame that does not end; `head` is how it began."""

    def __init__(self, head: bytes, limit: int) -> None:
        super().__init__(f"a frame of more than {limit} bytes")
        self.head = head


class NoFrame(Malformed):
    """The peer speaks something else."""


def frame(message: bytes) -> bytes:
    """Return `message` as one frame."""
    return START + message + END + CR


class Deframer:
    """Takes bytes as they come and gives the messages they hold, each without its frame."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()
        self._open = False
        self._scanned = 0
        self._noise = 0
        self.restarts = 0
        """Frames that were left unfinished and begun again."""

    @property
    def begun(self) -> bool:
        """Whether a frame is open."""
        return self._open

    @property
    def ending(self) -> bool:
        """Whether the open frame would be complete if nothing more came."""
        return self._open and self._buffer.endswith(END)

    def feed(self, data: bytes) -> list[bytes]:
        """Take `data` and return the messages that are complete now, in order.

        Raises
        ------
        FrameTooLong
            The open frame is longer than the limit.
        NoFrame
            Nothing that comes looks like a frame.
        """
        self._buffer += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        if self._open and len(self._buffer) > self._max_frame:
            raise FrameTooLong(bytes(self._buffer[:1024]), self._max_frame)
        return messages

    def finish(self) -> bytes | None:
        """Return the open frame if it is complete up to its last byte: nothing more will come."""
        if not self.ending:
            return None
        return self._take(len(self._buffer) - 1, len(self._buffer))

    def _next(self) -> bytes | None:
        if not self._open and not self._begin():
            return None
        while (at := self._buffer.find(END, self._scanned)) >= 0:
            if at + 1 == len(self._buffer):
                self._scanned = at
                return None
            following = self._buffer[at + 1]
            if following in _AFTER_END:
                return self._take(at, at + 2 if following == CR[0] else at + 1)
            self._scanned = at + 1  # content: whoever puts it there escapes nothing
        self._scanned = len(self._buffer)
        return None

    def _begin(self) -> bool:
        """Find the first byte of a frame and drop what stands before it."""
        bare = self._buffer.lstrip(_NOISE)
        at = 0 if bare.startswith(_HEADS) else bare.find(START)
        if at < 0:
            partial = len(bare) < _HEAD_LENGTH
            self._drop(len(self._buffer) - (len(bare) if partial else 0), noise=not partial)
            return False
        self._drop(len(self._buffer) - len(bare) + at, noise=at > 0)
        if self._buffer.startswith(START):
            del self._buffer[:1]
        self._open, self._scanned, self._noise = True, 0, 0
        return True

    def _drop(self, count: int, *, noise: bool) -> None:
        del self._buffer[:count]
        if noise:
            self._noise += count
            if self._noise > MAX_NOISE:
                raise NoFrame(f"{MAX_NOISE} bytes and no message")

    def _take(self, end: int, following: int) -> bytes:
        message = bytes(self._buffer[:end])
        del self._buffer[:following]
        self._open, self._scanned = False, 0
        begun_again = list(_RESTART.finditer(message, 1))
        if begun_again:
            self.restarts += len(begun_again)
            return message[begun_again[-1].end() :]
        return message
