"""What answers, what does not, and what to do about it: ``lienthong doctor``."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from deploy import probes
from deploy.addresses import local_url
from deploy.node import Node
from pacs import scu
from ris.hl7 import ledger, outgoing
from storage.access import peers
from storage.archive import quarantine
from storage.base.clock import utc_now
from storage.base.errors import ImagingError
from storage.base.settings import Settings
from storage.base.tls import TlsFiles
from storage.db import migrations
from storage.db.engine import Session, transaction
from viewer_api.viewer import build

MANY_WAIT: Final = 100
RENEW_BEFORE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried; `advice` says what to do when it is not well."""

    subject: str
    well: bool
    said: str
    advice: str = ""
    urgent: bool = True
    """False: a person should look, but everything works."""


ADVICE: Final[Mapping[str, str]] = {
    "database": "is the server running (`lienthong serve`)? else see LIENTHONG_DATABASE_URL",
    "schema": "run `lienthong migrate`",
    "objects": "see LIENTHONG_OBJECTS_URL, its disk and its credentials",
    "spool": "make room on the disk of LIENTHONG_DATA_DIR; receiving goes on by itself",
    "dicom": "is `lienthong serve` running? see its log, and LIENTHONG_DICOM_PORT",
    "dicom-tls": "renew the file of LIENTHONG_DICOM_TLS_CERTIFICATE; it is taken at once",
    "hl7": "is `lienthong serve` running? see its log, and LIENTHONG_HL7_PORT",
    "hl7-tls": "renew the file of LIENTHONG_HL7_TLS_CERTIFICATE; it is taken at once",
    "dead letters": "look at `lienthong hl7 list --state dead`",
    "destination": "look at `lienthong hl7 destination list` and `lienthong hl7 outgoing`",
    "http": "is `lienthong serve` running? see its log, and LIENTHONG_HTTP_PORT",
    "backlog": "see the log of the worker: it says what it waits for",
    "parked": "look at the files in DATA_DIR/spool/parked and report the log's trace",
    "quarantine": "look at `lienthong quarantine list`",
    "viewer": "run `lienthong viewer install`",
    "peer": "is it switched on, and does it know our AE title, address and port?",
}


def examine(node: Node) -> Iterator[Finding]:
    """Try every part of `node` and every registered peer, one finding each."""
    for subject, probe in probes.of(node).items():
        yield _tried(subject, probe)
    yield from _certificates(node.settings)
    if node.settings.viewer_port:
        yield _viewer(node.settings)
    schema = _tried("schema", lambda: migrations.require_head(node.engine))
    yield schema
    yield _tried("http", lambda: _http_answers(node.settings))
    backlog = node.spool.backlog()
    yield _counted("backlog", backlog.count, "objects wait for ingest", normal=1000)
    yield _counted("parked", len(node.spool.parked()), "objects could not be processed")
    if not schema.well:  # the tables may be others than ours
        return
    with suppress(ImagingError), transaction(node.engine) as session:
        yield _counted("quarantine", quarantine.count(session), "objects held")
        yield from _wire(session)
        known = peers.list_all(session)
        for peer in known:
            yield _tried(
                f"peer {peer.ae_title}",
                lambda peer=peer: scu.echo(  # type: ignore[misc]
                    peer.host, peer.port, peer.ae_title, node.settings.ae_title
                ),
                ADVICE["peer"],
            )


def _certificates(settings: Settings) -> Iterator[Finding]:
    if settings.dicom_tls:
        yield _certificate("dicom-tls", settings.bind, settings.dicom_tls_port, settings.dicom_tls)
    if settings.hl7_tls:
        yield _certificate("hl7-tls", settings.bind, settings.hl7_tls_port, settings.hl7_tls)


def _certificate(subject: str, host: str, port: int, files: TlsFiles) -> Finding:
    try:
        left = probes.certificate_expires(host, port, files) - utc_now()
    except ImagingError as error:
        return Finding(subject, well=False, said=str(error), advice=ADVICE[subject])
    return Finding(
        subject,
        well=left > RENEW_BEFORE,
        said=f"answers; its certificate expires in {left.days} days",
        advice=ADVICE[subject],
        urgent=False,
    )


def _viewer(settings: Settings) -> Finding:
    installed = build.find(settings.viewer_dir) is not None
    said = f"OHIF {build.VERSION} is {'' if installed else 'not '}installed"
    return Finding("viewer", well=installed, said=said, advice=ADVICE["viewer"], urgent=False)


def _wire(session: Session) -> Iterator[Finding]:
    """What a person has to look at of HL7."""
    yield _counted("dead letters", ledger.count(session, ledger.State.DEAD), "HL7 messages failed")
    for one in outgoing.backlog(session):
        said = f"{one.waiting} messages wait, {one.parked} were refused"
        yield Finding(
            f"hl7 to {one.destination}",
            well=not one.parked and one.waiting < MANY_WAIT,
            said=said,
            advice=ADVICE["destination"],
            urgent=False,
        )


def _counted(subject: str, count: int, what: str, normal: int = 0) -> Finding:
    return Finding(subject, count <= normal, f"{count} {what}", ADVICE[subject], urgent=False)


def _tried(subject: str, probe: Callable[[], None], advice: str = "") -> Finding:
    try:
        probe()
    except ImagingError as error:
        return Finding(subject, well=False, said=str(error), advice=advice or ADVICE[subject])
    return Finding(subject, well=True, said="answers")


def _http_answers(settings: Settings) -> None:
    url = f"{local_url(settings)}/health/live"
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own address
    except urllib.error.HTTPError as error:
        raise ImagingError(f"{url}: status {error.code}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ImagingError(f"{url}: {getattr(reason, 'strerror', None) or reason}") from error
