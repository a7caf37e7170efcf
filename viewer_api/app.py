"""The HTTP interface, put together."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, FastAPI
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Receive, Scope, Send

from ris import service as hl7_service
from ris.hl7 import metrics as hl7_metrics
from ris.releases import releasing
from ris.workitems.events import CHANNEL
from storage.access.sessions import Audience
from storage.archive import compressions
from storage.base.clock import utc_now
from storage.base.errors import ImagingError
from storage.base.settings import Settings
from storage.db.engine import Engine, transaction
from storage.db.notices import Notices
from storage.objects.store import ObjectStore
from storage.spool import Spool
from viewer_api import deps, pages, problems
from viewer_api.cache import Recent
from viewer_api.callers import Callers
from viewer_api.cors import Cors
from viewer_api.deps import Parts
from viewer_api.dicomweb import (
    archive,
    bulkdata,
    capabilities,
    event_channel,
    frames,
    metadata,
    rendered,
    retrieving,
    search,
    storing,
    subscribing,
    uri,
    workitems,
)
from viewer_api.dicomweb.quick_frames import QuickFrames
from viewer_api.edge import FRAMED, SECURITY_HEADERS, Edge
from viewer_api.fhir import routes as fhir
from viewer_api.fhir.outcomes import Outcomes
from viewer_api.health import Health
from viewer_api.metrics import Metrics
from viewer_api.places import Places
from viewer_api.rest import (
    criticals,
    deliveries,
    figures,
    health,
    hl7,
    insurance,
    key_images,
    letterheads,
    merges,
    operations,
    orders,
    practitioners,
    reconciling,
    rejections,
    releases,
    report_templates,
    reports,
    statistics,
    verifying,
)
from viewer_api.stations import about, changes, identity, people
from viewer_api.stations import reports as station_reports
from viewer_api.uploads import Uploads
from viewer_api.viewer import entering, serving
from viewer_api.web import assets, opening, signing_in, studies

log = logging.getLogger(__name__)

_COMPRESSION: Final = {
    "compressed": "Instances that lie compressed by a rule",
    "bytes_before": "Bytes of their datasets as received",
    "bytes_after": "Bytes of their compressed datasets",
}

# asked for most often first: the router tries one after the other
DICOMWEB: Final = (
    frames.router,
    retrieving.router,
    metadata.router,
    rendered.router,
    search.router,
    bulkdata.router,
    storing.router,
    archive.router,
    capabilities.router,
)
OTHERS: Final = (
    workitems.router,
    subscribing.router,
    uri.router,
    reports.router,
    key_images.router,
    criticals.router,
    report_templates.router,
    operations.router,
    hl7.router,
    orders.router,
    merges.router,
    reconciling.router,
    rejections.router,
    insurance.router,
    statistics.router,
    deliveries.router,
    practitioners.router,
    letterheads.router,
    verifying.router,
    releases.router,
    health.router,
    figures.router,
    fhir.router,
)
STATIONS: Final = (
    changes.router,
    station_reports.router,
    people.router,
    identity.router,
    about.router,
)
PAGES: Final = (studies.router, signing_in.router, opening.router, assets.router)
VIEWER: Final = (entering.router, assets.router, serving.router)

MAX_FRAME_INDEXES: Final = 4096
MAX_COMPARED: Final = 4096
MAX_METADATA: Final = 64 << 20
"""Bytes."""


def create(
    settings: Settings,
    engine: Engine,
    store: ObjectStore,
    spool: Spool,
    probes: Mapping[str, Callable[[], None]],
    stopping: threading.Event,
) -> FastAPI:
    """Return the ASGI app of the main port.

    Parameters
    ----------
    probes
        One for each part of the node: silence is health, `Unavailable` gives the reason.
    stopping
        Once set, the node says that it is not ready any more.
    """
    parts = Parts(
        settings=settings,
        engine=engine,
        store=store,
        spool=spool,
        health=Health(probes, stopping),
        metrics=Metrics(lambda: _gauges(spool, engine)),
        callers=Callers(engine, idle=timedelta(minutes=settings.session_idle_minutes)),
        uploads=Uploads(),
        places=Places(engine, store),
        notices=Notices(engine, CHANNEL, stopping),
        releases=Notices(engine, releasing.CHANNEL, stopping),
        stopping=stopping,
        frame_indexes=Recent(MAX_FRAME_INDEXES),
        compared=Recent(MAX_COMPARED),
        metadata=Recent(MAX_METADATA, len),
    )
    app = _app(parts, Audience.PAGES, (*DICOMWEB, *OTHERS, *STATIONS, *PAGES), SECURITY_HEADERS)
    app.router.routes.extend(event_channel.routes())
    return app


def create_viewer(beside: FastAPI) -> FastAPI:
    """Return the ASGI app of the viewer's origin, on the same parts as the one `beside` it.

    DICOMweb is there too, so that OHIF asks its own origin alone.
    """
    app = _app(beside.state.parts, Audience.VIEWER, (*DICOMWEB, *VIEWER), FRAMED)
    app.state.build = None
    return app


class ByPort:
    """The ASGI app that hands each connection to the app of the port it came in by."""

    def __init__(self, apps: Mapping[int, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._apps[scope["server"][1]](scope, receive, send)


def _app(
    parts: Parts,
    audience: Audience,
    families: Sequence[APIRouter],
    headers: Mapping[str, str],
) -> FastAPI:
    # docs and OpenAPI have routes of their own, that ask who calls
    app = FastAPI(
        title="Lienthong",
        version=version("lienthong"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts, app.state.audience = parts, audience
    app.state.hl7 = hl7_service.pipeline(parts.settings, parts.engine)
    app.state.outbox_bell = hl7_service.outbox_bell(parts.settings)
    problems.register(app)
    pages.register(app, partial(deps.root_of, parts=parts, on=audience), deps.home)
    app.add_middleware(QuickFrames, parts=parts, audience=audience)
    app.add_middleware(Cors, origins=parts.settings.cors_origins.split())
    app.add_middleware(Edge, metrics=parts.metrics, headers=headers)
    app.add_middleware(Outcomes)
    # flat: one look-up for each request, and `app.routes` names every route
    for family in families:
        app.router.routes.extend(family.routes)
    return app


def _gauges(spool: Spool, engine: Engine) -> Iterator[Metric]:
    """Yield what waits; of HL7 nothing while the database is away."""
    waiting = spool.backlog()
    for name, explanation, value in (
        ("records", "Received objects that wait for ingest", waiting.count),
        ("bytes", "Bytes of their datasets", waiting.bytes),
        (
            "oldest_timestamp_seconds",
            "When the oldest of them was received, 0 when none waits",
            waiting.oldest.timestamp() if waiting.oldest else 0,
        ),
    ):
        yield GaugeMetricFamily(f"lienthong_spool_{name}", explanation, value)
    try:
        with transaction(engine) as session:
            yield from list(hl7_metrics.waiting(session, utc_now()))
            for name, value in compressions.totals(session).items():
                yield GaugeMetricFamily(f"lienthong_compression_{name}", _COMPRESSION[name], value)
    except ImagingError as error:
        log.warning("figures_incomplete", extra={"reason": str(error)})
