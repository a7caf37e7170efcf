"""Which instances lie compressed in the archive, and by which rules that is done.

    rule ─ looks at every instance once, in the order of their ids, when it is old enough
    put a compressed object (announced, so that a death leaves nothing) ─ adopt ─ release
                                                                          └── undo

From `adopt` on, the index shows the compressed object; what was received is kept until
`release`, which leaves it to those who delete what nobody uses (`series_metadata`). What
was received is known for ever: duplicates and conflicts are judged by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.archive import instances, locks, series_metadata, tables
from storage.archive.compression_tables import compression_rules, compressions
from storage.archive.model import StoredInstance
from storage.base.errors import NotFound
from storage.db.engine import Session

CLAIM: Final = timedelta(minutes=10)
"""Who works on a rule and died does not keep others from it longer than this."""
MAX_REASONS: Final = 50
"""That are told apart of one rule."""
OTHER_REASONS: Final = "other reasons"

_RULES: Final = compression_rules.c
_KEPT: Final = compressions.c
_INSTANCES: Final = tables.instances.c


class State(StrEnum):
    """Whether a rule is applied."""

    ACTIVE = "active"
    PAUSED = "paused"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Terms:
    """For which instances a rule is; empty texts are for all."""

    target_transfer_syntax_uid: str
    modality: str = ""
    source_ae_title: str = ""
    transfer_syntax_uid: str = ""
    older_than_days: int = 0
    """Since they were received."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and what came of it."""

    id: int
    terms: Terms
    state: State
    walked_to: int
    compressed: int
    """Instances."""
    bytes_before: int
    bytes_after: int
    left_as_is: Mapping[str, int]
    """Reason to number of instances."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that a rule looks at."""

    id: int
    received_at: datetime
    modality: str
    source_ae_title: str
    stored: StoredInstance


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dataset lies, and in which encoding."""

    transfer_syntax_uid: str
    object_key: str
    dataset_offset: int
    dataset_size: int
    dataset_sha256: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance that lies compressed."""

    instance: int
    received: Place
    released: bool
    """The received object is there no more."""
    stored: StoredInstance


# Rules


def add(session: Session, terms: Terms, now: datetime) -> int:
    """Add a rule; return its number."""
    columns = {
        "target_transfer_syntax_uid": terms.target_transfer_syntax_uid,
        "modality": terms.modality,
        "source_ae_title": terms.source_ae_title,
        "transfer_syntax_uid": terms.transfer_syntax_uid,
        "older_than_days": terms.older_than_days,
        "added_at": now,
    }
    made = session.execute(insert(compression_rules).values(**columns).returning(_RULES.id))
    return int(made.scalar_one())


def rules(session: Session) -> list[Rule]:
    """Return the rules that are not removed, in the order in which they were added."""
    found = select(compression_rules).where(_RULES.state != State.REMOVED).order_by(_RULES.id)
    return [*map(_rule, session.execute(found))]


def _rule(row: Row[Any]) -> Rule:
    return Rule(
        row.id,
        Terms(
            row.target_transfer_syntax_uid,
            row.modality,
            row.source_ae_title,
            row.transfer_syntax_uid,
            row.older_than_days,
        ),
        State(row.state),
        row.walked_to,
        row.compressed,
        row.bytes_before,
        row.bytes_after,
        row.left_as_is,
    )


def set_state(session: Session, rule: int, state: State) -> None:
    """Pause, resume or remove a rule; what it compressed stays so.

    Raises
    ------
    NotFound
        There is no such rule.
    """
    changed = session.execute(
        update(compression_rules)
        .where(_RULES.id == rule, _RULES.state != State.REMOVED)
        .values(state=state)
        .returning(_RULES.id)
    )
    if changed.first() is None:
        raise NotFound(f"no compression rule {rule}")


def claim(session: Session, rule: int, now: datetime) -> bool:
    """Take an active rule for `CLAIM`; False when somebody else has it."""
    free = or_(_RULES.claimed_until.is_(None), _RULES.claimed_until < now)
    taken = session.execute(
        update(compression_rules)
        .where(_RULES.id == rule, _RULES.state == State.ACTIVE, free)
        .values(claimed_until=now + CLAIM)
        .returning(_RULES.id)
    )
    return taken.first() is not None


def renew(session: Session, rule: int, now: datetime) -> bool:
    """Keep a rule that was claimed; False when it is paused or removed."""
    kept = session.execute(
        update(compression_rules)
        .where(_RULES.id == rule, _RULES.state == State.ACTIVE)
        .values(claimed_until=now + CLAIM)
        .returning(_RULES.id)
    )
    return kept.first() is not None


