"""The studies of which there is news: an object came, or a performed step was told."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, not_
from sqlalchemy.dialects.postgresql import insert

from ris.study_tables import StudyRow
from storage.db.engine import Session


def notice(session: Session, study_instance_uids: Collection[str], at: datetime) -> None:
    """Note that somebody has to look at these studies now."""
    _watch(session, study_instance_uids, at, None)


def arrived(session: Session, study_instance_uids: Collection[str], at: datetime) -> None:
    """Note that objects of these studies came.

    Of a study that is watched, somebody looks in time without being told: so a row is not written
    for every object. The row is held to the end of the transaction, so that nobody who does not
    see the objects yet takes the study for complete meanwhile.
    """
    _watch(session, study_instance_uids, at, not_(StudyRow.watched))


def _watch(
    session: Session,
    study_instance_uids: Collection[str],
    at: datetime,
    where: ColumnElement[bool] | None,
) -> None:
    rows = [
        {"study_instance_uid": uid, "changed_at": at, "watched": True}
        for uid in sorted({*study_instance_uids})
    ]
    if not rows:
        return
    statement = insert(StudyRow).values(rows)
    sent = statement.excluded.changed_at
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["study_instance_uid"],
            set_={"changed_at": sent, "watched": True, "look_at": None},
            where=where,
        )
    )
