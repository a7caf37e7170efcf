"""The orders of a study looked for by rules, which attach what plainly belongs together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

from sqlalchemy import select

from ris import candidates, locks, matching, orders
from ris.matching import Decision, Outcome, Scored
from ris.model import OrderState
from ris.reconcile import rows
from ris.reconcile.model import RULES, Action, Deed, Standing
from ris.reconcile.placing import put
from ris.study_tables import JournalRow, StudyRow
from storage.archive import rejections, studies
from storage.archive.rejection_rules import Title
from storage.db.engine import Session

OLD: Final = timedelta(days=30)
"""A study that was made so long ago, and of which no order is known, waits for none."""


def consider(session: Session, study_instance_uid: str, now: datetime, zone: tzinfo) -> Standing:
    """Look for the orders of a study, and attach it where the rules are sure.

    A study that is attached, or that a person set aside, stays as it is; but an order that its
    performed steps name joins those that it has (IHE group case). One that was rejected as made
    from a wrong worklist entry is taken from its orders, until something of it is shown again.

    Raises
    ------
    NotFound
        Nothing is known of the study.
    """
    locks.lock_studies(session, [study_instance_uid])
    row = rows.row(session, study_instance_uid)
    if row.standing != Standing.SET_ASIDE and rejections.is_wrong_entry(
        session, study_instance_uid
    ):
        _take_away(session, row, now, zone)
        return Standing(row.standing)
    if row.standing == Standing.REJECTED:
        row.standing = Standing.NEW
    held = studies.describe(session, study_instance_uid)
    study = candidates.facts_of(session, study_instance_uid, held, zone)
    found = candidates.orders_for(session, study)
    row.considered_at = now
    row.keys = sorted(candidates.keys_of(study))
    attached = rows.attached(session, study_instance_uid)
    if attached:
        _stay(session, row, study, found, now, zone)
    elif row.standing != Standing.SET_ASIDE:
        _find(session, row, study, found, now, zone)
    return Standing(row.standing)


def _take_away(session: Session, row: StudyRow, now: datetime, zone: tzinfo) -> None:
    """Take a rejected study from its orders, which are to be done again.

    One whose report is signed keeps it, for a person: the report has to be retracted first.
    """
    uid = row.study_instance_uid
    attached = rows.attachment_rows(session, uid)
    reported = {
        one.procedure_ref
        for one in attached
        if orders.get(session, one.order_ref).state is OrderState.REPORTED
    }
    row.considered_at, row.proposals = now, []
    if len(reported) < len(attached):
        before = rows.state(session, uid)
        deed = Deed(
            action=Action.DETACH,
            study_instance_uid=uid,
            by=RULES,
            reason=f"{Title.WRONG_ENTRY} {Title.WRONG_ENTRY.meaning}",
        )
        put(session, deed, reported, now, zone)
        row.standing = Standing.CONFLICT if reported else Standing.REJECTED
        rows.write(session, deed, before, now)
    row.standing = Standing.CONFLICT if reported else Standing.REJECTED
    session.flush()


def _stay(
    session: Session,
    row: StudyRow,
    study: matching.Study,
    found: Sequence[matching.Order],
    now: datetime,
    zone: tzinfo,
) -> None:
    """Look at a study that has orders: others may join them, and one may be said to be wrong."""
    attached = rows.attached(session, row.study_instance_uid)
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
    before = rows.state(session, uid)
    deed = Deed(action=Action.ATTACH, study_instance_uid=uid, by=RULES)
    reasons = {one.order.id: _reasons(one) for one in decision.chosen}
    put(session, deed, {*rows.attached(session, uid), *reasons}, now, zone, reasons=reasons)
    rows.write(session, deed, before, now)


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
