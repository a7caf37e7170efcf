"""What is done later: end a basis, follow a merge, tell a station that there is news."""

import http.client
import json
import logging
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from ris.releases import bases, releasing
from ris.reports import releasing as settling
from ris.stations import consents
from storage.access import stations
from storage.audit import journal
from storage.audit.model import Entry, Kind
from storage.base.errors import NotFound, PeerUnavailable
from storage.db.engine import Engine, transaction
from storage.jobs.runner import Handler

log = logging.getLogger(__name__)

HINT: Final = json.dumps({"event": "changes"}).encode()
"""Not a word of whom."""
TIMEOUT_S: Final = 10.0
_REFUSED: Final = 500


def handlers(engine: Engine) -> Mapping[str, Handler]:
    """Return the jobs that are done here, by name."""
    return {
        bases.END: partial(end_basis, engine),
        bases.FOLLOW: partial(follow_patient, engine),
        releasing.HINT: partial(hint_station, engine),
    }


def end_basis(engine: Engine, basis_id: int) -> None:
    """Take from a station what a basis showed that is over now."""
    with transaction(engine) as session:
        basis = consents.ended(session, basis_id)
        entry = Entry(
            kind=Kind.WITHDRAW,
            actor=settling.RECORDED_BY,
            patient_id=basis.patient_id,
            station=stations.get(session, basis.station_id).code,
            basis=basis.kind,
            evidence=basis.uid,
        )
        journal.append(session, entry)


def follow_patient(engine: Engine, patient_id: int) -> None:
    """See anew who may see the reports of a patient who was merged or taken apart."""
    with transaction(engine) as session:
        settling.settle_patient(session, patient_id)


def hint_station(engine: Engine, station_id: int) -> None:
    """Say to a station's software that there is news.

    Raises
    ------
    PeerUnavailable
        It does not answer.
    """
    try:
        with transaction(engine) as session:
            station = stations.get(session, station_id)
    except NotFound:
        return
    if station.hook_url and station.revoked_at is None:
        _post(station.hook_url)


def _post(url: str) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    )
    try:
        connection.request("POST", parts.path or "/", HINT, {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise PeerUnavailable(f"the station's hook: {type(error).__name__}") from error
    finally:
        connection.close()
    if status >= _REFUSED:
        raise PeerUnavailable(f"the station's hook: HTTP {status}")
    log.info("station_hinted", extra={"status": status})
