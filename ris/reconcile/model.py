"""Whose a study is, what a person does about it, and what is told of both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ris.model import OrderState
from storage.archive.studies import HeldStudy

RULES: Final = "rules"
"""Who attached what no person did."""


class Standing(StrEnum):
    """Whose a study is."""

    NEW = ""
    ATTACHED = "attached"
    PROVISIONAL = "provisional"
    """No order fits."""
    PRIOR = "prior"
    """An old study, of which nobody expects an order."""
    PROPOSED = "proposed"
    CONFLICT = "conflict"
    SET_ASIDE = "set aside"
    """A person said that there is no order."""
    REJECTED = "rejected"
    """All of it was rejected, as made from a wrong worklist entry: it is of none of its orders."""


OPEN: Final = (Standing.CONFLICT, Standing.PROPOSED, Standing.PROVISIONAL)
"""What waits for a person, the most urgent first."""


class Action(StrEnum):
    """What the journal tells."""

    ATTACH = "attach"
    DETACH = "detach"
    MOVE = "move"
    SET_ASIDE = "set aside"
    UNDO = "undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An order that a study belongs to."""

    procedure_id: int
    order_id: int
    accession_number: str
    placer_order_number: str
    order_state: OrderState
    reasons: Sequence[Mapping[str, Any]]
    attached_by: str
    attached_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An order that a study may belong to, and why."""

    procedure_id: int
    order_id: int
    accession_number: str
    placer_order_number: str
    points: int
    reasons: Sequence[Mapping[str, Any]]
    mismatches: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What the RIS knows of a study."""

    study_instance_uid: str
    standing: Standing
    attachments: tuple[Attachment, ...]
    proposals: tuple[Proposal, ...]
    state: str
    """A `verdict.State`, '' before the first verdict."""
    evidence: Sequence[Mapping[str, Any]]
    assumed: bool
    changed_at: datetime
    considered_at: datetime | None
    judged_at: datetime | None
    held: HeldStudy | None
    """None while no object came."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs before and after."""

    what: str
    """``accession_number``, ``order``, ``step`` …"""
    which: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would become of a study and its orders; nothing of it was done."""

    action: Action
    changes: tuple[Change, ...]
    mismatches: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By accession number: where the person of the order is another than that of the study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the journal."""

    id: int
    action: Action
    study_instance_uid: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    reason: str
    made_by: str
    made_at: datetime
    undone_at: datetime | None
    undone_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What a person does about a study."""

    action: Action
    study_instance_uid: str
    procedure_ids: Collection[int] = ()
    """To attach to, or to detach from; none: from all."""
    by: str
    reason: str = ""
    in_spite: bool = False
    """Though the persons differ."""
