"""The modality worklist: which steps are still to be done (PS3.4 Annex K).

    keys ─ SQL on indexed columns ─ candidates, earliest first ─ entries ─ the exact matcher

SQL only leaves out what cannot match; `ris.keys` decides. What a console does not say is
filled in: it means its own station, and steps that somebody still has to do.
"""

from ris.worklist.entries import MATCHED, Scheduled
from ris.worklist.filtering import SHOWN, Filter, Query
from ris.worklist.finding import candidates, find_steps, iterate, load
from ris.worklist.keywords import (
    MODALITY,
    START_DATE,
    START_TIME,
    STATION,
    STATUS,
    STEP,
    TIMEZONE,
)

__all__ = [
    "MATCHED",
    "MODALITY",
    "SHOWN",
    "START_DATE",
    "START_TIME",
    "STATION",
    "STATUS",
    "STEP",
    "TIMEZONE",
    "Filter",
    "Query",
    "Scheduled",
    "candidates",
    "find_steps",
    "iterate",
    "load",
]
