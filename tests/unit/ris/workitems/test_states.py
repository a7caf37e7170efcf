"""The whole of PS3.4 Table CC.1.1-2, cell by cell, as DIMSE statuses."""

from itertools import product

import pytest

from pacs.scp import status
from ris.workitems import states
from ris.workitems.states import TABLE, Answer, Request, State
from storage.base.errors import ImagingError

COLUMNS = (None, State.SCHEDULED, State.IN_PROGRESS, State.COMPLETED, State.CANCELED)
STANDARD = {
    Request.CREATE: ["SCHEDULED", 0x0111, 0x0111, 0x0111, 0x0111],
    Request.START: [0xC307, "IN PROGRESS", 0xC302, 0xC300, 0xC300],
    Request.START_UNCLAIMED: [0xC307, 0xC301, 0xC301, 0xC301, 0xC301],
    Request.SCHEDULE: [0xC307, 0xC303, 0xC303, 0xC303, 0xC303],
    Request.COMPLETE: [0xC307, 0xC310, "COMPLETED", Answer.ALREADY, 0xC300],
    Request.COMPLETE_UNCLAIMED: [0xC307, 0xC301, 0xC301, 0xC301, 0xC301],
    Request.REQUEST_CANCEL: [0xC307, "CANCELED", Answer.ASK, 0xC311, Answer.ALREADY],
    Request.CANCEL: [0xC307, 0xC310, "CANCELED", 0xC300, Answer.ALREADY],
    Request.CANCEL_UNCLAIMED: [0xC307, 0xC301, 0xC301, 0xC301, 0xC301],
}
EVERY_CELL = [
    pytest.param(request, state, STANDARD[request][column], id=f"{request}, {state or 'none'}")
    for request, (column, state) in product(Request, enumerate(COLUMNS))
]
CLAIM, OTHER = "2.25.1", "2.25.2"


def answer_of(request: Request, state: State | None) -> object:
    try:
        return states.decide(request, state)
    except ImagingError as error:
        return status.status_of(error, status.N_ACTION)


def test_table_has_every_row_and_column() -> None:
    assert TABLE.keys() == set(Request)
    assert {len(cells) for cells in TABLE.values()} == {len(COLUMNS)}


@pytest.mark.parametrize(("request_", "state", "expected"), EVERY_CELL)
def test_cell_is_that_of_the_standard(
    request_: Request, state: State | None, expected: object
) -> None:
    assert answer_of(request_, state) == expected


# Transaction UIDs: the claim's own, another, none, and what is no UID
SENT = {"own": CLAIM, "another": OTHER, "none": "", "no uid": "abc"}


def change_of(state: State, wanted: State, sent: str) -> object:
    try:
        return states.change(state, wanted, sent, "" if state is State.SCHEDULED else CLAIM)
    except ImagingError as error:
        return status.status_of(error, status.N_ACTION)


@pytest.mark.parametrize(("state", "wanted", "kind"), [*product(State, State, SENT)])
def test_change_takes_the_row_of_its_transaction_uid(
    state: State, wanted: State, kind: str
) -> None:
    claims = kind in ({"own", "another"} if state is State.SCHEDULED else {"own"})
    rows = {
        State.SCHEDULED: (Request.SCHEDULE, Request.SCHEDULE),
        State.IN_PROGRESS: (Request.START, Request.START_UNCLAIMED),
        State.COMPLETED: (Request.COMPLETE, Request.COMPLETE_UNCLAIMED),
        State.CANCELED: (Request.CANCEL, Request.CANCEL_UNCLAIMED),
    }
    row = rows[wanted][0 if claims else 1]

    found = change_of(state, wanted, SENT[kind])

    assert found == STANDARD[row][COLUMNS.index(state)]


UPDATES = {
    (State.SCHEDULED, "none"): None,
    (State.SCHEDULED, "own"): 0xC310,
    (State.SCHEDULED, "another"): 0xC310,
    (State.SCHEDULED, "no uid"): 0xC310,
    (State.IN_PROGRESS, "own"): None,
    (State.IN_PROGRESS, "another"): 0xC301,
    (State.IN_PROGRESS, "none"): 0xC301,
    (State.IN_PROGRESS, "no uid"): 0xC301,
    **{(state, kind): 0xC300 for state in (State.COMPLETED, State.CANCELED) for kind in SENT},
}


@pytest.mark.parametrize(("state", "kind"), [*product(State, SENT)])
def test_only_who_claimed_updates(state: State, kind: str) -> None:
    held = "" if state is State.SCHEDULED else CLAIM
    try:
        states.require_updatable(state, SENT[kind], held)
        found = None
    except ImagingError as error:
        found = status.status_of(error, status.N_SET)

    assert found == UPDATES[state, kind]
