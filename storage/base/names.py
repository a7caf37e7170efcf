"""Person names (VR PN) and the folding that lets them be searched without accents.

PS3.5 6.2.1: up to three component groups joined by ``=`` (alphabetic, ideographic,
phonetic), in each up to five components joined by ``^``. Vietnamese systems send
one name in at least four shapes (``NGUYỄN VĂN AN``, ``NGUYỄN^VĂN AN``,
``^Nguyễn Văn An``, ``NGUYỄN^AN^VĂN``), so names are compared as multisets of words.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Final

GROUPS: Final = 3

# Letters that look alike, or that no Unicode decomposition takes apart.
_LOOK_ALIKE: Final = str.maketrans(dict.fromkeys("ĐÐƉđðɖ", "D") | {"’": "'", "ʼ": "'"})  # noqa: RUF001
# What stands between words; `*` and `?` stay, because keys of queries are folded too.
_SEPARATOR: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f^=\\,;:._/()\[\]-]+")
# The age of a child written behind its name: 5TH (tháng, months), 12NT (ngày tuổi, days).
_AGE: Final = re.compile(
    r"(?<!\S)\d{1,3} ?(?:THANG TUOI|NGAY TUOI|GIO TUOI|THANG|NGAY|TUOI|TH|TT|NT|NG|T)(?!\S)"
)


@dataclass(frozen=True, slots=True)
class PersonName:
    """The component groups of one name, each as sent without its padding."""

    alphabetic: str = ""
    ideographic: str = ""
    phonetic: str = ""


def parse_pn(text: str) -> PersonName:
    """Split one value of VR PN; what stands behind the third group is left out."""
    return PersonName(*(group.strip("\0 ") for group in text.split("=")[:GROUPS]))


def fold(text: str) -> str:
    """Return `text` in capitals without marks, its words parted by single spaces.

    Full-width and other compatibility forms become plain, zero-width characters go.
    Folding twice changes nothing.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_LOOK_ALIKE)).upper()
    bare = "".join(
        character
        for character in unicodedata.normalize("NFKD", plain)
        if unicodedata.category(character) not in {"Mn", "Cf", "Cs"}
    )
    joined = unicodedata.normalize("NFC", bare.translate(_LOOK_ALIKE))
    return _SEPARATOR.sub(" ", joined).strip()


def words(text: str) -> tuple[str, ...]:
    """Return the folded words of `text` in their order."""
    return tuple(fold(text).split())


def in_reading_order(text: str) -> str:
    """Return a name as Vietnamese is written: family, middle, given name; no separators.

    The first component group that is not empty; a prefix comes first, a suffix last
    (PS3.5 6.2.1.1). A name that was sent as one component is left as it is.
    """
    name = parse_pn(text)
    shown = name.alphabetic or name.ideographic or name.phonetic
    family, given, middle, prefix, suffix = (shown.split("^") + [""] * 5)[:5]
    return " ".join(f"{prefix} {family} {middle} {given} {suffix}".split())


def masked(text: str) -> str:
    """Return a name of which only the first letters can be read: ``N*** V*** A***``."""
    return " ".join(f"{word[0]}***" for word in in_reading_order(text).split())


def search_key(text: str) -> str:
    """Return the folded groups for an index, every word between single spaces.

    ``NGUYỄN^VĂN AN=漢字`` becomes ``" NGUYEN VAN AN = 漢字 "``; a name without words ''.
    """
    return "=".join(f" {folded} " for group in text.split("=")[:GROUPS] if (folded := fold(group)))


def same_person_name(one: str, other: str) -> bool:
    """Return whether two names may belong to one person.

    One component group of each must have the same words in any order; the age that is
    written behind the names of children is left out. A name without words contradicts none.
    """
    ours, theirs = _word_counts(one), _word_counts(other)
    return not ours or not theirs or any(a == b for a, b in product(ours, theirs))


def _word_counts(text: str) -> list[Counter[str]]:
    folded = (fold(group) for group in text.split("=")[:GROUPS])
    return [Counter((_AGE.sub("", name) or name).split()) for name in folded if name]
