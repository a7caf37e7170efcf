"""The two DICOM roles of a node, put together: `dicom` receives and answers, `worker` ingests."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta, tzinfo
from functools import partial
from typing import Final

from pacs import contexts, decoding
from pacs.compressing import Compressing, Pace
from pacs.ingest import BATCH, Ingest
from pacs.scp import commitment, models, performed, workitem_events, workitems, worklist
from pacs.scp.acceptor import Acceptance
from pacs.scp.commitment import Reporter
from pacs.scp.datasets import Attributes
from pacs.scp.echo import echo
from pacs.scp.exchange import STORAGE, Offers
from pacs.scp.find import find
from pacs.scp.get import get
from pacs.scp.limits import Limits
from pacs.scp.listener import Listener, TlsPort
from pacs.scp.metrics import Metrics
from pacs.scp.move import move
from pacs.scp.negotiation import admission
from pacs.scp.store import store as receive
from pacs.scp.workitem_events import Teller
from pacs.scp.worklist import Asked
from pacs.scu.association import Address
from pacs.settling import Settling
from pacs.upper_layer import dimse
from ris import performed as done
from ris import queries
from ris import worklist as steps
from ris.archive_patients import Arrivals
from ris.following import Following
from ris.queries import LastQuery
from storage.access.book import PeerBook
from storage.archive import commitments, instances, search
from storage.archive.commitments import Commitment
from storage.archive.instances import Scope
from storage.archive.model import Match, Query, StoredInstance
from storage.base import attending
from storage.base.clock import utc_now
from storage.base.errors import Unavailable
from storage.base.settings import Settings
from storage.base.tls import ServerTls
from storage.db.engine import Engine, transaction
from storage.jobs.runner import Handler, Runner
from storage.objects.store import ObjectStore
from storage.spool import Spool

log = logging.getLogger(__name__)

GRACE_S: Final = 15.0
IDLE_S: Final = 1.0
PACE_S: Final = 0.1
"""Batches begin no closer together: a transaction of many objects costs little more than of one."""
TELLERS: Final = 3
"""Threads that tell peers of events: one that waits for a dead peer does not stop the others."""
FORGET_S: Final = 3600.0
COMPRESS_S: Final = 15.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0


def serve_dicom(
    settings: Settings, engine: Engine, store: ObjectStore, spool: Spool, stop: threading.Event
) -> None:
    """Answer associations until `stop` is set, then let the running ones finish.

    Raises
    ------
    StoreUnavailable
        The port cannot be listened on.
    Malformed
        The certificate or its key cannot be used.
    """
    listener = dicom_listener(settings, engine, store, spool, Metrics())
    listener.start()
    log.info("listening", extra={"address": settings.dicom_bind, "port": listener.port})
    if listener.tls_port is not None:
        log.info("listening_tls", extra={"address": settings.bind, "port": listener.tls_port})
    stop.wait()
    listener.stop(GRACE_S)
    decoding.close_shared()


def dicom_listener(
    settings: Settings, engine: Engine, store: ObjectStore, spool: Spool, metrics: Metrics
) -> Listener:
    """Return a listener with every DIMSE service of the product, not started yet."""
    book = PeerBook(engine)
    accepts = admission(settings.unknown_peers, lambda title: book.find(title) is not None)
    return Listener(
        (settings.dicom_bind, settings.dicom_port),
        Acceptance(
            settings.ae_title if settings.check_called_ae_title else None,
            accepts,
            _offers(settings, engine, store, spool, book),
        ),
        Limits(
            max_associations=settings.max_associations,
            max_associations_per_peer=settings.max_associations_per_peer,
            max_object_bytes=settings.max_object_bytes,
        ),
        metrics,
        share_port=settings.dicom_processes != 1,
        tls=_tls_port(settings),
    )


def _tls_port(settings: Settings) -> TlsPort | None:
    if settings.dicom_tls is None:
        return None
    return TlsPort((settings.bind, settings.dicom_tls_port), ServerTls(settings.dicom_tls))


def _offers(
    settings: Settings, engine: Engine, store: ObjectStore, spool: Spool, book: PeerBook
) -> Offers:
    def matches(query: Query, limit: int) -> Iterator[Match]:
        return search.iterate(engine, query, limit)

    def note(asked: Commitment) -> None:
        with transaction(engine) as session:
            commitments.request(session, asked)

    locate, resolve = partial(_locate, engine), partial(_resolve, book)
    title = settings.ae_title
    query = partial(
        find,
        search=matches,
        find_peer=book.find,
        ae_title=title,
        max_results=settings.max_find_results,
    )
    to_do = partial(
        worklist.find,
        search=partial(_scheduled, engine, settings.zone),
        find_peer=book.find,
        remember=partial(_remember, engine),
        max_results=settings.max_find_results,
    )
    to_others = partial(move, locate=locate, store=store, resolve=resolve, ae_title=title)
    back = partial(get, locate=locate, store=store)
    return {
        contexts.VERIFICATION: {dimse.C_ECHO_RQ: echo},
        STORAGE: {dimse.C_STORE_RQ: partial(receive, spool=spool)},
        **{uid: {dimse.C_FIND_RQ: query} for uid in models.FIND},
        models.MODALITY_WORKLIST: {dimse.C_FIND_RQ: to_do},
        **_performed_steps(engine),
        **workitems.offers(engine, settings.zone, book.find, settings.max_find_results),
        **{uid: {dimse.C_MOVE_RQ: to_others} for uid in models.MOVE},
        **{uid: {dimse.C_GET_RQ: back} for uid in models.GET},
        models.STORAGE_COMMITMENT: {
            dimse.N_ACTION_RQ: partial(commitment.act, resolve=resolve, note=note)
        },
    }


def _performed_steps(engine: Engine) -> Offers:
    def create(uid: str, attributes: Attributes, calling_ae_title: str) -> None:
        with transaction(engine) as session:
            done.create(session, uid, attributes, calling_ae_title, utc_now())

    def update(uid: str, attributes: Attributes) -> None:
        with transaction(engine) as session:
            done.update(session, uid, attributes, utc_now())

    def get(uid: str) -> Attributes:
        with transaction(engine) as session:
            return done.get(session, uid)

    return {
        models.PERFORMED_STEP: {
            dimse.N_CREATE_RQ: partial(performed.create, create_step=create),
            dimse.N_SET_RQ: partial(performed.update, update_step=update, get_step=get),
        },
        models.PERFORMED_STEP_RETRIEVE: {
            dimse.N_GET_RQ: partial(performed.get, get_step=get),
        },
    }


def _scheduled(engine: Engine, zone: tzinfo, asked: Asked, limit: int) -> Iterator[Attributes]:
    query = steps.Query(
        keys=asked.keys,
        calling_ae_title=asked.calling_ae_title,
        every_station=asked.peer is not None and asked.peer.every_station,
        combined_datetime=asked.combined_datetime,
        fuzzy=asked.fuzzy,
    )
    return steps.iterate(engine, query, limit, zone)


def _remember(engine: Engine, asked: Asked, matches: int) -> None:
    with transaction(engine) as session:
        query = LastQuery(asked.calling_ae_title, asked.keys, utc_now(), matches)
        queries.remember(session, query)


def _locate(engine: Engine, keys: Mapping[str, str]) -> Sequence[StoredInstance]:
    with transaction(engine) as session:
        return instances.locate(session, keys)


def _vouched(engine: Engine, keys: Mapping[str, str]) -> Sequence[StoredInstance]:
    with transaction(engine) as session:
        return instances.locate(session, keys, Scope.VOUCHED)


def _resolve(book: PeerBook, ae_title: str) -> Address | None:
    peer = book.find(ae_title)
    return Address(peer.ae_title, peer.host, peer.port) if peer else None


def reporter(settings: Settings, engine: Engine, store: ObjectStore) -> Reporter:
    """Return who verifies and reports the storage commitments that were asked for."""
    resolve = partial(_resolve, PeerBook(engine))
    return Reporter(engine, store, partial(_vouched, engine), resolve, settings.ae_title)


def _handlers(
    settings: Settings, engine: Engine, store: ObjectStore, spool: Spool
) -> Mapping[str, Handler]:
    # what makes and signs paper weighs 50 MB, which the processes that receive do not carry
    from pacs.reporting import Reporting  # noqa: PLC0415
    from ris.reports import criticals  # noqa: PLC0415
    from ris.reports.signing.choosing import signer_of  # noqa: PLC0415
    from ris.stations import jobs as station_jobs  # noqa: PLC0415

    reporting = Reporting(settings, engine, store, spool, signer_of(settings))
    return {
        **reporting.handlers(),
        **criticals.handlers(engine),
        **station_jobs.handlers(engine),
    }


def teller(settings: Settings, engine: Engine) -> Teller:
    """Return who tells peers of the workitems that they watch."""
    return Teller(engine, partial(_resolve, PeerBook(engine)), settings.ae_title)


def work(
    settings: Settings, engine: Engine, store: ObjectStore, spool: Spool, stop: threading.Event
) -> None:
    """Ingest what arrives until `stop` is set, report commitments, look after studies.

    While the object store or the database does not answer, everything stays in
    the spool and is tried again, ever more slowly up to every five seconds.
    """
    ingest, imported = Ingest(engine, store, spool), Spool(settings.data_dir / "spool-import")
    _attend_peers(settings, engine, store, stop)
    settling = Settling(engine, store, settings.data_dir / "settling", settings.series_settle_s)
    _thread("settling", settling.run, stop)
    _thread("following", Following(engine, settings.zone).run, stop)
    _thread("jobs", Runner(engine, _handlers(settings, engine, store, spool)).run, stop)
    arrived = threading.Event()
    _beside("new_patients", Arrivals(engine).run_once, stop, wait=partial(_until_set, arrived))
    pause_s = FIRST_PAUSE_S
    while not stop.is_set():
        begun_s = time.monotonic()
        try:
            taken = ingest.run_once()
            settling.ingested(taken)
            if taken:
                arrived.set()
            if 0 < taken < BATCH:
                stop.wait(begun_s + PACE_S - time.monotonic())
            elif not taken:
                _settle(Ingest(engine, store, imported, follow=False), imported, settings, stop)
                _settle(ingest, spool, settings, stop)
                spool.wait(IDLE_S)
            pause_s = FIRST_PAUSE_S
        except Unavailable as error:
            log.warning("ingest_waits", extra={"reason": str(error), "pause_s": pause_s})
            stop.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    decoding.close_shared()


def _thread(name: str, target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, name=name, daemon=True).start()


def _beside(
    name: str,
    work: Callable[[], object],
    stop: threading.Event,
    *,
    idle_s: float = attending.IDLE_S,
    wait: Callable[[float], object] | None = None,
) -> None:
    """Attend to something beside the ingest, as long as the process lives."""
    _thread(name, partial(attending.attend, name, work, stop, idle_s=idle_s, wait=wait))


def _until_set(arrived: threading.Event, timeout_s: float) -> None:
    arrived.wait(timeout_s)
    arrived.clear()


def _attend_peers(
    settings: Settings, engine: Engine, store: ObjectStore, stop: threading.Event
) -> None:
    """Report commitments, tell of workitems, and delete those that are finished."""
    _beside("commitment", reporter(settings, engine, store).run_once, stop)
    telling = teller(settings, engine)
    for _ in range(TELLERS):
        _beside("workitem_events", telling.run_once, stop)
    _beside(
        "compression",
        partial(compressing(settings, engine, store).run_once, stop),
        stop,
        idle_s=COMPRESS_S,
    )
    keep = timedelta(days=settings.workitem_keep_days)
    _beside("workitems", partial(_forget, engine, keep), stop, idle_s=FORGET_S)


def compressing(settings: Settings, engine: Engine, store: ObjectStore) -> Compressing:
    """Return who compresses what lies in the archive by the rules, if there are any."""
    settle = timedelta(seconds=settings.settle_s if store.settles else 0)
    pace = Pace(max(timedelta(days=settings.compression_keep_days), settle))
    return Compressing(engine, store, settings.data_dir / "compressing", pace)


def _forget(engine: Engine, keep: timedelta) -> int:
    count = workitem_events.forget(engine, utc_now(), keep)
    if count:
        log.info("workitems_deleted", extra={"count": count})
    return count


def _settle(ingest: Ingest, spool: Spool, settings: Settings, stop: threading.Event) -> None:
    for record in spool.settling(utc_now() - timedelta(seconds=settings.settle_s)):
        if stop.is_set():
            return
        ingest.settle(record)
