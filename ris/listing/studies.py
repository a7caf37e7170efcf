"""Studies of the archive by criteria, page by page, with their patients and orders."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, select, true

from ris.listing import people, requests
from ris.study_tables import AttachmentRow
from storage.archive import listing
from storage.archive.listing import ListedStudy
from storage.db import criteria
from storage.db.criteria import Criterion, Reference, Rule, Rules, Wanted, each
from storage.db.engine import Session

ENDPOINT = "dicom-web"
"""The id of our only endpoint."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study as others refer to it."""

    listed: ListedStudy
    patient_number: int
    """In the order of `people`."""
    order_ids: tuple[int, ...]


def find(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Return the ids of a page of studies."""
    return listing.find_studies(session, wanted, _links(full=full))


def count(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    """Return how many studies match."""
    return listing.count_studies(session, asked, _links(full=full))


def uids_where(criterion: Criterion, *, full: bool) -> Select[Any]:
    """Return a subquery of the UIDs of studies, for what refers to them."""
    return listing.uids_where([criterion], _links(full=full))


def load(session: Session, ids: Collection[int]) -> dict[int, Study]:
    """Return these studies by id."""
    listed = listing.load_studies(session, ids)
    roots = people.of_archive(session, {one.patient.id for one in listed.values()})
    orders = orders_of(session, [one.study_instance_uid for one in listed.values()])
    return {
        id_: Study(
            one,
            roots.get(one.patient.id, people.BELOW + one.patient.id),
            tuple(orders.get(one.study_instance_uid, ())),
        )
        for id_, one in listed.items()
    }


def orders_of(session: Session, uids: Collection[str]) -> dict[str, list[int]]:
    """Return the orders that studies are attached to."""
    if not uids:
        return {}
    statement = (
        select(AttachmentRow.study_instance_uid, AttachmentRow.order_ref)
        .where(AttachmentRow.study_instance_uid.in_([*uids]), AttachmentRow.detached_at.is_(None))
        .order_by(AttachmentRow.id)
    )
    found: dict[str, list[int]] = {}
    for uid, order in session.execute(statement):
        held = found.setdefault(uid, [])
        if order not in held:
            held.append(order)
    return found


def patients_of(session: Session, uids: Collection[str]) -> dict[str, int]:
    """Return whose studies are, in the order of `people`; what is not held is left out."""
    owners = listing.owners(session, uids)
    roots = people.of_archive(session, set(owners.values()))
    return {uid: roots.get(one, people.BELOW + one) for uid, one in owners.items()}


def link() -> people.Link:
    """Return how studies refer to patients."""
    column = listing.study_patient()
    return people.Link(
        of_roots=lambda roots: criteria.among(column, people.archived(roots)),
        of_archive=partial(criteria.among, column),
    )


def _links(*, full: bool) -> Rules:
    of_patient = people.rule(link(), full=full)
    uid = listing.study_uid()
    attached = select(AttachmentRow.study_instance_uid).where(AttachmentRow.detached_at.is_(None))

    def ordered(wanted: Sequence[Any]) -> ColumnElement[bool]:
        by = requests.referred(AttachmentRow.order_ref, wanted)
        return criteria.among(uid, attached.where(by))

    def through(criterion: Criterion) -> ColumnElement[bool]:
        by = criteria.among(AttachmentRow.order_ref, requests.where(criterion, full=full))
        return criteria.among(uid, attached.where(by))

    return {
        "patient": of_patient,
        "subject": of_patient,
        "basedon": Rule(ordered, uid.in_(attached), through),
        "endpoint": Rule(each(_endpoint), true()),
    }


def _endpoint(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a criterion's value
    return literal(isinstance(wanted, Reference) and wanted.id == ENDPOINT)


SORTS = listing.STUDY_SORTS


def find_sorted(
    session: Session, asked: Sequence[Criterion], sort: str, limit: int, *, full: bool
) -> list[int]:
    """Return the ids of the studies that match, sorted; ``-`` before the name: latest first."""
    return listing.sort_studies(session, asked, _links(full=full), sort, limit)
