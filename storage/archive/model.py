"""What the index keeps of an object, and what it answers. Plain frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from storage.archive.rejection_rules import Note


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052), PS3.4 C.3; in the order of the hierarchy."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(frozen=True, slots=True)
class Custom:
    """An attribute that an operator added to the index."""

    id: int
    name: str
    """As queries name it: keywords or tags, dotted; a private element as ``gggg00ee``."""
    path: tuple[int, ...]
    """Its tag after those of the sequences that it is in; a private element without its block."""
    creator: str
    """Private Creator of its private elements, '' when it has none."""
    vr: str
    level: Level
    whole: bool = True
    """Whether the instances that were there before it have been read for it."""


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One object on its way into the index.

    `attributes` maps DICOM keywords to text as DICOM writes it (several values
    joined by a backslash), decoded to NFC Unicode, padding removed. Only the
    keywords of `storage.archive.attributes.STORED` are read; absent means empty.
    Study, Series and SOP Instance UID and SOP Class UID are always there and valid.
    """

    attributes: Mapping[str, str]
    transfer_syntax_uid: str
    object_key: str
    dataset_offset: int
    """Where the dataset starts in the object, in bytes: the length of the Part 10 head."""
    dataset_size: int
    dataset_sha256: str
    received_at: datetime
    source_ae_title: str = ""
    custom: Mapping[Custom, str] = field(default_factory=dict)
    """Texts of attributes that an operator added."""
    note: Note | None = None
    """What it says, when it is a rejection note."""


class Verdict(StrEnum):
    """What became of a received instance."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The same SOP Instance with the same bytes is held already: nothing to do."""
    CONFLICT = "conflict"
    """It contradicts what is held; it belongs in quarantine."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict and, for a conflict, its reason and a detail without patient data."""

    verdict: Verdict
    reason: str = ""
    """A `quarantine.Reason`."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    r"""One query of C-FIND or QIDO-RS.

    `keys` maps DICOM keywords to matching values as DICOM writes them: '' is
    universal, ``\`` separates list values, ``*`` ``?`` are wild where the VR
    allows, ``-`` makes ranges of DA and TM. Keywords the level does not match on are ignored
    (`search.unsupported` names them).
    """

    level: Level
    keys: Mapping[str, str] = field(default_factory=dict)
    fuzzy: bool = False
    """Match each word of a person name as a prefix (fuzzy semantic matching)."""
    combined_datetime: bool = False
    """Match date and time ranges as one interval (PS3.4 C.2.2.2.5.1)."""
    custom: tuple[Custom, ...] = ()
    """Attributes that an operator added and that are matched, under their name, or returned."""


Match = Mapping[str, Any]
"""One answer: DICOM keyword to str, int, tuple of str, or '' when empty."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of answers; `after` continues behind the last one, None at the end."""

    matches: tuple[Match, ...]
    after: str | None = None
    further: int = 0
    """How many follow behind the last one, as far as they were counted."""
    counted: bool = True
    """Whether all that follow were counted."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """Where one SOP Instance lies, for retrieval."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    number_of_frames: int
    object_key: str
    dataset_offset: int
    dataset_size: int
    dataset_sha256: str
    correction: str = ""
    """JSON objects, keyword → text, one after another: what goes out in place of what the object
    says; '' as it is."""
    received_transfer_syntax_uid: str = ""
    """Of one that lies compressed, as it was received; else ''."""
    received_sha256: str = ""
    """The same of its dataset."""

    @property
    def version(self) -> str:
        """What is another one when something else goes out."""
        return self.dataset_sha256 + self.correction
