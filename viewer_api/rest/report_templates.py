"""Templates under ``/api/v1/report-templates``, as JSON and as MRRT documents."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ris.reports import mrrt, templates
from ris.reports.model import Content
from ris.reports.templates import Case, Template
from storage.access.tokens import Action
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1/report-templates",
    tags=["reports"],
    dependencies=[Depends(deps.may(Action.REPORT))],
)
MANAGES = [Depends(deps.may(Action.MANAGE))]
Code = Annotated[str, Path(max_length=200)]
Months = Annotated[int, Field(ge=0, le=2400)]


class TemplateRequest(BaseModel):
    """A template; `sections` by name: clinical_information, technique, comparison, findings …."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    language: str = "vi"
    service_codes: tuple[str, ...] = ()
    modality: str = ""
    sex: str = ""
    least_age_months: Months = 0
    most_age_months: Months | None = None
    sections: dict[str, str] = {}


class MergeRequest(BaseModel):
    """What stands in the place of merge fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: Mapping[str, str] = {}


@router.get("")
def find_templates(
    session: Transaction,
    service_code: Annotated[list[str] | None, Query()] = None,
    modality: str = "",
    sex: str = "",
    age_months: Annotated[int | None, Query(ge=0, le=2400)] = None,
    language: str = "vi",
) -> list[Template]:
    """Find the templates that fit a case, the most narrowly meant first."""
    case = Case(
        service_codes=tuple(service_code or ()),
        modality=modality,
        sex=sex,
        age_months=age_months,
        language=language,
    )
    return [*templates.find(session, case)]


@router.put("/{code}", dependencies=MANAGES)
def put_template(session: Transaction, code: Code, body: TemplateRequest) -> Template:
    """Keep a template, in the place of one with the same code."""
    return templates.put(session, Template(code=code, **body.model_dump()))


@router.delete("/{code}", dependencies=MANAGES, status_code=204)
def remove_template(session: Transaction, code: Code) -> None:
    """Remove a template."""
    templates.remove(session, code)


@router.get("/{code}")
def get_template(session: Transaction, code: Code) -> Template:
    """Return a template."""
    return templates.get(session, code)


@router.post("/{code}/merge")
def merge_template(session: Transaction, code: Code, body: MergeRequest) -> Content:
    """Return the text of a template with its merge fields filled in."""
    return templates.merge(templates.get(session, code), body.values)


@router.get("/{code}/mrrt")
def export_template(session: Transaction, code: Code) -> Response:
    """Return a template as an MRRT document."""
    page = mrrt.export(templates.get(session, code))
    headers = {"Content-Security-Policy": "sandbox", "Content-Disposition": "attachment"}
    return HTMLResponse(page, headers=headers)


@router.put("/{code}/mrrt", dependencies=MANAGES)
def import_template(
    session: Transaction, code: Code, page: Annotated[str, Body(embed=True)]
) -> Template:
    """Keep the template of an MRRT document under `code`."""
    found = mrrt.read(page)
    given = {**asdict(found), "code": code, "title": found.title or code}
    return templates.put(session, Template(**given))
