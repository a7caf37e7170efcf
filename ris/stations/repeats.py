"""A request with an Idempotency-Key is done once, however often and however late it comes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import select, text

from ris.stations.faults import Invalid, Refused, fault
from ris.stations.tables import RequestRow
from storage.base.clock import utc_now
from storage.db.engine import Session

SHORTEST: Final = 8
LONGEST: Final = 200
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('station request ' || :key, 0))")


def once(
    session: Session,
    station_id: int,
    key: str,
    request: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Return what `make` answers, or answered when the same request came before.

    Raises
    ------
    Invalid
        The key is none.
    Refused
        Another request had this key.
    """
    if not SHORTEST <= len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise Invalid(fault("needs_key", "Idempotency-Key"))
    session.execute(_LOCK, {"key": f"{station_id} {key}"})
    canonical = json.dumps(request, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    known = session.scalar(
        select(RequestRow).where(RequestRow.station_ref == station_id, RequestRow.key == key)
    )
    if known is not None:
        if known.digest != digest:
            raise Refused(fault("key_reused", "Idempotency-Key"))
        return known.answer
    answer = make()
    session.add(
        RequestRow(
            station_ref=station_id,
            key=key,
            digest=digest,
            answer=dict(answer),
            answered_at=utc_now(),
        )
    )
    session.flush()
    return answer
