"""The HTTP interface, put together."""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI

from ris.workitems.events import CHANNEL
from storage.access.sessions import Audience
from storage.base.settings import Settings
from storage.db.engine import Engine
from storage.db.notices import Notices
from storage.objects.store import ObjectStore
from storage.spool import Spool
from viewer_api import pages, problems
from viewer_api.cache import Recent
from viewer_api.callers import Callers
from viewer_api.cors import Cors
from viewer_api.deps import Parts
from viewer_api.dicomweb import (
    archive,
    bulkdata,
    event_channel,
    frames,
    metadata,
    rendered,
    retrieving,
    search,
    storing,
    subscribing,
    workitems,
)
from viewer_api.dicomweb.quick_frames import QuickFrames
from viewer_api.edge import Edge
from viewer_api.health import Health
from viewer_api.metrics import Metrics
from viewer_api.places import Places
from viewer_api.rest import figures, health, operations, practitioners, reports, verifying
from viewer_api.uploads import Uploads
from viewer_api.web import assets, opening, signing_in, studies

# asked for most often first: the router tries one after the other
FAMILIES: Final = (
    frames.router,
    retrieving.router,
    metadata.router,
    rendered.router,
    search.router,
    bulkdata.router,
    storing.router,
    archive.router,
    workitems.router,
    subscribing.router,
    reports.router,
    operations.router,
    practitioners.router,
    verifying.router,
    health.router,
    figures.router,
    studies.router,
    signing_in.router,
    opening.router,
    assets.router,
)
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
    """Return the ASGI app.

    Parameters
    ----------
    probes
        One for each part of the node: silence is health, `Unavailable` gives the reason.
    stopping
        Once set, the node says that it is not ready any more.
    """
    # docs and OpenAPI have routes of their own, that ask who calls
    app = FastAPI(
        title="Lienthong",
        version=version("lienthong"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    metrics = Metrics(lambda: _gauges(spool))
    parts = app.state.parts = Parts(
        settings=settings,
        engine=engine,
        store=store,
        spool=spool,
        health=Health(probes, stopping),
        metrics=metrics,
        callers=Callers(engine, idle=timedelta(minutes=settings.session_idle_minutes)),
        uploads=Uploads(),
        places=Places(engine, store),
        notices=Notices(engine, CHANNEL, stopping),
        frame_indexes=Recent(MAX_FRAME_INDEXES),
        compared=Recent(MAX_COMPARED),
        metadata=Recent(MAX_METADATA, len),
    )
    app.state.audience = Audience.PAGES
    problems.register(app)
    pages.register(app, settings.public_url)
    app.add_middleware(QuickFrames, parts=parts, audience=Audience.PAGES)
    app.add_middleware(Cors, origins=settings.cors_origins.split())
    app.add_middleware(Edge, metrics=metrics)
    # flat: one look-up for each request, and `app.routes` names every route
    for family in FAMILIES:
        app.router.routes.extend(family.routes)
    app.router.routes.extend(event_channel.routes())
    return app


def _gauges(spool: Spool) -> dict[str, tuple[str, float]]:
    waiting = spool.backlog()
    return {
        "lienthong_spool_records": ("Received objects that wait for ingest", waiting.count),
        "lienthong_spool_bytes": ("Bytes of their datasets", waiting.bytes),
        "lienthong_spool_oldest_timestamp_seconds": (
            "When the oldest of them was received, 0 when none waits",
            waiting.oldest.timestamp() if waiting.oldest else 0,
        ),
    }
