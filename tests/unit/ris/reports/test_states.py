"""Every state with every action, and who else has a word in it."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from ris.reports.faults import ENGLISH, VIETNAMESE, NotAllowed, Refused
from ris.reports.states import (
    ACTION_NAMES,
    ENDED,
    NAMES,
    NEXT,
    RULES,
    SIGNED,
    Action,
    Situation,
    Status,
    decide,
    follow,
)

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
DRAFT, TRANSCRIBED, PRELIMINARY, FINAL, UNAPPROVED, CORRECTED, ADDENDED, CANCELLED, RETRACTED = (
    Status
)
S = Action
OPEN = {S.SAVE, S.SUBMIT, S.RELEASE, S.APPROVE, S.CANCEL}
RETRACTION = {S.REQUEST_RETRACTION, S.DECLINE_RETRACTION, S.RETRACT}
AFTER_SIGNATURE = {S.UNAPPROVE, S.CORRECT, S.ADDEND, *RETRACTION}

# What may be done in each state, written down here a second time.
ALLOWED = {
    DRAFT: OPEN,
    TRANSCRIBED: OPEN,
    PRELIMINARY: OPEN | RETRACTION,
    FINAL: AFTER_SIGNATURE,
    UNAPPROVED: {S.SAVE, S.CORRECT, *RETRACTION},
    CORRECTED: AFTER_SIGNATURE,
    ADDENDED: AFTER_SIGNATURE,
    CANCELLED: set(),
    RETRACTED: set(),
}
LEADS_TO = {
    S.SUBMIT: TRANSCRIBED,
    S.RELEASE: PRELIMINARY,
    S.APPROVE: FINAL,
    S.UNAPPROVE: UNAPPROVED,
    S.CORRECT: CORRECTED,
    S.ADDEND: ADDENDED,
    S.CANCEL: CANCELLED,
    S.RETRACT: RETRACTED,
}
EVERY_PAIR = [*product(Status, Action)]
POSSIBLE = [(status, action) for status, action in EVERY_PAIR if action in ALLOWED[status]]
IMPOSSIBLE = [pair for pair in EVERY_PAIR if pair not in POSSIBLE]


def decided(status: Status, action: Action, code: str = "me", **facts: object) -> Status:
    given = {"reader": "writer", "approver": True, "changed": False, **facts}
    approver, changed = bool(given.pop("approver")), bool(given.pop("changed"))
    situation = Situation(status=status, **given)  # type: ignore[arg-type]
    return decide(situation, action, code, NOW, approver=approver, changed=changed)


@pytest.mark.parametrize(("status", "action"), POSSIBLE)
def test_action_leads_to_its_state_or_leaves_it(status: Status, action: Action) -> None:
    assert follow(status, action) is LEADS_TO.get(action, status)


@pytest.mark.parametrize(("status", "action"), IMPOSSIBLE)
def test_action_that_may_not_follow_is_refused(status: Status, action: Action) -> None:
    with pytest.raises(Refused) as refused:
        follow(status, action)

    for language, words in ((ENGLISH, "english"), (VIETNAMESE, "vietnamese")):
        told = refused.value.told(language)
        assert getattr(NAMES[status].words, words) in told
        assert getattr(ACTION_NAMES[action], words) in told


@pytest.mark.parametrize("status", [*sorted(SIGNED), UNAPPROVED])
def test_what_was_signed_never_becomes_a_draft_again(status: Status) -> None:
    reached, ahead = set(), {status}
    while ahead:
        reached |= ahead
        ahead = {after for one in ahead for after in NEXT[one].values()} - reached

    assert reached & {DRAFT, TRANSCRIBED, PRELIMINARY, FINAL, CANCELLED} <= {status}


def test_every_end_is_reached_and_nothing_follows_it() -> None:
    assert {CANCELLED, RETRACTED} == ENDED
    assert {after for follows in NEXT.values() for after in follows.values()} == {*Status}


@pytest.mark.parametrize(("status", "action"), POSSIBLE)
def test_who_may_not_approve_does_none_of_the_approvers_actions(
    status: Status, action: Action
) -> None:
    facts = {"approver": False, "retraction_asked_by": "other"}
    if action is Action.REQUEST_RETRACTION:
        facts["retraction_asked_by"] = ""
    if RULES[action].approver:
        with pytest.raises(NotAllowed):
            decided(status, action, **facts)
    else:
        assert decided(status, action, **facts) is follow(status, action)


@pytest.mark.parametrize(("status", "action"), POSSIBLE)
def test_report_that_another_works_on_is_left_alone(status: Status, action: Action) -> None:
    lock = {"locked_by": "other", "locked_name": "Lê", "locked_until": NOW + timedelta(minutes=1)}

    with pytest.raises(Refused, match="Lê works on this report until 2026-03-01T08:01"):
        decided(status, action, **lock)


@pytest.mark.parametrize(("holder", "seconds"), [("me", 60), ("other", 0), ("other", -1), ("", 60)])
def test_own_or_ended_claim_hinders_nobody(holder: str, seconds: int) -> None:
    until = NOW + timedelta(seconds=seconds)

    assert decided(DRAFT, S.SAVE, locked_by=holder, locked_until=until) is DRAFT


@pytest.mark.parametrize("action", [S.APPROVE, S.CORRECT])
@pytest.mark.parametrize(
    ("code", "changed", "second_readers", "enough"),
    [
        ("writer", False, [], False),
        ("head", False, [], True),
        ("writer", False, ["other"], True),
        ("writer", True, ["other"], False),
        ("head", True, [], False),
        ("head", True, ["other"], False),
    ],
    ids=[
        "writer alone",
        "another approves",
        "another has read it",
        "writer changed it after it was read",
        "approver wrote the text anew",
        "and whoever read the old one does not count",
    ],
)
def test_two_persons_read_what_needs_two(
    action: Action, code: str, second_readers: list[str], *, changed: bool, enough: bool
) -> None:
    status = DRAFT if action is S.APPROVE else UNAPPROVED
    facts = {"second_reading": True, "second_readers": frozenset(second_readers)}

    if enough:
        assert decided(status, action, code, changed=changed, **facts) in SIGNED
    else:
        with pytest.raises(Refused, match="second reader"):
            decided(status, action, code, changed=changed, **facts)


@pytest.mark.parametrize("status", [PRELIMINARY, FINAL, UNAPPROVED, CORRECTED, ADDENDED])
def test_retraction_takes_two_persons(status: Status) -> None:
    with pytest.raises(Refused, match="nobody has asked"):
        decided(status, S.RETRACT)
    with pytest.raises(Refused, match="nobody has asked"):
        decided(status, S.DECLINE_RETRACTION)
    with pytest.raises(Refused, match="cannot confirm"):
        decided(status, S.RETRACT, "me", retraction_asked_by="me")
    with pytest.raises(Refused, match="waits for a second person"):
        decided(status, S.REQUEST_RETRACTION, retraction_asked_by="other")

    assert decided(status, S.RETRACT, "me", retraction_asked_by="other") is RETRACTED
    assert decided(status, S.DECLINE_RETRACTION, "me", retraction_asked_by="me") is status


# The table of states in the codes of HL7, SR and FHIR, written down here a second time.
CODES = """
draft       -  -  PARTIAL  UNVERIFIED PRELIMINARY registered
transcribed R  R  COMPLETE UNVERIFIED PRELIMINARY preliminary
preliminary P  P  COMPLETE UNVERIFIED PRELIMINARY preliminary
final       F  F  COMPLETE VERIFIED   FINAL       final
unapproved  C  C  COMPLETE UNVERIFIED PRELIMINARY amended
corrected   C  C  COMPLETE VERIFIED   FINAL       corrected
addended    C  F  COMPLETE VERIFIED   FINAL       appended
cancelled   X  X  -        -          -           cancelled
retracted   C  W  -        -          -           entered-in-error
"""


@pytest.mark.parametrize("line", CODES.strip().splitlines(), ids=lambda line: line.split()[0])
def test_codes_of_each_state(line: str) -> None:
    status, *codes = (word.replace("-", "") if word == "-" else word for word in line.split())
    names = NAMES[Status(status)]

    assert codes == [
        names.result_status,
        names.observation_status,
        names.completion_flag,
        names.verification_flag,
        names.preliminary_flag,
        names.fhir_status,
    ]


def test_every_issued_state_has_a_code_that_can_be_sent() -> None:
    issued = {
        after
        for follows in NEXT.values()
        for action, after in follows.items()
        if RULES[action].issues
    }

    assert all(NAMES[status].result_status for status in issued)
    assert DRAFT not in issued
