"""What a rejection note says, and which one decides (IHE RAD TF-2 4.66, PS3.16 CID 7011).

A note is a Key Object Selection whose title says why the objects that it names must not be
used. Several notes may name one object: the strongest title in force decides.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SCHEME: Final = "DCM"


class Title(StrEnum):
    """Why objects are rejected: codes of DCM, the weakest first."""

    EXPIRED = "113039"
    """Data Retention Policy Expired."""
    QUALITY = "113001"
    """Rejected for Quality Reasons."""
    SAFETY = "113037"
    """Rejected for Patient Safety Reasons."""
    WRONG_ENTRY = "113038"
    """Incorrect Modality Worklist Entry."""

    @property
    def meaning(self) -> str:
        """The code meaning, as the standard writes it."""
        return MEANINGS[self]


MEANINGS: Final = {
    Title.EXPIRED: "Data Retention Policy Expired",
    Title.QUALITY: "Rejected for Quality Reasons",
    Title.SAFETY: "Rejected for Patient Safety Reasons",
    Title.WRONG_ENTRY: "Incorrect Modality Worklist Entry",
}
SHOWN: Final = ""
"""What `instances.hidden` says of an object that everybody may see."""
NOTE: Final = "note"
"""And of a rejection note, which is of no use to a viewer."""
_STRENGTH: Final = {title: strength for strength, title in enumerate(Title)}


@dataclass(frozen=True, slots=True)
class Named:
    """One object that a note rejects."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What was read in a rejection note."""

    title: Title
    named: tuple[Named, ...]
    author: str = ""
    """The person observer, '' when it names none."""
    reason: str = ""
    """Its Key Object Description (113012, DCM)."""
    fault: str = ""
    """Why it rejects nothing, or not all that it should."""


def strongest(titles: Iterable[Title]) -> Title | None:
    """Return the title that decides, None when there is none."""
    return max(titles, key=_STRENGTH.__getitem__, default=None)


def hidden_as(titles: Iterable[Title], *, is_note: bool) -> str:
    """Return what is told of an object: the strongest title, that it is a note, or ''."""
    return strongest(titles) or (NOTE if is_note else SHOWN)
