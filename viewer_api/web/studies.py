"""The list of studies at ``/``: search by patient, order, date and modality, page by page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from storage.access.tokens import Action
from storage.archive import search
from storage.archive.model import Level, Match, Page, Query
from storage.base import names, temporal
from storage.base.errors import Malformed
from viewer_api import deps, pages
from viewer_api.deps import Transaction

router = APIRouter(
    include_in_schema=False, dependencies=[Depends(deps.may(Action.QUERY, page=True))]
)

PER_PAGE: Final = 50
LAST_PAGE: Final = 2000
MAX_VALUE: Final = 128
MODALITIES: Final = (
    *("CR", "CT", "DX", "ECG", "ES", "IO", "MG", "MR", "NM", "OP", "OT", "PT", "PX", "RF"),
    *("SC", "SM", "SR", "US", "XA", "XC"),
)
"""Those of PS3.3 C.7.3.1.1.1 that hospitals have."""
FIELDS: Final = ("name", "id", "accession", "modality", "from", "to")


@dataclass(frozen=True, slots=True)
class Row:
    """One study as the list shows it."""

    uid: str
    patient_name: str
    other_name: str
    """Of another alphabet, '' when there is none."""
    patient_id: str
    sex: str
    birth_date: date | None
    study_date: date | None
    study_time: str
    description: str
    accession_number: str
    modalities: tuple[str, ...]
    series: int
    images: int


@router.get("/")
def list_studies(request: Request, session: Transaction) -> Response:
    """Show the studies that match, latest first."""
    asked = {field: request.query_params.get(field, "")[:MAX_VALUE].strip() for field in FIELDS}
    number = _page_number(request.query_params.get("page", ""))
    today = datetime.now(deps.parts(request).settings.zone).date()
    fault = False
    try:
        page = search.find(session, query(asked), limit=PER_PAGE, offset=(number - 1) * PER_PAGE)
    except Malformed:
        page, fault = Page(()), True
    return pages.render(
        request,
        deps.root_url(request),
        "studies.html",
        400 if fault else 200,
        asked=asked,
        filtered=any(asked.values()),
        fault=fault,
        rows=[row(match) for match in page.matches],
        number=number,
        previous=_link(asked, number - 1) if number > 1 else "",
        next=_link(asked, number + 1) if page.after and number < LAST_PAGE else "",
        modalities=MODALITIES,
        spans=_spans(asked, today),
    )


def query(asked: Mapping[str, str]) -> Query:
    """Return the query of what was typed; parts of names and numbers are enough.

    Raises
    ------
    Malformed
        A date is none.
    """
    keys = {
        "PatientName": asked["name"],
        "PatientID": _start(asked["id"]),
        "AccessionNumber": _start(asked["accession"]),
        "ModalitiesInStudy": asked["modality"],
        "StudyDate": _dates(asked["from"], asked["to"]),
    }
    plain = {keyword: value.replace("\\", "") for keyword, value in keys.items()}
    return Query(Level.STUDY, plain, fuzzy=True)


def row(match: Match) -> Row:
    """Return a study as the list shows it; what is no date is shown as none."""
    name = names.parse_pn(_text(match, "PatientName"))
    shown = [_words(group) for group in (name.alphabetic, name.ideographic) if group]
    return Row(
        uid=_text(match, "StudyInstanceUID"),
        patient_name=shown[0] if shown else "",
        other_name=shown[1] if len(shown) > 1 else "",
        patient_id=_text(match, "PatientID"),
        sex=_text(match, "PatientSex"),
        birth_date=_date(match, "PatientBirthDate"),
        study_date=_date(match, "StudyDate"),
        study_time=_time(match, "StudyTime"),
        description=_text(match, "StudyDescription"),
        accession_number=_text(match, "AccessionNumber"),
        modalities=tuple(match.get("ModalitiesInStudy") or ()),
        series=int(match.get("NumberOfStudyRelatedSeries") or 0),
        images=int(match.get("NumberOfStudyRelatedInstances") or 0),
    )


def _words(group: str) -> str:
    """Return a component group as people write it: family, given and middle name, no marks."""
    return " ".join(group.replace("^", " ").split())


def _text(match: Match, keyword: str) -> str:
    value: Any = match.get(keyword) or ""
    return str(value)


def _date(match: Match, keyword: str) -> date | None:
    try:
        return temporal.parse_da(_text(match, keyword))
    except Malformed:
        return None


def _time(match: Match, keyword: str) -> str:
    try:
        found = temporal.parse_tm(_text(match, keyword))
    except Malformed:
        return ""
    return f"{found:%H:%M}" if found else ""


def _start(typed: str) -> str:
    return f"{typed}*" if typed and not {"*", "?"} & {*typed} else typed


def _dates(first: str, last: str) -> str:
    """Return a range of DA of two dates as browsers send them (HTML 2.3.5.2)."""
    ends = [_day(text) for text in (first, last)]
    return "-".join(ends) if any(ends) else ""


def _day(text: str) -> str:
    if not text:
        return ""
    try:
        return f"{date.fromisoformat(text):%Y%m%d}"
    except ValueError as error:
        raise Malformed("a date is YYYY-MM-DD") from error


def _page_number(text: str) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(LAST_PAGE))
    return min(max(int(text), 1), LAST_PAGE) if digits else 1


def _link(asked: Mapping[str, str], number: int = 1) -> str:
    given = {field: value for field, value in asked.items() if value}
    if number > 1:
        given["page"] = str(number)
    return f"?{urlencode(given)}"


def _spans(asked: Mapping[str, str], today: date) -> Mapping[str, tuple[str, bool]]:
    """Return the links to usual spans of days, each with whether it is the one shown."""
    days = {
        "today": (today, today),
        "yesterday": (today - timedelta(days=1), today - timedelta(days=1)),
        "week": (today - timedelta(days=6), today),
    }
    spans = {
        name: {"from": first.isoformat(), "to": last.isoformat()}
        for name, (first, last) in days.items()
    }
    return {
        name: (_link({**asked, **span}), span.items() <= asked.items())
        for name, span in spans.items()
    }
