"""``lienthong serve`` and ``lienthong migrate``: the running server and its schema."""

import logging
import os
import shutil
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Final

from deploy.addresses import local_url, pages_url
from deploy.commands.options import Config, load, out
from deploy.locking import only_one
from deploy.node import prepare
from deploy.signing_in import first_link
from deploy.supervisor import Role, Supervisor, role_command
from storage.base import logs, settings
from storage.base.errors import Conflict
from storage.base.settings import Settings
from storage.base.tls import server_context
from storage.spool import Spool

log = logging.getLogger(__name__)

MOST_LISTENERS: Final = 4
LATER_S: Final = 5.0
"""After the first listener the others start: a restart is ready as soon as it can be."""
GRACE_S: Final = 20.0
PORT_WAIT_S: Final = 5.0


def serve(config: Config = None) -> None:
    """Run the whole server until Ctrl-C or SIGTERM."""
    given = settings.load(config)
    logs.configure(given.log_level, given.log_format, "supervisor")
    for files in filter(None, (given.dicom_tls, given.hl7_tls)):
        server_context(files)  # a wrong file stops the start, not the role again and again
    taken = f"another server already runs on {given.data_dir.resolve()}"
    with only_one(given.data_dir / "serve.lock", taken), prepare(given):
        Spool(given.spool_dir, reserve_bytes=given.spool_reserve_bytes).recover()
        _await_ports(given)
        supervisor = Supervisor(
            _roles(given, str(config) if config else None),
            GRACE_S,
            {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(_metrics_folder(given))},
        )
        threading.Thread(target=_announce, args=(given,), name="announce", daemon=True).start()
        supervisor.run()


def _roles(given: Settings, config: str | None) -> list[Role]:
    """Return what is to run; what takes work in is stopped before what works it off."""
    return [
        *_several("dicom", given.dicom_processes, config),
        *_several("hl7", given.hl7_processes, config),
        *_several("api", given.http_processes, config),
        Role("worker", role_command("worker", config), stage=1),
    ]


def _several(role: str, processes: int, config: str | None) -> list[Role]:
    """Return the processes of a role that share one port."""
    count = processes or min(os.cpu_count() or 1, MOST_LISTENERS)
    return [
        Role(
            f"{role}-{number}" if count > 1 else role,
            role_command(role, config),
            delay_s=LATER_S if number > 1 else 0.0,
        )
        for number in range(1, count + 1)
    ]


def migrate(config: Config = None) -> None:
    """Bring the database schema up to date."""
    with prepare(load(config)):
        out.print("the schema is up to date")


def _metrics_folder(given: Settings) -> Path:
    folder = given.data_dir / "run" / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.resolve()


def _await_ports(given: Settings) -> None:
    """Wait for the roles of a server that was killed to let go of their ports."""
    ports = [
        ("DICOM", given.dicom_bind, given.dicom_port),
        ("HL7", given.hl7_bind, given.hl7_port),
        ("HTTP", given.bind, given.http_port),
    ]
    if given.viewer_port:
        ports.append(("VIEWER", given.bind, given.viewer_port))
    if given.dicom_tls:
        ports.append(("DICOM_TLS", given.bind, given.dicom_tls_port))
    if given.hl7_tls:
        ports.append(("HL7_TLS", given.bind, given.hl7_tls_port))
    for name, host, port in ports:
        deadline = time.monotonic() + PORT_WAIT_S
        while fault := _cannot_bind(host, port):
            if time.monotonic() > deadline:
                raise Conflict(f"LIENTHONG_{name}_PORT {port} on {host}: {fault}")
            time.sleep(0.1)


def _cannot_bind(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _announce(given: Settings) -> None:
    """Tell the person at the terminal when everything answers, and where."""
    ready = f"{local_url(given)}/health/ready"
    started = time.monotonic()
    while not _answers(ready):
        time.sleep(0.1)
    log.info("ready", extra={"seconds": round(time.monotonic() - started, 2)})
    first = first_link(given)
    if sys.stdout.isatty():
        out.print(
            f"\n  DICOM   {given.ae_title} at {given.dicom_bind}:{given.dicom_port}"
            f"{f', TLS at {given.bind}:{given.dicom_tls_port}' if given.dicom_tls else ''}"
            f"\n  HL7     MLLP at {given.hl7_bind}:{given.hl7_port}"
            f"{f', TLS at {given.bind}:{given.hl7_tls_port}' if given.hl7_tls else ''}"
            f"\n  pages   {pages_url(given)}/"
            f"\n  HTTP    {pages_url(given)}/docs"
            f"\n  data    {given.data_dir.resolve()}"
            "\n  token   lienthong token create --role admin\n"
        )
    if first:  # not in the log: who opens it becomes the administrator
        print(f"first sign-in, good once: {first}", flush=True)  # noqa: T201


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own address
    except OSError:  # URLError and HTTPError (503) among them
        return False
    return True
