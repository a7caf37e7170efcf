"""Finding the patient that a message names, or making one.

A patient is found by its number and who gave it out, never by its name. Only the number that a
message names its patient by identifies; the others that it tells are kept beside it.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import bindparam, select, text

from ris import identity, patients, telling, visits
from ris.model import Rules
from ris.requests import Applied, Context, Identifier, PatientRequest, VisitRequest
from ris.tables import IdentifierRow, PatientRow
from storage.archive import incidents
from storage.archive.incidents import Incident, Kind
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db import together
from storage.db.engine import Session
from storage.db.together import Answer, Question

MAX_IDENTIFIERS: Final = 50
"""Of one patient; what comes beyond is passed over."""
FIRST, BESIDE, LAST = 0, 10, 20
"""Positions of identifiers: the one that is shown, other spellings of it, the rest."""
_TAKE_TURNS: Final = 0x5249534D45524745
_SHARED: Final = text(
    "SELECT pg_advisory_xact_lock_shared(:turns), "
    "(SELECT count(pg_advisory_xact_lock(key)) FROM unnest(CAST(:keys AS bigint[])) AS key)"
)
_TRY: Final = """
SELECT pg_try_advisory_xact_lock_shared(%s) AS turn,
    ARRAY(SELECT key FROM unnest(%s::bigint[]) AS key WHERE pg_try_advisory_xact_lock(key)) AS held,
    set_config('plan_cache_mode', 'auto', true) AS plan_cache_mode,
    set_config('enable_seqscan', 'off', true) AS enable_seqscan,
    set_config('enable_hashjoin', 'off', true) AS enable_hashjoin,
    set_config('enable_mergejoin', 'off', true) AS enable_mergejoin
"""
_ALONE: Final = text("SELECT pg_advisory_xact_lock(:turns)")
_ALIKE: Final = select(IdentifierRow).where(
    IdentifierRow.identifies,
    IdentifierRow.issuer_key == bindparam("issuer"),
    IdentifierRow.loose_key == bindparam("loose"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A patient that a message names."""

    path: Sequence[PatientRow]
    """The patient itself, then those whom it was merged into, to the one who stands for it."""
    identifier: IdentifierRow
    created: bool = False
    changed: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def id(self) -> int:
        """The patient as it was named."""
        return self.path[0].id

    @property
    def root(self) -> int:
        """The patient who stands for it."""
        return self.path[-1].id


def admit(
    session: Session,
    context: Context,
    rules: Rules,
    event: str,
    patient: PatientRequest,
    visit: VisitRequest,
) -> tuple[Known, Applied]:
    """Create or update a patient and the visit (ADT `event`).

    Raises
    ------
    Malformed
        The identifier is none.
    """
    known = know(session, context, rules, patient)
    _, moved = visits.note(session, context, known.id, visit, event, first=known.created)
    changed = "changed" if known.changed or moved else "unchanged"
    return known, Applied("created" if known.created else changed, notes=tuple(known.notes))


def take_turns(session: Session) -> None:
    """Wait until nobody else finds or writes patients, and keep them out of it.

    For what changes who stands for whom: it is rare, and then everything else may rely on it.
    """
    session.execute(_ALONE, {"turns": _TAKE_TURNS})


def lock(session: Session, keys: Iterable[identity.Keys], others: Iterable[str] = ()) -> None:
    """Hold these identifiers, so that no patient is made twice; merges wait meanwhile.

    `others` are names of what else is held, in the same round trip.
    """
    names = {*map(name, keys), *others}
    numbers = sorted(map(_number, names))
    session.execute(_SHARED, {"turns": _TAKE_TURNS, "keys": numbers})


def name(key: identity.Keys) -> str:
    """Return under which name an identifier is held."""
    return f"{key.value}\n{key.issuer}"


def holding(names: Collection[str]) -> Question:
    """Return how to hold what can be held without waiting, to the end of the transaction.

    The few statements of a transaction that begins so are planned once, and by their indexes.
    """
    return Question(_TRY, (_TAKE_TURNS, [*{_number(one) for one in names}]))


def is_held(answer: Answer, names: Collection[str]) -> bool:
    """Return whether all of these could be held; nothing is while patients are merged."""
    [row] = answer.rows
    return row.turn and {*row.held}.issuperset(map(_number, names))


def find(
    session: Session, identifier: Identifier, sender: str, rules: Rules
) -> IdentifierRow | None:
    """Return the row of an identifier by which a patient is known, None when nobody is.

    Raises
    ------
    Malformed
        It is none.
    """
    keys = identity.keys_of(identifier, sender)
    return _chosen(_alike(session, keys), keys, rules)


def know(
    session: Session,
    context: Context,
    rules: Rules,
    request: PatientRequest,
    also_hold: Iterable[str] = (),
) -> Known:
    """Return the patient that a message names, made if nobody knows it, with what is told of it.

    Raises
    ------
    Malformed
        The identifier is none.
    """
    keys = identity.keys_of(request.identifier, context.sender)
    lock(session, [keys], also_hold)
    alike = _alike(session, keys)
    row = _chosen(alike, keys, rules)
    if row is None:
        _tell_lookalikes(session, alike, request.identifier)
        return _made(session, context, request)
    notes: list[str] = []
    path = path_of(session, row.patient_ref)
    if row.value_key != keys.value:  # found loosely: it is known by this spelling from now on
        add_identifier(
            session, context, row.patient_ref, request.identifier, identifies=True, at=BESIDE
        )
    if len(path) > 1:
        notes.append("PID-3: merged; taken for the survivor")
    elif row.retired:
        notes.append("PID-3: the patient has another number now")
    changed, more = telling.tell(session, context, path, request)
    added = _add_others(session, context, path[0], request.other_identifiers)
    return Known(path, row, changed=changed or added, notes=[*notes, *more])


