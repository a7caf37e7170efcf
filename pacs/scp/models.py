"""The Query/Retrieve information models and the SOP classes that use them (PS3.4 C.6)."""

from collections.abc import Mapping
from typing import Final

from pacs import contexts
from pacs.upper_layer import dimse
from storage.archive.model import Level

Levels = tuple[Level, ...]

PATIENT_ROOT: Final[Levels] = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
STUDY_ROOT: Final[Levels] = (Level.STUDY, Level.SERIES, Level.IMAGE)
PATIENT_STUDY_ONLY: Final[Levels] = (Level.PATIENT, Level.STUDY)

FIND: Final[Mapping[str, Levels]] = {
    "1.2.840.10008.5.1.4.1.2.1.1": PATIENT_ROOT,
    "1.2.840.10008.5.1.4.1.2.2.1": STUDY_ROOT,
    "1.2.840.10008.5.1.4.1.2.3.1": PATIENT_STUDY_ONLY,
}
MOVE: Final[Mapping[str, Levels]] = {
    "1.2.840.10008.5.1.4.1.2.1.2": PATIENT_ROOT,
    "1.2.840.10008.5.1.4.1.2.2.2": STUDY_ROOT,
    "1.2.840.10008.5.1.4.1.2.3.2": PATIENT_STUDY_ONLY,
}
GET: Final[Mapping[str, Levels]] = {
    "1.2.840.10008.5.1.4.1.2.1.3": PATIENT_ROOT,
    "1.2.840.10008.5.1.4.1.2.2.3": STUDY_ROOT,
    "1.2.840.10008.5.1.4.1.2.3.3": PATIENT_STUDY_ONLY,
}

UNIQUE_KEYS: Final[Mapping[Level, str]] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
"""The unique key of each level (PS3.4 C.6.1.1 and C.6.2.1)."""

_COMMANDS: Final[Mapping[str, int]] = {
    contexts.VERIFICATION: dimse.C_ECHO_RQ,
    **dict.fromkeys(FIND, dimse.C_FIND_RQ),
    **dict.fromkeys(MOVE, dimse.C_MOVE_RQ),
    **dict.fromkeys(GET, dimse.C_GET_RQ),
}
SERVICES: Final = frozenset(_COMMANDS)
"""The abstract syntaxes we serve that are not storage SOP classes."""


def command_of(abstract_syntax: str) -> int:
    """Return the one request that an accepted context carries (PS3.4 A.4, B.2, C.4)."""
    return _COMMANDS.get(abstract_syntax, dimse.C_STORE_RQ)
