"""The registered peers at hand: read every few seconds, kept while the database is away.

An association must not fail because the database does: objects are received
without it.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final

from storage.access import peers
from storage.access.peers import Peer
from storage.base.errors import StoreUnavailable
from storage.db.engine import Engine, transaction

FRESH_S: Final = 2.0
"""A change of a peer is seen after at most so long."""


class PeerBook:
    """Finds peers by AE title; used by many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._peers: Mapping[str, Peer] | None = None
        self._read_at_s = -FRESH_S

    def find(self, ae_title: str) -> Peer | None:
        """Return the peer of that AE title, None when nobody registered it.

        Raises
        ------
        StoreUnavailable
            The database is away and was never read before.
        """
        with self._lock:
            if time.monotonic() - self._read_at_s >= FRESH_S:
                self._refresh()
            return (self._peers or {}).get(ae_title)

    def _refresh(self) -> None:
        try:
            with transaction(self._engine) as session:
                self._peers = {peer.ae_title: peer for peer in peers.list_all(session)}
        except StoreUnavailable:
            if self._peers is None:
                raise
        self._read_at_s = time.monotonic()
