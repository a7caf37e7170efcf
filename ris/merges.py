"""Who stands for whom: merges, their undoing, and new numbers, in a journal that can be read back.

    A40 A34 A30   prior ──► survivor        A37   undone again, with all that came through it
    A47 A46       another number            A24   two patients noted as one person, no more

A merge moves nothing. The prior keeps its row, numbers, visits and orders, and `root_ref` says who
stands for it; so an un-merge is exact, whatever happened in between. Chains are followed to their
end. Whatever changes who stands for whom goes through here, one at a time.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import or_, select, update

from ris import identity, registration, telling
from ris.model import Cycle, Merge, MergeKind, Rules
from ris.registration import FIRST, LAST, Known
from ris.releases import bases
from ris.requests import Applied, Context, Identifier, MergeRequest
from ris.tables import MergeRow, PatientRow
from storage.base.clock import utc_now
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session

UNCHANGED = "unchanged"
UNDONE_BY = "undone_by"
"""Among the details of an entry: the person who undid it."""


def merge(
    session: Session, context: Context, rules: Rules, pairs: Sequence[MergeRequest]
) -> Applied:
    """Merge each prior patient into its survivor; one that nobody knows is remembered as merged.

    Raises
    ------
    Cycle
        The survivor was merged into the prior.
    Conflict
        Both are one identifier, or the prior was merged into another patient.
    """
    registration.take_turns(session)
    outcomes, notes = [], []
    for pair in pairs:
        done, more = _merge(session, context, rules, pair)
        outcomes.append("merged" if done else UNCHANGED)
        notes += more
    return Applied(_summary(outcomes, "merged"), notes=tuple(notes))


def unlink(
    session: Session, context: Context, rules: Rules, one: Identifier, other: Identifier
) -> tuple[Applied, Merge | None]:
    """Undo the link or the merge of two patients; return the merge that was undone.

    Raises
    ------
    NotFound
        Nobody is known by one of the identifiers.
    Conflict
        They are one through others: a person must say which merge was wrong.
    """
    registration.take_turns(session)
    ids = []
    for identifier in (one, other):
        row = registration.find(session, identifier, context.sender, rules)
        if row is None:
            raise NotFound("PID-3: nobody is known by this identifier")
        ids.append(row.patient_ref)
    linked = _active(session, MergeKind.LINK, *ids) or _active(session, MergeKind.LINK, *ids[::-1])
    if linked is not None:
        _end(linked, context)
    rows = [session.get_one(PatientRow, patient_id) for patient_id in ids]
    for prior, survivor in (rows, rows[::-1]):
        if prior.merged_into == survivor.id and prior is not survivor:
            undone = _undo(session, context, prior)
            return Applied("unlinked"), undone
    if rows[0].root_ref == rows[1].root_ref and rows[0] is not rows[1]:
        raise Conflict("PID-3: merged through others; undo the merge that was wrong")
    return Applied("unlinked" if linked else UNCHANGED), None


def get(session: Session, entry_id: int) -> Merge:
    """Return one entry of the journal; raise `NotFound` when there is none of that id."""
    row = session.get(MergeRow, entry_id)
    if row is None:
        raise NotFound(f"the journal has no entry {entry_id}")
    return _entry(row)


def one_with(session: Session, roots: Collection[int]) -> set[int]:
    """Return everyone who ever was one with these patients, by merges that may be undone."""
    found, new = {*roots}, {*roots}
    while new:
        statement = select(MergeRow.prior_ref, MergeRow.survivor_ref).where(
            MergeRow.kind == MergeKind.MERGE,
            or_(MergeRow.prior_ref.in_(new), MergeRow.survivor_ref.in_(new)),
        )
        new = {one for pair in session.execute(statement) for one in pair} - found
        found |= new
    return found


def undo(session: Session, context: Context, merge_id: int, by: str = "") -> Merge:
    """Undo a merge of the journal; `by` names the person who decided it.

    Raises
    ------
    NotFound
        The journal has no such merge, or it was undone.
    """
    registration.take_turns(session)
    row = session.get(MergeRow, merge_id)
    if row is None or row.undone_at is not None or row.kind != MergeKind.MERGE:
        raise NotFound(f"there is no merge {merge_id} that could be undone")
    if by:
        row.details = {**row.details, UNDONE_BY: by}
    return _undo(session, context, session.get_one(PatientRow, row.prior_ref))


def link(
    session: Session, context: Context, rules: Rules, one: Identifier, other: Identifier
) -> Applied:
    """Note that two patients are one person; both go on as they are."""
    registration.take_turns(session)
    ids = []
    for identifier in (one, other):
        row = registration.find(session, identifier, context.sender, rules)
        ids.append((row or registration.add(session, context, identifier)).patient_ref)
    if ids[0] == ids[1] or _active(session, MergeKind.LINK, *ids):
        return Applied(UNCHANGED)
    _note(session, context, MergeKind.LINK, ids[0], ids[1])
    return Applied("linked")


def renumber(
    session: Session, context: Context, rules: Rules, pairs: Sequence[MergeRequest]
) -> Applied:
    """Give each prior patient the survivor's number; messages with the old one still find it.

    Raises
    ------
    Conflict
        Both are one identifier, or another patient has the new number.
    """
    registration.take_turns(session)
    outcomes, notes = [], []
    for pair in pairs:
        done = _renumber(session, context, rules, pair)
        known = registration.know(session, context, rules, pair.survivor)
        outcomes.append("renumbered" if done else UNCHANGED)
        notes += known.notes
    return Applied(_summary(outcomes, "renumbered"), notes=tuple(notes))


def journal(session: Session, patient_id: int) -> Sequence[Merge]:
    """Return every entry that names this patient, oldest first."""
    statement = (
        select(MergeRow)
        .where(or_(MergeRow.prior_ref == patient_id, MergeRow.survivor_ref == patient_id))
        .order_by(MergeRow.id)
    )
    return [_entry(row) for row in session.scalars(statement)]


# Merging


def _merge(
    session: Session, context: Context, rules: Rules, pair: MergeRequest
) -> tuple[bool, list[str]]:
    identifier = _prior(session, context, rules, pair)
    _refuse_same(pair.survivor.identifier, identifier, context.sender)
    survivor = registration.know(session, context, rules, pair.survivor)
    notes = survivor.notes
    found = registration.find(session, identifier, context.sender, rules)
    if found is None:
        found = registration.add(session, context, identifier)
        notes.append("MRG-1: not known; remembered as merged")
    prior, *above = registration.path_of(session, found.patient_ref)
    if prior.id == survivor.id:
        return False, [*notes, "MRG-1: a number of this patient already"]
    if prior.id in {row.id for row in survivor.path}:
        raise Cycle("MRG-1: the survivor was merged into this patient")
    if above and above[-1].id == survivor.root:
        return False, [*notes, "MRG-1: merged already"]
    if above:
        raise Conflict("MRG-1: merged into another patient; undo that first")
    _join(session, context, prior, survivor)
    return True, notes


def _prior(session: Session, context: Context, rules: Rules, pair: MergeRequest) -> Identifier:
    """Return MRG-1; without an issuer it is the survivor's, unless the sender gave it out."""
    prior, issuer = pair.prior, pair.survivor.identifier.issuer
    if prior.issuer or not issuer:
        return prior
    own = registration.find(session, prior, context.sender, rules)
    return prior if own else replace(prior, issuer=issuer)


