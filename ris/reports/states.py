"""What may follow what in the life of a report, and how each state is called elsewhere.

    draft ─┬─▶ transcribed ─┬─▶ final ─┬─▶ corrected ─┐
           └─▶ preliminary ─┘          ├─▶ addended ──┤   any of these three again
                                       └─▶ unapproved ┴─▶ corrected
    before the first signature: cancelled            once it was issued: retracted

A signed text never becomes a draft again: to take the approval back is itself an issued
version, and only a signed correction leads on from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from ris.reports.faults import Fault, NotAllowed, Words, refused


class Status(StrEnum):
    """The state of a report."""

    DRAFT = "draft"
    TRANSCRIBED = "transcribed"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    UNAPPROVED = "unapproved"
    CORRECTED = "corrected"
    ADDENDED = "addended"
    CANCELLED = "cancelled"
    RETRACTED = "retracted"


class Action(StrEnum):
    """What a person does to a report."""

    SAVE = "save"
    SUBMIT = "submit"
    RELEASE = "release"
    APPROVE = "approve"
    UNAPPROVE = "unapprove"
    CORRECT = "correct"
    ADDEND = "addend"
    CANCEL = "cancel"
    REQUEST_RETRACTION = "request_retraction"
    DECLINE_RETRACTION = "decline_retraction"
    RETRACT = "retract"


@dataclass(frozen=True, slots=True)
class Names:
    """A state in words and codes.

    The codes are those of HL7 tables 0123 (OBR-25) and 0085 (OBX-11), of PS3.3 C.17.2
    (Completion, Verification and Preliminary Flag) and of FHIR R4 DiagnosticReport.status;
    '' where nothing is sent or made.
    """

    words: Words
    result_status: str
    observation_status: str
    completion_flag: str
    verification_flag: str
    preliminary_flag: str
    fhir_status: str


_UNSENT: Final = ("", "")
_PARTIAL: Final = ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
_UNVERIFIED: Final = ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
_VERIFIED: Final = ("COMPLETE", "VERIFIED", "FINAL")
_NO_DOCUMENT: Final = ("", "", "")

NAMES: Final[Mapping[Status, Names]] = {
    Status.DRAFT: Names(Words("draft", "nháp"), *_UNSENT, *_PARTIAL, "registered"),
    Status.TRANSCRIBED: Names(
        Words("awaiting signature", "đã nhập, chờ ký"), "R", "R", *_UNVERIFIED, "preliminary"
    ),
    Status.PRELIMINARY: Names(Words("preliminary", "sơ bộ"), "P", "P", *_UNVERIFIED, "preliminary"),
    Status.FINAL: Names(Words("final", "đã duyệt"), "F", "F", *_VERIFIED, "final"),
    Status.UNAPPROVED: Names(
        Words("approval withdrawn, correction awaited", "huỷ duyệt, chờ đính chính"),
        *("C", "C"),
        *_UNVERIFIED,
        "amended",
    ),
    Status.CORRECTED: Names(Words("corrected", "đính chính"), "C", "C", *_VERIFIED, "corrected"),
    Status.ADDENDED: Names(Words("addended", "bổ sung"), "C", "F", *_VERIFIED, "appended"),
    Status.CANCELLED: Names(Words("cancelled", "huỷ"), "X", "X", *_NO_DOCUMENT, "cancelled"),
    Status.RETRACTED: Names(
        Words("retracted", "thu hồi"), "C", "W", *_NO_DOCUMENT, "entered-in-error"
    ),
}

# What each action is called towards people.
ACTION_NAMES: Final[Mapping[Action, Words]] = {
    Action.SAVE: Words("save", "lưu"),
    Action.SUBMIT: Words("submit for signature", "gửi duyệt"),
    Action.RELEASE: Words("release as preliminary", "trả kết quả sơ bộ"),
    Action.APPROVE: Words("approve", "duyệt"),
    Action.UNAPPROVE: Words("withdraw approval", "huỷ duyệt"),
    Action.CORRECT: Words("correct", "đính chính"),
    Action.ADDEND: Words("addend", "bổ sung"),
    Action.CANCEL: Words("cancel", "huỷ"),
    Action.REQUEST_RETRACTION: Words("ask for retraction", "đề nghị thu hồi"),
    Action.DECLINE_RETRACTION: Words("decline retraction", "từ chối thu hồi"),
    Action.RETRACT: Words("retract", "thu hồi"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What an action asks for, and what it does."""

    approver: bool = False
    """Only who has the right to approve."""
    reason: bool = False
    """A reason must be given."""
    takes_content: bool = False
    """The text may be changed with it."""
    issues: bool = False
    """It makes a version that others are told of."""
    signs: bool = False
    """That version is signed: a text for the record of the patient."""


