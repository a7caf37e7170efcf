"""What the hospital's system needs for its insurance files, under ``/api/v1/insurance``."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final
from xml.etree import ElementTree as ET

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ris import machines
from ris.insurance import checks, model, services
from ris.insurance.model import Service
from ris.insurance.services import By
from ris.machines import Machine
from storage.access.tokens import Action
from viewer_api import deps, problems
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1",
    tags=["insurance"],
    dependencies=[Depends(deps.may(Action.SEE_ORDERS)), Depends(deps.may(Action.READ_REPORTS))],
)
MANAGES: Final = [Depends(deps.may(Action.MANAGE))]
MAX_ID: Final = 2**63 - 1
XML: Final = "application/xml"
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (2.2) has no room for."""
Format = Annotated[str, Query(pattern="^(json|xml)$")]


class MachineRequest(BaseModel):
    """A machine as the insurance knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine_code: Annotated[str, Field(max_length=255)] = ""
    name: Annotated[str, Field(max_length=255)] = ""
    serial_number: Annotated[str, Field(max_length=255)] = ""
    circulation_number: Annotated[str, Field(max_length=255)] = ""
    room: Annotated[str, Field(max_length=255)] = ""


@router.get("/insurance/orders/{number}")
def show_order(
    request: Request,
    session: Transaction,
    number: Annotated[str, Path(max_length=200)],
    format: Format = "",  # noqa: A002 - the name in the URL
) -> Response:
    """Return the performed services of an order, by accession, placer or filler number.

    Fields are those of XML3 and XML4; `warnings` says what will not be accepted. With `format=xml`,
    or for who accepts nothing but XML, as XML.
    """
    found = services.of_order(session, number, deps.parts(request).settings.zone)
    return _answer(request, found, None, format)


@router.get("/insurance/services")
def list_services(  # noqa: PLR0913 - each is a parameter of the query
    request: Request,
    session: Transaction,
    *,
    day: Annotated[date, Query(ge=date(1900, 1, 1), le=date(9000, 1, 1))],
    by: By = By.PERFORMED,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    format: Format = "",  # noqa: A002 - the name in the URL
) -> Response:
    """List the services of a day, by the time of performing or of the signed result.

    `limit` is of orders; `next` goes into `after` for the next page and is null on the last one.
    """
    zone = deps.parts(request).settings.zone
    page = services.of_day(session, day, by, zone, limit=limit, after=after)
    return _answer(request, page.services, page.after, format)


@router.get("/machines")
def list_machines(session: Transaction) -> list[Machine]:
    """List the machines and their codes by AE title."""
    return [*machines.list_all(session)]


@router.put("/machines/{ae_title}", dependencies=MANAGES)
def put_machine(session: Transaction, ae_title: str, body: MachineRequest) -> Machine:
    """Register a machine, or change one."""
    return machines.put(session, Machine(ae_title=ae_title, **body.model_dump()))


@router.delete("/machines/{ae_title}", status_code=204, dependencies=MANAGES)
def remove_machine(session: Transaction, ae_title: str) -> Response:
    """Forget a machine."""
    machines.remove(session, ae_title)
    return Response(status_code=204)


def _answer(request: Request, found: Sequence[Service], after: int | None, wanted: str) -> Response:
    zone, language = deps.parts(request).settings.zone, problems.language_of(request)
    now = datetime.now(zone).replace(tzinfo=None)
    told = [_told(one, now, language) for one in found]
    accepts = request.headers.get("accept", "")
    as_xml = wanted == "xml" or (not wanted and XML in accepts and "json" not in accepts)
    if as_xml:
        return Response(_xml(told, after), media_type=XML)
    return JSONResponse({"services": told, "next": after})


def _told(one: Service, now: datetime, language: str) -> dict[str, Any]:
    return {
        "order_id": one.order_id,
        "accession_number": one.accession_number,
        "placer_order_number": one.placer_order_number,
        "report_uid": one.report_uid,
        "report_version": one.report_version,
        "ae_titles": list(one.ae_titles),
        "xml3": model.fields(one, model.XML3),
        "xml4": model.fields(one, model.XML4),
        "warnings": [
            {"code": found.code, "field": found.field, "text": found.words.told(language)}
            for found in checks.check(one, now)
        ],
    }


def _xml(told: list[dict[str, Any]], after: int | None) -> bytes:
    root = ET.Element("KET_QUA_CDHA")
    for one in told:
        service = ET.SubElement(root, "DICH_VU")
        for name in ("accession_number", "placer_order_number", "report_uid"):
            _add(service, name.upper(), one[name])
        _fields(service, "CHI_TIET_DVKT", one["xml3"])
        _fields(service, "CHI_TIET_CLS", one["xml4"])
        for warning in one["warnings"]:
            _fields(service, "CANH_BAO", warning)
    if after is not None:
        _add(root, "TIEP_THEO", str(after))
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _fields(parent: ET.Element, name: str, values: Mapping[str, str]) -> None:
    element = ET.SubElement(parent, name)
    for field, value in values.items():
        _add(element, field.upper(), value)


def _add(parent: ET.Element, name: str, value: str) -> None:
    ET.SubElement(parent, name).text = _NOT_XML.sub("", value)
