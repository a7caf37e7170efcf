"""Orders, worklists and performed steps under ``/api/v1``, and why an order is on no worklist."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from ris import explain, orders, patients, performed, reconcile, worklist
from ris.explain import Language
from ris.model import Order, Patient, RequestedProcedure, ScheduledStep
from ris.performed import PerformedStep
from ris.verdict import PerformedStatus
from ris.worklist import MODALITY, START_DATE, STATION, STATUS
from storage.access.tokens import Action
from storage.base.errors import Malformed
from storage.db.engine import Session
from viewer_api import deps, problems
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1", tags=["orders"], dependencies=[Depends(deps.may(Action.SEE_ORDERS))]
)

MAX_ID: Final = 2**63 - 1
Limit = Annotated[int, Query(ge=1, le=1000)]
OrderId = Annotated[int, Path(ge=1, le=MAX_ID)]
LastId = Annotated[int | None, Query(ge=1, le=MAX_ID)]
Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order with everything that is a part of it."""

    order: Order
    patient: Patient
    """Who stands for the patient that it was ordered for."""
    procedures: list[RequestedProcedure]
    steps: list[ScheduledStep]
    study_instance_uids: list[str]
    """The studies that are attached to it."""


@dataclass(frozen=True, slots=True)
class ExplanationView:
    """Why an order is not on the worklist of a console."""

    number: str
    ae_title: str
    shown: bool
    asked_at: str
    """When the console asked last, '' for never."""
    keys: dict[str, str]
    """What it asked for then."""
    findings: list[dict[str, Any]]
    """Each with a sentence in the language that the client asks for."""


@router.get("/orders")
def list_orders(
    session: Transaction,
    *,
    number: Text = "",
    patient_id: Text = "",
    study_instance_uid: Text = "",
    limit: Limit = 100,
    before: LastId = None,
) -> list[OrderView]:
    """List orders, the newest first: of a number, of a patient, of a study, or all.

    `number` is an accession number, or a placer or filler order number; `before` is the id of the
    last one seen.
    """
    if number:
        found = orders.find_by_number(session, number)
    elif patient_id:
        people = patients.known_as(session, [patient_id])
        found = [one for root in sorted(people) for one in orders.of_patient(session, root)]
    elif study_instance_uid:
        found = orders.find_by_study(session, study_instance_uid)
    else:
        found = orders.newest(session, limit, before)
    newest = sorted(found, key=lambda one: -one.id)
    return [_order(session, one) for one in newest if before is None or one.id < before][:limit]


@router.get("/orders/{order_id}")
def show_order(session: Transaction, order_id: OrderId) -> OrderView:
    """Return one order."""
    return _order(session, orders.get(session, order_id))


@router.get("/worklist")
def show_worklist(  # noqa: PLR0913 - one parameter for each usual key
    request: Request,
    session: Transaction,
    *,
    station: Text = "",
    modality: Text = "",
    date: Text = "",
    patient_id: Text = "",
    patient_name: Text = "",
    accession_number: Text = "",
    status: Text = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """List the entries of the worklist, earliest first, by DICOM keyword.

    Keys are written as in DICOM: ``20260105-`` is a range, ``NGUYEN*`` a pattern.
    """
    keys = {
        STATION: station,
        MODALITY: modality,
        START_DATE: date,
        STATUS: status,
        "PatientID": patient_id,
        "PatientName": patient_name,
        "AccessionNumber": accession_number,
    }
    zone = deps.parts(request).settings.zone
    found = worklist.find_steps(session, worklist.Query(keys), limit, zone)
    return [dict(entry) for entry in found]


@router.get("/worklist/explain")
def explain_order(
    request: Request,
    session: Transaction,
    order: Annotated[str, Query(min_length=1, max_length=200)],
    ae: Annotated[str, Query(min_length=1, max_length=16)],
) -> ExplanationView:
    """Ask the last query of a console again and name what keeps an order off its list."""
    zone = deps.parts(request).settings.zone
    found = explain.explain(session, order, ae, zone)
    language = Language(problems.language_of(request))
    return ExplanationView(
        number=found.number,
        ae_title=found.ae_title,
        shown=found.is_shown,
        asked_at=found.query.asked_at.isoformat(timespec="seconds") if found.query else "",
        keys=dict(found.query.keys) if found.query else {},
        findings=[{**asdict(one), "text": explain.tell(one, language)} for one in found.findings],
    )


@router.get("/performed-steps")
def list_performed_steps(
    session: Transaction,
    *,
    study_instance_uid: Text = "",
    order_id: LastId = None,
    status: PerformedStatus | None = None,
    limit: Limit = 100,
    before: Text = "",
) -> list[PerformedStep]:
    """List performed steps, the newest first: of a study, of an order, or all.

    `before` is the SOP Instance UID of the last one seen.
    """
    if study_instance_uid:
        found = performed.of_study(session, study_instance_uid)
    elif order_id is not None:
        found = performed.of_order(session, order_id)
    else:
        return performed.newest(session, limit, before or None, status)
    if before:
        raise Malformed("before: only the list of all steps has pages")
    return [one for one in reversed(found) if status in (None, one.status)][:limit]


@router.get("/performed-steps/{uid}")
def show_performed_step(session: Transaction, uid: str) -> PerformedStep:
    """Return one performed step by its SOP Instance UID."""
    return performed.show(session, uid)


def _order(session: Session, order: Order) -> OrderView:
    return OrderView(
        order=order,
        patient=patients.shown(session, order.patient_id),
        procedures=[*orders.procedures_of(session, order.id)],
        steps=[*orders.steps_of(session, order.id)],
        study_instance_uids=reconcile.attached_to(session, order.id),
    )
