"""The ledger: every message that came, byte by byte, and what became of it.

    received ─┬─ applied      answered AA (or what the profile says)
              ├─ dead         answered AE, or AA for a sender that cannot stand one; a person looks
              ├─ refused      answered AR for good: not for us
              └─ corrected    a dead letter whose corrected copy was applied

The bytes are committed before anything is done with them. A message that came before (same
sender, control id and body) gets the answer of the first time and does nothing.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, cast

from sqlalchemy import LargeBinary, Table, bindparam, delete, func, literal, select, text, update
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.dialects.postgresql import insert

from ris.hl7 import searching
from ris.hl7.message import Message
from ris.hl7.tables import MessageRow
from storage.base.clock import utc_now
from storage.base.errors import Conflict, NotFound
from storage.db import together
from storage.db.engine import Session
from storage.db.together import Question

SAME_FOR: Final = timedelta(days=30)
"""After so long the same bytes count as a new message."""
_APPLIED_NO: Final = DatabaseSequence("hl7_applied")


class State(StrEnum):
    """What became of a message."""

    RECEIVED = "received"
    APPLIED = "applied"
    DEAD = "dead"
    REFUSED = "refused"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came in, and what could be told of it at once."""

    raw: bytes
    wire: str
    peer: str
    sender: str = ""
    control_id: str = ""
    kind: str = ""
    charset: str = ""
    charset_guessed: bool = False
    identity: bytes | None = None
    keys: Sequence[str] = ()
    corrects: int | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """The place of a message in the ledger."""

    id: int
    answer: bytes | None = None
    """What it was answered the first time; None: it was not, so it is still to be done."""
    reused_control_id: bool = False
    """The sender gave this control id to another message before."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a message."""

    state: State
    answer: bytes | None = None
    answer_code: str = ""
    reason: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as people see it."""

    id: int
    received_at: datetime
    wire: str
    peer: str
    sender: str
    control_id: str
    kind: str
    state: State
    attempts: int
    reason: str
    outcome: str
    answer_code: str
    settled_at: datetime | None
    applied_no: int | None
    repeats: int
    corrects: int | None
    charset: str
    charset_guessed: bool
    keys: Sequence[str]
    raw: bytes = field(repr=False)
    answer: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(searching.Search):
    """Which messages are wanted; what is empty asks for nothing."""

    sender: str = ""
    kind: str = ""


def facts(entry: Entry) -> dict[str, object]:
    """Return what scripts are told of a message, without its bytes."""
    return {
        "id": entry.id,
        "received_at": entry.received_at.isoformat(),
        "state": entry.state,
        "answer_code": entry.answer_code,
        "kind": entry.kind,
        "sender": entry.sender,
        "wire": entry.wire,
        "peer": entry.peer,
        "control_id": entry.control_id,
        "charset": entry.charset,
        "charset_guessed": entry.charset_guessed,
        "reason": entry.reason,
        "outcome": entry.outcome,
        "attempts": entry.attempts,
        "repeats": entry.repeats,
        "corrects": entry.corrects,
        "keys": list(entry.keys),
    }


def identity_of(sender: str, message: Message, raw: bytes) -> bytes:
    """Return the digest under which a second copy of a message is known.

    MSH-7 is left out, since some senders write the time of each try into it; unless there is no
    control id, for then it alone tells a resend from the same news sent anew.
    """
    head, _, rest = raw.partition(b"\r" if b"\r" in raw else b"\n")
    separator = message.delimiters.field.encode(errors="replace")
    fields = head.split(separator)
    if len(fields) > 6 and message.control_id:  # noqa: PLR2004 - MSH-7; MSH-1 is the separator
        fields[6] = b""
    digest = hashlib.sha256()
    for part in (sender.encode(), message.control_id_octets, separator.join(fields), rest.rstrip()):
        digest.update(len(part).to_bytes(8) + part)
    return digest.digest()


_MESSAGES: Final = cast("Table", MessageRow.__table__)
"""For what every message does: statements on the table cost half of those on the class."""
_OTHER: Final = _MESSAGES.alias()
_EARLIER: Final = select(_OTHER.c.id).where(
    _OTHER.c.control_id == bindparam("its_control_id"),
    _OTHER.c.sender == bindparam("its_sender"),
    _OTHER.c.received_at > bindparam("its_recent"),
)
_INSERT: Final = (
    insert(_MESSAGES)
    .values(
        state=State.RECEIVED,
        attempts=0,
        reason="",
        outcome="",
        answer_code="",
        repeats=0,
    )
    .on_conflict_do_nothing(index_elements=["identity"])
    .returning(_MESSAGES.c.id, _EARLIER.exists().label("reused"))
)
_INSERT_ALL: Final = """
INSERT INTO hl7_messages (received_at, wire, peer, sender, control_id, kind, raw, charset,
    charset_guessed, identity, keys, state, attempts, reason, outcome, answer_code, repeats)
SELECT %s, x.*, 'received', 0, '', '', '', 0
FROM json_to_recordset(%s::json) AS x(wire text, peer text, sender text, control_id text,
    kind text, raw bytea, charset text, charset_guessed boolean, identity bytea, keys text[])
ON CONFLICT (identity) DO NOTHING
RETURNING id, identity, control_id > '' AND (
    SELECT true FROM hl7_messages other
    WHERE other.control_id = hl7_messages.control_id AND other.sender = hl7_messages.sender
    AND other.received_at > %s LIMIT 1
) IS NOT NULL AS reused
"""
_SEEN: Final = select(MessageRow.id, MessageRow.received_at, MessageRow.answer).where(
    MessageRow.identity == bindparam("identity")
)


def note(session: Session, received: Received) -> Noted:
    """Write a message down, or find the first copy of it."""
    now = utc_now()
    values = {
        "received_at": now,
        "wire": received.wire,
        "peer": received.peer,
        "sender": received.sender,
        "control_id": received.control_id,
        "kind": received.kind,
        "raw": received.raw,
        "charset": received.charset,
        "charset_guessed": received.charset_guessed,
        "identity": received.identity,
        "keys": list(received.keys),
        "corrects": received.corrects,
        "its_control_id": received.control_id or None,
        "its_sender": received.sender,
        "its_recent": now - SAME_FOR,
    }
    while True:
        made = session.execute(_INSERT, values).one_or_none()
        if made is not None:
            return Noted(made.id, reused_control_id=made.reused)
        seen = session.execute(_SEEN, {"identity": received.identity}).one()
        if now - seen.received_at < SAME_FOR:
            session.execute(_AGAIN, {"wanted": seen.id})
            return Noted(seen.id, seen.answer)
        session.execute(_FORGET, {"wanted": seen.id})


def note_all(session: Session, received: Sequence[Received]) -> Sequence[Noted | None]:
    """Write many messages down at once and commit; None for each that is there already.

    Always in the same order, so that two who write the same messages do not wait for each other.
    """
    now = utc_now()
    records = [
        {
            "wire": one.wire,
            "peer": one.peer,
            "sender": one.sender,
            "control_id": one.control_id,
            "kind": one.kind,
            "raw": one.raw,
            "charset": one.charset,
            "charset_guessed": one.charset_guessed,
            "identity": one.identity,
            "keys": [*one.keys],
        }
        for one in sorted(received, key=lambda one: one.identity or b"")
    ]
    question = Question(_INSERT_ALL, (now, together.as_json(records), now - SAME_FOR))
    [made] = together.ask(session, question, commit=True)
    noted = {row.identity: Noted(row.id, reused_control_id=row.reused) for row in made.rows}
    return [noted.pop(one.identity, None) for one in received]


_AGAIN: Final = (
    update(MessageRow)
    .where(MessageRow.id == bindparam("wanted"))
    .values(repeats=MessageRow.repeats + 1)
)
_FORGET: Final = (
    update(MessageRow).where(MessageRow.id == bindparam("wanted")).values(identity=None)
)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
_STATE: Final = select(MessageRow.state, MessageRow.answer).where(
    MessageRow.id == bindparam("wanted")
)


def lock(session: Session, keys: Sequence[str]) -> None:
    """Wait until nobody else works on any of `keys`, and hold them to the end of the transaction.

    Always in the same order, so that two messages that share two keys do not wait for each other.
    """
    numbers = {
        int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), signed=True)
        for key in keys
    }
    if numbers:
        session.execute(_LOCK, {"keys": sorted(numbers)})


def answer_of(session: Session, message_id: int) -> bytes | None:
    """Return what a message was answered meanwhile, None when it is still to be done."""
    row = session.execute(_STATE, {"wanted": message_id}).one_or_none()
    return row.answer if row is not None and row.state != State.RECEIVED else None


_SETTLE: Final = (
    update(_MESSAGES)
    .where(_MESSAGES.c.id == bindparam("wanted"), _MESSAGES.c.state == State.RECEIVED)
    .values(
        state=bindparam("new_state"),
        answer=bindparam("new_answer"),
        answer_code=bindparam("new_code"),
        reason=bindparam("new_reason"),
        outcome=bindparam("new_outcome"),
        attempts=_MESSAGES.c.attempts + 1,
        settled_at=bindparam("now"),
    )
    .returning(_MESSAGES.c.id)
)
_SETTLE_APPLIED: Final = _SETTLE.values(applied_no=_APPLIED_NO.next_value())


def settle(session: Session, message_id: int, result: Result) -> bool:
    """Write down what became of a message; False when somebody else was faster."""
    statement = _SETTLE_APPLIED if result.state is State.APPLIED else _SETTLE
    values = {
        "wanted": message_id,
        "new_state": result.state,
        "new_answer": result.answer,
        "new_code": result.answer_code,
        "new_reason": result.reason,
        "new_outcome": result.outcome,
        "now": utc_now(),
    }
    return session.execute(statement, values).scalar() is not None


def settling(results: Mapping[int, Result]) -> Question:
    """Return how to write down what became of messages that were applied.

    It counts those of which nobody else did so.
    """
    records = [
        {
            "id": message_id,
            "answer": result.answer,
            "code": result.answer_code,
            "reason": result.reason,
            "outcome": result.outcome,
        }
        for message_id, result in results.items()
    ]
    return Question(_SETTLE_ALL, (utc_now(), together.as_json(records)))


_SETTLE_ALL: Final = """
UPDATE hl7_messages m SET state = 'applied', answer = x.answer, answer_code = x.code,
    reason = x.reason, outcome = x.outcome, attempts = m.attempts + 1, settled_at = %s,
    applied_no = nextval('hl7_applied')
FROM json_to_recordset(%s::json) AS x(id bigint, answer bytea, code text, reason text, outcome text)
WHERE m.id = x.id AND m.state = 'received'
"""


def note_failure(session: Session, message_id: int, reason: str) -> int:
    """Note a try that failed and may succeed later; return how many there were."""
    statement = (
        update(MessageRow)
        .where(MessageRow.id == message_id)
        .values(attempts=MessageRow.attempts + 1, reason=reason)
        .returning(MessageRow.attempts)
    )
    return session.scalar(statement) or 0


def withdraw_failure(session: Session, message_id: int) -> None:
    """Let one try less count of a message that is not done yet."""
    statement = (
        update(MessageRow)
        .where(MessageRow.id == message_id, MessageRow.state == State.RECEIVED)
        .values(attempts=MessageRow.attempts - 1)
    )
    session.execute(statement)


def unfinished(session: Session, before: datetime, limit: int) -> Sequence[Entry]:
    """Return the oldest messages that were received before then and are not done."""
    statement = (
        select(MessageRow)
        .where(MessageRow.state == State.RECEIVED, MessageRow.received_at < before)
        .order_by(MessageRow.id)
        .limit(limit)
    )
    return [_entry(row) for row in session.scalars(statement)]


def get(session: Session, message_id: int) -> Entry:
    """Return one message.

    Raises
    ------
    NotFound
        The ledger has no message of that number.
    """
    row = session.get(MessageRow, message_id, populate_existing=True)
    if row is None:
        raise NotFound(f"the ledger has no message {message_id}")
    return _entry(row)


def search(
    session: Session, wanted: Search, limit: int, before: int | None = None
) -> Sequence[Entry]:
    """Return the messages that are wanted, newest first, those below the number `before`."""
    statement = searching.newest(MessageRow, MessageRow.received_at, wanted, limit, before)
    if wanted.sender:
        statement = statement.where(MessageRow.sender == wanted.sender)
    if wanted.kind:
        statement = statement.where(MessageRow.kind == wanted.kind)
    return [_entry(row) for row in session.scalars(statement)]


def mentioning(session: Session, number: str, limit: int) -> Sequence[Entry]:
    """Return the newest messages that were not applied and have this number in them.

    By their bytes, since nobody could read them.
    """
    if not number:
        return []
    octets = literal(number.encode(), LargeBinary)
    statement = (
        select(MessageRow)
        .where(
            MessageRow.state != State.APPLIED,
            func.position(octets.op("IN")(MessageRow.raw)) > 0,
        )
        .order_by(MessageRow.id.desc())
        .limit(limit * 4)
    )
    whole = re.compile(rb"(?<![0-9A-Za-z])" + re.escape(number.encode()) + rb"(?![0-9A-Za-z])")
    found = (row for row in session.scalars(statement) if whole.search(row.raw))
    return [_entry(row) for row in found][:limit]


def count(session: Session, state: State) -> int:
    """Return how many messages are in that state; cheap for all but the applied ones."""
    return session.scalar(select(func.count()).where(MessageRow.state == state)) or 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages in one state that is not an end."""

    count: int = 0
    oldest: datetime | None = None
    """When the oldest of them was received."""


