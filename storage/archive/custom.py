"""Attributes that an operator adds to the index, while the archive goes on taking objects in.

    add ─ what comes from now on is read for it ─┬─ (the index answers, with a warning)
          what was there before is read for it   ┘  ─ whole

Whoever records instances holds a lock that they share; adding and removing take it alone.
So an instance is either recorded by somebody who knew the attribute, or it has a number
that `Progress` still has to pass. Of a study or series the first value stays.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from sqlalchemy import BigInteger, any_, delete, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from storage.archive import attributes, rows, tables
from storage.archive.custom_tables import custom_attributes
from storage.archive.model import Custom, Level
from storage.base.errors import Conflict, Malformed, NotFound
from storage.db.engine import Session

TEXT_VRS: Final = frozenset(
    {"AE", "AS", "AT", "CS", "DT", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT"}
)
NUMBER_VRS: Final = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
VRS: Final = TEXT_VRS | NUMBER_VRS | {"DA", "PN", "TM"}
LEVELS: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)
MAX_DEPTH: Final = 4
MAX_CREATOR: Final = 64

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_SHARED: Final = text("SELECT pg_advisory_xact_lock_shared(:key)")
_ALONE: Final = text("SELECT pg_advisory_xact_lock(:key)")
_LOCK: Final = {"key": 0x637573746F6D}


@dataclass(frozen=True, slots=True)
class Added:
    """An attribute with how far the instances that were there before it have been read."""

    custom: Custom
    added_at: datetime
    last_instance: int
    read_to: int


def path_of(name: str) -> tuple[int, ...]:
    """Return the path that a name writes: keywords or tags, parted by dots.

    Of a private element the block is left out: ``00091001`` is ``00090001``.

    Raises
    ------
    Malformed
        A part is neither a keyword nor eight hexadecimal digits.
    """
    parts = name.split(".")
    if len(parts) > MAX_DEPTH:
        raise Malformed(f"an attribute in more than {MAX_DEPTH - 1} sequences")
    return tuple(map(_tag_of, parts))


def _tag_of(part: str) -> int:
    if not _TAG.fullmatch(part):
        tag = tag_for_keyword(part) if part else None  # '' is the keyword of retired tags
        if tag is None:
            raise Malformed(f"{part[:64]!r} is neither a keyword nor a tag")
        return int(tag)
    tag = int(part, 16)
    return tag & 0xFFFF00FF if is_private(tag) else tag


def is_private(tag: int) -> bool:
    """Whether a tag is of a private element."""
    return bool(tag >> 16 & 1)


def name_of(path: Sequence[int]) -> str:
    """Return the one name of a path: keywords where there are any, else tags."""
    return ".".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in path)


# What there is


def load(session: Session) -> tuple[Custom, ...]:
    """Return every attribute that was added, in the order of their addition."""
    return tuple(one.custom for one in list_all(session))


def list_all(session: Session) -> list[Added]:
    """Return the same with their progress."""
    found = session.execute(select(custom_attributes).order_by(custom_attributes.c.id))
    return [
        Added(
            Custom(
                row.id,
                row.name,
                path_of(row.name),
                row.creator,
                row.vr,
                Level(row.level),
                row.read_to >= row.last_instance,
            ),
            row.added_at,
            row.last_instance,
            row.read_to,
        )
        for row in found
    ]


def hold_alone(session: Session) -> None:
    """Wait until nobody records, and let nobody record until the transaction ends."""
    session.execute(_ALONE, _LOCK)


def current(session: Session) -> tuple[Custom, ...]:
    """Return the attributes to record; until the transaction ends there will be no other."""
    session.execute(_SHARED, _LOCK)
    return load(session)


def declare(name: str, level: Level, *, vr: str = "", creator: str = "") -> Custom:
    """Return an attribute that can be added; nothing is added yet.

    Parameters
    ----------
    name
        A keyword, a tag, or a dotted path of them into sequences.
    vr
        Needed of private attributes, whose VR nobody lists.
    creator
        Private Creator, of private attributes.

    Raises
    ------
    Malformed
        It is no attribute that can be indexed; the text says why.
    Conflict
        The index has it without being told.
    """
    path = path_of(name)
    private = any(map(is_private, path))
    creator = rows.clean(creator)[:MAX_CREATOR]
    if private != bool(creator):
        raise Malformed("private attributes, and only they, have a private creator")
    known = vr if is_private(path[-1]) else _vr_of(path[-1])
    if vr and known != vr:
        raise Malformed(f"{name} has VR {known}")
    if known not in VRS:
        raise Malformed(f"VR {known or 'unknown'} is not indexed; one of {', '.join(sorted(VRS))}")
    if level not in LEVELS:
        raise Malformed(f"the level is none of {', '.join(LEVELS)}")
    if not all(is_private(tag) or _vr_of(tag) == "SQ" for tag in path[:-1]):
        raise Malformed("a dot behind what is no sequence")
    said = name_of(path)
    if said in attributes.visible(level):
        raise Conflict(f"{said} is indexed already")
    return Custom(0, said, path, creator, known, level, whole=False)


def add(session: Session, declared: Custom, now: datetime) -> Custom:
    """Add an attribute; what comes after this transaction is recorded for it.

    Raises
    ------
    Conflict
        It was added already.
    """
    session.execute(_ALONE, _LOCK)
    last = session.scalar(select(func.coalesce(func.max(tables.instances.c.id), 0)))
    made = session.execute(
        insert(custom_attributes)
        .values(
            name=declared.name,
            creator=declared.creator,
            vr=declared.vr,
            level=declared.level,
            added_at=now,
            last_instance=last,
        )
        .on_conflict_do_nothing()
        .returning(custom_attributes.c.id)
    ).scalar_one_or_none()
    if made is None:
        raise Conflict(f"{declared.name} is indexed already")
    return replace(declared, id=made, whole=not last)


def _vr_of(tag: int) -> str:
    try:
        found = dictionary_VR(tag)
    except KeyError as error:
        raise Malformed(f"({tag:08X}) is not in the data dictionary") from error
    return "US" if found == "US or SS" else found


def remove(session: Session, name: str, creator: str = "") -> None:
    """Remove an attribute and its values.

    Raises
    ------
    Malformed
        The name is none.
    NotFound
        It was not added.
    """
    session.execute(_ALONE, _LOCK)
    gone = delete(custom_attributes).where(
        custom_attributes.c.name == name_of(path_of(name)),
        custom_attributes.c.creator == rows.clean(creator),
    )
    if session.execute(gone.returning(custom_attributes.c.id)).scalar_one_or_none() is None:
        raise NotFound(f"{name} was not added to the index")


# Reading what was there before


def unread(session: Session) -> list[Added]:
    """Return the attributes for which instances are still to be read."""
    return [one for one in list_all(session) if not one.custom.whole]


def note_read(session: Session, customs: Sequence[Custom], read_to: int) -> None:
    """Note that the instances up to a number have been read for some attributes."""
    ids = any_(literal([one.id for one in customs], ARRAY(BigInteger)))
    session.execute(
        update(custom_attributes)
        .where(custom_attributes.c.id == ids, custom_attributes.c.read_to < read_to)
        .values(read_to=read_to)
    )
