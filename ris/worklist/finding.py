"""The steps that match a query, earliest first."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import Final

from sqlalchemy import Select, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from ris import orders, patients
from ris.keys import Attributes
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from ris.worklist.entries import Scheduled
from ris.worklist.filtering import Filter, Query
from storage.db.engine import Engine, Session, transaction

PAGE: Final = 200
"""Entries of one transaction of `iterate`."""


def find_steps(session: Session, query: Query, limit: int, zone: tzinfo) -> Iterator[Attributes]:
    """Yield at most `limit` entries that match, earliest first.

    Raises
    ------
    Malformed
        A key cannot be read; the text names its keyword.
    """
    wanted = Filter(query, zone)
    left = limit
    for ids in _pages(candidates(session, wanted)):
        for entry in _matching(session, wanted, ids)[:left]:
            left -= 1
            yield entry
        if not left:
            return


def iterate(engine: Engine, query: Query, limit: int, zone: tzinfo) -> Iterator[Attributes]:
    """Yield at most `limit` entries that match, earliest first, read in short transactions.

    Raises
    ------
    Malformed
        A key cannot be read. Raised before the first entry.
    """
    wanted = Filter(query, zone)
    with transaction(engine) as session:
        found = candidates(session, wanted)
    left = limit
    for ids in _pages(found):
        with transaction(engine) as session:
            entries = _matching(session, wanted, ids)[:left]
        yield from entries
        left -= len(entries)
        if not left:
            return


def candidates(session: Session, wanted: Filter) -> Sequence[int]:
    """Return the row ids of the steps that may match, earliest first."""
    return session.scalars(_statement(wanted)).all()


def _statement(wanted: Filter) -> Select[int]:
    return (
        select(StepRow.id)
        .join(ProcedureRow, ProcedureRow.id == StepRow.procedure_ref)
        .join(OrderRow, OrderRow.id == StepRow.order_ref)
        .where(*wanted.conditions())
        .order_by(StepRow.start, StepRow.id)
    )


def _pages(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(ids), PAGE):
        yield ids[first : first + PAGE]


def _matching(session: Session, wanted: Filter, ids: Sequence[int]) -> list[Attributes]:
    """Return the entries of these steps that match, as they are now."""
    steps = (one for one in load(session, ids) if wanted.shows(one))
    return [entry for entry in map(wanted.entry, steps) if wanted.matches(entry)]


def load(session: Session, ids: Iterable[int]) -> list[Scheduled]:
    """Return these steps with all that they are a part of, in this order; unknown ones left out."""
    wanted = [*ids]
    statement = (
        select(StepRow, ProcedureRow, OrderRow, PatientRow.root_ref)
        .join(ProcedureRow, ProcedureRow.id == StepRow.procedure_ref)
        .join(OrderRow, OrderRow.id == StepRow.order_ref)
        .join(PatientRow, PatientRow.id == OrderRow.patient_ref)
        .where(StepRow.id == any_(literal(wanted, ARRAY(BigInteger))))
    )
    rows = session.execute(statement.execution_options(populate_existing=True)).all()
    people = patients.load(session, {root or order.patient_ref for _, _, order, root in rows})
    visits = patients.visits(session, {one for _, _, order, _ in rows if (one := order.visit_ref)})
    found = {
        step.id: Scheduled(
            step=orders.step_of(step),
            procedure=orders.procedure_of(procedure),
            order=orders.order_of(order),
            patient=people[root or order.patient_ref],
            visit=visits.get(order.visit_ref) if order.visit_ref else None,
        )
        for step, procedure, order, root in rows
    }
    return [found[step_id] for step_id in wanted if step_id in found]
