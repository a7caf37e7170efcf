"""What messages may ask of the domain, each verb in the session it is given (`dispatch.Verbs`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from ris import (
    appointments,
    archive_patients,
    merges,
    ordering,
    placing,
    registration,
    unmerging,
)
from ris.model import Rules
from ris.placing import Asked, Placed
from ris.registration import Known
from ris.requests import (
    Applied,
    AppointmentRequest,
    Context,
    Identifier,
    MergeRequest,
    OrderRequest,
    PatientRequest,
    VisitRequest,
)
from storage.base.clock import utc_now
from storage.db.engine import Session

AHEAD: Final = timedelta(days=1)
"""A message from further in the future has a wrong clock: it counts as sent now."""
ARRIVAL: Final = "A10"


@dataclass(frozen=True, slots=True)
class Domain:
    """The verbs of the RIS; `zone` is that of the hospital."""

    zone: tzinfo
    rules: Rules = field(default_factory=Rules)

    def admit(
        self,
        session: Session,
        context: Context,
        event: str,
        patient: PatientRequest,
        visit: VisitRequest,
    ) -> Applied:
        """Create or update a patient and the visit (ADT `event`)."""
        told = self._at(context)
        known, applied = registration.admit(session, told, self.rules, event, patient, visit)
        _follow(session, known)
        if event == ARRIVAL:
            ordering.arrived(session, known.id)
        return applied

    def merge(self, session: Session, context: Context, pairs: Sequence[MergeRequest]) -> Applied:
        """Merge each prior patient into its survivor."""
        applied = merges.merge(session, self._at(context), self.rules, pairs)
        self._follow_all(session, context, pairs)
        return applied

    def renumber(
        self, session: Session, context: Context, pairs: Sequence[MergeRequest]
    ) -> Applied:
        """Give each prior patient the survivor's number."""
        applied = merges.renumber(session, self._at(context), self.rules, pairs)
        self._follow_all(session, context, pairs)
        return applied

    def link(
        self, session: Session, context: Context, one: Identifier, other: Identifier
    ) -> Applied:
        """Note that two patients are one person."""
        return merges.link(session, self._at(context), self.rules, one, other)

    def unlink(
        self, session: Session, context: Context, one: Identifier, other: Identifier
    ) -> Applied:
        """Undo a link or a merge of two patients."""
        applied, undone = merges.unlink(session, self._at(context), self.rules, one, other)
        if undone is not None:
            unmerging.follow(session, undone)
        return applied

    def order(
        self,
        session: Session,
        context: Context,
        patient: PatientRequest,
        visit: VisitRequest,
        order: OrderRequest,
    ) -> Applied:
        """Do with one order what its control code says."""
        told = self._at(context)
        known, applied = ordering.apply(session, told, self.rules, patient, visit, order)
        _follow(session, known)
        return applied

    def place(self, session: Session, asked: Sequence[Asked]) -> Placed:
        """Draw up many new orders at once, those that need not be left to `order`."""
        told = [replace(one, context=self._at(one.context)) for one in asked]
        return placing.place(session, told)

    def appoint(
        self, session: Session, context: Context, appointment: AppointmentRequest
    ) -> Applied:
        """Move or take back the time of an order."""
        return appointments.appoint(session, self._at(context), appointment)

    def undo_merge(self, session: Session, merge_id: int) -> None:
        """Undo a merge of the journal, as a person decided.

        Raises
        ------
        NotFound
            The journal has no such merge, or it was undone.
        """
        unmerging.undo(session, merge_id)

    def _follow_all(
        self, session: Session, context: Context, pairs: Sequence[MergeRequest]
    ) -> None:
        found = (
            registration.find(session, pair.survivor.identifier, context.sender, self.rules)
            for pair in pairs
        )
        archive_patients.follow(session, {row.patient_ref for row in found if row is not None})

    def _at(self, context: Context) -> Context:
        now: datetime = utc_now().astimezone(self.zone).replace(tzinfo=None)
        if context.sent_at is None or context.sent_at <= now + AHEAD:
            return context
        return replace(context, sent_at=now)


def _follow(session: Session, known: Known) -> None:
    if known.created:
        archive_patients.follow_new(session, known.identifier)
    elif known.changed:
        archive_patients.follow(session, [known.id])