def path_of(session: Session, patient_id: int) -> list[PatientRow]:
    """Return a patient and those whom it was merged into, locked, up to the one who stands."""
    session.flush()
    path: list[PatientRow] = []
    following: int | None = patient_id
    while following is not None:
        row = session.get(PatientRow, following, with_for_update=True, populate_existing=True)
        if row is None:
            raise NotFound(f"there is no patient {following}")
        path.append(row)
        following = row.merged_into
    return path


def add(session: Session, context: Context, identifier: Identifier) -> IdentifierRow:
    """Make a patient of whom nothing but the number is known."""
    _, row, _ = _add(session, context, identifier)
    return row


def add_identifier(
    session: Session,
    context: Context,
    patient_id: int,
    identifier: Identifier,
    *,
    identifies: bool,
    at: int = FIRST,
) -> IdentifierRow:
    """Write down a number of a patient."""
    row = identifier_row(context, patient_id, identifier, identifies=identifies, at=at)
    session.add(row)
    session.flush()
    return row


def identifier_row(
    context: Context, patient_id: int, identifier: Identifier, *, identifies: bool, at: int = FIRST
) -> IdentifierRow:
    """Return a number of a patient, not written yet."""
    keys = identity.keys_of(identifier, context.sender)
    return IdentifierRow(
        patient_ref=patient_id,
        value=identifier.value.strip(),
        issuer=identifier.issuer.strip(),
        kind=identifier.kind,
        value_key=keys.value,
        loose_key=keys.loose,
        issuer_key=keys.issuer,
        identifies=identifies,
        retired=False,
        position=at,
    )


def notice(
    session: Session,
    kind: Kind,
    detail: str,
    *,
    study: str = "",
    one: str = "",
    other: str = "",
) -> None:
    """Tell people of something that they must judge; numbers only, no names."""
    incidents.note(session, [Incident(kind, study, one, other, detail, utc_now())])


def _alike(session: Session, keys: identity.Keys) -> Sequence[IdentifierRow]:
    """Return the identifiers of the same issuer that differ by leading zeros at most."""
    return session.scalars(_ALIKE, {"issuer": keys.issuer, "loose": keys.loose}).all()


def _chosen(
    alike: Sequence[IdentifierRow], keys: identity.Keys, rules: Rules
) -> IdentifierRow | None:
    exact = next((row for row in alike if row.value_key == keys.value), None)
    if exact is not None or not rules.ignore_leading_zeros:
        return exact
    return alike[0] if len({row.patient_ref for row in alike}) == 1 else None


def _made(session: Session, context: Context, request: PatientRequest) -> Known:
    """Make the patient that a message names."""
    patient, row, told = _add(session, context, request.identifier, request)
    _add_others(session, context, patient, request.other_identifiers)
    return Known([patient], row, created=True, changed=told)


def _add(
    session: Session,
    context: Context,
    identifier: Identifier,
    request: PatientRequest | None = None,
) -> tuple[PatientRow, IdentifierRow, bool]:
    """Make a patient with what is told of it; return also whether anything is."""
    patient_id, identifier_id = together.take(session, PatientRow, IdentifierRow)
    patient, changes = telling.introduced(context, patient_id, request)
    row = identifier_row(context, patient_id, identifier, identifies=True, at=FIRST)
    row.id = identifier_id
    together.write(session, [patient, row, *changes])
    return patient, row, bool(changes)


def _add_others(
    session: Session, context: Context, row: PatientRow, told: Sequence[Identifier]
) -> bool:
    """Write down the numbers that identify nobody, those that are new."""
    if not told:
        return False
    statement = select(IdentifierRow).where(IdentifierRow.patient_ref == row.id)
    held = {(one.value_key, one.kind) for one in session.scalars(statement)}
    added = False
    for identifier in told:
        if len(held) >= MAX_IDENTIFIERS or not _is_short(identifier, context.sender):
            continue
        key = identity.keys_of(identifier, context.sender).value, identifier.kind
        if key in held:
            continue
        held.add(key)
        new = add_identifier(session, context, row.id, identifier, identifies=False, at=LAST)
        _tell_sharers(session, new)
        added = True
    return added


def _is_short(identifier: Identifier, sender: str) -> bool:
    try:
        identity.keys_of(identifier, sender)
    except Malformed:
        return False
    return True


def _tell_lookalikes(
    session: Session, alike: Sequence[IdentifierRow], identifier: Identifier
) -> None:
    """Tell people of a new patient whose number differs from another's by leading zeros."""
    for row in alike:
        detail = "two patients whose numbers differ by leading zeros"
        notice(session, Kind.LOOK_ALIKE, detail, one=row.value, other=identifier.value)


def _tell_sharers(session: Session, new: IdentifierRow) -> None:
    """Tell people when a citizen number, or a number that identifies, is of two patients."""
    statement = select(IdentifierRow).where(
        IdentifierRow.value_key == new.value_key,
        IdentifierRow.patient_ref != new.patient_ref,
    )
    if new.kind == identity.CITIZEN:
        statement = statement.where(IdentifierRow.kind == new.kind)
    else:
        statement = statement.where(
            IdentifierRow.identifies, IdentifierRow.issuer_key == new.issuer_key
        )
    other = session.scalars(statement.limit(1)).first()
    if other is None:
        return
    shown = patients.identifiers_of(session, [new.patient_ref, other.patient_ref])
    one, another = (shown[ref][0].value for ref in (new.patient_ref, other.patient_ref))
    detail = "two patients came with one number: perhaps they are one person"
    notice(session, Kind.SHARED_NUMBER, detail, one=one, other=another)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
