"""Patients of the RIS, and those of the archive that are nobody of the RIS.

Both have one order of ids: a patient of the archive stands as far below zero as its own id is above
`BELOW`, so that a page goes through the newest of the RIS first and of the archive then.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ris import identity, patients
from ris.model import Patient
from ris.tables import ArchivePatientRow, IdentifierRow, PatientRow
from storage.archive import listing
from storage.archive.listing import ArchivePatient
from storage.db import criteria
from storage.db.criteria import (
    Criterion,
    Instants,
    Mode,
    Reference,
    Rule,
    Rules,
    Token,
    Wanted,
    Words,
    each,
)
from storage.db.engine import Session

BELOW: Final = -(2**62)
ARCHIVE: Final = "a"
"""Begins the public id of a patient of the archive."""
LONGEST: Final = 18
"""Digits of an id."""
KINDS: Final[Mapping[str, str]] = {"cccd": "NI", "bhyt": "HC", "bhxh": "SS", "passport": "PPN"}
"""Systems of numbers that persons have outside the hospital → kind (CX-5)."""
ISSUER: Final = "issuer:"
"""Begins a system of patient numbers: what follows is who gives them out."""
GENDERS: Final[Mapping[str, str]] = {"F": "female", "M": "male", "O": "other"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A patient of the RIS with those that it stands for, or one of the archive alone."""

    number: int
    """Its place in the order of ids."""
    patient: Patient | None = None
    merged: tuple[Patient, ...] = ()
    archived: ArchivePatient | None = None
    replaced_by: int | None = None
    """Who stands for it."""
    changed_at: datetime


def number_of(text: str) -> int | None:
    """Return the number that a public id means, None when it is none."""
    digits = text.removeprefix(ARCHIVE)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST):
        return None
    return BELOW + int(digits) if text.startswith(ARCHIVE) else int(digits)


def id_of(number: int) -> str:
    """Return the public id of a number."""
    return f"{ARCHIVE}{number - BELOW}" if number < 0 else str(number)