def give_back(session: Session, rule: int) -> None:
    """Let others have a rule."""
    change = update(compression_rules).where(_RULES.id == rule).values(claimed_until=None)
    session.execute(change)


def candidates(session: Session, rule: Rule, before: datetime, limit: int) -> list[Candidate]:
    """Return the next instances that a rule has not looked at, up to one that is too new.

    Parameters
    ----------
    before
        When they must have been received.
    """
    columns = [
        _INSTANCES.id,
        _INSTANCES.received_at,
        tables.series.c.modality,
        _INSTANCES.source_ae_title,
    ]
    rows = session.execute(
        _located(*columns)
        .where(_INSTANCES.id > rule.walked_to)
        .order_by(_INSTANCES.id)
        .limit(limit)
    ).mappings()
    found = []
    for row in rows:
        facts = {column.name: row[column.name] for column in columns}
        if facts["received_at"] >= before:
            break
        found.append(Candidate(**facts, stored=instances.stored_of(row)))
    return found


def _located(*columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of any kind
    series, studies = tables.series, tables.studies
    return (
        select(*columns, *instances.LOCATED)
        .select_from(tables.instances)
        .join(series, series.c.id == _INSTANCES.series_ref)
        .join(studies, studies.c.id == series.c.study_ref)
        .outerjoin(compressions, _KEPT.instance_ref == _INSTANCES.id)
    )


def walked(session: Session, rule: int, instance: int, left: str = "") -> None:
    """Note that a rule has looked at an instance, and why it is `left` as it is, if it is."""
    values: dict[Any, Any] = {_RULES.walked_to: func.greatest(_RULES.walked_to, instance)}
    if left:
        row = select(_RULES.left_as_is).where(_RULES.id == rule).with_for_update()
        reasons: dict[str, int] = dict(session.scalar(row) or {})
        name = left if left in reasons or len(reasons) < MAX_REASONS else OTHER_REASONS
        reasons[name] = reasons.get(name, 0) + 1
        values[_RULES.left_as_is] = reasons
    session.execute(update(compression_rules).where(_RULES.id == rule).values(values))


# Instances


def announce(session: Session, key: str, now: datetime) -> None:
    """Note a key under which an object is going to be put: it is disused until adopted."""
    series_metadata.announce(session, key, now)


def adopt(session: Session, rule: int, candidate: Candidate, made: Place, now: datetime) -> bool:
    """Let the index show a compressed object in place of the received one.

    Return False, with nothing changed, when the instance is not what it was any more, or
    the key was announced too long ago.
    """
    if not _take(session, candidate.id, candidate.stored):
        return False
    if not series_metadata.still_announced(session, made.object_key, now):
        return False
    stored = candidate.stored
    session.execute(
        insert(compressions).values(
            instance_ref=candidate.id,
            rule_ref=rule,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            object_key=stored.object_key,
            dataset_offset=stored.dataset_offset,
            dataset_size=stored.dataset_size,
            dataset_sha256=stored.dataset_sha256,
            compressed_at=now,
        )
    )
    _show(session, candidate.id, made, now)
    session.execute(
        update(compression_rules)
        .where(_RULES.id == rule)
        .values(
            compressed=_RULES.compressed + 1,
            bytes_before=_RULES.bytes_before + stored.dataset_size,
            bytes_after=_RULES.bytes_after + made.dataset_size,
        )
    )
    return True


def _take(session: Session, instance: int, stored: StoredInstance) -> bool:
    """Lock an instance; False when it is not what it was any more."""
    locks.take(session, {locks.study(stored.study_instance_uid)})
    row = session.execute(
        select(_INSTANCES.object_key, _INSTANCES.dataset_sha256)
        .where(_INSTANCES.id == instance)
        .with_for_update()
    ).first()
    return row is not None and tuple(row) == (stored.object_key, stored.dataset_sha256)


def _show(session: Session, instance: int, place: Place, now: datetime) -> None:
    changed = session.execute(
        update(tables.instances)
        .where(_INSTANCES.id == instance)
        .values(
            transfer_syntax_uid=place.transfer_syntax_uid,
            object_key=place.object_key,
            dataset_offset=place.dataset_offset,
            dataset_size=place.dataset_size,
            dataset_sha256=place.dataset_sha256,
        )
        .returning(_INSTANCES.series_ref)
    )
    series = tables.series.c
    session.execute(
        update(tables.series).where(series.id == changed.scalar_one()).values(changed_at=now)
    )
    series_metadata.forget(session, [place.object_key])


def releasable(session: Session, before: datetime, limit: int) -> list[Kept]:
    """Return instances that were compressed before then and whose received objects are kept."""
    kept = _kept().where(_KEPT.released_at.is_(None), _KEPT.compressed_at < before)
    found = session.execute(kept.order_by(_KEPT.compressed_at).limit(limit))
    return [*map(_kept_of, found.mappings())]


def of_study(session: Session, study_instance_uid: str) -> list[Kept]:
    """Return the instances of a study that lie compressed."""
    kept = _kept().where(tables.studies.c.study_instance_uid == study_instance_uid)
    return [*map(_kept_of, session.execute(kept.order_by(_INSTANCES.id)).mappings())]


_RECEIVED: Final = ("object_key", "dataset_offset", "dataset_size")


def _kept() -> Select[Any]:
    columns = [_KEPT[name].label(f"kept_{name}") for name in _RECEIVED]
    return _located(
        _KEPT.instance_ref, (_KEPT.released_at.is_not(None)).label("released"), *columns
    ).where(_KEPT.instance_ref.is_not(None))


def _kept_of(row: Mapping[Any, Any]) -> Kept:
    stored = instances.stored_of(row)
    key, offset, size = (row[f"kept_{name}"] for name in _RECEIVED)
    received = Place(stored.received_transfer_syntax_uid, key, offset, size, stored.received_sha256)
    return Kept(row["instance_ref"], received, row["released"], stored)


def release(session: Session, kept: Kept, now: datetime) -> bool:
    """Give up a received object, which is deleted when nobody can still be reading it.

    False when that was done, or undone, meanwhile.
    """
    if not _take(session, kept.instance, kept.stored):
        return False
    released = session.execute(
        update(compressions)
        .where(_KEPT.instance_ref == kept.instance, _KEPT.released_at.is_(None))
        .values(released_at=now)
        .returning(_KEPT.object_key)
    ).first()
    if released is not None:
        _disuse(session, released.object_key, now)
    return released is not None


def undo(session: Session, kept: Kept, place: Place, now: datetime) -> bool:
    """Let the index show the received dataset again, which lies in `place`.

    That is the received object, unless it was released; or one with the same bytes, put under
    a key that was announced. False when the instance is not what it was any more.
    """
    if not _take(session, kept.instance, kept.stored):
        return False
    still = select(_KEPT.released_at).where(_KEPT.instance_ref == kept.instance)
    row = session.execute(still.with_for_update()).first()
    if row is None:
        return False
    same = place.object_key == kept.received.object_key
    if same and row.released_at is not None:
        return False
    if not same and not series_metadata.still_announced(session, place.object_key, now):
        return False
    session.execute(delete(compressions).where(_KEPT.instance_ref == kept.instance))
    _show(session, kept.instance, place, now)
    _disuse(session, kept.stored.object_key, now)
    if not same and row.released_at is None:
        _disuse(session, kept.received.object_key, now)
    return True


def _disuse(session: Session, key: str, now: datetime) -> None:
    disused = tables.disused_objects
    session.execute(
        insert(disused)
        .values(object_key=key, noticed_at=now)
        .on_conflict_do_update(index_elements=[disused.c.object_key], set_={"noticed_at": now})
    )


def came_again(session: Session, received: Mapping[str, str], now: datetime) -> None:
    """Let go of objects that were put for instances that came again, and lie compressed.

    Parameters
    ----------
    received
        SOP Instance UID to the key under which it was put just now.
    """
    if not received:
        return
    found = session.execute(
        select(_KEPT.object_key)
        .join(tables.instances, _INSTANCES.id == _KEPT.instance_ref)
        .where(_INSTANCES.sop_instance_uid.in_(received), _KEPT.released_at.is_not(None))
    )
    put = {*received.values()}
    for (key,) in found.all():
        if key in put:
            _disuse(session, key, now)


def totals(session: Session) -> Mapping[str, int]:
    """Return how many instances all rules compressed, and their bytes before and after."""
    names = ("compressed", "bytes_before", "bytes_after")
    sums = (func.coalesce(func.sum(_RULES[name]), 0) for name in names)
    row = session.execute(select(*sums)).one()
    return {name: int(value) for name, value in zip(names, row, strict=True)}