def _refuse_same(one: Identifier, other: Identifier, sender: str) -> None:
    first, second = identity.keys_of(one, sender), identity.keys_of(other, sender)
    if (first.value, first.issuer) == (second.value, second.issuer):
        raise Conflict("MRG-1: the same identifier as PID-3")


def _join(session: Session, context: Context, prior: PatientRow, survivor: Known) -> None:
    now = utc_now()
    prior.merged_into = survivor.id
    session.flush()
    session.execute(
        update(PatientRow)
        .where(PatientRow.root_ref == prior.id)
        .values(root_ref=survivor.root, changed_at=now)
        .execution_options(synchronize_session="fetch")
    )
    session.get_one(PatientRow, survivor.root).changed_at = now
    _note(session, context, MergeKind.MERGE, prior.id, survivor.id)
    telling.refresh(session, survivor.path)
    bases.follow(session, survivor.root)


def _undo(session: Session, context: Context, prior: PatientRow) -> Merge:
    survivor = prior.merged_into or 0
    path = registration.path_of(session, survivor)
    below = _below(session, prior)
    prior.merged_into = None
    session.flush()
    now = utc_now()
    session.execute(
        update(PatientRow)
        .where(PatientRow.id.in_(below))
        .values(root_ref=prior.id, changed_at=now)
        .execution_options(synchronize_session="fetch")
    )
    session.get_one(PatientRow, path[-1].id).changed_at = now  # who no longer stands for them
    entry = _active(session, MergeKind.MERGE, prior.id, survivor)
    if entry is None:
        raise NotFound(f"the journal has no merge of patient {prior.id}")
    _end(entry, context)
    telling.take_back(session, path, below)
    bases.follow(session, prior.id, path[-1].id)
    return _entry(entry)


