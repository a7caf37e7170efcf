"""What `GET /health/ready` and `lienthong doctor` try, one call a part; silence is health."""

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

from deploy.addresses import reachable
from deploy.node import Node
from pacs import scu
from ris.hl7 import mllp
from storage.base.errors import PeerUnavailable, StoreUnavailable
from storage.base.settings import Settings
from storage.base.tls import TlsFiles
from storage.db import engine

_ANSWER_S: Final = 5.0


def of(node: Node) -> Mapping[str, Callable[[], None]]:
    """Return a probe for each part of `node`; each raises `Unavailable` with its reason."""
    return {
        "database": partial(engine.check, node.engine),
        "objects": node.store.check,
        "spool": partial(spool_has_room, node.settings),
        "dicom": partial(dicom_answers, node.settings),
        "hl7": partial(hl7_answers, node.settings),
    }


def spool_has_room(settings: Settings) -> None:
    """Raise `StoreUnavailable` when the spool's disk is down to its reserve."""
    try:
        disk = os.statvfs(settings.spool_dir)
    except OSError as error:
        raise StoreUnavailable(f"spool {settings.spool_dir}: {error.strerror}") from error
    free = disk.f_bavail * disk.f_frsize
    if free <= settings.spool_reserve_bytes:
        raise StoreUnavailable(
            f"spool {settings.spool_dir}: {free >> 20} MiB free, "
            f"{settings.spool_reserve_bytes >> 20} MiB are kept in reserve"
        )


def dicom_answers(settings: Settings) -> None:
    """Raise `PeerUnavailable` unless our own DICOM port talks DICOM."""
    scu.is_alive(reachable(settings.dicom_bind), settings.dicom_port, settings.ae_title)


def hl7_answers(settings: Settings) -> None:
    """Raise `PeerUnavailable` unless our own MLLP port answers; an empty frame leaves nothing."""
    address = reachable(settings.hl7_bind), settings.hl7_port
    try:
        with socket.create_connection(address, _ANSWER_S) as connection:
            connection.settimeout(_ANSWER_S)
            connection.sendall(mllp.frame(b""))
            answered = connection.recv(4096)
    except OSError as error:
        raise PeerUnavailable(f"{address[0]}:{address[1]}: {error.strerror or error}") from error
    if not answered.startswith(mllp.START):
        raise PeerUnavailable(f"{address[0]}:{address[1]}: something else than HL7 answers")


def certificate_expires(host: str, port: int, files: TlsFiles) -> datetime:
    """Return until when the certificate is valid that a TLS port of ours shows.

    Raises
    ------
    PeerUnavailable
        The port does not answer, or shows one that is not valid now or not that of the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # peers know us by address, and may know us by many
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    address = reachable(host), port
    try:
        context.load_verify_locations(files.certificate)
        with (
            socket.create_connection(address, _ANSWER_S) as plain,
            context.wrap_socket(plain) as tls,
        ):
            shown = tls.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise PeerUnavailable(f"{files.certificate}: {error.verify_message}") from error
    except OSError as error:
        raise PeerUnavailable(f"{address[0]}:{address[1]}: {error.strerror or error}") from error
    seconds = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    return datetime.fromtimestamp(seconds, UTC)
