"""What a person does about a study: shown first, done, undone."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, tzinfo

from sqlalchemy import select

from ris import candidates, locks, matching, orders
from ris.reconcile import rows
from ris.reconcile.model import Action, Change, Deed, Entry, Preview, Standing
from ris.reconcile.placing import put
from ris.study_tables import JournalRow
from ris.tables import ProcedureRow
from storage.archive import studies
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session


def preview(session: Session, deed: Deed, now: datetime, zone: tzinfo) -> Preview:
    """Return what a deed would change, and do nothing.

    Raises
    ------
    NotFound, Conflict
        As `do`; but that the persons differ is told, and no error.
    """
    locks.lock_studies(session, [deed.study_instance_uid])
    concerned = {*rows.attached(session, deed.study_instance_uid), *deed.procedure_ids}
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
    before = rows.state(session, deed.study_instance_uid)
    _do(session, deed, now, zone)
    return rows.write(session, deed, before, now)


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
    before = rows.state(session, uid)
    deed = Deed(action=Action.UNDO, study_instance_uid=uid, by=by, reason=f"entry {entry_id}")
    put(session, deed, {*row.before["procedures"]}, now, zone)
    rows.row(session, uid).standing = row.before["standing"]
    row.undone_at, row.undone_by = now, by
    session.flush()
    return rows.write(session, deed, before, now)


def _do(session: Session, deed: Deed, now: datetime, zone: tzinfo) -> None:
    uid, asked = deed.study_instance_uid, {*deed.procedure_ids}
    row = rows.row(session, uid)
    attached = rows.attached(session, uid)
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
    put(session, deed, wanted, now, zone)
    if not wanted:
        aside = deed.action is Action.SET_ASIDE
        row.standing = Standing.SET_ASIDE if aside else Standing.PROVISIONAL
    session.flush()


def _check(session: Session, procedure_ids: Collection[int]) -> None:
    known = {*session.scalars(select(ProcedureRow.id).where(ProcedureRow.id.in_(procedure_ids)))}
    unknown = {*procedure_ids} - known
    if unknown:
        raise NotFound(f"there is no requested procedure {min(unknown)}")


def _look(session: Session, uid: str, procedure_ids: Iterable[int]) -> dict[tuple[str, str], str]:
    """Return what people see of a study and of these procedures, to compare it."""
    session.flush()
    seen = {("study", uid): rows.row(session, uid).standing}
    attached = rows.attached(session, uid)
    for procedure_id in sorted(procedure_ids):
        procedure = session.get_one(ProcedureRow, procedure_id)
        order = orders.get(session, procedure.order_ref)
        name = order.accession_number or order.filler_order_number
        seen["study of order", name] = uid if procedure_id in attached else ""
        seen["order", name] = order.state
        for step in orders.steps_of(session, order.id):
            seen["step", f"{name} {step.scheduled_procedure_step_id}"] = step.status
    return seen


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
