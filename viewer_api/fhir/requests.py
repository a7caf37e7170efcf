"""ServiceRequest (FHIR R4 12.14) of an order."""

from collections.abc import Iterator
from typing import Final

from ris.listing.requests import (
    ACCESSION,
    DRAFT,
    FILLER,
    PLACER,
    PRIORITY,
    REQUISITION,
    STATUS,
    Request,
)
from ris.model import RequestedProcedure
from storage.base import names
from viewer_api.fhir import datatypes
from viewer_api.fhir.datatypes import Context, Json

KIND: Final = "ServiceRequest"
IMAGING: Final = ("http://snomed.info/sct", "363679005", "Imaging")


def render(request: Request, context: Context) -> Json:
    """Return the resource."""
    order, naming = request.order, context.naming
    procedures = [one for one in request.procedures if not one.canceled] or [*request.procedures]
    codes = [_code(one, context) for one in procedures]
    starts = sorted(one.start for one in request.steps if one.start)
    requisition = order.group_number
    return datatypes.full(
        resourceType=KIND,
        id=str(order.id),
        meta={"lastUpdated": datatypes.instant(order.changed_at)},
        identifier=[*_numbers(request, context)],
        requisition=datatypes.identifier(naming.system(REQUISITION), requisition)
        if requisition
        else None,
        status=DRAFT if order.awaited else STATUS[order.state],
        intent="order",
        category=[datatypes.coded(*IMAGING)],
        priority=PRIORITY.get(order.priority),
        code=codes[0] if codes else None,
        orderDetail=codes[1:] if codes else None,
        subject=datatypes.reference(
            "Patient",
            str(request.patient.root),
            names.in_reading_order(request.patient.patient_name),
        ),
        encounter=_encounter(request, context),
        occurrenceDateTime=datatypes.local(starts[0], context.zone) if starts else None,
        authoredOn=datatypes.local(order.issued_at, context.zone),
        requester=_requester(request),
        reasonCode=[naming.concept(order.reason)] if order.reason else None,
        performer=[{"display": title} for title in _stations(request)],
        note=[{"text": order.clinical_information}] if order.clinical_information.strip() else None,
    )


def _numbers(request: Request, context: Context) -> Iterator[Json]:
    order, naming = request.order, context.naming
    for kind, value, of, type_ in (
        (PLACER, order.placer_order_number, order.placer_issuer, "PLAC"),
        (FILLER, order.filler_order_number, "", "FILL"),
        (ACCESSION, order.accession_number, order.accession_issuer, "ACSN"),
    ):
        if value:
            yield datatypes.identifier(naming.system(kind, of), value, type_)


def _code(procedure: RequestedProcedure, context: Context) -> Json:
    if procedure.code is not None:
        return context.naming.concept(procedure.code)
    return datatypes.full(text=procedure.description)


def _encounter(request: Request, context: Context) -> Json | None:
    visit = request.visit
    if visit is None or not visit.admission_id:
        return None
    number = datatypes.identifier(context.naming.system("visit"), visit.admission_id, "VN")
    return {"type": "Encounter", "identifier": number}


def _requester(request: Request) -> Json | None:
    order = request.order
    who = names.in_reading_order(order.requesting_physician)
    told = ", ".join(one for one in (who, order.requesting_service.strip()) if one)
    return {"display": told} if told else None


def _stations(request: Request) -> list[str]:
    titles = (title for step in request.steps for title in step.station_ae_titles)
    return [*dict.fromkeys(title for title in titles if title.strip())]
