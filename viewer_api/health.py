"""Whether the parts of this node work, asked often and tried seldom."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from storage.base.errors import ImagingError

log = logging.getLogger(__name__)

UP: Final = ""
"""The reason of a part that works."""
STOPPING: Final = "this node is stopping"


class Health:
    """Tries the parts of the node: each in its own thread, none longer than `timeout_s`.

    An answer is good for `keep_s` seconds, and one caller at a time asks, so that any
    number of balancers cost one round.
    """

    def __init__(
        self,
        probes: Mapping[str, Callable[[], None]],
        stopping: threading.Event,
        timeout_s: float = 3.0,
        keep_s: float = 1.0,
    ) -> None:
        self._probes = {name: _Probe(name, probe) for name, probe in probes.items()}
        self._stopping = stopping
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._reasons: Mapping[str, str] = {}
        self._until = 0.0

    def reasons(self) -> Mapping[str, str]:
        """Return what is wrong with each part, `UP` for those that work."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._reasons = self._tried()
                self._until = time.monotonic() + self._keep_s
        stopping = {"node": STOPPING} if self._stopping.is_set() else {}
        return {**self._reasons, **stopping}

    def _tried(self) -> Mapping[str, str]:
        deadline = time.monotonic() + self._timeout_s
        for probe in self._probes.values():
            probe.start()
        reasons = {name: probe.reason(deadline) for name, probe in self._probes.items()}
        for name, reason in reasons.items():
            if reason and reason != self._reasons.get(name):
                log.warning("part_down", extra={"service": name, "reason": reason})
        return reasons


class _Probe:
    """One part; a probe that hangs is not started again until it has come back."""

    def __init__(self, name: str, probe: Callable[[], None]) -> None:
        self._name = name
        self._probe = probe
        self._thread: threading.Thread | None = None
        self._outcome = UP

    def start(self) -> None:
        """Try the part, unless the last try still runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._try, name=f"probe-{self._name}", daemon=True
            )
            self._thread.start()

    def reason(self, deadline: float) -> str:
        """Return the outcome, waiting for it until `deadline` at most."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                return "no answer in time"
        return self._outcome

    def _try(self) -> None:
        try:
            self._probe()
            self._outcome = UP
        except ImagingError as error:
            self._outcome = str(error) or type(error).__name__
        except Exception:
            log.exception("probe_failed", extra={"service": self._name})
            self._outcome = "the probe itself failed; see the log"
