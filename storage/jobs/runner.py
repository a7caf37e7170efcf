"""Does the jobs of a queue: `Unavailable` is tried again later, anything else parks the job."""

import logging
import threading
from collections.abc import Callable, Mapping

from storage.base.attending import attend
from storage.base.errors import ImagingError, Unavailable
from storage.db.engine import Engine, transaction
from storage.jobs import queue
from storage.jobs.queue import Job

log = logging.getLogger(__name__)

Handler = Callable[..., None]
"""Gets the arguments of the job by name; may run more than once for one job."""


class Runner:
    """One thread that does jobs; any number of them, in any processes, share a queue."""

    def __init__(self, engine: Engine, handlers: Mapping[str, Handler]) -> None:
        self._engine = engine
        self._handlers = handlers

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; trouble is logged and passes."""
        attend("jobs", self.run_once, stop)

    def run_once(self) -> bool:
        """Do one job that is due; return whether there was one.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        with transaction(self._engine) as session:
            job = queue.take(session, [*self._handlers])
        if job is None:
            return False
        facts: dict[str, object] = {"job": job.id, "verb": job.name, "attempt": job.attempts}
        try:
            self._handlers[job.name](**job.arguments)
        except Unavailable as error:
            self._put_off(job, str(error), facts)
        except ImagingError as error:
            self._park(job, str(error), facts)
        except Exception as error:
            log.exception("job_defect", extra=facts)
            self._park(job, f"a defect: {type(error).__name__}", facts)
        else:
            with transaction(self._engine) as session:
                queue.done(session, job)
            log.info("job_done", extra=facts)
        return True

    def _put_off(self, job: Job, reason: str, facts: Mapping[str, object]) -> None:
        with transaction(self._engine) as session:
            queue.later(session, job, reason)
        log.warning("job_waits", extra={**facts, "reason": reason})

    def _park(self, job: Job, reason: str, facts: Mapping[str, object]) -> None:
        with transaction(self._engine) as session:
            queue.park(session, job, reason)
        log.error("job_parked", extra={**facts, "reason": reason})
