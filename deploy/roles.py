"""The roles of a node, each run in a process of its own by the supervisor.

``python -m deploy.roles dicom|hl7|worker|api [CONFIG.toml]``
"""

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deploy.node import Node
from deploy.supervisor import stop_event
from storage.base import logs, settings
from storage.base.errors import ImagingError
from storage.base.settings import Settings


def _dicom(node: Node, stop: threading.Event) -> None:
    from pacs import service  # noqa: PLC0415 - a role loads only what it runs

    service.serve_dicom(node.settings, node.engine, node.store, node.spool, stop)


def _hl7(node: Node, stop: threading.Event) -> None:
    from ris import service  # noqa: PLC0415

    service.serve_hl7(node.settings, node.engine, stop)


def _worker(node: Node, stop: threading.Event) -> None:
    from pacs import service  # noqa: PLC0415
    from viewer_api.fhir.notifying import Notifier  # noqa: PLC0415

    Notifier(node.settings, node.engine).start(stop)
    service.work(node.settings, node.engine, node.store, node.spool, stop)


def _api(node: Node, stop: threading.Event) -> None:
    from deploy import probes  # noqa: PLC0415
    from viewer_api import service  # noqa: PLC0415

    service.serve(node.settings, node.engine, node.store, node.spool, probes.of(node), stop)


ROLES: Final[Mapping[str, Callable[[Node, threading.Event], None]]] = {
    "dicom": _dicom,
    "hl7": _hl7,
    "worker": _worker,
    "api": _api,
}


def run(name: str, given: Settings) -> None:
    """Run one role until it is told to stop."""
    logs.configure(given.log_level, given.log_format, name)
    stop = stop_event()
    with Node.of(given) as node:
        ROLES[name](node, stop)


def main() -> int:
    """Run the role that the command line names."""
    name, *config = sys.argv[1:]
    try:
        run(name, settings.load(Path(config[0]) if config else None))
    except ImagingError as error:
        print(f"lienthong {name}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
