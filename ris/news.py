"""The studies of which there is news: an object came, or a performed step was told."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import not_, or_
from sqlalchemy.dialects.postgresql import insert

from ris.study_tables import StudyRow
from storage.db.engine import Session

NOT_SOONER: Final = timedelta(seconds=1)
"""News of one study within this time is the same news: a row is not written for every object."""


def notice(session: Session, study_instance_uids: Collection[str], at: datetime) -> None:
    """Note that there is news of these studies, so that somebody looks at them."""
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
            where=or_(
                not_(StudyRow.watched),
                StudyRow.look_at.is_not(None),
                StudyRow.changed_at < sent - NOT_SOONER,
            ),
        )
    )
