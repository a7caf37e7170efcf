"""What is done to workitems; each call is one step of one transaction, and tells the watchers.

    create ─ change_state (claim) ─ update … ─ change_state (COMPLETED or CANCELED)
             request_cancel, by anybody

Whoever claims brings a Transaction UID; with it, and only with it, a claimed workitem is changed.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo

from sqlalchemy import delete, exists, select
from sqlalchemy.dialects.postgresql import insert

from ris.workitems import attributes, contents, events, records, states, subscriptions
from ris.workitems.contents import Json
from ris.workitems.faults import Duplicate, PerformerAway
from ris.workitems.states import FINAL, Answer, Request, State
from ris.workitems.tables import SubscriberRow, WorkitemRow
from storage.base import values
from storage.base.clock import utc_now
from storage.base.errors import Malformed
from storage.db.engine import Session


@dataclass(frozen=True, slots=True)
class Wish:
    """A wish for a state."""

    state: str
    transaction_uid: str
    performer: str = ""
    """The AE title of the one who wishes it, '' when that is not known."""


def create(session: Session, uid: str, sent: Json, zone: tzinfo) -> bool:
    """Make a workitem that is SCHEDULED; return whether values were supplied that were not sent.

    Raises
    ------
    Duplicate
        There is one of that UID.
    Malformed
        The UID is none, or an attribute is not as it must be.
    """
    bare = values.uid(uid)
    if bare in records.WELL_KNOWN:
        raise Duplicate
    held, supplied = attributes.to_hold(sent)
    now = utc_now()
    records.keep_subscribers_out(session)
    statement = insert(WorkitemRow).values(
        sop_instance_uid=bare,
        state=State.SCHEDULED,
        transaction_uid="",
        performer="",
        dataset=held,
        created_at=now,
        changed_at=now,
        **records.columns(held, zone),
    )
    if session.scalar(statement.on_conflict_do_nothing().returning(WorkitemRow.id)) is None:
        raise Duplicate
    row = records.held(session, bare)
    whole = records.whole(row)
    subscriptions.watch_new(session, row, whole, zone)
    told = [events.state_report(whole)]
    if events.is_assigned(whole):
        told.append(events.assigned(whole))
    events.tell(session, row.id, bare, told)
    return supplied


def get(session: Session, uid: str) -> Json:
    """Return a workitem, without its Transaction UID.

    Raises
    ------
    NoSuchWorkitem
        There is none of that UID.
    """
    return records.whole(records.held(session, uid))


def update(session: Session, uid: str, sent: Json, transaction_uid: str, zone: tzinfo) -> None:
    """Change attributes, all of them or none; what is held already changes nothing.

    Raises
    ------
    NoSuchWorkitem
        There is none of that UID.
    NotInProgress, WrongTransaction, NoLongerUpdated
        Whoever asks has not claimed it, or it is finished.
    MissingValue, InvalidValue
        An attribute may not be changed so.
    """
    records.keep_subscribers_out(session)
    row = records.held(session, uid, for_change=True)
    states.require_updatable(State(row.state), transaction_uid, row.transaction_uid)
    changes = attributes.to_set(records.whole(row), sent)
    if not changes:
        return
    _hold(session, row, {**row.dataset, **changes})
    for name, value in records.columns(row.dataset, zone).items():
        setattr(row, name, value)
    session.flush()
    whole = records.whole(row)
    new = subscriptions.watch_new(session, row, whole, zone)
    reports = []
    if contents.tag_of(attributes.READINESS) in changes:
        reports.append(events.state_report(whole))
    elif new:
        first = events.state_report(whole)
        events.write(session, [(title, row.sop_instance_uid, first) for title in new])
    if contents.tag_of(attributes.PROGRESS) in changes:
        reports.append(events.progress_report(whole))
    if any(contents.tag_of(name) in changes for name in attributes.ASSIGNMENT):
        reports.append(events.assigned(whole))
    events.tell(session, row.id, row.sop_instance_uid, reports)


def change_state(session: Session, uid: str, wish: Wish) -> Answer | None:
    """Bring a workitem into another state; `Answer.ALREADY` when it is in that one.

    Raises
    ------
    NoSuchWorkitem
        There is none of that UID.
    Malformed
        The state is none.
    Rejected
        As the state table says.
    FinalStateUnmet
        It is to be COMPLETED and nobody told what was done.
    """
    wanted = _state(wish.state)
    row = records.held(session, uid, for_change=True)
    answer = states.change(State(row.state), wanted, wish.transaction_uid, row.transaction_uid)
    if isinstance(answer, Answer):
        return answer
    if answer is State.IN_PROGRESS:
        row.transaction_uid, row.performer = wish.transaction_uid, wish.performer
    elif answer is State.COMPLETED:
        attributes.require_final(row.dataset)
    else:
        _cancel(session, row, {})
    _enter(session, row, answer)
    return None


def request_cancel(session: Session, uid: str, request: Json, by: str) -> Answer | None:
    """Wish that a workitem be cancelled; `by` is an AE title.

    One that nobody claimed is CANCELED, of another its watchers are told (`Answer.ASK`).

    Raises
    ------
    NoSuchWorkitem
        There is none of that UID.
    AlreadyCompleted
        It is too late.
    PerformerAway
        The one who claimed it does not watch it.
    """
    row = records.held(session, uid, for_change=True)
    answer = states.decide(Request.REQUEST_CANCEL, State(row.state))
    if answer is Answer.ASK:
        if not subscriptions.is_watched_by(session, row, row.performer):
            raise PerformerAway
        told = events.cancel_requested(request, by)
        events.tell(session, row.id, row.sop_instance_uid, [told])
        return answer
    if isinstance(answer, Answer):
        return answer
    _enter(session, row, State.IN_PROGRESS)
    _cancel(session, row, request)
    _enter(session, row, answer)
    return None


def purge(session: Session, before: datetime, most: int = 1000) -> int:
    """Delete workitems that were finished before a moment, save those under a deletion lock.

    Returns
    -------
    int
        How many were deleted, at most `most`.
    """
    records.keep_subscribers_out(session)
    locked = exists().where(
        SubscriberRow.workitem_id == WorkitemRow.id,
        SubscriberRow.active,
        SubscriberRow.deletion_lock,
    )
    old = (
        select(WorkitemRow.id)
        .where(WorkitemRow.state.in_(FINAL), WorkitemRow.finished_at < before, ~locked)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    ids = session.scalars(old).all()
    session.execute(delete(WorkitemRow).where(WorkitemRow.id.in_(ids)))
    return len(ids)


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        known = ", ".join(State)
        raise Malformed(f"{attributes.STATE}: is none of {known}") from None


def _hold(session: Session, row: WorkitemRow, dataset: Json) -> None:
    row.dataset, row.changed_at = dict(sorted(dataset.items())), utc_now()
    session.flush()


def _cancel(session: Session, row: WorkitemRow, request: Json) -> None:
    _hold(session, row, {**row.dataset, **attributes.canceled(row.dataset, request, utc_now())})


def _enter(session: Session, row: WorkitemRow, state: State) -> None:
    row.state, row.changed_at = state, utc_now()
    if state in FINAL:
        row.finished_at = row.changed_at
    session.flush()
    events.tell(session, row.id, row.sop_instance_uid, [events.state_report(records.whole(row))])