RULES: Final[Mapping[Action, Rule]] = {
    Action.SAVE: Rule(takes_content=True),
    Action.SUBMIT: Rule(takes_content=True),
    Action.RELEASE: Rule(takes_content=True, issues=True),
    Action.APPROVE: Rule(approver=True, takes_content=True, issues=True, signs=True),
    Action.UNAPPROVE: Rule(approver=True, reason=True, issues=True),
    Action.CORRECT: Rule(approver=True, reason=True, takes_content=True, issues=True, signs=True),
    Action.ADDEND: Rule(approver=True, issues=True, signs=True),
    Action.CANCEL: Rule(reason=True, issues=True),
    Action.REQUEST_RETRACTION: Rule(reason=True),
    Action.DECLINE_RETRACTION: Rule(approver=True, reason=True),
    Action.RETRACT: Rule(approver=True, issues=True),
}

_BEFORE_SIGNATURE: Final = {
    Action.SUBMIT: Status.TRANSCRIBED,
    Action.RELEASE: Status.PRELIMINARY,
    Action.APPROVE: Status.FINAL,
    Action.CANCEL: Status.CANCELLED,
}


def _retractable(status: Status) -> Mapping[Action, Status]:
    return {
        Action.REQUEST_RETRACTION: status,
        Action.DECLINE_RETRACTION: status,
        Action.RETRACT: Status.RETRACTED,
    }


def _signed(status: Status) -> Mapping[Action, Status]:
    return {
        Action.UNAPPROVE: Status.UNAPPROVED,
        Action.CORRECT: Status.CORRECTED,
        Action.ADDEND: Status.ADDENDED,
        **_retractable(status),
    }


NEXT: Final[Mapping[Status, Mapping[Action, Status]]] = {
    Status.DRAFT: {Action.SAVE: Status.DRAFT, **_BEFORE_SIGNATURE},
    Status.TRANSCRIBED: {Action.SAVE: Status.TRANSCRIBED, **_BEFORE_SIGNATURE},
    Status.PRELIMINARY: {
        Action.SAVE: Status.PRELIMINARY,
        **_BEFORE_SIGNATURE,
        **_retractable(Status.PRELIMINARY),
    },
    Status.FINAL: _signed(Status.FINAL),
    Status.UNAPPROVED: {
        Action.SAVE: Status.UNAPPROVED,
        Action.CORRECT: Status.CORRECTED,
        **_retractable(Status.UNAPPROVED),
    },
    Status.CORRECTED: _signed(Status.CORRECTED),
    Status.ADDENDED: _signed(Status.ADDENDED),
    Status.CANCELLED: {},
    Status.RETRACTED: {},
}

SIGNED: Final = frozenset({Status.FINAL, Status.CORRECTED, Status.ADDENDED})
ENDED: Final = frozenset(status for status, follows in NEXT.items() if not follows)
"""Nothing follows; the orders may get another report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What of a report decides whether an action is allowed."""

    status: Status
    reader: str = ""
    """Who wrote the text as it is, by code."""
    locked_by: str = ""
    locked_name: str = ""
    locked_until: datetime | None = None
    retraction_asked_by: str = ""
    second_reading: bool = False
    """Two persons have to read it."""
    second_readers: frozenset[str] = frozenset()
    """Who has read the text as it is besides its reader."""

    def held_by_other(self, code: str, now: datetime) -> bool:
        """Return whether somebody else works on the report."""
        held = self.locked_until is not None and self.locked_until > now
        return held and self.locked_by not in {"", code}


def follow(status: Status, action: Action) -> Status:
    """Return the state that `action` leads to.

    Raises
    ------
    Refused
        A report in that state does not allow it.
    """
    try:
        return NEXT[status][action]
    except KeyError:
        named = {"status": NAMES[status].words, "action": ACTION_NAMES[action]}
        raise refused("not_after", **named) from None


def decide(
    situation: Situation, action: Action, code: str, now: datetime, *, approver: bool, changed: bool
) -> Status:
    """Return the state after the person `code` has done `action`.

    Parameters
    ----------
    approver
        The person has the right to approve.
    changed
        The text is changed with it: whoever was its second reader has not read that.

    Raises
    ------
    NotAllowed
        The person lacks the right.
    Refused
        The state, the lock, a missing second reader or a missing second person forbids it.
    """
    after = follow(situation.status, action)
    if RULES[action].approver and not approver:
        raise NotAllowed(Fault("needs_approver", values={"action": ACTION_NAMES[action]}))
    if situation.held_by_other(code, now):
        until = (
            situation.locked_until.isoformat(timespec="minutes") if situation.locked_until else ""
        )
        raise refused("locked", holder=situation.locked_name, until=until)
    if action in {Action.APPROVE, Action.CORRECT}:
        _require_second_reader(situation, code, changed=changed)
    _require_second_person(situation, action, code)
    return after


def _require_second_reader(situation: Situation, code: str, *, changed: bool) -> None:
    if not situation.second_reading:
        return
    reader = code if changed else situation.reader
    others = frozenset() if changed else situation.second_readers
    if not (others | {code}) - {reader}:
        raise refused("needs_second_reader")


def _require_second_person(situation: Situation, action: Action, code: str) -> None:
    asked_by = situation.retraction_asked_by
    if action is Action.REQUEST_RETRACTION and asked_by:
        raise refused("retraction_requested")
    if action in {Action.RETRACT, Action.DECLINE_RETRACTION} and not asked_by:
        raise refused("no_retraction_requested")
    if action is Action.RETRACT and asked_by == code:
        raise refused("needs_other_person")
