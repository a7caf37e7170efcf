"""``GET /stations/v1/changes``: the feed of a station, at once or as soon as there is news."""

import asyncio
import time
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from ris.stations import feed
from ris.stations.feed import Feed
from storage.audit.model import Kind
from storage.base.clock import utc_now
from viewer_api.problems import language_of
from viewer_api.stations import views
from viewer_api.stations.views import ChangesView
from viewer_api.stations.visits import Here, Visit, authenticated

router = APIRouter(prefix="/stations/v1", tags=["health stations"])

LONGEST_WAIT_S: Final = 30
KEEP_DAYS: Final = 90
_LOOK_S: Final = 5.0
"""A notice may be lost: so often a waiting request looks for itself."""
_VIEW: Final = TypeAdapter(ChangesView)


@router.get("/changes", response_model=ChangesView)
async def get_changes(
    request: Request,
    visit: Here,
    cursor: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=feed.MOST)] = 100,
    wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT_S)] = 0,
    lang: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Return what is new behind `cursor`; with `wait`, as soon as there is something.

    An item tells how a report is now: to apply it twice does no harm. Without a cursor, or with
    0, the feed begins anew.
    """
    after = feed.place(cursor)
    page = await run_in_threadpool(_read, visit, after, limit)
    if wait and not page.items and not page.resync:
        page = await _wait(visit, after, limit, wait)
        visit = await run_in_threadpool(authenticated, request)  # it may have been revoked
    return await run_in_threadpool(_answer, request, visit, page, lang)


async def _wait(visit: Visit, after: int, limit: int, wait_s: int) -> Feed:
    """Look again when somebody says that there is news, until the time is over."""
    loop, rung = asyncio.get_running_loop(), asyncio.Event()
    deadline = time.monotonic() + wait_s

    def ring() -> None:
        loop.call_soon_threadsafe(rung.set)

    with visit.parts.releases.waiting(str(visit.station_id), ring):
        while True:
            rung.clear()
            page = await run_in_threadpool(_read, visit, after, limit)
            left_s = deadline - time.monotonic()
            if page.items or left_s <= 0 or visit.parts.stopping.is_set():
                return page
            try:
                await asyncio.wait_for(rung.wait(), min(left_s, _LOOK_S))
            except TimeoutError:
                continue


def _read(visit: Visit, after: int, limit: int) -> Feed:
    with visit.reading() as session:
        return feed.read(session, visit.station_id, after, limit)


def _answer(request: Request, visit: Visit, page: Feed, lang: str) -> Response:
    if page.items:
        _note(visit, page)
    zone = visit.parts.settings.zone
    language = lang or language_of(request)
    shown = ChangesView(
        items=[views.item(one, zone, language) for one in page.items],
        next_cursor=feed.cursor(page.after),
        more=page.more,
        resync=page.resync,
        wipe=visit.visitor.station.wiped_at is not None,
        keep_days=KEEP_DAYS,
        server_time=views.shown(utc_now(), zone),
    )
    return views.answer(request, _VIEW, shown)


def _note(visit: Visit, page: Feed) -> None:
    """Write down which reports were named; a look that brought nothing told nothing."""
    with visit.doing(Kind.LIST, details={"count": len(page.items)}) as doing:
        for one in page.items:
            doing.also(
                report_uid=one.release.report_uid,
                report_version=one.release.version,
                basis=one.basis.kind,
                evidence=one.basis.uid,
                patient_id=one.release.patient_id,
                details={"state": str(one.release.state)},
            )
