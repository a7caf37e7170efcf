"""What the archive shows follows what we are told of patients, and no object is rewritten.

    a patient of the archive ─ by number, issuer and demographics ─► a patient of ours   (a link)
    that one, or who stands for it by merges                      ─► what is shown

A link is made once, when number and demographics agree with what is known or was known, and keeps
the demographics that it was made by. What differs from them later was corrected; so images of
devices that write names without accents go out as they are. Where it is not certain who it is,
nothing is linked and a person is told: nothing is ever shown under the wrong patient.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select, text

from ris import identity, patients, registration, telling
from ris.model import Patient
from ris.requests import Identifier
from ris.tables import ArchivePatientRow, IdentifierRow, PatientRow
from storage.archive import corrections
from storage.archive.corrections import Held, Showing
from storage.archive.incidents import Kind
from storage.base import names
from storage.base.clock import utc_now
from storage.base.errors import Malformed, Unavailable
from storage.db.engine import Engine, Session, transaction

AT_ONCE: Final = 100
"""New patients of the archive that are looked at in one transaction."""
_NAME, _BORN, _SEX = "PatientName", "PatientBirthDate", "PatientSex"
_ID, _ISSUER = "PatientID", "IssuerOfPatientID"
_LOCK: Final = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")

Identity = Mapping[str, str]
"""By the keywords of `corrections.IDENTITY`."""


def follow(session: Session, patient_ids: Collection[int]) -> None:
    """Let the archive show these patients, and all that are one with them, as they are now.

    The caller keeps merges away (`registration.lock`), so that who is one with whom stands still.
    """
    roots = _roots(session, patient_ids)
    group = _members(session, roots)
    _hold(session, _numbers(session, group))
    found = corrections.named(session, [row.value for row in _identifiers(session, group)])
    _link(session, found)
    _show(session, roots)


def follow_new(session: Session, identifier: IdentifierRow) -> None:
    """Do the same with a patient that this transaction made: nobody else can know it yet."""
    _hold(session, {identifier.value_key})
    if _link(session, corrections.named(session, [identifier.value])):
        _show(session, _roots(session, [identifier.patient_ref]))


def arrivals(session: Session, most: int = AT_ONCE) -> int:
    """Look at patients who are new in the archive; return how many there were."""
    ids = corrections.arrived(session, most)
    if not ids:
        return 0
    registration.lock(session, ())
    found = corrections.held(session, ids)
    candidates = {row.patient_ref for one in found for row in _candidates(session, one)}
    group = _members(session, _roots(session, candidates))
    _hold(session, _numbers(session, group) | {_number_of(one) for one in found})
    linked = _link(session, found)
    _show(session, _roots(session, linked))
    corrections.seen(session, ids)
    return len(ids)


class Arrivals:
    """Looks at patients who are new in the archive; one of these in each worker."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._most = AT_ONCE

    def run_once(self) -> int:
        """Look at some of them; return how many there were.

        After an exception they are looked at one by one; who makes trouble alone is passed over.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        try:
            with transaction(self._engine) as session:
                found = arrivals(session, self._most)
        except Unavailable:
            raise
        except Exception:
            if self._most == 1:
                self._pass_over_first()
            self._most = 1
            raise
        self._most = AT_ONCE
        return found

    def _pass_over_first(self) -> None:
        with suppress(Unavailable), transaction(self._engine) as session:
            corrections.seen(session, corrections.arrived(session, 1))


def tell_later_images(session: Session, patient_ids: Collection[int], since: datetime) -> None:
    """Tell people of images that came while patients were one who are so no more."""
    for uid in later_images(session, patient_ids, since):
        detail = "came while two patients were merged: whose images are they?"
        registration.notice(session, Kind.UNMERGED_WITH_LATER_IMAGES, detail, study=uid)


def later_images(session: Session, patient_ids: Collection[int], since: datetime) -> Sequence[str]:
    """Return the studies of patients, and of all who are one with them, with objects since then."""
    rows = _links(session, _members(session, _roots(session, patient_ids)))
    return corrections.since(session, [row.archive_patient for row in rows], since)


def studies_of(session: Session, root: int) -> Sequence[str]:
    """Return the studies of a patient and of those merged into it."""
    return later_images(session, [root], datetime.min.replace(tzinfo=UTC))


# Who is one with whom


def _roots(session: Session, patient_ids: Collection[int]) -> set[int]:
    wanted = select(PatientRow.root_ref).where(PatientRow.id.in_({*patient_ids}))
    return {root for root in session.scalars(wanted) if root is not None} if patient_ids else set()


def _members(session: Session, roots: Collection[int]) -> set[int]:
    wanted = select(PatientRow.id).where(PatientRow.root_ref.in_({*roots}))
    return {*session.scalars(wanted)} if roots else set()


def _identifiers(session: Session, patient_ids: Collection[int]) -> Sequence[IdentifierRow]:
    statement = select(IdentifierRow).where(
        IdentifierRow.identifies, IdentifierRow.patient_ref.in_({*patient_ids})
    )
    return session.scalars(statement).all() if patient_ids else []


def _numbers(session: Session, patient_ids: Collection[int]) -> set[str]:
    return {row.value_key for row in _identifiers(session, patient_ids)}


def name(number: str) -> str:
    """Return under which name it is held who bears a number in the archive."""
    return f"follow\n{number}"


def _hold(session: Session, numbers: Iterable[str]) -> None:
    """Let nobody else link patients of the archive that bear these numbers."""
    digests = (hashlib.blake2b(name(one).encode(), digest_size=8) for one in numbers)
    keys = sorted(int.from_bytes(digest.digest(), signed=True) for digest in digests)
    if keys:
        session.execute(_LOCK, {"keys": keys})


# Linking


def _link(session: Session, found: Sequence[Held]) -> list[int]:
    """Link those that are not linked yet, where it is certain; return whom all belong to."""
    known = {row.archive_patient: row for row in _rows(session, [one.id for one in found])}
    owners = [row.patient_ref for row in known.values()]
    for one in found:
        if one.id in known:
            continue
        row = _owned(session, one)
        if row is not None:
            session.add(row)
            owners.append(row.patient_ref)
    session.flush()
    return owners


def _owned(session: Session, one: Held) -> ArchivePatientRow | None:
    """Return the link of a patient of the archive, None when it is not certain who it is."""
    candidates = _candidates(session, one)
    agreed = {
        row.patient_ref: (row, facts)
        for row in candidates
        if (facts := _agreed(session, one.identity, row)) is not None
    }
    if len(agreed) != 1:
        if candidates:
            detail = "the archive and the patient registry tell different persons by this number"
            registration.notice(session, Kind.PATIENT_CONFLICT, detail, one=one.identity[_ID])
        return None
    [(row, facts)] = agreed.values()
    patient = patients.get(session, row.patient_ref)
    named = row if row.retired else patient.identifier
    return ArchivePatientRow(
        archive_patient=one.id,
        patient_ref=patient.id,
        known_as={**_demographics(facts), _ID: named.value, _ISSUER: named.issuer},
        linked_at=utc_now(),
    )


def _candidates(session: Session, one: Held) -> Sequence[IdentifierRow]:
    """Return the identifiers of ours that a patient of the archive may bear.

    An object without an issuer may mean whoever has the number.
    """
    number, issuer = _number_of(one), one.identity[_ISSUER]
    if not number:
        return []
    statement = select(IdentifierRow).where(
        IdentifierRow.identifies, IdentifierRow.value_key == number
    )
    if issuer:
        keys = identity.keys_of(Identifier(one.identity[_ID], issuer), "")
        statement = statement.where(IdentifierRow.issuer_key == keys.issuer)
    return session.scalars(statement).all()


def _number_of(one: Held) -> str:
    try:
        return identity.keys_of(Identifier(one.identity[_ID]), "").value
    except Malformed:
        return ""


def _agreed(session: Session, said: Identity, row: IdentifierRow) -> telling.Facts | None:
    """Return the newest demographics that we knew and that agree with what objects say."""
    for facts in reversed(telling.history(session, row.patient_ref)):
        if _agree(said, _demographics(facts)):
            return facts
    return None


def _agree(said: Identity, known: Identity) -> bool:
    """Return whether objects and we tell of one person; without a name it takes the issuer."""
    if said[_BORN] and known[_BORN] and said[_BORN] != known[_BORN]:
        return False
    if not names.words(said[_NAME]):
        return bool(said[_ISSUER])
    return bool(names.words(known[_NAME])) and names.same_person_name(said[_NAME], known[_NAME])


def _demographics(facts: telling.Facts) -> dict[str, str]:
    born = facts["patient_birth_date"] or ""
    return {
        _NAME: facts["patient_name"] or "",
        _BORN: born.replace("-", ""),
        _SEX: facts["patient_sex"] or "",
    }


def _rows(session: Session, archive_ids: Collection[int]) -> Sequence[ArchivePatientRow]:
    statement = select(ArchivePatientRow).where(ArchivePatientRow.archive_patient.in_(archive_ids))
    return session.scalars(statement).all() if archive_ids else []


def _links(session: Session, patient_ids: Collection[int]) -> Sequence[ArchivePatientRow]:
    statement = select(ArchivePatientRow).where(ArchivePatientRow.patient_ref.in_(patient_ids))
    ordered = statement.order_by(ArchivePatientRow.archive_patient)
    return session.scalars(ordered).all() if patient_ids else []


# Showing


def _show(session: Session, roots: Collection[int]) -> None:
    for root in sorted(roots):
        links = _links(session, _members(session, [root]))
        people = {
            one.id: one
            for one in corrections.held(session, [link.archive_patient for link in links])
        }
        if not people:
            continue
        corrections.hold(session, people.values())
        patient = patients.get(session, root)
        corrections.show(session, _showings(session, patient, links, people))


def _showings(
    session: Session,
    root: Patient,
    links: Sequence[ArchivePatientRow],
    people: Mapping[int, Held],
) -> list[Showing]:
    """Return how the patients of the archive that are `root` by now are shown."""
    now = _identity(root)
    own = [link for link in links if link.patient_ref == root.id]
    merged = [link for link in links if link.patient_ref != root.id]
    showings = [
        Showing(link.archive_patient, identity=_corrected(session, link, people, now))
        for link in own
    ]
    if not merged:
        return showings
    if own:
        first = showings[0]
        survivor, shown = first.id, first.identity or people[first.id].identity
    else:
        survivor, shown = merged[0].archive_patient, now
    for link in merged:
        other = survivor if link.archive_patient != survivor else None
        showings.append(Showing(link.archive_patient, other, shown))
    return showings


def _corrected(
    session: Session, link: ArchivePatientRow, people: Mapping[int, Held], now: Identity
) -> Identity | None:
    """Return what is shown of a patient in place of what its objects say, None for nothing."""
    known: Identity = {key: str(value) for key, value in link.known_as.items()}
    changed = {key: value for key, value in now.items() if value != known[key]}
    if not names.words(now[_NAME]):
        changed.pop(_NAME, None)
    if not changed:
        return None
    if identity.is_another_person(_facts(known), _facts(now)):
        detail = "name and birth date were changed at once: its images are left as they are"
        registration.notice(session, Kind.PATIENT_CONFLICT, detail, one=known[_ID], other=now[_ID])
        return None
    return {**people[link.archive_patient].identity, **changed}


def _facts(known: Identity) -> telling.Facts:
    return {"patient_name": known[_NAME], "patient_birth_date": known[_BORN] or None}


def _identity(patient: Patient) -> dict[str, str]:
    born = patient.patient_birth_date
    return {
        _NAME: patient.patient_name,
        _BORN: f"{born:%Y%m%d}" if born else "",
        _SEX: patient.patient_sex,
        _ID: patient.identifier.value,
        _ISSUER: patient.identifier.issuer,
    }
