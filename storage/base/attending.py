"""Work beside other work: done again and again until stopped, whatever goes wrong."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from storage.base.errors import Unavailable

log = logging.getLogger(__name__)

IDLE_S: Final = 1.0


def attend(
    name: str,
    work: Callable[[], object],
    stop: threading.Event,
    *,
    idle_s: float = IDLE_S,
    trouble_s: float | None = None,
    wait: Callable[[float], object] | None = None,
) -> None:
    """Do some work until `stop` is set; trouble is logged and passes.

    Parameters
    ----------
    name
        What the work is called in the log: ``NAME_waits`` and ``NAME_failed``.
    work
        Does a part of it. When the answer is true, there is more and it is called again at once.
    idle_s, trouble_s
        The pause when there is nothing to do, and after trouble (as long, unless it is given).
    wait
        How to pass an idle pause; it may come back early. By default, until `stop` is set.
    """
    waits, failed = f"{name}_waits", f"{name}_failed"
    idle = wait or stop.wait
    pause_s = idle_s if trouble_s is None else trouble_s
    while not stop.is_set():
        try:
            if not work():
                idle(idle_s)
        except Unavailable as error:
            log.warning(waits, extra={"reason": str(error)})
            stop.wait(pause_s)
        except Exception:
            log.exception(failed)
            stop.wait(pause_s)
