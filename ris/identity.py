"""When two identifiers are the same one, when news are old, and when a name is damaged.

    who      value without spaces, capitals count as small letters   + issuer
    loosely  the same without leading zeros

A number without an issuer is one of its sender's own: two senders that nobody told apart may both
have a patient ``0001``.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ris.requests import Identifier
from storage.base import names
from storage.base.errors import Malformed

MAX_LENGTH: Final = 64
"""Characters of an identifier: VR LO."""
CITIZEN: Final = "NI"
_WRITTEN_WITH_MARKS: Final = frozenset({"HC", "NI", "SS", "PPN"})
"""Kinds (CX-5) that people write with dashes and points: health card, citizen number, passport."""
_SPACES: Final = re.compile(r"\s+")
_MARKS: Final = re.compile(r"[\s.\-/]+")
_DAMAGED: Final = re.compile(r"\w\?|\?\w|\ufffd")
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Keys:
    """How an identifier is found."""

    value: str
    loose: str
    issuer: str


def keys_of(identifier: Identifier, sender: str) -> Keys:
    """Return the keys of an identifier that `sender` wrote.

    Raises
    ------
    Malformed
        It is empty, or longer than any identifier may be.
    """
    written = unicodedata.normalize("NFC", identifier.value)
    marks = _MARKS if identifier.kind in _WRITTEN_WITH_MARKS else _SPACES
    value = marks.sub("", written).casefold()
    if not value:
        raise Malformed("PID-3.1: an identifier without a letter or digit")
    if len(value) > MAX_LENGTH or len(identifier.value) > 2 * MAX_LENGTH:
        raise Malformed(f"PID-3.1: longer than {MAX_LENGTH} characters")
    issuer = _SPACES.sub(" ", unicodedata.normalize("NFC", identifier.issuer)).strip().casefold()
    if len(issuer) > 2 * MAX_LENGTH:
        raise Malformed(f"PID-3.4: longer than {2 * MAX_LENGTH} characters")
    return Keys(value, value.lstrip("0") or "0", issuer or f"\n{sender}")


def spellings(number: str) -> set[str]:
    """Return the keys that a number may be found by when nobody says of which kind it is."""
    written = unicodedata.normalize("NFC", number)
    return {marks.sub("", written).casefold() for marks in (_SPACES, _MARKS)} - {""}


def is_older(sent_at: datetime | None, known: datetime | None) -> bool:
    """Return whether news are from before what is known.

    A time on the full minute may have been written without its seconds, and midnight without
    its hour: it counts as the end of that minute, or of that day.
    """
    if sent_at is None or known is None:
        return False
    if sent_at.second or sent_at.microsecond:
        return sent_at < known
    precision = _MINUTE if sent_at.hour or sent_at.minute else _DAY
    return sent_at + precision <= known


def is_damaged(name: str) -> bool:
    """Return whether letters of a name were lost on the way: ``NGUY?N``, or U+FFFD."""
    return _DAMAGED.search(name) is not None


def is_another_person(one: Mapping[str, str | None], other: Mapping[str, str | None]) -> bool:
    """Return whether name and birth date are given in both, and neither is the same."""
    born, also_born = one["patient_birth_date"], other["patient_birth_date"]
    if not born or not also_born or born == also_born:
        return False
    return not names.same_person_name(one["patient_name"] or "", other["patient_name"] or "")
