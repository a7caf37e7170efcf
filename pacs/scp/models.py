"""The SOP classes of our services beside storage, and the information models of queries.

Query/Retrieve: PS3.4 C.6; Modality Worklist: Annex K; Modality Performed Procedure
Step: Annex F; Storage Commitment: Annex J; Unified Procedure Step: Annex CC.
"""

from collections.abc import Mapping
from typing import Final

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

MODALITY_WORKLIST: Final = "1.2.840.10008.5.1.4.31"
PERFORMED_STEP: Final = "1.2.840.10008.3.1.2.3.3"
PERFORMED_STEP_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The well-known SOP Instance that every N-ACTION names (PS3.4 J.3.5)."""

WORKITEM_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
"""Of which every workitem is an instance (PS3.4 CC.3.1)."""
WORKITEM_WATCH: Final = "1.2.840.10008.5.1.4.34.6.2"
WORKITEM_PULL: Final = "1.2.840.10008.5.1.4.34.6.3"
WORKITEM_EVENT: Final = "1.2.840.10008.5.1.4.34.6.4"
"""Of which we are the SCP on associations of our own."""
WORKITEM_QUERY: Final = "1.2.840.10008.5.1.4.34.6.5"
WORKITEM_CLASSES: Final = frozenset({WORKITEM_PUSH, WORKITEM_WATCH, WORKITEM_PULL, WORKITEM_QUERY})

UNIQUE_KEYS: Final[Mapping[Level, str]] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
"""The unique key of each level (PS3.4 C.6.1.1 and C.6.2.1)."""


def may_name(abstract_syntax: str, sop_class_uid: str | None) -> bool:
    """Whether a request in a presentation context may name a SOP class (PS3.4 CC.3.1)."""
    is_workitem = abstract_syntax in WORKITEM_CLASSES and sop_class_uid == WORKITEM_PUSH
    return sop_class_uid == abstract_syntax or is_workitem
