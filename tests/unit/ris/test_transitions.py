from itertools import combinations_with_replacement, product

import pytest

from ris import transitions
from ris.model import OVER, WAITING, OrderState, StepStatus
from ris.transitions import CONTROLS, Effect, effect, state_of, step_after

STATES = (None, *OrderState)

# unseen  SCHEDULED  HELD  IN_PROGRESS  COMPLETED  REPORTED  CANCELED  DISCONTINUED
TABLE = """
NW  create       change      change      change_begun  change_begun  change_begun  revive  revive
SN  create       change      change      change_begun  change_begun  change_begun  revive  revive
XO  create       change      change      change_begun  change_begun  change_begun  refuse  refuse
RP  create       change      change      change_begun  change_begun  change_begun  refuse  refuse
CA  await        cancel      cancel      cancel_begun  cancel_begun  refuse        keep    keep
OC  await        cancel      cancel      cancel_begun  cancel_begun  refuse        keep    keep
DC  await        discontinue discontinue discontinue   refuse        refuse        keep    keep
HD  create_held  hold        keep        refuse        refuse        refuse        refuse  refuse
RL  create       keep        release     keep          keep          keep          refuse  refuse
"""
# the same for a status change (SC), by ORC-5
STATUS_TABLE = """
SC  create       keep        release     keep          keep          keep          refuse  refuse
IP  create       begin       begin       keep          keep          keep          keep    keep
CM  create       complete    complete    complete      keep          keep          keep    keep
A   create       complete    complete    complete      keep          keep          keep    keep
CA  await        cancel      cancel      cancel_begun  cancel_begun  refuse        keep    keep
DC  await        discontinue discontinue discontinue   refuse        refuse        keep    keep
HD  create_held  hold        keep        refuse        refuse        refuse        refuse  refuse
ER  keep         keep        keep        keep          keep          keep          keep    keep
"""


def cells(table: str) -> list[tuple[str, OrderState | None, str]]:
    rows = [line.split() for line in table.strip().splitlines()]
    return [
        (code, state, wanted)
        for code, *effects in rows
        for state, wanted in zip(STATES, effects, strict=True)
    ]


def name(value: object) -> str:
    return str(value or "unseen")


@pytest.mark.parametrize(("control", "state", "wanted"), cells(TABLE), ids=name)
def test_control_code_has_its_effect(control: str, state: OrderState | None, wanted: str) -> None:
    assert effect(control, "", state) == wanted


@pytest.mark.parametrize(("status", "state", "wanted"), cells(STATUS_TABLE), ids=name)
def test_status_change_goes_by_its_status(
    status: str, state: OrderState | None, wanted: str
) -> None:
    assert effect("SC", status, state) == wanted


@pytest.mark.parametrize("control", ["NW", "CA", "XO"])
def test_status_of_other_control_codes_does_not_count(control: str) -> None:
    for state, status in product(STATES, ("SC", "CM", "CA", "IP")):
        assert effect(control, status, state) is effect(control, "", state)


def test_every_control_code_has_an_effect_in_every_state() -> None:
    for control, state in product(CONTROLS, STATES):
        assert isinstance(CONTROLS[control][state], Effect)


def test_control_code_of_no_table_does_nothing() -> None:
    assert {effect("ZZ", "", state) for state in STATES} == {Effect.KEEP}


def test_only_a_new_order_brings_a_cancelled_one_back() -> None:
    reviving = {
        control
        for control, state in product(CONTROLS, (OrderState.CANCELED, OrderState.DISCONTINUED))
        if CONTROLS[control][state] is Effect.REVIVE
    }

    assert reviving == {"NW", "SN", "RO", "CH"}


@pytest.mark.parametrize("state", [OrderState.COMPLETED, OrderState.REPORTED])
def test_what_is_done_is_never_scheduled_held_or_begun_again(state: OrderState) -> None:
    effects = {CONTROLS[control][state] for control in CONTROLS}
    effects |= {effect("SC", status, state) for status in ("SC", "IP", "CM", "CA", "DC", "HD")}

    assert not effects & {Effect.HOLD, Effect.RELEASE, Effect.BEGIN, Effect.CREATE, Effect.REVIVE}


def test_reported_order_is_never_cancelled() -> None:
    for control in CONTROLS:
        after = transitions.STATE_AFTER.get(CONTROLS[control][OrderState.REPORTED])
        assert after is None


@pytest.mark.parametrize("one", Effect)
def test_effect_never_takes_back_what_was_begun(one: Effect) -> None:
    after = step_after(one, StepStatus.STARTED)

    assert after in {StepStatus.STARTED, StepStatus.COMPLETED}
    assert step_after(one, StepStatus.COMPLETED) is StepStatus.COMPLETED


@pytest.mark.parametrize("one", [Effect.CANCEL, Effect.CANCEL_BEGUN, Effect.DISCONTINUE])
def test_cancellation_takes_every_step_that_waits_off_the_worklist(one: Effect) -> None:
    assert {step_after(one, status) for status in (*WAITING, StepStatus.HELD)} == {
        StepStatus.CANCELED
    }


@pytest.mark.parametrize(
    ("control", "able", "unable"),
    [
        ("NW", "", "UA"),
        ("SN", "NA", "UA"),
        ("XO", "XR", "UX"),
        ("CA", "CR", "UC"),
        ("DC", "DR", "UD"),
        ("HD", "HR", "UH"),
        ("RL", "OR", "UR"),
        ("SC", "", "UA"),
    ],
)
def test_answer_says_whether_it_was_done(control: str, able: str, unable: str) -> None:
    assert transitions.answer(control, able=True) == able
    assert transitions.answer(control, able=False) == unable


# Where an order is by its steps

_S = StepStatus


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ([], OrderState.SCHEDULED),
        ([_S.SCHEDULED], OrderState.SCHEDULED),
        ([_S.ARRIVED, _S.CANCELED], OrderState.SCHEDULED),
        ([_S.HELD], OrderState.HELD),
        ([_S.HELD, _S.SCHEDULED], OrderState.SCHEDULED),
        ([_S.STARTED, _S.SCHEDULED], OrderState.IN_PROGRESS),
        ([_S.COMPLETED, _S.SCHEDULED], OrderState.IN_PROGRESS),
        ([_S.COMPLETED, _S.STARTED], OrderState.IN_PROGRESS),
        ([_S.COMPLETED, _S.CANCELED], OrderState.COMPLETED),
        ([_S.COMPLETED, _S.DISCONTINUED], OrderState.COMPLETED),
        ([_S.DISCONTINUED], OrderState.DISCONTINUED),
        ([_S.CANCELED], OrderState.CANCELED),
    ],
    ids=str,
)
def test_order_is_where_its_steps_are(steps: list[StepStatus], state: OrderState) -> None:
    assert state_of(steps) is state


def test_reported_order_is_left_only_by_a_step_in_progress() -> None:
    for steps in combinations_with_replacement(StepStatus, 2):
        found = state_of(steps, reported=True)
        begun = StepStatus.STARTED in steps
        assert found is (OrderState.IN_PROGRESS if begun else OrderState.REPORTED)


def test_order_is_over_only_when_every_step_is() -> None:
    for steps in combinations_with_replacement(StepStatus, 3):
        if state_of(steps) in {OrderState.COMPLETED, OrderState.DISCONTINUED}:
            assert {*steps} <= OVER
