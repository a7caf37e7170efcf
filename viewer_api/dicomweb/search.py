"""QIDO-RS, the Search Transaction (PS3.18 10.6)."""

from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from storage.access.sessions import Audience
from storage.access.tokens import Action
from storage.archive import custom, search
from storage.archive.model import Level, Page
from storage.base import values
from storage.db.engine import transaction
from viewer_api import deps
from viewer_api.dicomweb import fields, models, parameters, results

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.QUERY))]
)


TOTAL: Final = "X-Total-Count"
COUNTED: Final = 1_000
"""So many results behind a page are counted: as cheap as the page itself."""


@router.get("/studies")
def search_studies(request: Request) -> Response:
    """Search for studies."""
    return _search(request, Level.STUDY, {})


@router.get("/series")
def search_all_series(request: Request) -> Response:
    """Search for series of all studies."""
    return _search(request, Level.SERIES, {})


@router.get("/instances")
def search_all_instances(request: Request) -> Response:
    """Search for instances of all studies."""
    return _search(request, Level.IMAGE, {})


@router.get("/studies/{study}/series")
def search_series(request: Request, study: str) -> Response:
    """Search for the series of a study."""
    return _search(request, Level.SERIES, {"StudyInstanceUID": study})


@router.get("/studies/{study}/instances")
def search_study_instances(request: Request, study: str) -> Response:
    """Search for the instances of a study."""
    return _search(request, Level.IMAGE, {"StudyInstanceUID": study})


@router.get("/studies/{study}/series/{series}/instances")
def search_instances(request: Request, study: str, series: str) -> Response:
    """Search for the instances of a series."""
    parents = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return _search(request, Level.IMAGE, parents)


def _search(request: Request, level: Level, parents: Mapping[str, str]) -> Response:
    chosen = models.offer(request, "search results are")
    parents = {keyword: values.uid(uid) for keyword, uid in parents.items()}
    parts = deps.parts(request)
    with transaction(parts.engine) as session:
        asked = parameters.parse(
            request.url.query,
            level,
            parents,
            parts.settings.max_find_results,
            lambda: custom.load(session),
        )
        page = search.find(
            session,
            asked.query,
            limit=asked.limit,
            after=asked.after or None,
            offset=asked.offset,
            count=COUNTED,
        )
    url = deps.dicomweb_url(request)
    found: Sequence[results.Json] = results.datasets(page.matches, asked, parents, url)
    warnings = [*results.warning_texts(asked, page)]
    paths = fields.wanted(asked.include) if level is Level.IMAGE else ()
    if paths != () and not fields.complete(parts, url, found, page.matches, paths):
        warnings.append(f"the first {fields.MOST} results have all that was asked for")
    if paths != () or asked.query.custom:
        found = results.with_custom(found, page.matches, asked)
    if deps.audience(request) is Audience.VIEWER:
        found = results.with_lists_of_modalities(found)
    headers = _headers(request, asked, page, warnings)
    if not found:
        return Response(status_code=204, headers=headers)
    return models.answer(request, chosen, found, headers)


def _headers(
    request: Request, asked: parameters.Search, page: Page, warnings: Sequence[str]
) -> Mapping[str, str]:
    root, headers = deps.root_url(request), {}
    if warnings:  # PS3.18 8.3.4.4 and RFC 7234 5.5: one Warning for each thing to say
        headers["Warning"] = ", ".join(f'299 {_host(root)} "{text}"' for text in warnings)
    if page.after is not None:  # RFC 8288
        query = parameters.next_page(request.url.query, page.after)
        headers["Link"] = f'<{root}{request.url.path}?{query}>; rel="next"'
    if (total := results.total(asked, page)) is not None:
        headers[TOTAL] = str(total)
    return headers


def _host(root: str) -> str:
    return root.partition("://")[2].partition("/")[0]
