"""Studies and orders brought together, by rules or by a person, and taken apart again.

    a study comes ─ rules ─┬─ attach     to the orders it names, or plainly belongs to
                           ├─ proposed   some orders may be meant        ┐
                           ├─ conflict   what it names contradicts it    ├ a person decides
                           └─ provisional   there is no order            ┘

Rules only ever attach a study that is attached to nothing. Whatever a person does is shown
before it is done (`preview` does it and takes it back), is written into a journal and can be
undone while nothing else was done about the study since. Objects are never touched.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import select

from ris import candidates, coercing, judging, locks, matching, orders, performed
from ris.matching import Decision, Outcome, Scored
from ris.model import OrderState
from ris.study_tables import AttachmentRow, JournalRow, StudyRow
from ris.tables import OrderRow, ProcedureRow
from storage.archive import studies
from storage.archive.studies import HeldStudy
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session

OLD: Final = timedelta(days=30)
"""A study that was made so long ago, and of which no order is known, waits for none."""
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


# By rules


def consider(session: Session, study_instance_uid: str, now: datetime, zone: tzinfo) -> Standing:
    """Look for the orders of a study, and attach it where the rules are sure.

    A study that is attached, or that a person set aside, stays as it is; but an order that its
    performed steps name joins those that it has (IHE group case).

    Raises
    ------
    NotFound
        Nothing is known of the study.
    """
    locks.lock_studies(session, [study_instance_uid])
    row = _row(session, study_instance_uid)
    held = studies.describe(session, study_instance_uid)
    study = candidates.facts_of(session, study_instance_uid, held, zone)
    found = candidates.orders_for(session, study)
    row.considered_at = now
    row.keys = sorted(candidates.keys_of(study))
    attached = _attached(session, study_instance_uid)
    if attached:
        _stay(session, row, study, found, now, zone)
    elif row.standing != Standing.SET_ASIDE:
        _find(session, row, study, found, now, zone)
    return Standing(row.standing)


def _stay(
    session: Session,
    row: StudyRow,
    study: matching.Study,
    found: Sequence[matching.Order],
    now: datetime,
    zone: tzinfo,
) -> None:
    """Look at a study that has orders: others may join them, and one may be said to be wrong."""
    coercing.follow(session, row.study_instance_uid)
    attached = _attached(session, row.study_instance_uid)
    named = [one for one in found if one.performed and one.id not in attached]
    if not _is_a_persons(session, row.study_instance_uid):
        _attach_by_rules(session, row, matching.decide(study, named), now, zone)
    wrong = [one for one in found if one.wrong_entry and one.id in attached]
    if wrong and row.standing == Standing.ATTACHED:
        row.standing = Standing.CONFLICT
        row.proposals = [_kept(matching.score(study, one)) for one in wrong]
        session.flush()


def _find(
    session: Session,
    row: StudyRow,
    study: matching.Study,
    found: Sequence[matching.Order],
    now: datetime,
    zone: tzinfo,
) -> None:
    """Look for the orders of a study that has none."""
    decision = matching.decide(study, found)
    row.proposals = [_kept(one) for one in decision.scored]
    row.standing = _STANDINGS[decision.outcome]
    if decision.outcome is Outcome.NONE and _is_old(study, now, zone):
        row.standing = Standing.PRIOR
    if decision.chosen and _is_a_persons(session, row.study_instance_uid):
        row.standing = Standing.PROPOSED
    session.flush()
    if row.standing == Standing.ATTACHED:
        _attach_by_rules(session, row, decision, now, zone)


def _is_a_persons(session: Session, uid: str) -> bool:
    """Return whether a person did something about a study: then rules do nothing any more."""
    statement = select(JournalRow.id).where(
        JournalRow.study_instance_uid == uid, JournalRow.made_by != RULES
    )
    return session.scalar(statement.limit(1)) is not None


_STANDINGS: Final[Mapping[Outcome, Standing]] = {
    Outcome.ATTACH: Standing.ATTACHED,
    Outcome.PROPOSE: Standing.PROPOSED,
    Outcome.CONFLICT: Standing.CONFLICT,
    Outcome.NONE: Standing.PROVISIONAL,
}


def _is_old(study: matching.Study, now: datetime, zone: tzinfo) -> bool:
    local = now.astimezone(zone).replace(tzinfo=None)
    return study.begun is not None and study.begun < local - OLD


def _attach_by_rules(
    session: Session, row: StudyRow, decision: Decision, now: datetime, zone: tzinfo
) -> None:
    if not decision.chosen:
        return
    uid = row.study_instance_uid
    before = _state(session, uid)
    deed = Deed(action=Action.ATTACH, study_instance_uid=uid, by=RULES)
    reasons = {one.order.id: _reasons(one) for one in decision.chosen}
    _put(session, deed, {*_attached(session, uid), *reasons}, now, zone, reasons=reasons)
    _write(session, deed, before, now)


# By a person


def preview(session: Session, deed: Deed, now: datetime, zone: tzinfo) -> Preview:
    """Return what a deed would change, and do nothing.

    Raises
    ------
    NotFound, Conflict
        As `do`; but that the persons differ is told, and no error.
    """
    locks.lock_studies(session, [deed.study_instance_uid])
    concerned = {*_attached(session, deed.study_instance_uid), *deed.procedure_ids}
    before = _look(session, deed.study_instance_uid, concerned)
    with session.begin_nested() as tried:
        _do(session, deed, now, zone)
        after = _look(session, deed.study_instance_uid, concerned)
        tried.rollback()
    session.expire_all()
    return Preview(
        action=deed.action,
        changes=tuple(
            Change(what, which, before.get((what, which), ""), after.get((what, which), ""))
            for what, which in dict.fromkeys((*before, *after))
            if before.get((what, which), "") != after.get((what, which), "")
        ),
        mismatches=_mismatches(session, deed, zone),
    )


def do(session: Session, deed: Deed, now: datetime, zone: tzinfo) -> Entry:
    """Attach, detach, move or set aside a study; return the entry of the journal.

    Raises
    ------
    NotFound
        Nothing is known of the study, or there is no such requested procedure.
    Conflict
        It is so already; the persons of study and order differ; or the report of an order that
        would lose its study is signed.
    """
    locks.lock_studies(session, [deed.study_instance_uid])
    differing = _mismatches(session, deed, zone)
    if differing and not deed.in_spite:
        what = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in differing.items())
        raise Conflict(f"study and order are of different persons ({what})")
    before = _state(session, deed.study_instance_uid)
    _do(session, deed, now, zone)
    return _write(session, deed, before, now)


def undo(session: Session, entry_id: int, by: str, now: datetime, zone: tzinfo) -> Entry:
    """Bring a study to where it was before an entry of the journal.

    Raises
    ------
    NotFound
        There is no such entry.
    Conflict
        It is undone already, or something was done about the study since.
    """
    row = session.get(JournalRow, entry_id)
    if row is None:
        raise NotFound(f"the journal has no entry {entry_id}")
    uid = row.study_instance_uid
    locks.lock_studies(session, [uid])
    session.refresh(row, with_for_update=True)
    if row.undone_at is not None:
        raise Conflict(f"entry {entry_id} is undone already")
    last = select(JournalRow.id).where(
        JournalRow.study_instance_uid == uid,
        JournalRow.undone_at.is_(None),
        JournalRow.action != Action.UNDO,
    )
    if session.scalar(last.order_by(JournalRow.id.desc()).limit(1)) != entry_id:
        raise Conflict(
            f"something was done about the study after entry {entry_id}: undo that first"
        )
    before = _state(session, uid)
    deed = Deed(action=Action.UNDO, study_instance_uid=uid, by=by, reason=f"entry {entry_id}")
    _put(session, deed, {*row.before["procedures"]}, now, zone)
    _row(session, uid).standing = row.before["standing"]
    row.undone_at, row.undone_by = now, by
    session.flush()
    return _write(session, deed, before, now)


def _do(session: Session, deed: Deed, now: datetime, zone: tzinfo) -> None:
    uid, asked = deed.study_instance_uid, {*deed.procedure_ids}
    row = _row(session, uid)
    attached = _attached(session, uid)
    _check(session, asked)
    if deed.action in {Action.ATTACH, Action.MOVE} and not asked:
        raise Conflict("no order is named to attach the study to")
    if deed.action is Action.ATTACH:
        wanted = attached | asked
    elif deed.action is Action.DETACH:
        wanted = attached - (asked or attached)
    else:
        wanted = asked
    if deed.action is Action.SET_ASIDE:
        if row.standing == Standing.SET_ASIDE:
            raise Conflict("the study is set aside already")
        wanted = set()
    elif wanted == attached:
        raise Conflict("the study is so already")
    _put(session, deed, wanted, now, zone)
    if not wanted:
        aside = deed.action is Action.SET_ASIDE
        row.standing = Standing.SET_ASIDE if aside else Standing.PROVISIONAL
    session.flush()


def _check(session: Session, procedure_ids: Collection[int]) -> None:
    known = {*session.scalars(select(ProcedureRow.id).where(ProcedureRow.id.in_(procedure_ids)))}
    unknown = {*procedure_ids} - known
    if unknown:
        raise NotFound(f"there is no requested procedure {min(unknown)}")


def _put(
    session: Session,
    deed: Deed,
    wanted: Collection[int],
    now: datetime,
    zone: tzinfo,
    *,
    reasons: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """Attach a study to these requested procedures and to no others, with all that follows."""
    uid = deed.study_instance_uid
    held = _attachment_rows(session, uid)
    gone = [one for one in held if one.procedure_ref not in wanted]
    added = sorted({*wanted} - {one.procedure_ref for one in held})
    procedures = [session.get_one(ProcedureRow, procedure_id) for procedure_id in added]
    locks.lock_orders(
        session, {*(one.order_ref for one in gone), *(p.order_ref for p in procedures)}
    )
    for one in gone:
        if session.get_one(OrderRow, one.order_ref).state == OrderState.REPORTED:
            raise Conflict("the report of the order is signed: it has to be retracted first")
        one.detached_at = now
    session.add_all(
        AttachmentRow(
            study_instance_uid=uid,
            order_ref=procedure.order_ref,
            procedure_ref=procedure.id,
            reasons=[*(reasons or {}).get(procedure.id, ())],
            attached_by=deed.by,
            attached_at=now,
        )
        for procedure in procedures
    )
    row = _row(session, uid)
    if wanted:
        row.standing, row.proposals = Standing.ATTACHED, []
    session.flush()
    if gone:
        performed.detach(session, uid, [one.procedure_ref for one in gone])
    if added:
        performed.attach(session, uid, added)
    coercing.follow(session, uid)
    judging.judge(session, uid, now, zone)


# What is known


def show(session: Session, study_instance_uid: str) -> Reconciled:
    """Return what the RIS knows of a study.

    Raises
    ------
    NotFound
        Nothing is known of it.
    """
    row = session.get(StudyRow, study_instance_uid, populate_existing=True)
    if row is not None:
        return _shown(session, row)
    held = studies.describe(session, study_instance_uid)
    if held is None:
        raise NotFound("nothing is known of a study of that UID")
    return Reconciled(
        study_instance_uid=study_instance_uid,
        standing=Standing.NEW,
        attachments=(),
        proposals=(),
        state="",
        evidence=(),
        assumed=False,
        changed_at=held.changed_at,
        considered_at=None,
        judged_at=None,
        held=held,
    )


def list_open(
    session: Session, limit: int, standing: Standing | None = None, after: str = ""
) -> list[Reconciled]:
    """Return the studies that wait for a person, by UID, those behind the UID `after`."""
    wanted = [standing] if standing else [*OPEN]
    statement = (
        select(StudyRow)
        .where(StudyRow.standing.in_(wanted), StudyRow.study_instance_uid > after)
        .order_by(StudyRow.study_instance_uid)
        .limit(limit)
    )
    return [_shown(session, row) for row in session.scalars(statement)]


def attached_to(session: Session, order_id: int) -> list[str]:
    """Return the studies that belong to an order."""
    statement = select(AttachmentRow.study_instance_uid).where(
        AttachmentRow.order_ref == order_id, AttachmentRow.detached_at.is_(None)
    )
    return [*session.scalars(statement.order_by(AttachmentRow.id))]


def journal(session: Session, study_instance_uid: str) -> list[Entry]:
    """Return what was done about a study, oldest first."""
    statement = select(JournalRow).where(JournalRow.study_instance_uid == study_instance_uid)
    return [_entry(row) for row in session.scalars(statement.order_by(JournalRow.id))]


def _shown(session: Session, row: StudyRow) -> Reconciled:
    uid = row.study_instance_uid
    return Reconciled(
        study_instance_uid=uid,
        standing=Standing(row.standing),
        attachments=tuple(_attachment(session, one) for one in _attachment_rows(session, uid)),
        proposals=tuple(Proposal(**one) for one in row.proposals),
        state=row.state,
        evidence=row.evidence,
        assumed=row.assumed,
        changed_at=row.changed_at,
        considered_at=row.considered_at,
        judged_at=row.judged_at,
        held=studies.describe(session, uid),
    )


def _attachment(session: Session, row: AttachmentRow) -> Attachment:
    order = orders.get(session, row.order_ref)
    return Attachment(
        procedure_id=row.procedure_ref,
        order_id=order.id,
        accession_number=order.accession_number,
        placer_order_number=order.placer_order_number,
        order_state=order.state,
        reasons=row.reasons,
        attached_by=row.attached_by,
        attached_at=row.attached_at,
    )


def _row(session: Session, uid: str) -> StudyRow:
    row = session.get(StudyRow, uid, populate_existing=True, with_for_update=True)
    if row is not None:
        return row
    held = studies.describe(session, uid)
    if held is None:
        raise NotFound("nothing is known of a study of that UID")
    row = StudyRow(study_instance_uid=uid, changed_at=held.changed_at, standing=Standing.NEW)
    session.add(row)
    session.flush()
    return row


def _attachment_rows(session: Session, uid: str) -> Sequence[AttachmentRow]:
    statement = select(AttachmentRow).where(
        AttachmentRow.study_instance_uid == uid, AttachmentRow.detached_at.is_(None)
    )
    return session.scalars(statement.order_by(AttachmentRow.id)).all()


def _attached(session: Session, uid: str) -> set[int]:
    return {row.procedure_ref for row in _attachment_rows(session, uid)}


def _state(session: Session, uid: str) -> dict[str, Any]:
    """Return what the journal keeps of a study."""
    return {
        "standing": _row(session, uid).standing,
        "procedures": sorted(_attached(session, uid)),
    }


def _write(session: Session, deed: Deed, before: Mapping[str, Any], now: datetime) -> Entry:
    session.flush()
    row = JournalRow(
        action=deed.action,
        study_instance_uid=deed.study_instance_uid,
        before={**before},
        after=_state(session, deed.study_instance_uid),
        reason=deed.reason,
        made_by=deed.by,
        made_at=now,
        undone_by="",
    )
    session.add(row)
    session.flush()
    return _entry(row)


def _entry(row: JournalRow) -> Entry:
    return Entry(
        id=row.id,
        action=Action(row.action),
        study_instance_uid=row.study_instance_uid,
        before=row.before,
        after=row.after,
        reason=row.reason,
        made_by=row.made_by,
        made_at=row.made_at,
        undone_at=row.undone_at,
        undone_by=row.undone_by,
    )


def _look(session: Session, uid: str, procedure_ids: Iterable[int]) -> dict[tuple[str, str], str]:
    """Return what people see of a study and of these procedures, to compare it."""
    session.flush()
    seen = {("study", uid): _row(session, uid).standing}
    attached = _attached(session, uid)
    for procedure_id in sorted(procedure_ids):
        procedure = session.get_one(ProcedureRow, procedure_id)
        order = orders.get(session, procedure.order_ref)
        name = order.accession_number or order.filler_order_number
        seen["study of order", name] = uid if procedure_id in attached else ""
        seen["order", name] = order.state
        for step in orders.steps_of(session, order.id):
            seen["step", f"{name} {step.scheduled_procedure_step_id}"] = step.status
    return seen


# Comparing


def _mismatches(session: Session, deed: Deed, zone: tzinfo) -> dict[str, Sequence[str]]:
    if deed.action not in {Action.ATTACH, Action.MOVE}:
        return {}
    uid = deed.study_instance_uid
    study = candidates.facts_of(session, uid, studies.describe(session, uid), zone)
    found = candidates.load(session, ProcedureRow.id.in_(deed.procedure_ids), study)
    differing = {
        one.accession_number or one.placer_order_number: matching.mismatches(
            study.person, one.person
        )
        for one in found
    }
    return {name: fields for name, fields in differing.items() if {*fields} - {"sex"}}


def _reasons(scored: Scored) -> list[dict[str, Any]]:
    return [asdict(reason) for reason in scored.reasons]


def _kept(scored: Scored) -> dict[str, Any]:
    """Return a proposal as it is written down."""
    order = scored.order
    return {
        "procedure_id": order.id,
        "order_id": order.order_id,
        "accession_number": order.accession_number,
        "placer_order_number": order.placer_order_number,
        "points": scored.points,
        "reasons": _reasons(scored),
        "mismatches": [*scored.mismatches],
    }
