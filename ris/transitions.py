"""What an order control code does to an order, by where the order is (HL7 v2.5.1 table 0119).

One table: control code and state → effect. A control code that arrives before its order is no
error: messages overtake each other. What was performed is a fact; no message takes it back.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final

from ris.model import OVER, WAITING, OrderState, StepStatus


class Effect(StrEnum):
    """What becomes of an order."""

    CREATE = "create"
    """Write it down and schedule it."""
    CREATE_HELD = "create_held"
    CHANGE = "change"
    """Take over what is sent."""
    CHANGE_BEGUN = "change_begun"
    """The same, but what was begun stays as it was shown, and the order is marked."""
    REVIVE = "revive"
    """Schedule again what was cancelled, if the message is the newer one."""
    AWAIT = "await"
    """Remember the cancellation of an order that has not come yet."""
    CANCEL = "cancel"
    CANCEL_BEGUN = "cancel_begun"
    """Cancelled, but there are images or a performed step: a person is told."""
    DISCONTINUE = "discontinue"
    HOLD = "hold"
    RELEASE = "release"
    BEGIN = "begin"
    COMPLETE = "complete"
    KEEP = "keep"
    """It is so already, or nothing is asked for."""
    REFUSE = "refuse"
    """Unable to: nothing changes, a person is told."""


_S = OrderState
_E = Effect
_ANY: Final[tuple[OrderState | None, ...]] = (None, *OrderState)


def _row(**effects: Effect) -> Mapping[OrderState | None, Effect]:
    return {state: effects[state.value if state else "unknown"] for state in _ANY}


_NEW: Final = _row(
    unknown=_E.CREATE,
    SCHEDULED=_E.CHANGE,
    HELD=_E.CHANGE,
    IN_PROGRESS=_E.CHANGE_BEGUN,
    COMPLETED=_E.CHANGE_BEGUN,
    REPORTED=_E.CHANGE_BEGUN,
    CANCELED=_E.REVIVE,
    DISCONTINUED=_E.REVIVE,
)
_CHANGE: Final = {**_NEW, _S.CANCELED: _E.REFUSE, _S.DISCONTINUED: _E.REFUSE}
_CANCEL: Final = _row(
    unknown=_E.AWAIT,
    SCHEDULED=_E.CANCEL,
    HELD=_E.CANCEL,
    IN_PROGRESS=_E.CANCEL_BEGUN,
    COMPLETED=_E.CANCEL_BEGUN,
    REPORTED=_E.REFUSE,
    CANCELED=_E.KEEP,
    DISCONTINUED=_E.KEEP,
)
_DISCONTINUE: Final = {
    **_CANCEL,
    _S.SCHEDULED: _E.DISCONTINUE,
    _S.HELD: _E.DISCONTINUE,
    _S.IN_PROGRESS: _E.DISCONTINUE,
    _S.COMPLETED: _E.REFUSE,
}
_HOLD: Final = _row(
    unknown=_E.CREATE_HELD,
    SCHEDULED=_E.HOLD,
    HELD=_E.KEEP,
    IN_PROGRESS=_E.REFUSE,
    COMPLETED=_E.REFUSE,
    REPORTED=_E.REFUSE,
    CANCELED=_E.REFUSE,
    DISCONTINUED=_E.REFUSE,
)
_RELEASE: Final = _row(
    unknown=_E.CREATE,
    SCHEDULED=_E.KEEP,
    HELD=_E.RELEASE,
    IN_PROGRESS=_E.KEEP,
    COMPLETED=_E.KEEP,
    REPORTED=_E.KEEP,
    CANCELED=_E.REFUSE,
    DISCONTINUED=_E.REFUSE,
)
_BEGIN: Final = _row(
    unknown=_E.CREATE,
    SCHEDULED=_E.BEGIN,
    HELD=_E.BEGIN,
    IN_PROGRESS=_E.KEEP,
    COMPLETED=_E.KEEP,
    REPORTED=_E.KEEP,
    CANCELED=_E.KEEP,
    DISCONTINUED=_E.KEEP,
)
_COMPLETE: Final = {
    **_BEGIN,
    _S.SCHEDULED: _E.COMPLETE,
    _S.HELD: _E.COMPLETE,
    _S.IN_PROGRESS: _E.COMPLETE,
}
_NOTHING: Final[Mapping[OrderState | None, Effect]] = dict.fromkeys(_ANY, _E.KEEP)

CONTROLS: Final[Mapping[str, Mapping[OrderState | None, Effect]]] = {
    **dict.fromkeys(("NW", "SN", "RO", "CH"), _NEW),
    **dict.fromkeys(("XO", "RP", "XX"), _CHANGE),
    **dict.fromkeys(("CA", "OC"), _CANCEL),
    **dict.fromkeys(("DC", "OD"), _DISCONTINUE),
    **dict.fromkeys(("HD", "OH"), _HOLD),
    "RL": _RELEASE,
    # by ORC-5: `_BY_STATUS`
    **dict.fromkeys(("SC", "SS"), _NOTHING),
    # what answers something of ours, or groups orders
    **dict.fromkeys(("OK", "UA", "CR", "UC", "DR", "UD", "HR", "NA", "SR", "PA", "RE"), _NOTHING),
}
"""ORC-1 → state → effect; the state is None for an order that nobody has seen."""

# ORC-5 (HL7 table 0038) of a status change: never back, whatever it says
_BY_STATUS: Final[Mapping[str, Mapping[OrderState | None, Effect]]] = {
    "SC": _RELEASE,
    "IP": _BEGIN,
    "CM": _COMPLETE,
    "A": _COMPLETE,
    "CA": _CANCEL,
    "RP": _CANCEL,
    "DC": _DISCONTINUE,
    "HD": _HOLD,
}
# ORC-1 → what the answer says when it was done, and when not
_ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "NW": ("", "UA"),
    "SN": ("NA", "UA"),
    "XO": ("XR", "UX"),
    "RP": ("RQ", "UM"),
    "RO": ("RQ", "UM"),
    "CA": ("CR", "UC"),
    "OC": ("CR", "UC"),
    "DC": ("DR", "UD"),
    "OD": ("DR", "UD"),
    "HD": ("HR", "UH"),
    "RL": ("OR", "UR"),
}
STATE_AFTER: Final[Mapping[Effect, OrderState]] = {
    _E.CREATE: _S.SCHEDULED,
    _E.CREATE_HELD: _S.HELD,
    _E.REVIVE: _S.SCHEDULED,
    _E.AWAIT: _S.CANCELED,
    _E.CANCEL: _S.CANCELED,
    _E.CANCEL_BEGUN: _S.CANCELED,
    _E.DISCONTINUE: _S.DISCONTINUED,
    _E.HOLD: _S.HELD,
    _E.RELEASE: _S.SCHEDULED,
    _E.BEGIN: _S.IN_PROGRESS,
    _E.COMPLETE: _S.COMPLETED,
}
"""The state that an effect leads to; what is not here leaves the state."""

_STEP_AFTER: Final[Mapping[Effect, tuple[Collection[StepStatus], StepStatus]]] = {
    _E.CREATE_HELD: (WAITING, StepStatus.HELD),
    _E.REVIVE: ({StepStatus.CANCELED, StepStatus.DISCONTINUED}, StepStatus.SCHEDULED),
    _E.CANCEL: ({*WAITING, StepStatus.HELD}, StepStatus.CANCELED),
    _E.CANCEL_BEGUN: ({*WAITING, StepStatus.HELD}, StepStatus.CANCELED),
    _E.DISCONTINUE: ({*WAITING, StepStatus.HELD}, StepStatus.CANCELED),
    _E.HOLD: (WAITING, StepStatus.HELD),
    _E.RELEASE: ({StepStatus.HELD}, StepStatus.SCHEDULED),
    _E.BEGIN: ({*WAITING, StepStatus.HELD}, StepStatus.STARTED),
    _E.COMPLETE: ({*WAITING, StepStatus.HELD, StepStatus.STARTED}, StepStatus.COMPLETED),
}


def effect(control: str, status: str, state: OrderState | None) -> Effect:
    """Return what ORC-1 `control` does to an order in `state`, None for one that is not known.

    `status` is ORC-5: it counts for a status change (SC) alone, since senders leave it as it was.
    """
    if control in {"SC", "SS"}:
        return _BY_STATUS.get(status, _NOTHING)[state]
    return CONTROLS.get(control, _NOTHING)[state]


def answer(control: str, *, able: bool) -> str:
    """Return ORC-1 of the answer (HL7 table 0119); '' is OK."""
    done, unable = _ANSWERS.get(control, ("", "UA"))
    return done if able else unable


def step_after(effect: Effect, status: StepStatus) -> StepStatus:
    """Return the status of a step after `effect`: what was begun or is over is a fact."""
    concerned, then = _STEP_AFTER.get(effect, ((), status))
    return then if status in concerned else status


def state_of(steps: Iterable[StepStatus], *, reported: bool = False) -> OrderState:
    """Return where an order is by its steps, as performed steps leave them."""
    every = {*steps}
    wanted = every - {StepStatus.CANCELED}
    if StepStatus.STARTED in wanted:
        return OrderState.IN_PROGRESS
    if reported:
        return OrderState.REPORTED
    if not wanted:
        return OrderState.CANCELED if every else OrderState.SCHEDULED
    if wanted <= OVER:
        done = StepStatus.COMPLETED in wanted
        return OrderState.COMPLETED if done else OrderState.DISCONTINUED
    if wanted & OVER:
        return OrderState.IN_PROGRESS
    return OrderState.HELD if wanted == {StepStatus.HELD} else OrderState.SCHEDULED
