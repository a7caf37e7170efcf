"""What `GET /health/ready` and `lienthong doctor` try, one call a part; silence is health."""

import os
from collections.abc import Callable, Mapping
from functools import partial

from deploy.node import Node
from pacs import scu
from storage.base.errors import StoreUnavailable
from storage.base.settings import Settings
from storage.db import engine


def of(node: Node) -> Mapping[str, Callable[[], None]]:
    """Return a probe for each part of `node`; each raises `Unavailable` with its reason."""
    return {
        "database": partial(engine.check, node.engine),
        "objects": node.store.check,
        "spool": partial(spool_has_room, node.settings),
        "dicom": partial(dicom_answers, node.settings),
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
    scu.is_alive(reachable(settings.bind), settings.dicom_port, settings.ae_title)


def reachable(bind: str) -> str:
    """Return the address under which this machine reaches what is bound to `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound
