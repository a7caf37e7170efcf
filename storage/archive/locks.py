"""The locks of the index: held to the end of a transaction, always taken in the same order."""

import hashlib
from collections.abc import Iterable
from typing import Final

from sqlalchemy import text

from storage.db.engine import Session

_TAKE: Final = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


def study(study_instance_uid: str) -> str:
    """Return the name of the lock of a study: its counters, its lists, its patient."""
    return f"study\n{study_instance_uid}"


def patient(patient_id: str, issuer: str) -> str:
    """Return the name of the lock of those who have an identifier."""
    return f"patient\n{issuer}\n{patient_id}"


def take(session: Session, names: Iterable[str]) -> None:
    """Wait for the locks of these names."""
    keys = sorted({_key(name) for name in names})
    if keys:
        session.execute(_TAKE, {"keys": keys})


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