def find(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Return the numbers of a page of patients; without `full` by numbers of hospitals alone."""
    found: list[int] = []
    for part in (_of_ris, _of_archive) if wanted.newest_first else (_of_archive, _of_ris):
        left = replace(wanted, limit=wanted.limit - len(found))
        if left.limit > 0:
            found += part(session, left, full=full)
    return found


def _of_ris(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    where = criteria.conditions(_rules(full=full), wanted.criteria)
    return criteria.page_ids(session, PatientRow.id, where, wanted)


def _of_archive(session: Session, wanted: Wanted, *, full: bool) -> list[int]:  # noqa: ARG001 - as its sibling
    after = None if wanted.after is None else wanted.after - BELOW
    # one that is asked for by name is told who he is by now
    named = any(one.name == "_id" and not one.negated for one in wanted.criteria)
    but_not = linked().where(false()) if named else linked()
    found = listing.find_patients(session, replace(wanted, after=after), but_not)
    return [BELOW + one for one in found]


def count(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    """Return how many patients match."""
    where = criteria.conditions(_rules(full=full), asked)
    return criteria.count(session, PatientRow.id, where) + listing.count_patients(
        session, asked, linked()
    )


def linked() -> Select[tuple[int]]:
    """Return the patients of the archive that are patients of the RIS."""
    return select(ArchivePatientRow.archive_patient)


def load(session: Session, numbers: Collection[int]) -> dict[int, Person]:
    """Return these patients by number; who is not there is left out."""
    return {
        **_load_ris(session, [one for one in numbers if one >= 0]),
        **_load_archive(session, [one for one in numbers if one < 0]),
    }


def _load_ris(session: Session, ids: Collection[int]) -> dict[int, Person]:
    if not ids:
        return {}
    rows = session.execute(
        select(PatientRow.id, PatientRow.root_ref, PatientRow.changed_at).where(
            or_(PatientRow.id.in_(ids), PatientRow.root_ref.in_(ids))
        )
    ).all()
    known = patients.load(session, [row.id for row in rows])
    return {
        row.id: Person(
            number=row.id,
            patient=known[row.id],
            merged=tuple(
                known[one.id] for one in rows if one.root_ref == row.id and one.id != row.id
            ),
            replaced_by=row.root_ref if row.root_ref not in {None, row.id} else None,
            changed_at=max(one.changed_at for one in rows if row.id in {one.id, one.root_ref}),
        )
        for row in rows
        if row.id in ids
    }


def _load_archive(session: Session, numbers: Collection[int]) -> dict[int, Person]:
    found = listing.load_patients(session, [one - BELOW for one in numbers])
    roots = of_archive(session, found)
    return {
        BELOW + id_: Person(
            number=BELOW + id_,
            archived=one,
            replaced_by=roots.get(id_),
            changed_at=one.received_at,
        )
        for id_, one in found.items()
    }


def of_archive(session: Session, archive_ids: Iterable[int]) -> dict[int, int]:
    """Return who of the RIS stands for patients of the archive; who is nobody is left out."""
    statement = (
        select(ArchivePatientRow.archive_patient, PatientRow.root_ref)
        .join(PatientRow, PatientRow.id == ArchivePatientRow.patient_ref)
        .where(ArchivePatientRow.archive_patient.in_([*archive_ids]))
    )
    return {row.archive_patient: row.root_ref for row in session.execute(statement)}


# Those that other rows refer to


@dataclass(frozen=True, slots=True)
class Link:
    """How the rows of a table refer to patients."""

    of_roots: Callable[[Select[Any]], ColumnElement[bool]]
    """Whether a row is of one of these, or of one whom they stand for."""
    of_archive: Callable[[Select[Any]], ColumnElement[bool]]
    """Whether a row is of one of these patients of the archive."""


def rule(link: Link, *, full: bool) -> Rule:
    """Return the rule of a reference to a patient; one who was merged is who stands for him."""

    def through(criterion: Criterion) -> ColumnElement[bool]:
        where = criteria.conditions(_rules(full=full), [criterion])
        of_ris = link.of_roots(select(PatientRow.root_ref).where(*where))
        return of_ris | link.of_archive(listing.patients_where([criterion], linked()))

    return Rule(partial(_refers, link), true(), through)


def _refers(link: Link, wanted: Sequence[Any]) -> ColumnElement[bool]:
    numbers = [
        number
        for one in wanted
        if isinstance(one, Reference) and one.kind in {"", "Patient"}
        if (number := number_of(one.id)) is not None
    ]
    archive = [one - BELOW for one in numbers if one < 0]
    named = criteria.one_of(PatientRow.id, _array([one for one in numbers if one >= 0]))
    if not archive:
        return link.of_roots(select(PatientRow.root_ref).where(named))
    those = criteria.one_of(ArchivePatientRow.archive_patient, _array(archive))
    also = criteria.among(PatientRow.id, select(ArchivePatientRow.patient_ref).where(those))
    roots = link.of_roots(select(PatientRow.root_ref).where(named | also))
    return roots | link.of_archive(select(func.unnest(_array(archive))))


def _array(ids: Sequence[int]) -> ColumnElement[Any]:
    return literal(ids, ARRAY(BigInteger))


def members(roots: Select[Any]) -> Select[Any]:
    """Return a subquery of the patients whom those stand for, themselves too."""
    return select(PatientRow.id).where(criteria.among(PatientRow.root_ref, roots))


def archived(roots: Select[Any]) -> Select[Any]:
    """Return a subquery of the patients of the archive who are one of those."""
    return select(ArchivePatientRow.archive_patient).where(
        criteria.among(ArchivePatientRow.patient_ref, members(roots))
    )


# What a patient is searched by


@dataclass(frozen=True, slots=True)
class _Births:
    """The birth date: a day, or the month or year that is known of it."""

    def not_before(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it begins at `moment` or later."""
        day = moment.date() + timedelta(days=1 if moment.time() != time.min else 0)
        begins = _SENT + case((func.length(_SENT) == _YEAR, "0101"), else_="01")
        return and_(_BORN.is_not(None), day <= _BORN) | (_PARTIAL & (begins >= _digits(day)))

    def over_by(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it is over at `moment`."""
        day = moment.date()
        ends = _SENT + case((func.length(_SENT) == _YEAR, "1231"), else_="31")
        return and_(_BORN.is_not(None), day > _BORN) | (_PARTIAL & (ends < _digits(day)))

    @property
    def present(self) -> ColumnElement[bool]:
        """Whether there is one."""
        return _BORN.is_not(None) | _PARTIAL


_BORN: Final = PatientRow.patient_birth_date
_SENT: Final = PatientRow.patient_birth_date_sent
_YEAR: Final = len("YYYY")
_PARTIAL: Final = _BORN.is_(None) & _SENT.regexp_match("^[0-9]{4}([0-9]{2})?$")


def _digits(day: date) -> str:
    return f"{day.year:04}{day.month:02}{day.day:02}"


def _is(wanted: Sequence[Any]) -> ColumnElement[bool]:
    texts = (one.code if isinstance(one, Token) else one.id for one in wanted)
    numbers = [number for text in texts if (number := number_of(text)) is not None]
    return criteria.one_of(PatientRow.id, _array(numbers))


def _number(wanted: Any, *, full: bool) -> ColumnElement[bool]:  # noqa: ANN401
    """Compare the numbers of a patient and of those that he stands for."""
    if not isinstance(wanted, Token):
        return false()
    held: list[ColumnElement[bool]] = [] if full else [IdentifierRow.identifies.is_(True)]
    if wanted.code:
        held.append(IdentifierRow.value_key.in_(identity.spellings(wanted.code)))
    if wanted.system is not None:
        held.append(_of_system(wanted.system))
    named = select(IdentifierRow.patient_ref).where(*held)
    roots = select(PatientRow.root_ref).where(criteria.among(PatientRow.id, named))
    return criteria.among(PatientRow.id, named) | criteria.among(PatientRow.id, roots)


def _of_system(system: str) -> ColumnElement[bool]:
    if system in KINDS:
        return (IdentifierRow.kind == KINDS[system]) & not_(IdentifierRow.identifies)
    issuer = system.removeprefix(ISSUER)
    if system and issuer == system:
        return false()
    return (IdentifierRow.issuer == issuer) & (
        IdentifierRow.identifies | IdentifierRow.kind.not_in([*KINDS.values()])
    )


def _name(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Words):
        return false()
    if wanted.mode is Mode.EXACT:
        return criteria.name_is(PatientRow.patient_name, PatientRow.patient_name_key, wanted.text)
    return criteria.name_like(PatientRow.patient_name_key, wanted)


def _family(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return criteria.family_like(PatientRow.patient_name, PatientRow.patient_name_key, wanted)


def _given(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return criteria.given_like(PatientRow.patient_name, PatientRow.patient_name_key, wanted)


def _gender(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Token):
        return false()
    codes = {name: code for code, name in GENDERS.items()}
    if wanted.code == "unknown":
        return PatientRow.patient_sex.not_in([*GENDERS])
    return PatientRow.patient_sex == codes.get(wanted.code, "?")


def _active(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    alone = PatientRow.merged_into.is_(None)
    return {"true": alone, "false": not_(alone)}.get(getattr(wanted, "code", ""), false())


def _rules(*, full: bool) -> Rules:
    named = PatientRow.patient_name_key > ""
    any_number = select(IdentifierRow.patient_ref)
    return {
        "_id": Rule(_is, true()),
        "identifier": Rule(each(partial(_number, full=full)), PatientRow.id.in_(any_number)),
        "name": Rule(each(_name), named),
        "family": Rule(each(_family), named),
        "given": Rule(each(_given), named),
        "birthdate": criteria.dated(_Births()),
        "gender": Rule(each(_gender), PatientRow.patient_sex > ""),
        "active": Rule(each(_active), true()),
        "_lastUpdated": criteria.dated(Instants(PatientRow.changed_at)),
    }
