"""Objects that rejection notes hide (IHE RAD TF-2 4.66, Imaging Object Change Management).

    a note is recorded ─ what it names and is here is hidden ─ counters are made anew
                      └─ what it names and comes later is hidden as it is recorded
    a person withdraws it ─ what no other note names is shown again

Whether an object is shown stands in its row (`tables.SHOWN`), with the title of the strongest
note in force; that is what every search and retrieval asks for. Nothing is deleted: an object
whose retention has expired is hidden like the others, and shown again when it comes again.
A note names an object by its study and SOP Instance UID; of a study that is locked.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    JSON,
    CollectionAggregate,
    RowMapping,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from storage.archive import incidents, locks, recounting, rejection_rules, rows, tables
from storage.archive.incidents import Incident, Kind
from storage.archive.model import ReceivedInstance
from storage.archive.rejection_rules import Named, Note, Title
from storage.archive.rejection_tables import rejection_notes, rejections
from storage.base.clock import utc_now
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session

CAME_AGAIN: Final = "came again"
"""Who withdraws the rejection of an object whose retention had expired."""
LISTED: Final = 100

_NOTES: Final = rejection_notes.c
_REJECTIONS: Final = rejections.c
_INSTANCES: Final = tables.instances.c
_FACTS: Final = ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid")


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNote:
    """A rejection note as people see it."""

    sop_instance_uid: str
    study_instance_uid: str
    """The study that the note lies in; it may reject objects of others too."""
    title: Title
    meaning: str
    author: str
    reason: str
    source_ae_title: str
    """Who sent it."""
    fault: str
    """Why it rejects nothing, or not all that it should."""
    named: int
    in_force: int
    """How many of its objects it still rejects: 0 when it was withdrawn."""
    noted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One object that a note names."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    held: bool
    """Whether the object is here; it may come yet."""
    hidden: str
    """The title that decides, of this or another note; '' when the object is shown."""
    withdrawn_at: datetime | None
    withdrawn_by: str


# What the ingest asks and tells


def titles_of(session: Session, studies: Mapping[str, str]) -> dict[str, Title]:
    """Return the strongest title in force of what is rejected of some objects.

    Parameters
    ----------
    studies
        SOP Instance UID → Study Instance UID.
    """
    found: dict[str, list[Title]] = {}
    for uid, study, title in session.execute(
        select(
            _REJECTIONS.sop_instance_uid, _REJECTIONS.study_instance_uid, _REJECTIONS.title
        ).where(_REJECTIONS.sop_instance_uid == _any(studies), _REJECTIONS.withdrawn_at.is_(None))
    ):
        if studies[uid] == study:
            found.setdefault(uid, []).append(Title(title))
    return {
        uid: decisive
        for uid, titles in found.items()
        if (decisive := rejection_rules.strongest(titles))
    }


def apply(session: Session, added: Sequence[ReceivedInstance]) -> None:
    """Let the rejection notes among new instances have their effect."""
    notes = [(one, one.note) for one in added if one.note is not None]
    if not notes:
        return
    for one, note in notes:
        _write(session, one, note)
    incidents.note(session, [_incident(one, note) for one, note in notes if note.fault])
    _settle(session, {each.sop_instance_uid for _, note in notes for each in note.named})


def came_again(session: Session, sop_instance_uids: Collection[str]) -> None:
    """Show objects again that are hidden because their retention had expired."""
    _withdraw(
        session,
        _REJECTIONS.sop_instance_uid == _any(sop_instance_uids),
        _REJECTIONS.title == Title.EXPIRED,
        by=CAME_AGAIN,
    )
    _settle(session, sop_instance_uids)


def _write(session: Session, one: ReceivedInstance, note: Note) -> None:
    uid = one.attributes["SOPInstanceUID"]
    named = {each.sop_instance_uid: each for each in note.named if each.sop_instance_uid != uid}
    made = session.execute(
        insert(rejection_notes)
        .values(
            sop_instance_uid=uid,
            study_instance_uid=one.attributes["StudyInstanceUID"],
            title=note.title,
            author=rows.clean(note.author),
            reason=rows.clean(note.reason),
            source_ae_title=rows.clean(one.source_ae_title),
            fault=note.fault,
            named=len(named),
            noted_at=one.received_at,
        )
        .returning(_NOTES.id)
    )
    if named:
        content = msgspec.json.encode([_facts(each) for each in named.values()]).decode()
        values = {"note": made.scalar_one(), "title": note.title, "rows": content}
        session.execute(_NAME, values)


def _facts(named: Named) -> dict[str, str]:
    return {name: getattr(named, name) for name in _FACTS}


_GIVEN: Final = (
    func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    .table_valued(*(column(name, Text()) for name in _FACTS), name="given")
    .render_derived(with_types=True)
)
_NAME: Final = insert(rejections).from_select(
    ["note_ref", "title", *_FACTS],
    select(
        cast(bindparam("note"), BigInteger),
        cast(bindparam("title"), Text),
        *(_GIVEN.c[name] for name in _FACTS),
    ),
)


def _incident(one: ReceivedInstance, note: Note) -> Incident:
    attributes = one.attributes
    study, patient = attributes["StudyInstanceUID"], attributes.get("PatientID", "")
    return Incident(Kind.REJECTION_NOTE, study, patient, "", note.fault, one.received_at)


# What is shown follows what is in force


def _settle(session: Session, sop_instance_uids: Iterable[str]) -> None:
    """Hide and show objects as the notes in force say, and count their studies anew."""
    uids = [*{*sop_instance_uids}]
    held = session.execute(
        select(
            _INSTANCES.id,
            _INSTANCES.sop_instance_uid,
            _INSTANCES.hidden,
            _INSTANCES.series_ref,
            tables.series.c.study_ref,
            tables.studies.c.study_instance_uid,
        )
        .join(tables.series, tables.series.c.id == _INSTANCES.series_ref)
        .join(tables.studies, tables.studies.c.id == tables.series.c.study_ref)
        .where(_INSTANCES.sop_instance_uid == _any(uids))
    ).all()
    titles = titles_of(session, {row.sop_instance_uid: row.study_instance_uid for row in held})
    notes = {
        *session.scalars(
            select(_NOTES.sop_instance_uid).where(_NOTES.sop_instance_uid == _any(uids))
        )
    }
    changed: dict[str, list[Any]] = {}
    for row in held:
        uid = row.sop_instance_uid
        decisive = [titles[uid]] if uid in titles else []
        hidden = rejection_rules.hidden_as(decisive, is_note=uid in notes)
        if hidden != row.hidden:
            changed.setdefault(hidden, []).append(row)
    for hidden, some in changed.items():
        ids = any_(literal([row.id for row in some], ARRAY(BigInteger)))
        session.execute(update(tables.instances).where(_INSTANCES.id == ids).values(hidden=hidden))
    everything = [row for some in changed.values() for row in some]
    if everything:
        series = {row.series_ref for row in everything}
        recounting.recount(session, series, {row.study_ref for row in everything}, utc_now())


def _withdraw(session: Session, *which: Any, by: str) -> int:  # noqa: ANN401 - conditions
    changed = session.execute(
        update(rejections)
        .where(*which, _REJECTIONS.withdrawn_at.is_(None))
        .values(withdrawn_at=utc_now(), withdrawn_by=rows.clean(by))
        .returning(_REJECTIONS.sop_instance_uid)
    )
    return len(changed.all())


def _any(uids: Iterable[str]) -> CollectionAggregate[bool]:
    return any_(literal([*uids], ARRAY(Text)))


# What people see and do


def list_notes(
    session: Session,
    *,
    study_instance_uid: str = "",
    limit: int = LISTED,
    after: str = "",
) -> list[RejectionNote]:
    """Return notes, the newest first: of one study, those behind the note `after`."""
    wanted = []
    if study_instance_uid:
        wanted.append(_NOTES.study_instance_uid == study_instance_uid)
    if after:
        last = rejection_notes.alias("last").c
        seen = select(last.id).where(last.sop_instance_uid == after)
        wanted.append(_NOTES.id < seen.scalar_subquery())
    found = session.execute(_SHOWN.where(*wanted).order_by(_NOTES.id.desc()).limit(limit))
    return [*map(_note, found.mappings())]


def get(session: Session, sop_instance_uid: str) -> RejectionNote:
    """Return one note.

    Raises
    ------
    NotFound
        No rejection note has this UID.
    """
    found = session.execute(_SHOWN.where(_NOTES.sop_instance_uid == sop_instance_uid))
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("there is no rejection note of that UID")
    return _note(row)


def named_by(session: Session, sop_instance_uid: str) -> list[Rejection]:
    """Return what a note names, and what became of it, by series and instance.

    Raises
    ------
    NotFound
        As `get`.
    """
    get(session, sop_instance_uid)
    found = session.execute(
        select(
            *(_REJECTIONS[name] for name in _FACTS),
            _INSTANCES.id.is_not(None).label("held"),
            func.coalesce(_INSTANCES.hidden, "").label("hidden"),
            _REJECTIONS.withdrawn_at,
            _REJECTIONS.withdrawn_by,
        )
        .join(rejection_notes, _NOTES.id == _REJECTIONS.note_ref)
        .outerjoin(tables.instances, _INSTANCES.sop_instance_uid == _REJECTIONS.sop_instance_uid)
        .where(_NOTES.sop_instance_uid == sop_instance_uid)
        .order_by(
            _REJECTIONS.study_instance_uid,
            _REJECTIONS.series_instance_uid,
            tables.INSTANCE_NUMBER,
            _REJECTIONS.sop_instance_uid,
        )
    )
    return [Rejection(**row) for row in found.mappings()]


def studies_named(session: Session, sop_instance_uid: str) -> set[str]:
    """Return the studies of which a note names objects."""
    return {
        *session.scalars(
            select(_REJECTIONS.study_instance_uid)
            .distinct()
            .join(rejection_notes, _NOTES.id == _REJECTIONS.note_ref)
            .where(_NOTES.sop_instance_uid == sop_instance_uid)
        )
    }


def withdraw(session: Session, sop_instance_uid: str, by: str) -> RejectionNote:
    """Take back a note: what no other note rejects is shown again. The note is kept.

    Raises
    ------
    NotFound
        As `get`.
    Conflict
        It was taken back already, or rejects nothing.
    """
    note = get(session, sop_instance_uid)
    locks.take(session, map(locks.study, studies_named(session, sop_instance_uid)))
    ref = session.scalar(select(_NOTES.id).where(_NOTES.sop_instance_uid == sop_instance_uid))
    if not _withdraw(session, _REJECTIONS.note_ref == ref, by=by):
        raise Conflict("the note rejects nothing, or was withdrawn already")
    named = select(_REJECTIONS.sop_instance_uid).where(_REJECTIONS.note_ref == ref)
    _settle(session, session.scalars(named))
    return get(session, note.sop_instance_uid)


def is_wrong_entry(session: Session, study_instance_uid: str) -> bool:
    """Return whether all of a study is rejected, and some of it as made from a wrong entry."""
    shown = select(tables.studies.c.id).where(
        tables.studies.c.study_instance_uid == study_instance_uid,
        tables.studies.c.number_of_instances == 0,
    )
    wrong = (
        select(_INSTANCES.id)
        .join(tables.series, tables.series.c.id == _INSTANCES.series_ref)
        .where(
            tables.series.c.study_ref.in_(shown),
            _INSTANCES.hidden == Title.WRONG_ENTRY,
        )
        .limit(1)
    )
    return session.scalar(wrong) is not None


_IN_FORCE: Final = (
    select(func.count())
    .where(_REJECTIONS.note_ref == _NOTES.id, _REJECTIONS.withdrawn_at.is_(None))
    .scalar_subquery()
    .label("in_force")
)
_PLAIN: Final = tuple(
    name
    for name in RejectionNote.__dataclass_fields__
    if name not in {"title", "meaning", "in_force"}
)
_SHOWN: Final = select(*(_NOTES[name] for name in _PLAIN), _NOTES.title, _IN_FORCE)


def _note(row: RowMapping) -> RejectionNote:
    title = Title(row["title"])
    return RejectionNote(**{**row, "title": title}, meaning=title.meaning)
