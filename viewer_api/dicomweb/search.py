"""QIDO-RS, the Search Transaction (PS3.18 10.6)."""

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from storage.access.tokens import Action
from storage.archive import search
from storage.archive.model import Level, Page
from storage.base import values
from storage.db.engine import Session
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.dicomweb import models, parameters, results
from viewer_api.media import Offer

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.QUERY))]
)


TOTAL: Final = "X-Total-Count"
COUNTED: Final = 1_000
"""So many results behind a page are counted: as cheap as the page itself."""


@router.get("/studies")
def search_studies(request: Request, session: Transaction) -> Response:
    """Search for studies."""
    return _search(request, session, Level.STUDY, {})


@router.get("/series")
def search_all_series(request: Request, session: Transaction) -> Response:
    """Search for series of all studies."""
    return _search(request, session, Level.SERIES, {})


@router.get("/instances")
def search_all_instances(request: Request, session: Transaction) -> Response:
    """Search for instances of all studies."""
    return _search(request, session, Level.IMAGE, {})


@router.get("/studies/{study}/series")
def search_series(request: Request, session: Transaction, study: str) -> Response:
    """Search for the series of a study."""
    return _search(request, session, Level.SERIES, {"StudyInstanceUID": study})


@router.get("/studies/{study}/instances")
def search_study_instances(request: Request, session: Transaction, study: str) -> Response:
    """Search for the instances of a study."""
    return _search(request, session, Level.IMAGE, {"StudyInstanceUID": study})


@router.get("/studies/{study}/series/{series}/instances")
def search_instances(request: Request, session: Transaction, study: str, series: str) -> Response:
    """Search for the instances of a series."""
    parents = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return _search(request, session, Level.IMAGE, parents)


def _search(
    request: Request, session: Session, level: Level, parents: Mapping[str, str]
) -> Response:
    chosen = models.offer(request, "search results are")
    parents = {keyword: values.uid(uid) for keyword, uid in parents.items()}
    settings = deps.parts(request).settings
    asked = parameters.parse(request.url.query, level, parents, settings.max_find_results)
    page = search.find(
        session,
        asked.query,
        limit=asked.limit,
        after=asked.after or None,
        offset=asked.offset,
        count=COUNTED,
    )
    return _answer(request, asked, parents, page, chosen)


def _answer(
    request: Request,
    asked: parameters.Search,
    parents: Mapping[str, str],
    page: Page,
    chosen: Offer,
) -> Response:
    host = _host(deps.root_url(request))
    texts = results.warning_texts(asked, page)
    # PS3.18 8.3.4.4 and RFC 7234 5.5: one Warning for each thing to say
    headers = {"Warning": ", ".join(f'299 {host} "{text}"' for text in texts)}
    if page.after is not None:  # RFC 8288
        query = parameters.next_page(request.url.query, page.after)
        headers["Link"] = f'<{deps.root_url(request)}{request.url.path}?{query}>; rel="next"'
    if (total := results.total(asked, page)) is not None:
        headers[TOTAL] = str(total)
    headers = {name: value for name, value in headers.items() if value}
    if not page.matches:
        return Response(status_code=204, headers=headers)
    keywords = results.wanted(asked, parents)
    level, url = asked.query.level, deps.dicomweb_url(request)
    found = [results.dataset(match, keywords, level, url) for match in page.matches]
    return models.answer(request, chosen, found, headers)


def _host(root: str) -> str:
    return root.partition("://")[2].partition("/")[0]
