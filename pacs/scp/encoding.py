"""Elements of small datasets, encoded by hand (PS3.5 7.1 and 6.1)."""

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import charset as pydicom_charset

from pacs import charsets, contexts
from pacs.encoding import LOCALISED_VRS, LONG_VRS, NUMBER_CODES

UTF_8: Final = "ISO_IR 192"
_FLOATS: Final = frozenset({"FL", "FD"})
_MAX_SHORT: Final = 0xFFFE
_PIECES: Final = re.compile(r"([\\^=\r\n\f]+)")


class Encoder:
    """Encodes elements in one native transfer syntax."""

    def __init__(self, transfer_syntax: str) -> None:
        order = ">" if transfer_syntax == contexts.EXPLICIT_VR_BIG_ENDIAN else "<"
        self._order = order
        self._implicit = transfer_syntax == contexts.IMPLICIT_VR_LITTLE_ENDIAN
        self._plain = struct.Struct(f"{order}HHI")
        self._short = struct.Struct(f"{order}HH2sH")
        self._long = struct.Struct(f"{order}HH2sHI")

    def element(self, tag: int, vr: str, value: object, charset: str) -> bytes:
        """Return one element; `value` is text, a number, a tuple of these, or ''.

        What is longer than its VR can say becomes UN (PS3.5 6.2.2).
        """
        data = self._value(vr, value, charset)
        group, number = tag >> 16, tag & 0xFFFF
        if self._implicit:
            return self._plain.pack(group, number, len(data)) + data
        name = vr.encode("ascii")
        if len(data) > _MAX_SHORT and name not in LONG_VRS:
            name = b"UN"
        if name in LONG_VRS:
            return self._long.pack(group, number, name, 0, len(data)) + data
        return self._short.pack(group, number, name, len(data)) + data

    def sequence(self, tag: int, items: Sequence[bytes]) -> bytes:
        """Return a sequence of defined length (PS3.5 7.5.1)."""
        content = b"".join(self._plain.pack(0xFFFE, 0xE000, len(item)) + item for item in items)
        group, number = tag >> 16, tag & 0xFFFF
        if self._implicit:
            return self._plain.pack(group, number, len(content)) + content
        return self._long.pack(group, number, b"SQ", 0, len(content)) + content

    @staticmethod
    def choose(texts: Iterable[str], wanted: str) -> str:
        """Return the Specific Character Set for these texts: `wanted` if it has all letters.

        '' when nothing needs to be declared.
        """
        foreign = [text for text in texts if not text.isascii()]
        if not foreign:
            return wanted
        return wanted if wanted and all(encodable(text, wanted) for text in foreign) else UTF_8

    def _value(self, vr: str, value: object, charset: str) -> bytes:
        if value in ("", None, ()):
            return b""
        values = value if isinstance(value, tuple) else (value,)
        if code := NUMBER_CODES.get(vr):
            numbers = map(float if vr in _FLOATS else int, values)
            return struct.pack(f"{self._order}{len(values)}{code}", *numbers)
        if vr == "AT":
            words = (part for tag in values for part in divmod(int(tag), 0x10000))
            return struct.pack(f"{self._order}{2 * len(values)}H", *words)
        text = "\\".join(map(str, values))
        data = encode(text, charset) if vr in LOCALISED_VRS else text.encode("ascii", "replace")
        return data + (b"\0" if vr in {"UI", "OB", "UN"} else b" ") if len(data) & 1 else data


def encode(text: str, charset: str) -> bytes:
    """Return `text` in a Specific Character Set that has all its letters."""
    if text.isascii():
        return text.encode("ascii")
    codecs, _ = charsets.encodings(charset)
    if len(codecs) == 1:
        return text.encode(codecs[0], "replace")
    # with code extensions every component begins in the first character set (PS3.5 6.1.2.5.3)
    return b"".join(
        piece.encode("ascii") if piece.isascii() else pydicom_charset.encode_string(piece, codecs)
        for piece in _PIECES.split(text)
    )


def encodable(text: str, charset: str) -> bool:
    """Whether a Specific Character Set has all letters of `text`."""
    codecs, warning = charsets.encodings(charset)
    if warning:
        return False
    return all(
        any(_fits(piece, codec) for codec in codecs) for piece in _PIECES.split(text) if piece
    )


def _fits(piece: str, codec: str) -> bool:
    custom = pydicom_charset.custom_encoders.get(codec)
    try:
        if custom is not None:
            custom(piece, errors="strict")
        else:
            piece.encode(codec)
    except (UnicodeError, LookupError):
        return False
    return True
