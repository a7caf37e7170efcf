"""Who watches which workitems (PS3.4 CC.2.3).

What is said of one workitem by name goes before what is said of all; only the end of a global
subscription ends the others too (Table CC.2.3-2).
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from ris.workitems import events, records, search
from ris.workitems.contents import Json
from ris.workitems.faults import WrongAction
from ris.workitems.search import Filter, Query
from ris.workitems.tables import GlobalSubscriptionRow, SubscriberRow, WorkitemRow
from storage.base import values
from storage.base.errors import Malformed
from storage.db.engine import Session

MOST_KEYS: Final = 64


def subscribe(
    session: Session,
    uid: str,
    ae_title: str,
    *,
    lock: bool,
    zone: tzinfo,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Watch one workitem, all of them (`records.GLOBAL`) or what matches (`records.FILTERED`).

    The watcher is told the present state of the one, and with a lock of all of them.

    Raises
    ------
    NoSuchWorkitem
        There is no workitem of that UID.
    Malformed
        The AE title is none, a filter has no keys, or a key cannot be read.
    """
    title = values.ae_title(ae_title)
    events.open_mailbox(session, title)
    if uid in records.WELL_KNOWN:
        given = _checked(uid, keys or {}, zone)
        filtered = uid == records.FILTERED
        _subscribe_globally(session, title, filtered=filtered, keys=given, lock=lock, zone=zone)
    else:
        row = records.held(session, uid, for_change=True)
        _watch_by_name(session, row.id, title, lock=lock)
        report = events.state_report(records.whole(row))
        events.write(session, [(title, row.sop_instance_uid, report)])


def unsubscribe(session: Session, uid: str, ae_title: str) -> None:
    """Watch one workitem no more; of a well-known UID: none at all, and forget the filter.

    Raises
    ------
    NoSuchWorkitem
        There is no workitem of that UID.
    """
    title = values.ae_title(ae_title)
    if uid in records.WELL_KNOWN:
        suspend(session, uid, title)
        session.execute(delete(SubscriberRow).where(SubscriberRow.ae_title == title))
        return
    row = records.held(session, uid, for_change=True)
    gone = {"active": False, "deletion_lock": False}
    statement = upsert(SubscriberRow).values(workitem_id=row.id, ae_title=title, **gone)
    session.execute(
        statement.on_conflict_do_update(index_elements=["workitem_id", "ae_title"], set_=gone)
    )


def suspend(session: Session, uid: str, ae_title: str) -> None:
    """Watch no workitem that is made from now on; what is watched goes on.

    Raises
    ------
    WrongAction
        The UID is none of the well-known ones.
    """
    if uid not in records.WELL_KNOWN:
        raise WrongAction("only a global subscription is suspended")
    records.keep_creators_out(session)
    session.execute(
        delete(GlobalSubscriptionRow).where(
            GlobalSubscriptionRow.ae_title == values.ae_title(ae_title),
            GlobalSubscriptionRow.filtered == (uid == records.FILTERED),
        )
    )


def watch_new(session: Session, row: WorkitemRow, whole: Json, zone: tzinfo) -> list[str]:
    """Have everybody watch a workitem who wants to; return the AE titles that are new to it."""
    locks: dict[str, bool] = {}
    for one in session.scalars(select(GlobalSubscriptionRow)):
        if not one.filtered or Filter(Query(one.keys), zone).matches(whole):
            locks[one.ae_title] = locks.get(one.ae_title, False) or one.deletion_lock
    return [
        title
        for title, lock in sorted(locks.items())
        if _watch(session, [row.id], title, lock=lock)
    ]


def is_watched_by(session: Session, row: WorkitemRow, ae_title: str) -> bool:
    """Whether somebody watches a workitem: that AE, or anybody when it is ''."""
    statement = select(SubscriberRow.ae_title).where(
        SubscriberRow.workitem_id == row.id, SubscriberRow.active
    )
    if ae_title:
        statement = statement.where(SubscriberRow.ae_title == ae_title)
    return session.scalar(statement.limit(1)) is not None


def _checked(uid: str, keys: Mapping[str, str], zone: tzinfo) -> dict[str, str]:
    if uid == records.GLOBAL:
        return {}
    given = {keyword: text.replace("\0", "") for keyword, text in keys.items() if text}
    if not given or len(given) > MOST_KEYS:
        raise Malformed(f"a filter has 1 to {MOST_KEYS} matching keys")
    Filter(Query(given), zone)
    return given


def _subscribe_globally(
    session: Session,
    title: str,
    *,
    filtered: bool,
    keys: dict[str, str],
    lock: bool,
    zone: tzinfo,
) -> None:
    records.keep_creators_out(session)
    known = {"deletion_lock": lock, "keys": keys}
    statement = upsert(GlobalSubscriptionRow).values(ae_title=title, filtered=filtered, **known)
    session.execute(
        statement.on_conflict_do_update(index_elements=["ae_title", "filtered"], set_=known)
    )
    found = [*search.matching_rows(session, Query(keys), zone)]
    _watch(session, [row_id for row_id, _ in found], title, lock=lock)
    if lock:
        instances = ((uid_of(whole), events.state_report(whole)) for _, whole in found)
        events.write(session, [(title, instance, report) for instance, report in instances])


def uid_of(whole: Json) -> str:
    """Return the SOP Instance UID of a workitem."""
    return str(whole["00080018"]["Value"][0])


def _watch_by_name(session: Session, row_id: int, title: str, *, lock: bool) -> None:
    known = {"active": True, "deletion_lock": lock}
    statement = upsert(SubscriberRow).values(workitem_id=row_id, ae_title=title, **known)
    session.execute(
        statement.on_conflict_do_update(index_elements=["workitem_id", "ae_title"], set_=known)
    )


def _watch(session: Session, ids: Sequence[int], title: str, *, lock: bool) -> list[int]:
    """Return the row ids of what the AE title had nothing to do with before."""
    new: list[int] = []
    for page in search.pages(ids):
        rows = [
            {"workitem_id": one, "ae_title": title, "active": True, "deletion_lock": lock}
            for one in page
        ]
        added = upsert(SubscriberRow).values(rows).on_conflict_do_nothing()
        new += session.scalars(added.returning(SubscriberRow.workitem_id))
    return new