def waiting(session: Session) -> Mapping[State, Waiting]:
    """Return what is not done yet (RECEIVED) and what a person has to look at (DEAD)."""
    statement = (
        select(MessageRow.state, func.count(), func.min(MessageRow.received_at))
        .where(
            MessageRow.state != State.APPLIED,  # the index of what is not applied
            MessageRow.state.in_([State.RECEIVED, State.DEAD]),
        )
        .group_by(MessageRow.state)
    )
    found = {
        State(state): Waiting(count, oldest) for state, count, oldest in session.execute(statement)
    }
    return {state: found.get(state, Waiting()) for state in (State.RECEIVED, State.DEAD)}


def mark_corrected(session: Session, message_id: int) -> None:
    """Note that the corrected copy of a dead letter was applied."""
    statement = (
        update(MessageRow)
        .where(MessageRow.id == message_id, MessageRow.state != State.APPLIED)
        .values(state=State.CORRECTED)
    )
    session.execute(statement)


def reopen(session: Session, message_id: int) -> Entry:
    """Take a message that failed for another try.

    Raises
    ------
    NotFound
        The ledger has no message of that number.
    Conflict
        It was applied: done again, it would undo what came after it.
    """
    entry = get(session, message_id)
    if entry.state in {State.APPLIED, State.CORRECTED}:
        raise Conflict(f"message {message_id} is {entry.state}; only what failed can be replayed")
    statement = (
        update(MessageRow)
        .where(MessageRow.id == message_id)
        .values(state=State.RECEIVED, reason="")
    )
    session.execute(statement)
    return entry


def purge(session: Session, before: datetime, limit: int = 1000) -> int:
    """Delete messages that are done and were received before then; return how many."""
    old = (
        select(MessageRow.id)
        .where(
            MessageRow.received_at < before,
            MessageRow.state.in_([State.APPLIED, State.REFUSED, State.CORRECTED]),
        )
        .limit(limit)
    )
    gone = delete(MessageRow).where(MessageRow.id.in_(old)).returning(MessageRow.id)
    return len(session.scalars(gone).all())


def _entry(row: MessageRow) -> Entry:
    return Entry(
        id=row.id,
        received_at=row.received_at,
        wire=row.wire,
        peer=row.peer,
        sender=row.sender,
        control_id=row.control_id,
        kind=row.kind,
        state=State(row.state),
        attempts=row.attempts,
        reason=row.reason,
        outcome=row.outcome,
        answer_code=row.answer_code,
        settled_at=row.settled_at,
        applied_no=row.applied_no,
        repeats=row.repeats,
        corrects=row.corrects,
        charset=row.charset,
        charset_guessed=row.charset_guessed,
        keys=row.keys,
        raw=row.raw,
        answer=row.answer,
    )
