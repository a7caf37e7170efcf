"""The `hl7` role of a node, put together: it receives, takes up what was left, tells others."""

import fcntl
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from ris.hl7 import ack, ledger, outgoing, repair
from ris.hl7.delivery import Delivery
from ris.hl7.listener import Door, Handler, Limits, Listener
from ris.hl7.metrics import Metrics
from ris.hl7.pipeline import Pipeline
from ris.hl7.senders import SenderBook
from ris.model import Rules
from ris.verbs import Domain
from storage.base.attending import attend
from storage.base.bell import Bell
from storage.base.clock import utc_now
from storage.base.files import make_folder
from storage.base.settings import Settings, UnknownPeers
from storage.base.tls import ServerTls
from storage.db.engine import Engine, transaction
from storage.objects import open_store

log = logging.getLogger(__name__)

GRACE_S: Final = 15.0
TAKE_UP_EVERY_S: Final = 30.0
PURGE_EVERY_S: Final = 3600.0
PURGE_BATCH: Final = 1000
MLLP: Final = "mllp"


def serve_hl7(settings: Settings, engine: Engine, stop: threading.Event) -> None:
    """Answer on the MLLP ports until `stop` is set, then let what was begun be finished.

    Raises
    ------
    StoreUnavailable
        A port cannot be listened on.
    Malformed
        The certificate or its key cannot be used.
    """
    metrics, bell = Metrics(), outbox_bell(settings)
    receiving = pipeline(settings, engine)
    listener = mllp_listener(settings, receiving, metrics, bell)
    gc.collect()
    gc.freeze()  # what was loaded stays: no answer waits until all of it was looked at again
    listener.start()
    log.info("listening", extra={"address": settings.hl7_bind, "port": listener.ports[0]})
    threads = [
        threading.Thread(target=_keep, args=(settings, engine, stop), name="hl7-keep"),
        threading.Thread(target=_deliver, args=(settings, engine, metrics, stop), name="hl7-tell"),
    ]
    for thread in threads:
        thread.start()
    while not stop.wait(1.0):
        metrics.connections.set(len(listener))
    listener.stop(GRACE_S)
    bell.ring()
    for thread in threads:
        thread.join(GRACE_S)


def pipeline(settings: Settings, engine: Engine) -> Pipeline:
    """Return what receives messages, whichever wire brings them."""
    book = SenderBook(engine, settings.unknown_peers)
    return Pipeline(engine, book, _domain(settings), settings.zone)


def repairing(settings: Settings, engine: Engine) -> Pipeline:
    """Return what works on messages that were let in before, whoever may send now."""
    book = SenderBook(engine, UnknownPeers.ACCEPT)
    return Pipeline(engine, book, _domain(settings), settings.zone)


def _domain(settings: Settings) -> Domain:
    rules = Rules(ignore_leading_zeros=settings.hl7_ignore_leading_zeros)
    return Domain(settings.zone, rules)


def outbox_bell(settings: Settings) -> Bell:
    """Return the bell of who tells others: whoever causes something to be told rings it."""
    return Bell(settings.data_dir / "run" / "hl7-bell")


def mllp_listener(
    settings: Settings, receiving: Pipeline, metrics: Metrics, bell: Bell
) -> Listener:
    """Return a listener on the MLLP ports, not started yet."""
    doors = [Door((settings.hl7_bind, settings.hl7_port))]
    if settings.hl7_tls is not None:
        doors.append(Door((settings.bind, settings.hl7_tls_port), ServerTls(settings.hl7_tls)))

    def answers(octets: bytes, address: str) -> Iterator[bytes]:
        started, code = time.monotonic(), ""
        for one in receiving.answers(octets, address, MLLP):
            code = ack.code_in(one)
            metrics.answered(MLLP, code, time.monotonic() - started)
            yield one
        if not code:
            metrics.answered(MLLP, "", time.monotonic() - started)
        bell.ring()

    limits = Limits(max_frame=settings.max_hl7_message_bytes)
    share_port = settings.hl7_processes > 1
    return Listener(doors, Handler(answers, receiving.refuse), limits, share_port=share_port)


def _keep(settings: Settings, engine: Engine, stop: threading.Event) -> None:
    """Take up what a process that died has left, at once and again and again; purge old messages.

    What others work on just now may be taken up too: it is applied once all the same.
    """
    work = repairing(settings, engine)
    started, purged_at = utc_now(), 0.0

    def take_up() -> None:
        nonlocal purged_at
        before = max(started, utc_now() - repair.UNDONE_AFTER)
        done = repair.finish_undone(engine, work, before)
        if done:
            log.info("hl7_taken_up", extra={"count": done})
        if time.monotonic() - purged_at > PURGE_EVERY_S or not purged_at:
            purge(settings, engine)
            purged_at = time.monotonic()

    attend("hl7_keeping", take_up, stop, idle_s=TAKE_UP_EVERY_S)


def purge(settings: Settings, engine: Engine) -> int:
    """Delete messages that are done and older than the settings keep them; return how many."""
    if not settings.hl7_keep_days:
        return 0
    before = utc_now() - timedelta(days=settings.hl7_keep_days)
    gone = 0
    for work in (ledger.purge, outgoing.purge):
        while True:
            with transaction(engine) as session:
                count = work(session, before, PURGE_BATCH)
            gone += count
            if count < PURGE_BATCH:
                break
    if gone:
        log.info("hl7_purged", extra={"count": gone})
    return gone


def _deliver(settings: Settings, engine: Engine, metrics: Metrics, stop: threading.Event) -> None:
    """Tell others, in one process of the node at a time."""
    lock = settings.data_dir / "run" / "hl7-delivery.lock"
    holder = f"{socket.gethostname()}:{settings.data_dir}"
    while not stop.is_set():
        with _alone(lock) as first:
            if first:
                bell = outbox_bell(settings)
                Delivery(
                    engine, settings.zone, holder, bell.wait, metrics, open_store(settings)
                ).run(stop)
        stop.wait(5.0)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold the lock of a file while the block lasts; False when another process has it."""
    make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
