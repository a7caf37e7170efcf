"""What is told of a patient: written down change by change, so that it can be taken back.

A message names one patient. What it tells goes to that patient and, when it was merged away, to
those whom it was merged into (``root ◄ … ◄ named``). The demographics of each are the sum of the
changes that are not undone, its blanks filled from those who were merged into it; so an un-merge
leaves what would be there if the merge had never been.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from sqlalchemy import and_, bindparam, select, update

from ris import identity
from ris.model import MergeKind
from ris.requests import Context, PatientRequest
from ris.tables import MergeRow, PatientChangeRow, PatientRow
from storage.base import names
from storage.base.clock import utc_now
from storage.db.engine import Session

Facts = Mapping[str, str | None]
"""Column → value, the birth date as YYYY-MM-DD."""

TEXTS: Final = (
    "patient_name",
    "patient_sex",
    "mother_name",
    "patient_address",
    "patient_telephone",
    "ethnic_group",
)
BLANK: Final[Facts] = {
    **dict.fromkeys((*TEXTS, "patient_birth_date_sent"), ""),
    "patient_birth_date": None,
}
_CHILDREN: Final = (
    select(PatientRow)
    .join(
        MergeRow,
        and_(
            MergeRow.prior_ref == PatientRow.id,
            MergeRow.kind == MergeKind.MERGE,
            MergeRow.undone_at.is_(None),
        ),
    )
    .where(PatientRow.merged_into == bindparam("into"))
    .order_by(MergeRow.id)
)
_YEAR: Final = re.compile(r"(\d{4})0*")


def facts_of(row: PatientRow) -> dict[str, str | None]:
    """Return the demographics that a patient is shown with."""
    born = row.patient_birth_date
    return {
        **{name: getattr(row, name) for name in (*TEXTS, "patient_birth_date_sent")},
        "patient_birth_date": born.isoformat() if born else None,
    }


def told(request: PatientRequest) -> dict[str, str | None]:
    """Return what a message says, nothing for what it leaves out, empty for what it deletes."""
    found: dict[str, str | None] = {
        name: value for name in TEXTS if (value := getattr(request, name)) is not None
    }
    sent, born = request.patient_birth_date_sent, request.patient_birth_date
    if sent is not None or born is not None:
        found["patient_birth_date"] = born.isoformat() if born else None
        found["patient_birth_date_sent"] = sent or ""
    return found


def judged(found: Mapping[str, str | None], held: Facts) -> tuple[dict[str, str | None], list[str]]:
    """Return what of the news is taken, and what is passed over and why.

    A patient keeps its name when it is deleted or damaged on the way, and a whole birth date when
    only the same year comes.
    """
    taken, notes = dict(found), []
    name = taken.get("patient_name")
    if name is not None and held["patient_name"]:
        if not names.words(name):
            del taken["patient_name"]
            notes.append("PID-5 passed over: a patient keeps its name")
        elif identity.is_damaged(name) and not identity.is_damaged(held["patient_name"]):
            del taken["patient_name"]
            notes.append("PID-5 passed over: letters of the name were lost")
    year = _YEAR.fullmatch(taken.get("patient_birth_date_sent") or "")
    born = held["patient_birth_date"]
    if taken.get("patient_birth_date", "") is None and year and born and born[:4] == year[1]:
        del taken["patient_birth_date"], taken["patient_birth_date_sent"]
    return taken, notes


def total(changes: Iterable[Facts]) -> dict[str, str | None]:
    """Return the demographics that changes add up to."""
    sum_: dict[str, str | None] = {**BLANK}
    for change in changes:
        sum_.update(change)
    return sum_


def history(session: Session, patient_id: int) -> list[Facts]:
    """Return everything that was ever shown of a patient, the newest last."""
    known: Facts = BLANK
    found: list[Facts] = []
    for change in _changes(session, patient_id):
        known = {**known, **change}
        found.append(known)
    row = session.get_one(PatientRow, patient_id)
    return [*found, facts_of(row)]


def filled(facts: Facts, children: Iterable[Facts]) -> dict[str, str | None]:
    """Return `facts`, its blanks filled from those who were merged into the patient, in order."""
    whole = dict(facts)
    for child in children:
        whole.update({name: value for name, value in child.items() if value and not whole[name]})
    return whole


def tell(
    session: Session, context: Context, path: Sequence[PatientRow], request: PatientRequest
) -> tuple[bool, list[str]]:
    """Apply what a message says of `path[0]` to it and to those it was merged into.

    Returns
    -------
    tuple
        Whether anything changed, and notes.
    """
    named, found = path[0], told(request)
    if not found:  # a number alone is no news: older demographics may still come
        return False, []
    if named.sent_by == context.sender and identity.is_older(context.sent_at, named.sent_at):
        return False, ["older than what is known: demographics left as they are"]
    shown = facts_of(named)
    taken, notes = judged(found, shown)
    named.sent_at, named.sent_by = context.sent_at or named.sent_at, context.sender
    differs = any(shown[name] != value for name, value in taken.items())
    if not differs and not _children(session, named):
        return False, notes
    own = total(_changes(session, named.id, of_itself=True))
    news = {
        name: value
        for name, value in taken.items()
        if value != own[name] or (value and value != shown[name])
    }
    if not news:
        return False, notes
    _record(session, context, named, named.id, news)
    # what is heard for the first time of one who is merged away corrects nobody else
    change = {name: value for name, value in news.items() if own[name] not in {"", None, value}}
    notes += _pass_on(session, context, path, change) if change else []
    refresh(session, path)
    return True, notes


def confirms(context: Context, named: PatientRow, request: PatientRequest) -> bool:
    """Return whether a message tells what is shown of a patient, leaves nothing and is not older.

    Then `tell` would note no more than who said so last and when.
    """
    found, shown = told(request), facts_of(named)
    if not found or (
        named.sent_by == context.sender and identity.is_older(context.sent_at, named.sent_at)
    ):
        return False
    taken, notes = judged(found, shown)
    return not notes and all(shown[name] == value for name, value in taken.items())


def _pass_on(
    session: Session, context: Context, path: Sequence[PatientRow], change: Facts
) -> list[str]:
    for row in path[1:]:
        shown = facts_of(row)
        if identity.is_another_person(shown, {**shown, **change}):
            return ["of a patient that was merged: the survivor is another person"]
        if row.sent_by != context.sender or not identity.is_older(context.sent_at, row.sent_at):
            _record(session, context, row, path[0].id, change)
    return []


def refresh(session: Session, path: Sequence[PatientRow]) -> None:
    """Show of each patient what its changes add up to, `path` from below."""
    session.flush()
    for row in path:
        facts = total(_changes(session, row.id))
        _show(row, filled(facts, map(facts_of, _children(session, row))))
        session.flush()


def take_back(session: Session, path: Sequence[PatientRow], told_of: Sequence[int]) -> None:
    """Undo on `path` what was told of others."""
    session.flush()
    undone = (
        update(PatientChangeRow)
        .where(
            PatientChangeRow.patient_ref.in_([row.id for row in path]),
            PatientChangeRow.told_of.in_(told_of),
            PatientChangeRow.undone_at.is_(None),
        )
        .values(undone_at=utc_now())
    )
    session.execute(undone.execution_options(synchronize_session=False))
    refresh(session, path)


def introduced(
    context: Context, patient_id: int, request: PatientRequest | None
) -> tuple[PatientRow, Sequence[PatientChangeRow]]:
    """Return a new patient as a message tells of it, and the change that this is, if it is one."""
    now, found = utc_now(), told(request) if request else {}
    row = PatientRow(
        id=patient_id,
        root_ref=patient_id,
        merged_into=None,
        patient_name_key="",
        sent_at=context.sent_at if found else None,
        sent_by=context.sender if found else "",
        created_at=now,
        changed_at=now,
        **BLANK,
    )
    taken, _ = judged(found, BLANK)
    news = {name: value for name, value in taken.items() if value != BLANK[name]}
    _show(row, {**BLANK, **news})
    return row, [_change(context, patient_id, patient_id, news)] if news else []


def _record(
    session: Session, context: Context, row: PatientRow, told_of: int, change: Facts
) -> None:
    session.add(_change(context, row.id, told_of, change))


def _change(context: Context, patient_id: int, told_of: int, change: Facts) -> PatientChangeRow:
    return PatientChangeRow(
        patient_ref=patient_id,
        told_of=told_of,
        changed={**change},
        sender=context.sender,
        message_id=context.message_id,
        made_at=utc_now(),
        undone_at=None,
    )


def _children(session: Session, row: PatientRow) -> Sequence[PatientRow]:
    """Return who was merged into a patient, in the order of the merges."""
    return session.scalars(_CHILDREN, {"into": row.id}).all()


def _changes(session: Session, patient_id: int, *, of_itself: bool = False) -> list[Facts]:
    statement = select(PatientChangeRow.changed).where(
        PatientChangeRow.patient_ref == patient_id, PatientChangeRow.undone_at.is_(None)
    )
    if of_itself:
        statement = statement.where(PatientChangeRow.told_of == patient_id)
    return [*session.scalars(statement.order_by(PatientChangeRow.id))]


def _show(row: PatientRow, facts: Facts) -> None:
    if facts_of(row) == facts:
        return
    for name, value in facts.items():
        shown = date.fromisoformat(value) if name == "patient_birth_date" and value else value
        setattr(row, name, shown)
    row.patient_name_key = names.search_key(row.patient_name)
    row.changed_at = utc_now()
