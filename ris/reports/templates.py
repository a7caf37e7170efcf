"""Templates: the usual text of an examination, chosen by service, modality, sex and age.

Texts may have merge fields in double braces, ``{{age}}``; one that is not known stays as it is,
so that the reader sees what is missing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from ris.reports import contents
from ris.reports.contents import MOST_CHARACTERS, check_short
from ris.reports.faults import LANGUAGES, Fault, Invalid, Missing
from ris.reports.model import SECTIONS, Content
from ris.reports.tables import TemplateRow
from storage.base.clock import utc_now
from storage.db.engine import Session

MERGE_FIELDS: Final = (
    "patient_name",
    "age",
    "sex",
    "procedure",
    "accession_number",
    "performed_at",
    "prior_study_date",
    "contrast",
    "dose",
)
_FIELD: Final = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The text that a report begins with."""

    code: str
    title: str
    language: str = "vi"
    service_codes: tuple[str, ...] = ()
    """Empty: any."""
    modality: str = ""
    sex: str = ""
    """``M`` or ``F``; '' any."""
    least_age_months: int = 0
    most_age_months: int | None = None
    """Inside the range; None: no end."""
    sections: Mapping[str, str] = field(default_factory=dict)
    """By the names of `model.SECTIONS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a template is wanted for; '' and None: not known."""

    service_codes: tuple[str, ...] = ()
    modality: str = ""
    sex: str = ""
    age_months: int | None = None
    language: str = "vi"


def fits(template: Template, case: Case) -> bool:
    """Return whether nothing that a template asks for contradicts the case."""
    age = case.age_months
    return (
        template.language == case.language
        and (not template.service_codes or bool({*template.service_codes} & {*case.service_codes}))
        and template.modality in {"", case.modality}
        and template.sex in {"", case.sex}
        and (age is None or template.least_age_months <= age)
        and (age is None or template.most_age_months is None or age <= template.most_age_months)
    )


def closeness(template: Template) -> tuple[bool, bool, bool, bool]:
    """Return how narrowly a template is meant: service before modality, sex and age."""
    bounded = template.least_age_months > 0 or template.most_age_months is not None
    return bool(template.service_codes), bool(template.modality), bool(template.sex), bounded


def merge(template: Template, values: Mapping[str, str]) -> Content:
    """Return the text with its merge fields filled in."""

    def filled(match: re.Match[str]) -> str:
        return values.get(match[1]) or match[0]

    return contents.from_json(
        {name: _FIELD.sub(filled, template.sections.get(name, "")) for name in SECTIONS}
    )


def put(session: Session, template: Template) -> Template:
    """Keep a template, in the place of one with the same code.

    Raises
    ------
    Invalid
        Code or title are empty, a text is too long, a section, a merge field or the language
        are none of ours.
    """
    _check(template)
    kept = {**asdict(template), "service_codes": [*template.service_codes]}
    kept["sections"] = {
        name: check_short(text, f"/sections/{name}", MOST_CHARACTERS)
        for name, text in template.sections.items()
    }
    kept["changed_at"] = utc_now()
    session.execute(
        insert(TemplateRow)
        .values(**kept)
        .on_conflict_do_update(index_elements=["code"], set_=kept)
        .execution_options(synchronize_session=False)
    )
    return get(session, template.code)


def get(session: Session, code: str) -> Template:
    """Return a template.

    Raises
    ------
    Missing
        There is none with that code.
    """
    row = session.get(TemplateRow, code.replace("\0", ""), populate_existing=True)
    if row is None:
        raise Missing(Fault("no_template"))
    return _template(row)


def remove(session: Session, code: str) -> None:
    """Remove a template; reports that began with it keep their text.

    Raises
    ------
    Missing
        There is none with that code.
    """
    get(session, code)
    session.execute(delete(TemplateRow).where(TemplateRow.code == code))


def list_all(session: Session) -> Sequence[Template]:
    """Return every template by code."""
    return [
        _template(row) for row in session.scalars(select(TemplateRow).order_by(TemplateRow.code))
    ]


def find(session: Session, case: Case) -> Sequence[Template]:
    """Return the templates that fit, the most narrowly meant first."""
    fitting = [one for one in list_all(session) if fits(one, case)]
    return sorted(fitting, key=closeness, reverse=True)


def _check(template: Template) -> None:
    faults = [
        Fault("required", f"/{name}")
        for name in ("code", "title")
        if not getattr(template, name).strip()
    ]
    if template.language not in LANGUAGES:
        faults.append(Fault("unknown_value", "/language", {"known": ", ".join(LANGUAGES)}))
    if template.sex not in {"", "M", "F"}:
        faults.append(Fault("unknown_value", "/sex", {"known": "M, F"}))
    for name, text in template.sections.items():
        if name not in SECTIONS:
            known = ", ".join(SECTIONS)
            faults.append(Fault("unknown_value", f"/sections/{name}", {"known": known}))
        elif {*_FIELD.findall(text)} - {*MERGE_FIELDS}:
            known = ", ".join(MERGE_FIELDS)
            faults.append(Fault("unknown_value", f"/sections/{name}", {"known": known}))
    if faults:
        raise Invalid(*faults)
    for name in ("code", "title", "modality"):
        check_short(getattr(template, name), f"/{name}", 200)


def _template(row: TemplateRow) -> Template:
    return Template(
        code=row.code,
        title=row.title,
        language=row.language,
        service_codes=tuple(row.service_codes),
        modality=row.modality,
        sex=row.sex,
        least_age_months=row.least_age_months,
        most_age_months=row.most_age_months,
        sections=row.sections,
    )