def _below(session: Session, top: PatientRow) -> list[int]:
    """Return `top` and everyone who was merged into it, directly or not."""
    group = select(PatientRow.id, PatientRow.merged_into).where(PatientRow.root_ref == top.root_ref)
    edges = [(child, parent) for child, parent in session.execute(group)]
    found, new = [top.id], {top.id}
    while new:
        new = {child for child, parent in edges if parent in new} - {*found}
        found += sorted(new)
    return found


# Numbers


def _renumber(session: Session, context: Context, rules: Rules, pair: MergeRequest) -> bool:
    old, new = _prior(session, context, rules, pair), pair.survivor.identifier
    _refuse_same(new, old, context.sender)
    held = registration.find(session, old, context.sender, rules)
    taken = registration.find(session, new, context.sender, rules)
    if taken is not None and (held is None or taken.patient_ref != held.patient_ref):
        raise Conflict("PID-3: another patient has this number; merge them instead")
    if held is None:
        held = registration.add(session, context, old)
    if held.retired and taken is not None and not taken.retired:
        return False
    if taken is None:
        taken = registration.add_identifier(
            session, context, held.patient_ref, new, identifies=True, at=FIRST
        )
    taken.retired, taken.position = False, FIRST
    held.retired, held.position = True, LAST
    details = {"old": held.value, "new": taken.value, "issuer": taken.issuer}
    _note(session, context, MergeKind.RENUMBER, held.patient_ref, held.patient_ref, details)
    session.flush()
    return True


# The journal


def _note(
    session: Session,
    context: Context,
    kind: MergeKind,
    prior_id: int,
    survivor_id: int,
    details: dict[str, str] | None = None,
) -> None:
    row = MergeRow(
        kind=kind,
        prior_ref=prior_id,
        survivor_ref=survivor_id,
        details=details or {},
        sender=context.sender,
        message_id=context.message_id,
        made_at=utc_now(),
    )
    session.add(row)
    session.flush()


def _active(session: Session, kind: MergeKind, prior_id: int, survivor_id: int) -> MergeRow | None:
    statement = select(MergeRow).where(
        MergeRow.kind == kind,
        MergeRow.prior_ref == prior_id,
        MergeRow.survivor_ref == survivor_id,
        MergeRow.undone_at.is_(None),
    )
    return session.scalars(statement).first()


def _end(row: MergeRow, context: Context) -> None:
    row.undone_at, row.undone_by = utc_now(), context.message_id


def _entry(row: MergeRow) -> Merge:
    return Merge(
        id=row.id,
        kind=MergeKind(row.kind),
        prior_id=row.prior_ref,
        survivor_id=row.survivor_ref,
        sender=row.sender,
        message_id=row.message_id,
        made_at=row.made_at,
        undone_at=row.undone_at,
        undone_by=row.details.get(UNDONE_BY, ""),
    )


def _summary(outcomes: Sequence[str], word: str) -> str:
    return word if word in outcomes else UNCHANGED
