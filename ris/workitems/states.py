"""What may follow what: the UPS state table (PS3.4 Table CC.1.1-2)."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final

from ris.workitems.faults import (
    AlreadyCompleted,
    AlreadyInProgress,
    Duplicate,
    NeverScheduledAgain,
    NoLongerUpdated,
    NoSuchWorkitem,
    NotInProgress,
    WrongTransaction,
)
from storage.base import values
from storage.base.errors import Rejected


class State(StrEnum):
    """Procedure Step State (0074,1000), PS3.3 C.30.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL: Final = frozenset({State.COMPLETED, State.CANCELED})


class Request(StrEnum):
    """A row of the table."""

    CREATE = "create"
    START = "to IN PROGRESS"
    START_UNCLAIMED = "to IN PROGRESS without the correct Transaction UID"
    SCHEDULE = "to SCHEDULED"
    COMPLETE = "to COMPLETED"
    COMPLETE_UNCLAIMED = "to COMPLETED without the correct Transaction UID"
    REQUEST_CANCEL = "request cancellation"
    CANCEL = "to CANCELED"
    CANCEL_UNCLAIMED = "to CANCELED without the correct Transaction UID"


class Answer(Enum):
    """What follows where the state stays and nothing is wrong."""

    ALREADY = "it is in the requested state already"
    ASK = "the performer is told of the wish"


Cell = State | Answer | type[Rejected]
_S = State
_COLUMNS: Final = (None, _S.SCHEDULED, _S.IN_PROGRESS, _S.COMPLETED, _S.CANCELED)
_UNCLAIMED: Final = (NoSuchWorkitem, *(WrongTransaction,) * 4)

# PS3.4 Table CC.1.1-2; columns: no such workitem, SCHEDULED, IN PROGRESS, COMPLETED, CANCELED
TABLE: Final[Mapping[Request, tuple[Cell, ...]]] = {
    Request.CREATE: (_S.SCHEDULED, Duplicate, Duplicate, Duplicate, Duplicate),
    Request.START: (
        NoSuchWorkitem,
        _S.IN_PROGRESS,
        AlreadyInProgress,
        NoLongerUpdated,
        NoLongerUpdated,
    ),
    Request.START_UNCLAIMED: _UNCLAIMED,
    Request.SCHEDULE: (NoSuchWorkitem, *(NeverScheduledAgain,) * 4),
    Request.COMPLETE: (
        NoSuchWorkitem,
        NotInProgress,
        _S.COMPLETED,
        Answer.ALREADY,
        NoLongerUpdated,
    ),
    Request.COMPLETE_UNCLAIMED: _UNCLAIMED,
    Request.REQUEST_CANCEL: (
        NoSuchWorkitem,
        _S.CANCELED,  # by way of IN PROGRESS
        Answer.ASK,
        AlreadyCompleted,
        Answer.ALREADY,
    ),
    Request.CANCEL: (NoSuchWorkitem, NotInProgress, _S.CANCELED, NoLongerUpdated, Answer.ALREADY),
    Request.CANCEL_UNCLAIMED: _UNCLAIMED,
}

_ROWS: Final[Mapping[State, tuple[Request, Request]]] = {
    State.SCHEDULED: (Request.SCHEDULE, Request.SCHEDULE),
    State.IN_PROGRESS: (Request.START, Request.START_UNCLAIMED),
    State.COMPLETED: (Request.COMPLETE, Request.COMPLETE_UNCLAIMED),
    State.CANCELED: (Request.CANCEL, Request.CANCEL_UNCLAIMED),
}


def decide(request: Request, state: State | None, sent: str = "") -> State | Answer:
    """Return the state that follows, or what else does; `sent` is the Transaction UID.

    Raises
    ------
    Rejected
        As the table says.
    """
    cell = TABLE[request][_COLUMNS.index(state)]
    if isinstance(cell, State | Answer):
        return cell
    raise cell(sent) if cell is WrongTransaction else cell()


def change(state: State, wanted: State, sent: str, held: str) -> State | Answer:
    """Return what follows a wish for a state; `held` is the Transaction UID of the claim.

    Raises
    ------
    Rejected
        As the table says.
    """
    claimed, unclaimed = _ROWS[wanted]
    return decide(claimed if is_correct(state, sent, held) else unclaimed, state, sent)


def require_updatable(state: State, sent: str, held: str) -> None:
    """Allow an update, PS3.4 CC.2.6: without a Transaction UID until the workitem is claimed.

    Raises
    ------
    NotInProgress, WrongTransaction, NoLongerUpdated
        It is not allowed.
    """
    if state in FINAL:
        raise NoLongerUpdated
    if state is State.SCHEDULED:
        if sent:
            raise NotInProgress
    elif not is_correct(state, sent, held):
        raise WrongTransaction(sent)


def is_correct(state: State, sent: str, held: str) -> bool:
    """Whether a Transaction UID is the one of the claim; before a claim every UID is."""
    return values.is_uid(sent) and (state is State.SCHEDULED or sent == held)
