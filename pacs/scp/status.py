"""How our errors read in DIMSE (PS3.7 Annex C and each service class of PS3.4)."""

from collections.abc import Mapping
from typing import Final

from ris.workitems import faults
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotFound,
    NotPermitted,
    NotSupported,
    Unavailable,
)

Table = Mapping[type[ImagingError], int]

SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_OPTIONAL_KEYS: Final = 0xFF01
"""Matches are continuing, some optional keys were not supported (PS3.4 Table C.4-1)."""
CANCEL: Final = 0xFE00
OUT_OF_RESOURCES: Final = 0xA700

OPTIONAL_ATTRIBUTES_NOT_SUPPORTED: Final = 0x0001
"""Of an N-GET: attributes were asked for that are not held (PS3.4 F.8.2.1.3)."""

# PS3.7 Annex C
INVALID_ATTRIBUTE_VALUE: Final = 0x0106
ATTRIBUTE_LIST_ERROR: Final = 0x0107
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
NO_SUCH_SOP_INSTANCE: Final = 0x0112
INVALID_ARGUMENT_VALUE: Final = 0x0115
INVALID_OBJECT_INSTANCE: Final = 0x0117
NO_SUCH_SOP_CLASS: Final = 0x0118
CLASS_INSTANCE_CONFLICT: Final = 0x0119
MISSING_ATTRIBUTE: Final = 0x0120
MISSING_ATTRIBUTE_VALUE: Final = 0x0121
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORIZED: Final = 0x0124
UNRECOGNIZED_OPERATION: Final = 0x0211
RESOURCE_LIMITATION: Final = 0x0213

MAY_NO_LONGER_BE_UPDATED: Final = 0xA710
"""Error ID with 0110 on an N-SET of a step that is at its end (PS3.4 Table F.7.2-2)."""

# PS3.4 Tables CC.2.1-2, CC.2.3-3, CC.2.5-4: warnings of workitems
CREATED_WITH_MODIFICATIONS: Final = 0xB300
ALREADY_CANCELED: Final = 0xB304
ALREADY_COMPLETED: Final = 0xB306

# PS3.4 Tables C.4-2 and C.4-3
SUBOPERATIONS_WARNING: Final = 0xB000
SUBOPERATIONS_FAILED: Final = 0xA702
DESTINATION_UNKNOWN: Final = 0xA801

# PS3.4 Table B.2-1
STORE: Final[Table] = {
    Unavailable: 0xA700,  # Refused: Out of Resources
    Conflict: 0xA900,  # Error: Data Set Does Not Match SOP Class
    Malformed: 0xC000,  # Error: Cannot Understand
    NotPermitted: NOT_AUTHORIZED,
    NotSupported: SOP_CLASS_NOT_SUPPORTED,
}

# PS3.4 Table C.4-1
FIND: Final[Table] = {
    Unavailable: 0xA700,  # Refused: Out of Resources
    Conflict: 0xA900,  # Error: Identifier Does Not Match SOP Class
    Malformed: 0xC000,  # Failed: Unable to Process
    NotPermitted: NOT_AUTHORIZED,
    NotSupported: SOP_CLASS_NOT_SUPPORTED,
}

# PS3.4 Tables C.4-2 and C.4-3
RETRIEVE: Final[Table] = {
    Unavailable: 0xA701,  # Refused: Out of Resources - Unable to calculate number of matches
    Conflict: 0xA900,  # Error: Identifier Does Not Match SOP Class
    Malformed: 0xC000,  # Failed: Unable to Process
    NotFound: DESTINATION_UNKNOWN,
    NotPermitted: NOT_AUTHORIZED,
    NotSupported: SOP_CLASS_NOT_SUPPORTED,
}

# PS3.4 CC.2: what is said of workitems, and of nothing else
_WORKITEMS: Final[Table] = {
    faults.NoLongerUpdated: 0xC300,
    faults.WrongTransaction: 0xC301,
    faults.AlreadyInProgress: 0xC302,
    faults.NeverScheduledAgain: 0xC303,
    faults.FinalStateUnmet: 0xC304,
    faults.NoSuchWorkitem: 0xC307,
    faults.UnknownReceiver: 0xC308,
    faults.NotScheduled: 0xC309,
    faults.NotInProgress: 0xC310,
    faults.AlreadyCompleted: 0xC311,
    faults.PerformerAway: 0xC312,
    faults.WrongAction: 0xC314,
    faults.MissingAttribute: MISSING_ATTRIBUTE,
    faults.MissingValue: MISSING_ATTRIBUTE_VALUE,
    faults.InvalidValue: INVALID_ATTRIBUTE_VALUE,
    faults.Duplicate: DUPLICATE_SOP_INSTANCE,
}

# PS3.7 10.1.5.1.6, PS3.4 F.7.2.1.3 and CC.2.5.4
N_CREATE: Final[Table] = {
    Unavailable: RESOURCE_LIMITATION,
    Conflict: DUPLICATE_SOP_INSTANCE,
    Malformed: INVALID_ATTRIBUTE_VALUE,
    NotPermitted: NOT_AUTHORIZED,
    **_WORKITEMS,
}

# PS3.7 10.1.2.1.9 and 10.1.3.1.9, PS3.4 F.7.2.2.3 and F.8.2.1.3
N_GET: Final[Table] = {
    Unavailable: RESOURCE_LIMITATION,
    NotFound: NO_SUCH_SOP_INSTANCE,
    Malformed: INVALID_ATTRIBUTE_VALUE,
    NotPermitted: NOT_AUTHORIZED,
    **_WORKITEMS,
}
N_SET: Final[Table] = {**N_GET, Conflict: PROCESSING_FAILURE}

# PS3.7 10.1.4.1.10, PS3.4 J.3.2.1.3
N_ACTION: Final[Table] = {
    Unavailable: RESOURCE_LIMITATION,
    NotFound: NO_SUCH_SOP_INSTANCE,
    Malformed: INVALID_ARGUMENT_VALUE,
    NotPermitted: NOT_AUTHORIZED,
    **_WORKITEMS,
}


def status_of(error: ImagingError, table: Table) -> int:
    """Return the status of the nearest ancestor of `error` named in `table`."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), PROCESSING_FAILURE)


def is_pending(status: int) -> bool:
    """Whether more responses follow."""
    return status in {PENDING, PENDING_OPTIONAL_KEYS}
