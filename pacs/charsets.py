"""Text as DICOM encodes it (PS3.5 6.1, PS3.3 C.12.1.1.2): bytes to NFC Unicode, never an error.

Devices declare one character set and send another. What is declared decides where
it can be right; otherwise UTF-8 is tried, then Windows-1252 with replacement, and
the caller is told with a warning.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

from storage.base import values

ESCAPE: Final = b"\x1b"
_LATIN_1: Final = frozenset({"latin_1", "iso8859"})
_STAND_ALONE: Final = frozenset({"UTF8", "GB18030", "GBK"})
# These codecs of Python read their own escape sequences.
_STATEFUL: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
_RUNS: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*", re.DOTALL)
_C1: Final = re.compile(rb"[\x80-\x9f]")
_C1_TEXT: Final = re.compile("[\x80-\x9f]")
# PS3.5 6.1.2.5.3: each of these brings the first character set back.
_DELIMITERS: Final = {"PN": frozenset(b"\r\n\f\\^="), "": frozenset(b"\r\n\t\f\\")}
# What no Unicode decomposition takes apart
_PLAIN: Final = str.maketrans(
    dict.fromkeys("ĐÐƉ", "D")
    | dict.fromkeys("đðɖ", "d")
    | dict.fromkeys("’‘ʼ′", "'")  # noqa: RUF001 - these are what is replaced
    | dict.fromkeys("“”″", '"')
    | dict.fromkeys("–—−‐‑", "-")  # noqa: RUF001
    | {
        "Ø": "O",
        "ø": "o",
        "ß": "ss",
        "µ": "u",
        "μ": "u",
        "Æ": "AE",
        "æ": "ae",
        "₫": "d",
        "…": "...",
    }
)
UNKNOWN: Final = "(0008,0005) names unknown character sets"
"""With this a warning begins."""


@lru_cache(maxsize=256)
def encodings(declared: str) -> tuple[tuple[str, ...], str]:
    """Return the Python codecs of a Specific Character Set, and a warning or ''.

    `declared` is the value of (0008,0005) as text, several values by backslash.
    """
    names = [name.strip(values.PADDING) for name in declared.split("\\")]
    codecs = [_codec(name) for name in names]
    unknown = [name for name, codec in zip(names, codecs, strict=True) if codec is None]
    known = [codec for codec in codecs if codec is not None] or ["iso8859"]
    warning = f"{UNKNOWN}: {len(unknown)}" if unknown else ""
    if known[0] in _STAND_ALONE:
        known = known[:1]
    return tuple(
        codec for codec in known if codec not in _STAND_ALONE or known[0] == codec
    ), warning


def _codec(name: str) -> str | None:
    if name in python_encoding:
        return python_encoding[name]
    spelled = re.sub(r"^ISO[ _-]?IR[ _-]?", "ISO_IR ", name.upper())
    spelled = re.sub(r"^ISO[ _-]?2022[ _-]IR[ _-]?", "ISO 2022 IR ", spelled)
    return python_encoding.get(spelled)


def decode(value: bytes, declared: str, vr: str = "") -> tuple[str, str]:
    """Return the text of a value, not yet NFC and with its padding, and a warning or ''."""
    if value.isascii() and ESCAPE not in value:
        return value.decode("ascii"), ""
    codecs, warning = encodings(declared)
    if codecs[0] in _LATIN_1 and ESCAPE not in value:
        return _latin_or_utf_8(value, declared, warning)
    try:
        text = _declared(value, codecs, _DELIMITERS.get(vr, _DELIMITERS[""]))
    except (UnicodeError, LookupError):
        return _undeclared(value)
    # The control codes C1 stand for nothing in any DICOM character set (PS3.5 6.1.3).
    return _undeclared(value) if _C1_TEXT.search(text) else (text, warning)


def _latin_or_utf_8(value: bytes, declared: str, warning: str) -> tuple[str, str]:
    """Read Latin-1, unless the bytes are UTF-8: no Latin-1 text is that by chance."""
    try:
        return value.decode("utf-8"), warning or "text is UTF-8, against (0008,0005)"
    except UnicodeDecodeError:
        pass
    if _C1.search(value):
        return _undeclared(value)
    undeclared = "" if declared.strip(values.PADDING) else "text is not ASCII, against (0008,0005)"
    return value.decode("latin_1"), warning or undeclared


def _undeclared(value: bytes) -> tuple[str, str]:
    try:
        return value.decode("utf-8"), "text is UTF-8, against (0008,0005)"
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace"), "text is not in the character set of (0008,0005)"


def _declared(value: bytes, codecs: Sequence[str], delimiters: frozenset[int]) -> str:
    if ESCAPE not in value:
        return value.decode(codecs[0])
    return "".join(_run(run, codecs, delimiters) for run in _RUNS.findall(value))


def _run(run: bytes, codecs: Sequence[str], delimiters: frozenset[int]) -> str:
    """Decode bytes up to the next escape sequence (PS3.5 6.1.2.5, Tables C.12-3 and C.12-4)."""
    if not run.startswith(ESCAPE):
        return run.decode(codecs[0])
    length = 4 if run[:3] in (b"\x1b$(", b"\x1b$)") else 3
    codec = CODES_TO_ENCODINGS.get(run[:length])
    if codec is None:
        raise UnicodeError("unknown escape sequence")
    if codec in _STATEFUL:
        return run.decode(codec)
    text = run[length:]
    end = next((at for at, byte in enumerate(text) if byte in delimiters), len(text))
    return text[:end].decode(codec) + text[end:].decode(codecs[0])


def nfc(text: str) -> str:
    """Return NFC text without NUL characters, which no database keeps."""
    if text.isascii():
        return text.replace("\0", " ") if "\0" in text else text
    return unicodedata.normalize("NFC", text.replace("\0", " "))


def unaccented(text: str) -> str:
    """Return `text` in ASCII: letters without their marks, a question mark for what has none."""
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    bare = "".join(c for c in plain if unicodedata.category(c) not in {"Mn", "Cf"})
    return bare.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
