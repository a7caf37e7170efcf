"""Entries of the audit journal by criteria; those of a patient are of all who are one with him."""

from collections.abc import Sequence

from sqlalchemy import false

from ris.listing import people
from storage.audit import listing
from storage.db import criteria
from storage.db.criteria import Criterion, Rule, Rules, Wanted
from storage.db.engine import Session

load = listing.load


def find(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Return the ids of a page of entries."""
    return listing.find(session, wanted, _links(full=full))


def count(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    """Return how many entries match."""
    return listing.count(session, asked, _links(full=full))


def _links(*, full: bool) -> Rules:
    column = listing.patient()
    link = people.Link(
        of_roots=lambda roots: criteria.among(column, people.members(roots)),
        of_archive=lambda _ids: false(),
    )
    of_patient = people.rule(link, full=full)
    return {"patient": Rule(of_patient.matches, column.is_not(None), of_patient.through)}
