"""What a person does with messages that failed, and what a start does with unfinished ones.

replay      the same bytes once more, after a profile or a code table was mended
correct     other bytes in their place; the first ones stay, marked as corrected
"""

import logging
from datetime import datetime, timedelta
from typing import Final

from ris.hl7 import ledger
from ris.hl7.ack import NoSequence
from ris.hl7.ledger import Entry, State
from ris.hl7.pipeline import Pipeline
from storage.base.clock import utc_now
from storage.base.errors import Conflict, ImagingError
from storage.base.logs import bound
from storage.db.engine import Engine, transaction

log = logging.getLogger(__name__)

UNDONE_AFTER: Final = timedelta(seconds=30)
MAX_TAKEN_UP: Final = 10
"""So often a message may be at hand when the process dies; one that came by chance, since the
process is killed again and again, is not at hand so often in a row."""
_BY_HAND: Final = "corrected"


def replay(engine: Engine, pipeline: Pipeline, message_id: int) -> Entry:
    """Try a message that failed once more; return what became of it.

    Raises
    ------
    NotFound
        The ledger has no message of that number.
    Conflict
        It was applied already.
    """
    with transaction(engine) as session:
        entry = ledger.reopen(session, message_id)
    _again(pipeline, entry)
    return _get(engine, message_id)


def correct(engine: Engine, pipeline: Pipeline, message_id: int, octets: bytes) -> Entry:
    """Apply `octets` in the place of a message that failed; return what became of the copy.

    Raises
    ------
    NotFound
        The ledger has no message of that number.
    Conflict
        It was applied already.
    Malformed
        The copy cannot be read; the ledger stays as it was.
    """
    first = _get(engine, message_id)
    if first.state in {State.APPLIED, State.CORRECTED}:
        raise Conflict(f"message {message_id} is {first.state}; only what failed can be corrected")
    reading = pipeline.read(octets, first.peer)
    if reading.fault is not None:
        raise NoSequence(reading.fault.text)
    noted = pipeline.note(reading, first.peer, _BY_HAND, corrects=message_id)
    pipeline.process(reading, noted.id)
    with transaction(engine) as session:
        copy = ledger.get(session, noted.id)
        if copy.state is State.APPLIED:
            ledger.mark_corrected(session, message_id)
    return copy


def finish_undone(
    engine: Engine, pipeline: Pipeline, before: datetime | None = None, limit: int = 500
) -> int:
    """Take up the messages that were received and not finished, oldest first; return how many.

    A process that was killed leaves them. Their senders got no answer, and send them again. One
    that is taken up too often without an end is dead: it may be what kills the process.
    """
    until = before or utc_now() - UNDONE_AFTER
    with transaction(engine) as session:
        entries = ledger.unfinished(session, until, limit)
    for entry in entries:
        with transaction(engine) as session:
            tries = ledger.note_failure(session, entry.id, "taken up again")
        if tries > MAX_TAKEN_UP:
            log.error("hl7_never_finished", extra={"message_id": entry.id})
            pipeline.settle(entry.id, pipeline.given_up(entry.raw, "never finished"))
            continue
        _again(pipeline, entry)
        with transaction(engine) as session:  # it did not kill us: that does not count
            ledger.withdraw_failure(session, entry.id)
    return len(entries)


def _again(pipeline: Pipeline, entry: Entry) -> None:
    with bound(message_control_id=entry.control_id):
        try:
            reading = pipeline.read(entry.raw, entry.peer)
        except ImagingError as error:
            pipeline.settle(entry.id, pipeline.refused(entry.raw, error))
            return
        pipeline.process(reading, entry.id)


def _get(engine: Engine, message_id: int) -> Entry:
    with transaction(engine) as session:
        return ledger.get(session, message_id)
