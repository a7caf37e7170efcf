"""What is told of performed procedure steps (PS3.3 C.4.13 to C.4.15)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ris.verdict import PerformedStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedItem:
    """One scheduled step that a performed step is for, as far as it is known."""

    study_instance_uid: str
    accession_number: str
    requested_procedure_id: str
    scheduled_procedure_step_id: str
    order_id: int | None
    procedure_id: int | None
    step_id: int | None
    linked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """A performed step as people see it."""

    sop_instance_uid: str
    status: PerformedStatus
    reason: str
    performed_procedure_step_id: str
    modality: str
    station_ae_title: str
    calling_ae_title: str
    patient_id: str
    started: datetime | None
    """Local time."""
    ended: datetime | None
    objects: int
    """How many it says it made."""
    assumed: bool
    synthesised: bool
    created_at: datetime
    changed_at: datetime
    items: tuple[PerformedItem, ...]

    @property
    def study_instance_uids(self) -> tuple[str, ...]:
        """The studies that it makes, each once."""
        return tuple(dict.fromkeys(item.study_instance_uid for item in self.items))


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a device made without telling of a performed step, for one in its place."""

    study_instance_uid: str
    patient_id: str
    modality: str
    station_ae_title: str
    started: datetime | None
    """Local time."""
    ended: datetime | None
    series_instance_uids: Sequence[str]
