"""Which character set a message is in (MSH-18, HL7 table 0211), and what to do when it is not.

declared ── it decodes ─────────────────────────────── as declared
         └─ it does not, or nothing was declared ──── ASCII, UTF-8, the sender's usual set,
                                                      the likeliest Vietnamese one, cp1252

Bytes are never dropped: the last resort maps every one of them. The raw message is kept anyway.
"""

import codecs
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ris.hl7 import vietnamese

# HL7 table 0211, and the spellings that systems use for it
_DECLARED: Final[Mapping[str, str]] = {
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "65001": "utf-8",
    "8859/1": "cp1252",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5hkscs",
    "KS X 1001": "euc_kr",
    "ISO IR87": "iso2022_jp",
    "UNICODE UTF-16": "utf-16",
    "UNICODE UTF-32": "utf-32",
    "TCVN5712": "TCVN3",
    "TCVN3": "TCVN3",
    "VNI": "VNI",
    "VISCII": "VISCII",
    "WINDOWS-1258": "windows-1258",
    "1258": "windows-1258",
}
LAST_RESORT: Final = "cp1252"
_SAMPLE: Final = 32 << 10
"""As many bytes decide which Vietnamese encoding it is."""
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_ASCII: Final = bytes(range(0x80, 0x100))


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a message, in NFC, and how it was found."""

    text: str
    charset: str
    guessed: bool = False
    """The sender declared nothing, or something that is not true."""


def decode(octets: bytes, declared: str, usual: str = "") -> Decoded:
    """Return the text of `octets`.

    Parameters
    ----------
    declared
        MSH-18 as it stands, repetitions and all; '' when the message has none.
    usual
        What this sender uses when it declares nothing; '' when nobody knows.
    """
    for mark, codec in _BOMS:
        if octets.startswith(mark) and (text := _decoded(octets, codec)) is not None:
            return _normal(text.removeprefix("\ufeff"), codec)
    bare = octets.removeprefix(codecs.BOM_UTF8)
    if bare.isascii() and not _is_stateful(declared):
        return Decoded(bare.decode("ascii"), "ascii")
    for name in declared.split("~"):
        codec = codec_of(name)
        if codec == LAST_RESORT and _decoded(bare, "utf-8") is not None:
            break  # Latin text is hardly ever valid UTF-8
        if codec and codec != "ascii" and (text := _decoded(bare, codec)) is not None:
            return _normal(text, codec)
    return _guessed(bare, codec_of(usual))


def codec_of(name: str) -> str:
    """Return our name for a character set of MSH-18 or of a sender profile, '' when unknown."""
    return _DECLARED.get(" ".join(name.upper().replace("_", "-").split()), "")


def encode(text: str, charset: str) -> bytes:
    """Return `text` in `charset`, without its accents where the set lacks them."""
    codec = _WRITABLE.get(charset, charset)
    try:
        return text.encode(codec)
    except (UnicodeEncodeError, LookupError):
        marks = unicodedata.normalize("NFD", text.translate(_D))
        plain = "".join(one for one in marks if not unicodedata.combining(one))
        return plain.encode("ascii", "replace")


_D: Final = str.maketrans("Đđ", "Dd")
_WRITABLE: Final = {"windows-1258": "ascii", "TCVN3": "ascii", "VNI": "ascii", "VISCII": "ascii"}


def _guessed(octets: bytes, usual: str) -> Decoded:
    for codec in ("utf-8", usual):
        if codec and (text := _decoded(octets, codec)) is not None:
            return _normal(text, codec, guessed=True)
    if name := vietnamese.guess(_sample(octets)):
        return _normal(vietnamese.CODECS[name](octets), name, guessed=True)
    return _normal(vietnamese.cp1252(octets), LAST_RESORT, guessed=True)


def _sample(octets: bytes) -> bytes:
    """Return the lines that decide: those with other bytes than ASCII."""
    if len(octets) <= _SAMPLE:
        return octets
    return b"\r".join(line for line in octets.split(b"\r") if not line.isascii())[:_SAMPLE]


def _decoded(octets: bytes, codec: str) -> str | None:
    if codec in vietnamese.CODECS:
        return vietnamese.CODECS[codec](octets)
    if codec == LAST_RESORT:
        return vietnamese.cp1252(octets)
    if codec.startswith(("utf-16", "utf-32")) and not octets.startswith(_WIDE):
        return None  # without a mark nobody knows the order of the bytes
    try:
        return octets.decode(codec)
    except UnicodeDecodeError:
        return None


_WIDE: Final = tuple(mark for mark, codec in _BOMS if codec != "utf-8")


def _is_stateful(declared: str) -> bool:
    """Whether ASCII bytes alone may be other letters (ISO 2022)."""
    return "IR87" in declared.upper()


def _normal(text: str, charset: str, *, guessed: bool = False) -> Decoded:
    normal = unicodedata.normalize("NFC", text)
    return Decoded(vietnamese.repaired(normal), charset, guessed)
