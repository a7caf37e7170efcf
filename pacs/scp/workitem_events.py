"""UPS Event SCP (PS3.4 CC.2.4): tells registered peers what they watch, in order.

A peer that cannot be reached is tried again, ever more seldom; its events wait for it and
those of others do not wait for it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pacs.scp import models, status, workitem_datasets
from pacs.scu import event_reports
from pacs.scu.association import Address
from pacs.scu.event_reports import EventReports
from ris.workitems import events, verbs
from ris.workitems.events import Event, Mailbox
from storage.base.clock import utc_now
from storage.base.errors import NotSupported, PeerUnavailable
from storage.db.engine import Engine, transaction

log = logging.getLogger(__name__)

BATCH: Final = 100
LEASE: Final = timedelta(minutes=10)
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells peers of events; any number of them may run."""

    engine: Engine
    resolve: Callable[[str], Address | None]
    ae_title: str

    def run_once(self, now: datetime | None = None) -> bool:
        """Tell one peer its next events; False when nobody is to be told.

        Raises
        ------
        StoreUnavailable
            The database does not answer; it is tried again.
        """
        moment = now or utc_now()
        with transaction(self.engine) as session:
            mailbox = events.claim_mailbox(session, moment, LEASE)
            if mailbox is None:
                return False
            news = events.after(session, mailbox.ae_title, mailbox.told_id, BATCH)
        address = self.resolve(mailbox.ae_title)
        if address is None:  # no peer: it has an event channel, or nothing
            self._pass_over(mailbox, news, moment)
            return True
        try:
            self._tell(mailbox, address, news)
        except (PeerUnavailable, NotSupported) as error:
            pause = min(FIRST_PAUSE * 2 ** min(mailbox.attempts, 10), LONGEST_PAUSE)
            facts = {"peer": mailbox.ae_title, "reason": str(error)}
            log.warning("events_wait", extra={**facts, "retry_in_s": pause.total_seconds()})
            self._put_off(mailbox, moment + pause, mailbox.attempts + 1)
        else:
            self._put_off(mailbox, moment, 0)
        return True

    def _tell(self, mailbox: Mailbox, address: Address, news: list[Event]) -> None:
        with EventReports(address, self.ae_title, models.WORKITEM_EVENT) as reports:
            for event in news:
                uid, kind = event.sop_instance_uid, event.event_type_id
                told = event_reports.Event(models.WORKITEM_PUSH, uid, kind)
                data = workitem_datasets.write(event.content, reports.transfer_syntax)
                answer = reports.send(told, data)
                if answer != status.SUCCESS:  # it has heard it
                    facts = {"peer": mailbox.ae_title, "sop_instance_uid": uid}
                    log.warning("event_refused", extra={**facts, "status": f"{answer:04X}"})
                with transaction(self.engine) as session:
                    events.note_told(session, mailbox.ae_title, event.id)

    def _pass_over(self, mailbox: Mailbox, news: list[Event], now: datetime) -> None:
        with transaction(self.engine) as session:
            if news:
                events.note_told(session, mailbox.ae_title, news[-1].id)
            events.put_off(session, mailbox.ae_title, now, attempts=0)

    def _put_off(self, mailbox: Mailbox, due_at: datetime, attempts: int) -> None:
        with transaction(self.engine) as session:
            events.put_off(session, mailbox.ae_title, due_at, attempts=attempts)


def forget(engine: Engine, now: datetime, keep: timedelta) -> int:
    """Delete what finished longer ago than `keep` and no lock holds, and events nobody fetched.

    Returns
    -------
    int
        How many workitems were deleted; there may be more.
    """
    with transaction(engine) as session:
        events.forget(session, now - events.KEPT)
        return verbs.purge(session, now - keep)
