"""The texts of answers, in the letters and lengths that a peer can show.

    utf8         as they are; the character set of the query where it has all letters
    fold-ascii   accents dropped, no character set declared
    latin1       ISO_IR 100; a value that does not fit loses its accents

Only answers are shaped, never stored objects. What identifies something is never cut:
half of a number is another number.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pacs import charsets
from pacs.encoding import LOCALISED_VRS
from pacs.scp.encoding import Encoder
from storage.access.peers import Peer, TextProfile

LATIN_1: Final = "ISO_IR 100"
# PS3.5 Table 6.2-1: characters of one value, of a name in each component group
_LONGEST: Final[Mapping[str, int]] = {"PN": 64, "LO": 64, "SH": 16, "ST": 1024, "LT": 10240}
_ONE_LINE: Final = frozenset({"PN", "LO", "SH"})
_IDENTIFYING: Final = ("ID", "IDs", "Number", "CodeValue", "Designator", "Request", "Version")
"""How the keywords end whose values are never cut."""


class Texts:
    """Shapes the answers to one query of one peer; `peer` None: a peer that nobody registered."""

    def __init__(self, peer: Peer | None, asked: str) -> None:
        self._profile = peer.text_profile if peer else TextProfile.UTF8
        self._length = peer.text_length if peer else None
        self._asked = asked

    @property
    def plain(self) -> bool:
        """Whether the peer can show everything."""
        return self._profile is TextProfile.UTF8 and self._length is None

    def shape(self, keyword: str, vr: str, text: str) -> str:
        """Return a value, or several by backslash, as the peer can show it."""
        if vr not in LOCALISED_VRS or not text:
            return text
        if vr in _ONE_LINE:
            return "\\".join(self._shape(keyword, vr, value) for value in text.split("\\"))
        return self._shape(keyword, vr, text)

    def charset(self, texts: Iterable[str]) -> str:
        """Return the Specific Character Set of an answer with these shaped texts, '' for none."""
        if self._profile is TextProfile.FOLD_ASCII:
            return ""
        if self._profile is TextProfile.LATIN1:
            return LATIN_1
        return Encoder.choose(texts, self._asked)

    def _shape(self, keyword: str, vr: str, value: str) -> str:
        if vr in _ONE_LINE:  # no control characters (PS3.5 6.2)
            value = "".join(c if c.isprintable() else " " for c in value)
        if not self._has_letters_of(value):
            value = _bare(value, vr)
        if keyword.endswith(_IDENTIFYING):
            return value
        most = min(self._length or _LONGEST["LT"], _LONGEST.get(vr, _LONGEST["LT"]))
        if vr != "PN":
            return value[:most].rstrip()
        return "=".join(group[:most].rstrip(" ^") for group in value.split("=")).rstrip("=")

    def _has_letters_of(self, value: str) -> bool:
        if self._profile is TextProfile.FOLD_ASCII:
            return value.isascii()
        return self._profile is not TextProfile.LATIN1 or _fits_latin_1(value)


def _bare(value: str, vr: str) -> str:
    if vr != "PN":
        return charsets.unaccented(value)
    alphabetic, _, others = value.partition("=")
    return charsets.unaccented(alphabetic or others.replace("=", " ").strip())


def _fits_latin_1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
