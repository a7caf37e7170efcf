"""The server's clock, whether it works, and what it knows of the station that asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import TypeAdapter

from ris.reports import documents
from ris.stations import alarms, limits
from storage.access import station_counts, stations
from storage.base.clock import utc_now
from viewer_api import deps
from viewer_api.stations import views
from viewer_api.stations.changes import KEEP_DAYS
from viewer_api.stations.visits import Here

router = APIRouter(prefix="/stations/v1", tags=["health stations"])

_NOTICES_FOR: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class CalledView:
    """What the station was called from one day to another."""

    code: str
    name: str
    valid_from: str | None
    valid_to: str | None


@dataclass(frozen=True, slots=True)
class NoticeView:
    """Something that the people of the station have to know of."""

    kind: str
    raised_at: str


@dataclass(frozen=True, slots=True)
class MeView:
    """Who asks, and what it may."""

    code: str
    name: str
    history: Sequence[CalledView]
    device: str
    device_name: str
    user: str
    role: str
    hospital: str
    wipe: bool
    keep_days: int
    look_ups_left: int
    notices: Sequence[NoticeView]
    server_time: str


_ME: Final = TypeAdapter(MeView)


@router.get("/time")
def get_time(request: Request) -> Response:
    """Return the server's clock; open to everybody, for a device needs it to sign in."""
    now = utc_now()
    zone = deps.parts(request).settings.zone
    return JSONResponse({"server_time": views.shown(now, zone), "unix": int(now.timestamp())})


@router.get("/health", responses={503: {"description": "Try again later."}})
def get_health(request: Request) -> Response:
    """Say whether it is of use to ask for more now."""
    well = not any(deps.parts(request).health.reasons().values())
    headers = {} if well else {"Retry-After": "60"}
    return JSONResponse({"status": "ready" if well else "not ready"}, 200 if well else 503, headers)


@router.get("/me", response_model=MeView)
def get_me(request: Request, visit: Here) -> Response:
    """Return who asks: station, device, person, what is left of today's limits, notices."""
    zone, visitor, now = visit.parts.settings.zone, visit.visitor, utc_now()
    station, person = visitor.station, visitor.person
    with visit.reading() as session:
        called = stations.history(session, station.id)
        used = station_counts.of_day(session, station.id, limits.today(zone))
        raised = alarms.newest(session, station_id=station.id, limit=20)
        letterhead = documents.letterhead(session)
    shown = MeView(
        code=station.code,
        name=station.facility.name,
        history=[
            CalledView(
                one.code,
                one.name,
                str(one.valid_from) if one.valid_from > date.min else None,
                str(one.valid_to) if one.valid_to else None,
            )
            for one in called
        ],
        device=visitor.device,
        device_name=visitor.device_name,
        user=person.full_name if person else "",
        role=str(person.role) if person else "device",
        hospital=letterhead.hospital,
        wipe=station.wiped_at is not None,
        keep_days=KEEP_DAYS,
        look_ups_left=max(0, station.look_ups_a_day - used.get("look-ups", 0)),
        notices=[
            NoticeView(one.kind, views.shown(one.raised_at, zone))
            for one in raised
            if now - one.raised_at < _NOTICES_FOR
        ],
        server_time=views.shown(now, zone),
    )
    return views.answer(request, _ME, shown)
