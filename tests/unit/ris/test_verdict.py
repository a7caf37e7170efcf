"""Whether a study is complete."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ris.verdict import (
    ABANDONED,
    OVERDUE,
    RECOUNT,
    Evidence,
    Facts,
    Performed,
    PerformedStatus,
    State,
    judge,
    quiet_time,
    step_status,
)

IN_PROGRESS, COMPLETED, DISCONTINUED = PerformedStatus
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=12)
MINUTE = timedelta(minutes=1)


def performed(
    status: PerformedStatus, *, ago: timedelta = MINUTE, named: int = 0, missing: int = 0
) -> Performed:
    return Performed(
        sop_instance_uid="2.25.1",
        status=status,
        changed_at=NOW - ago,
        named=named,
        missing=missing,
    )


def facts(
    *steps: Performed, instances: int = 3, ago: timedelta = MINUTE, modality: str = "CT"
) -> Facts:
    return Facts(
        performed=steps,
        modalities={modality},
        instances=instances,
        last_received_at=NOW - ago if instances else None,
    )


@pytest.mark.parametrize(
    ("given", "state", "look_after"),
    [
        # somebody works on it
        (facts(performed(IN_PROGRESS), instances=0), State.EXPECTED, None),
        (facts(performed(IN_PROGRESS)), State.IN_PROGRESS, ABANDONED - MINUTE),
        (
            facts(performed(IN_PROGRESS), performed(COMPLETED)),
            State.IN_PROGRESS,
            ABANDONED - MINUTE,
        ),
        # nobody ended it
        (facts(performed(IN_PROGRESS, ago=ABANDONED), ago=ABANDONED), State.COMPLETE, None),
        (facts(performed(IN_PROGRESS), ago=ABANDONED), State.IN_PROGRESS, ABANDONED - MINUTE),
        (facts(performed(IN_PROGRESS, ago=LONG_AGO - NOW), instances=0), State.EXPECTED, None),
        # it ended and names what it made
        (facts(performed(COMPLETED, named=3)), State.COMPLETE, None),
        (facts(performed(COMPLETED, named=4)), State.COMPLETE, None),
        (facts(performed(COMPLETED, named=4, missing=1)), State.IN_PROGRESS, RECOUNT),
        (
            facts(performed(COMPLETED, named=3, missing=3), instances=0),
            State.EXPECTED,
            RECOUNT,
        ),
        (
            facts(performed(COMPLETED, named=4, missing=1, ago=OVERDUE), ago=OVERDUE),
            State.INCOMPLETE,
            None,
        ),
        (facts(performed(COMPLETED, ago=OVERDUE), instances=0), State.INCOMPLETE, None),
        # more came than it names: wait for the rest of that
        (facts(performed(COMPLETED, named=2)), State.IN_PROGRESS, 4 * MINUTE),
        (facts(performed(COMPLETED, named=2), ago=5 * MINUTE), State.COMPLETE, None),
        # it ended and names nothing
        (facts(performed(COMPLETED)), State.IN_PROGRESS, 4 * MINUTE),
        (facts(performed(COMPLETED), ago=5 * MINUTE), State.COMPLETE, None),
        (facts(performed(COMPLETED), performed(DISCONTINUED), ago=OVERDUE), State.COMPLETE, None),
        # given up
        (facts(performed(DISCONTINUED)), State.DISCONTINUED, None),
        (facts(performed(DISCONTINUED), instances=0), State.DISCONTINUED, None),
        # no performed step at all
        (facts(ago=4 * MINUTE), State.IN_PROGRESS, MINUTE),
        (facts(ago=5 * MINUTE), State.COMPLETE, None),
        (facts(ago=2 * MINUTE, modality="DX"), State.COMPLETE, None),
        (facts(ago=9 * MINUTE, modality="US"), State.IN_PROGRESS, MINUTE),
    ],
)
def test_verdict_follows_from_the_facts(
    given: Facts, state: State, look_after: timedelta | None
) -> None:
    verdict = judge(given, NOW)

    assert verdict.state is state
    assert verdict.look_again_at == (NOW + look_after if look_after else None)
    assert verdict.evidence


@pytest.mark.parametrize(
    ("given", "assumed"),
    [
        (facts(ago=LONG_AGO - NOW + 24 * 60 * MINUTE), True),
        (facts(performed(IN_PROGRESS, ago=ABANDONED), ago=ABANDONED), True),
        (facts(performed(COMPLETED, named=3)), False),
        (facts(performed(COMPLETED), ago=OVERDUE), False),
    ],
    ids=["no step", "never ended", "all here", "quiet"],
)
def test_end_that_nobody_told_us_is_said_to_be_assumed(given: Facts, *, assumed: bool) -> None:
    verdict = judge(given, NOW)

    assert verdict.state is State.COMPLETE
    assert verdict.assumed is assumed


def test_evidence_says_what_every_rule_looked_at() -> None:
    step = performed(COMPLETED, named=4, missing=1)

    verdict = judge(facts(step), NOW)

    assert verdict.evidence == (
        Evidence(
            "performed_step",
            {"sop_instance_uid": "2.25.1", "status": "COMPLETED", "named": 4, "missing": 1},
        ),
        Evidence("held", {"instances": 3}),
        Evidence("missing", {"named": 4, "missing": 1}),
    )


def test_slowest_modality_decides_how_long_is_quiet() -> None:
    assert quiet_time(["DX", "US"]) == 10 * MINUTE
    assert quiet_time(["DX"]) == 2 * MINUTE
    assert quiet_time([]) == quiet_time(["XYZ"]) == 5 * MINUTE


WRONG, OTHER = "110514", "110501"


@pytest.mark.parametrize("current", ["SCHEDULED", "ARRIVED"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], None),
        ([(IN_PROGRESS, "")], "STARTED"),
        ([(COMPLETED, "")], "COMPLETED"),
        ([(DISCONTINUED, OTHER)], "DISCONTINUED"),
        ([(DISCONTINUED, "")], "DISCONTINUED"),
        ([(DISCONTINUED, WRONG)], None),
        ([(DISCONTINUED, WRONG), (IN_PROGRESS, "")], "STARTED"),
        ([(IN_PROGRESS, ""), (DISCONTINUED, WRONG)], "STARTED"),
        ([(DISCONTINUED, OTHER), (DISCONTINUED, WRONG)], "DISCONTINUED"),
        ([(DISCONTINUED, OTHER), (COMPLETED, "")], "COMPLETED"),
        ([(IN_PROGRESS, ""), (COMPLETED, "")], "COMPLETED"),
        ([(COMPLETED, ""), (IN_PROGRESS, "")], "COMPLETED"),
        ([(COMPLETED, ""), (DISCONTINUED, OTHER)], "COMPLETED"),
    ],
)
def test_scheduled_step_follows_its_performed_steps(
    current: str, steps: Sequence[tuple[PerformedStatus, str]], expected: str | None
) -> None:
    statuses, reasons = [one for one, _ in steps], [one for _, one in steps]

    assert step_status(current, statuses, reasons) == (expected or current)
