"""Which studies are held, for those who ask by UID."""

from collections.abc import Collection

from sqlalchemy import Text, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from storage.archive import tables
from storage.db.engine import Session


def held(session: Session, study_instance_uids: Collection[str]) -> set[str]:
    """Return those of the studies of which an instance is in the index."""
    wanted = {uid for uid in study_instance_uids if uid}
    if not wanted:
        return set()
    uid = tables.studies.c.study_instance_uid
    found = session.scalars(select(uid).where(uid == any_(literal([*wanted], ARRAY(Text)))))
    return {*found}
