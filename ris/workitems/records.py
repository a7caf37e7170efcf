"""Rows of workitems, and how they read."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any, Final

from sqlalchemy import func, select

from ris.workitems import attributes, contents
from ris.workitems.contents import Json
from ris.workitems.faults import NoSuchWorkitem
from ris.workitems.tables import WorkitemRow
from storage.base import temporal
from storage.db.engine import Session

SOP_CLASS: Final = "1.2.840.10008.5.1.4.34.6.1"
"""UPS Push, of which every workitem is an instance (PS3.4 CC.3.1)."""
GLOBAL: Final = "1.2.840.10008.5.1.4.34.5"
FILTERED: Final = "1.2.840.10008.5.1.4.34.5.1"
WELL_KNOWN: Final = frozenset({GLOBAL, FILTERED})
"""Stand for subscriptions and are no workitems."""
_SUBSCRIBING: Final = 0x57_4F_52_4B_53_55
"""The advisory lock between whoever makes workitems and whoever subscribes to all of them."""


def held(session: Session, uid: str, *, for_change: bool = False) -> WorkitemRow:
    """Return the row of a workitem, locked for a change if wanted.

    Raises
    ------
    NoSuchWorkitem
        There is none.
    """
    statement = select(WorkitemRow).where(WorkitemRow.sop_instance_uid == uid.replace("\0", ""))
    if for_change:  # subscriptions may still point at it meanwhile
        statement = statement.with_for_update(key_share=True)
    row = session.scalar(statement.execution_options(populate_existing=True))
    if row is None:
        raise NoSuchWorkitem
    return row


def whole(row: WorkitemRow) -> dict[str, Any]:
    """Return a workitem as everybody may see it: without the Transaction UID."""
    shown = {
        **row.dataset,
        **contents.attribute("SpecificCharacterSet", "ISO_IR 192"),
        **contents.attribute("SOPClassUID", SOP_CLASS),
        **contents.attribute("SOPInstanceUID", row.sop_instance_uid),
        **contents.attribute(attributes.STATE, row.state),
        **contents.attribute(attributes.MODIFIED, attributes.dt_of(row.changed_at)),
    }
    return dict(sorted(shown.items()))


def columns(dataset: Json, zone: tzinfo) -> Mapping[str, Any]:
    """Return what is searched in columns of its own."""
    start = temporal.local_dt(contents.text(dataset, attributes.START), zone)
    return {
        "worklist_label": contents.text(dataset, attributes.WORKLIST),
        "patient_id": contents.text(dataset, "PatientID"),
        "study_instance_uids": attributes.studies(dataset),
        "start": temporal.parse_dt(start) or datetime.min,  # noqa: DTZ901 - clinical time
    }


def keep_subscribers_out(session: Session) -> None:
    """Let nobody subscribe to all workitems until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock_shared(_SUBSCRIBING)))


def keep_creators_out(session: Session) -> None:
    """Let nobody make or change workitems until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_SUBSCRIBING)))
