r"""Escape sequences in the text of fields (HL7 v2.5.1 2.7), both ways.

``\F\ \S\ \T\ \R\ \E\`` are the delimiters, ``\Xhh…\`` bytes of the message's character set,
``\.br\`` a line. What is no sequence stays as it stands: a path of Windows, a cut ``\T``.
"""

import re
from typing import Final

from ris.hl7.delimiters import Delimiters
from ris.hl7.vietnamese import CODECS

_LINE: Final = {".br", ".sp", ".ce", ".fi", ".nf"}
_NOTHING: Final = re.compile(r"H|N|\.(?:in|ti)[+-]?\d*|C[0-9A-F]{4}|M[0-9A-F]{4,6}|Z\w*")
_HEX: Final = re.compile(r"X((?:[0-9A-F]{2})+)", re.IGNORECASE)
_SPACES: Final = re.compile(r"\.sp\+?(\d{1,2})")
# Bytes that would end a segment or a frame, or begin one
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def unescape(text: str, delimiters: Delimiters, charset: str = "utf-8") -> str:
    """Return what `text` means."""
    mark = delimiters.escape
    if mark not in text:
        return text
    pieces = text.split(mark)
    found, at = [pieces[0]], 1
    octets = bytearray()
    while at < len(pieces):
        closed = at + 1 < len(pieces)
        hexadecimal = _HEX.fullmatch(pieces[at]) if closed else None
        if hexadecimal:  # several in a row may be the bytes of one letter
            octets += bytes.fromhex(hexadecimal[1])
            meaning: str | None = ""
        else:
            found.append(_letters(octets, charset))
            meaning = _meaning(pieces[at], delimiters) if closed else None
        if meaning is None:
            found.append(mark + pieces[at])
            at += 1
            continue
        if pieces[at + 1]:
            found.append(_letters(octets, charset))
        found += [meaning, pieces[at + 1]]
        at += 2
    return "".join([*found, _letters(octets, charset)])


def escape(text: str, delimiters: Delimiters) -> str:
    r"""Return `text` as it may stand in a field: no delimiter, no control character as such."""
    table = {
        delimiters.escape: "E",
        delimiters.field: "F",
        delimiters.component: "S",
        delimiters.subcomponent: "T",
        delimiters.repetition: "R",
    }
    mark = delimiters.escape
    quoted = "".join(f"{mark}{table[one]}{mark}" if one in table else one for one in text)
    lines = quoted.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f"{mark}.br{mark}")
    return _CONTROL.sub(lambda found: f"{mark}X{ord(found[0]):02X}{mark}", lines)


def _meaning(sequence: str, delimiters: Delimiters) -> str | None:
    r"""Return what stands for ``\sequence\``, None when it is no sequence."""
    known = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
    }
    if sequence in known:
        return known[sequence]
    if sequence in _LINE:
        return "\n"
    if spaces := _SPACES.fullmatch(sequence):
        return "\n" * int(spaces[1])
    return "" if _NOTHING.fullmatch(sequence) else None


def _letters(octets: bytearray, charset: str) -> str:
    given = bytes(octets)
    octets.clear()
    for codec in (charset, "utf-8"):
        try:
            return CODECS[codec](given) if codec in CODECS else given.decode(codec)
        except (UnicodeDecodeError, LookupError):
            continue
    return given.decode("latin-1")
