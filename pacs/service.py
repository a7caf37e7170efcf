"""The two DICOM roles of a node, put together: `dicom` receives and answers, `worker` ingests."""

import logging
import threading
from datetime import timedelta
from typing import Final

from pacs.ingest import Ingest
from storage.base.clock import utc_now
from storage.base.errors import Unavailable
from storage.base.settings import Settings
from storage.db.engine import Engine
from storage.objects.store import ObjectStore
from storage.spool import Spool

log = logging.getLogger(__name__)

IDLE_S: Final = 1.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0


def work(
    settings: Settings, engine: Engine, store: ObjectStore, spool: Spool, stop: threading.Event
) -> None:
    """Ingest what arrives in the spool until `stop` is set.

    While the object store or the database does not answer, everything stays in
    the spool and is tried again, ever more slowly up to every five seconds.
    """
    ingest = Ingest(engine, store, spool)
    imported = Spool(settings.data_dir / "spool-import")
    pause_s = FIRST_PAUSE_S
    while not stop.is_set():
        try:
            taken = ingest.run_once()
            if not taken:
                _settle(Ingest(engine, store, imported), imported, settings, stop)
                _settle(ingest, spool, settings, stop)
                spool.wait(IDLE_S)
            pause_s = FIRST_PAUSE_S
        except Unavailable as error:
            log.warning("ingest_waits", extra={"reason": str(error), "pause_s": pause_s})
            stop.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _settle(ingest: Ingest, spool: Spool, settings: Settings, stop: threading.Event) -> None:
    for record in spool.settling(utc_now() - timedelta(seconds=settings.settle_s)):
        if stop.is_set():
            return
        ingest.settle(record)
