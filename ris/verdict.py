"""Whether a study is complete, and what says so.

    a performed step is open ─────────────── in progress; too long and quiet: assumed complete
    all ended, every object named is here ── complete at once
    all ended, some have not come ────────── in progress, after a while incomplete
    all ended, none named ────────────────── complete when quiet
    all discontinued ─────────────────────── discontinued
    no performed step at all ─────────────── complete when quiet

Quiet is a time without new objects, by modality. No verdict is for ever: with the next
object or performed step the study is judged again. Each comes with its evidence, to be shown.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

QUIET: Final[Mapping[str, timedelta]] = {
    **dict.fromkeys(("CR", "DX", "DR", "IO", "PX", "MG", "BMD"), timedelta(minutes=2)),
    **dict.fromkeys(("CT", "MR", "PT"), timedelta(minutes=5)),
    **dict.fromkeys(("US", "NM", "XA", "RF", "ES", "ECG", "IVUS"), timedelta(minutes=10)),
}
"""How long a device of that modality may pause within a study."""
OTHER_QUIET: Final = timedelta(minutes=5)
OVERDUE: Final = timedelta(hours=1)
"""So long after its end we wait for the objects that a performed step names."""
RECOUNT: Final = timedelta(seconds=10)
"""So often they are counted meanwhile."""
ABANDONED: Final = timedelta(hours=4)
"""A performed step that was never ended is taken for ended so long after the last object."""

WRONG_ENTRY: Final = "110514"
"""Discontinuation reason (CID 9300): Incorrect worklist entry selected."""


class PerformedStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


class State(StrEnum):
    """What is known about the end of a study."""

    EXPECTED = "expected"
    """A performed step began, and no object came yet."""
    IN_PROGRESS = "in progress"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    """It ended, and objects that were made for it have not come."""
    DISCONTINUED = "discontinued"


FINAL: Final = frozenset({State.COMPLETE, State.INCOMPLETE, State.DISCONTINUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What a performed step says about the study."""

    sop_instance_uid: str
    status: PerformedStatus
    changed_at: datetime
    """When it was told to us last; aware."""
    named: int = 0
    """Objects that it says it made."""
    missing: int = 0
    """Those of them that are not here."""
    reason: str = ""
    """Code of the discontinuation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that a verdict is made of."""

    performed: Sequence[Performed] = ()
    modalities: Collection[str] = ()
    instances: int = 0
    last_received_at: datetime | None = None
    """Aware; None before the first object."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that the verdict rests on, as data."""

    what: str
    facts: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a study and why it is so."""

    state: State
    evidence: tuple[Evidence, ...]
    look_again_at: datetime | None = None
    """When time alone may change it; None: only something new can."""
    assumed: bool = False
    """A performed step that nobody ended is taken for ended, or there was none at all."""


def quiet_time(modalities: Collection[str]) -> timedelta:
    """Return how long a study of these modalities has to be quiet: the longest of them."""
    return max((QUIET.get(one, OTHER_QUIET) for one in modalities), default=OTHER_QUIET)


def judge(facts: Facts, now: datetime) -> Verdict:
    """Return the verdict on a study of which at least one object or performed step is known."""
    held = Evidence("held", {"instances": facts.instances})
    evidence = [*map(_told, facts.performed), held]
    open_steps = [one for one in facts.performed if one.status is PerformedStatus.IN_PROGRESS]
    if open_steps:
        return _while_open(facts, open_steps, evidence, now)
    if any(one.status is PerformedStatus.COMPLETED for one in facts.performed):
        return _after_end(facts, evidence, now)
    if facts.performed:
        return Verdict(State.DISCONTINUED, tuple(evidence))
    return _by_quiet(facts, evidence, now, assumed=True)


def _while_open(
    facts: Facts, open_steps: Sequence[Performed], evidence: list[Evidence], now: datetime
) -> Verdict:
    if facts.last_received_at is None:
        return Verdict(State.EXPECTED, tuple(evidence))
    latest = max(facts.last_received_at, *(one.changed_at for one in open_steps))
    over = latest + ABANDONED
    if now < over:
        return Verdict(State.IN_PROGRESS, tuple(evidence), over)
    evidence.append(_since("never_ended", latest, now))
    return Verdict(State.COMPLETE, tuple(evidence), assumed=True)


def _after_end(facts: Facts, evidence: list[Evidence], now: datetime) -> Verdict:
    named = sum(one.named for one in facts.performed)
    missing = sum(one.missing for one in facts.performed)
    ended = max(one.changed_at for one in facts.performed)
    if missing or facts.last_received_at is None:
        over = max(ended, facts.last_received_at or ended) + OVERDUE
        evidence.append(Evidence("missing", {"named": named, "missing": missing}))
        if now < over:
            state = State.IN_PROGRESS if facts.instances else State.EXPECTED
            return Verdict(state, tuple(evidence), min(over, now + RECOUNT))
        return Verdict(State.INCOMPLETE, tuple(evidence))
    if named and facts.instances <= named:
        evidence.append(Evidence("all_here", {"named": named}))
        return Verdict(State.COMPLETE, tuple(evidence))
    return _by_quiet(facts, evidence, now, assumed=False)


def _by_quiet(facts: Facts, evidence: list[Evidence], now: datetime, *, assumed: bool) -> Verdict:
    if facts.last_received_at is None:  # nothing came, and nobody said that anything would
        return Verdict(State.EXPECTED, tuple(evidence))
    over = facts.last_received_at + quiet_time(facts.modalities)
    if now < over:
        return Verdict(State.IN_PROGRESS, tuple(evidence), over)
    evidence.append(_since("quiet", facts.last_received_at, now))
    return Verdict(State.COMPLETE, tuple(evidence), assumed=assumed)


def _told(performed: Performed) -> Evidence:
    facts: dict[str, str | int] = {
        "sop_instance_uid": performed.sop_instance_uid,
        "status": performed.status.value,
        "named": performed.named,
        "missing": performed.missing,
    }
    if performed.reason:
        facts["reason"] = performed.reason
    return Evidence("performed_step", facts)


def _since(what: str, moment: datetime, now: datetime) -> Evidence:
    minutes = int((now - moment).total_seconds() // 60)
    return Evidence(what, {"since": moment.isoformat(timespec="seconds"), "minutes": minutes})


# Scheduled steps


def step_status(current: str, performed: Sequence[PerformedStatus], reasons: Sequence[str]) -> str:
    """Return the Scheduled Procedure Step Status (0040,0020) that its performed steps make.

    Parameters
    ----------
    current
        What it is without them.
    performed
        The performed steps that name it.
    reasons
        Their discontinuation reasons, '' for none.

    What was done stays done, whatever comes later (an append, a late message); a performed
    step that was begun from the wrong worklist entry (110514) counts for nothing.
    """
    meant = {
        status
        for status, reason in zip(performed, reasons, strict=True)
        if status is not PerformedStatus.DISCONTINUED or reason != WRONG_ENTRY
    }
    return next((step for status, step in _STEP_STATUS if status in meant), current)


_STEP_STATUS: Final = (
    (PerformedStatus.COMPLETED, "COMPLETED"),
    (PerformedStatus.IN_PROGRESS, "STARTED"),
    (PerformedStatus.DISCONTINUED, "DISCONTINUED"),
)
"""What counts most comes first."""
