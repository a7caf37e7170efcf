"""What a person rejects, and takes back.

    objects of a study are chosen ─ a rejection note is made ─ spool ─ ingest ─ they are hidden
                                                               a note is withdrawn ─ they are shown

A note that is made here is an object like those of others: it can be sent to another archive.
That one was withdrawn is known here alone, DICOM has no word for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from pydicom.dataset import Dataset

from pacs import part10, report_objects, retrieve
from ris import news
from storage.archive import instances, rejections, search
from storage.archive.instances import Scope
from storage.archive.model import Level, Query, StoredInstance
from storage.archive.rejection_rules import Title
from storage.archive.rejections import RejectionNote
from storage.audit import journal
from storage.audit.model import Entry, Kind
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.base.values import uid as checked_uid
from storage.db.engine import Session
from storage.objects.store import ObjectStore

_PERSON_CHARACTERS: Final = str.maketrans("^=\\", "   ")
MOST_NAME: Final = 64
MOST_REASON: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be rejected of a study: all that is shown, or a series, or some objects."""

    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uids: Sequence[str] = ()
    title: Title
    reason: str = ""
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would be hidden; nothing of it was done."""

    series: int
    instances: int
    left: int
    """Objects of the study that would still be shown; 0: nobody would find it any more."""


def preview(session: Session, wanted: Wanted) -> Preview:
    """Return what rejecting would hide.

    Raises
    ------
    NotFound
        The study has no such objects that are shown.
    Malformed
        One is no UID.
    """
    chosen = _chosen(session, wanted)
    whole = instances.locate(session, {"StudyInstanceUID": wanted.study_instance_uid})
    return Preview(
        series=len({one.series_instance_uid for one in chosen}),
        instances=len(chosen),
        left=len(whole) - len(chosen),
    )


def note_of(session: Session, wanted: Wanted, zone: tzinfo) -> Dataset:
    """Return the note that rejects what is wanted; `report_objects.put` lets it have its effect.

    Raises
    ------
    NotFound, Malformed
        As `preview`; or the reason is too long.
    """
    if len(wanted.reason) > MOST_REASON:
        raise Malformed(f"a reason of more than {MOST_REASON} characters")
    chosen = _chosen(session, wanted)
    asked = Query(Level.STUDY, {"StudyInstanceUID": wanted.study_instance_uid})
    [study] = search.find(session, asked, limit=1).matches
    return report_objects.rejection_note(
        study,
        wanted.title,
        chosen,
        author=wanted.by.translate(_PERSON_CHARACTERS)[:MOST_NAME],
        reason=wanted.reason,
        at=utc_now().astimezone(zone),
    )


def restore(session: Session, sop_instance_uid: str, *, by: str, address: str) -> RejectionNote:
    """Withdraw a note: what no other one rejects is shown again.

    Raises
    ------
    NotFound
        There is no such note.
    Conflict
        It was withdrawn already, or rejects nothing.
    """
    # before the rows of the archive, as the ingest does
    news.notice(session, rejections.studies_named(session, sop_instance_uid), utc_now())
    withdrawn = rejections.withdraw(session, sop_instance_uid, by)
    details = {"note": sop_instance_uid, "title": withdrawn.title, "named": withdrawn.named}
    entry = Entry(
        kind=Kind.RESTORE,
        actor=by,
        address=address,
        study_instance_uid=withdrawn.study_instance_uid,
        details=details,
    )
    journal.append(session, entry)
    return withdrawn


def held_by(session: Session, note: str, sop_instance_uid: str) -> StoredInstance:
    """Return where an object lies that a note names, or the note itself, though it is hidden.

    Raises
    ------
    NotFound
        It is neither, or not here.
    """
    named = (one.sop_instance_uid for one in rejections.named_by(session, note))
    if sop_instance_uid != note and sop_instance_uid not in named:
        raise NotFound("the note does not name this object")
    found = instances.locate(session, {"SOPInstanceUID": sop_instance_uid}, Scope.KEPT)
    if not found:
        raise NotFound("the object has not come")
    return found[0]


def file_of(store: ObjectStore, held: StoredInstance) -> bytes:
    """Return an object as a Part 10 file, as it goes out to others.

    Raises
    ------
    StoreUnavailable
        The store does not answer, or the bytes are not those that were received.
    NotSupported
        What was corrected cannot be written into it.
    """
    head = part10.head(held.sop_class_uid, held.sop_instance_uid, held.transfer_syntax_uid)
    return head + retrieve.outgoing(store, held)


def _chosen(session: Session, wanted: Wanted) -> list[StoredInstance]:
    keys = {"StudyInstanceUID": checked_uid(wanted.study_instance_uid)}
    if wanted.series_instance_uid:
        keys["SeriesInstanceUID"] = checked_uid(wanted.series_instance_uid)
    found = instances.locate(session, keys)
    if wanted.sop_instance_uids:
        asked = {*wanted.sop_instance_uids}
        found = [one for one in found if one.sop_instance_uid in asked]
        if len(found) < len(asked):
            raise NotFound("some of these objects are not shown in the study")
    if not found:
        raise NotFound("the study has no such objects that are shown")
    return found
