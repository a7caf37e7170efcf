"""HL7 over HTTP: the same pipeline as MLLP, and the messages that came and that are sent."""

import base64
import json
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ris import service
from ris.hl7 import ledger, outgoing, repair
from ris.hl7.ledger import Entry, Search
from ris.hl7.outgoing import Outgoing, Wanted
from ris.hl7.pipeline import Pipeline
from storage.access.tokens import Action
from storage.base.errors import Malformed
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.problems import TooLarge, UnsupportedMediaType

router = APIRouter(
    prefix="/api/v1/hl7", tags=["HL7"], dependencies=[Depends(deps.may(Action.MANAGE))]
)

MEDIA_TYPES: Final = frozenset(
    {"application/hl7-v2", "application/hl7-v2+er7", "x-application/hl7-v2+er7", "text/plain"}
)
ENVELOPE: Final = "application/json"
WIRE: Final = "http"
MAX_ID: Final = 2**63 - 1
Limit = Annotated[int, Query(ge=1, le=1000)]
LastId = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@router.post("")
async def receive(request: Request) -> Response:
    """Take a message or batch and give its acknowledgement, 200 whatever that says.

    `application/hl7-v2` as it is, or in an envelope, ``{"message": …}`` as `application/json`,
    which is answered in one.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {*MEDIA_TYPES, ENVELOPE}:
        raise UnsupportedMediaType(f"send {' or '.join(sorted({*MEDIA_TYPES, ENVELOPE}))}")
    octets = await _body(request, deps.parts(request).settings.max_hl7_message_bytes)
    if kind == ENVELOPE:
        octets = _enveloped(octets)
    answer = await run_in_threadpool(_answer, request, octets)
    if kind == ENVELOPE:
        return JSONResponse({"message": answer.decode("utf-8", "replace")})
    return Response(answer, media_type="application/hl7-v2")


@router.get("/messages")
def list_messages(  # noqa: PLR0913 - each is a parameter of the query
    session: Transaction,
    *,
    state: ledger.State | None = None,
    patient: str = "",
    order: str = "",
    accession: str = "",
    sender: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = 100,
    before: LastId = None,
) -> list[dict[str, Any]]:
    """List the messages that came, newest first; `before` is the id of the last one seen."""
    wanted = Search(
        patient_id=patient,
        order_number=order,
        accession_number=accession,
        sender=sender,
        state=state,
        since=since,
        until=until,
    )
    return [_told(one) for one in ledger.search(session, wanted, limit, before)]


@router.get("/messages/{message_id}")
def show(session: Transaction, message_id: int) -> dict[str, Any]:
    """Return a message with its bytes and its answer, both in base64."""
    entry = ledger.get(session, message_id)
    return {**_told(entry), "raw": _base64(entry.raw), "answer": _base64(entry.answer)}


@router.post("/messages/{message_id}/replay")
async def replay(request: Request, message_id: int) -> dict[str, Any]:
    """Apply a message that failed once more; a body is a corrected copy to apply in its place."""
    parts = deps.parts(request)
    octets = await _body(request, parts.settings.max_hl7_message_bytes)

    def work() -> Entry:
        receiving = service.repairing(parts.settings, parts.engine)
        if octets:
            return repair.correct(parts.engine, receiving, message_id, octets)
        return repair.replay(parts.engine, receiving, message_id)

    return _told(await run_in_threadpool(work))


@router.get("/outgoing")
def list_outgoing(  # noqa: PLR0913 - each is a parameter of the query
    session: Transaction,
    *,
    state: outgoing.State | None = None,
    destination: str = "",
    patient: str = "",
    order: str = "",
    accession: str = "",
    limit: Limit = 100,
    before: LastId = None,
) -> list[dict[str, Any]]:
    """List the messages that we send, newest first; `before` is the id of the last one seen."""
    wanted = Wanted(
        destination=destination,
        state=state,
        patient_id=patient,
        order_number=order,
        accession_number=accession,
    )
    return [_sent(one) for one in outgoing.search(session, wanted, limit, before)]


@router.post("/outgoing/{message_id}/resend")
def resend(session: Transaction, message_id: int) -> dict[str, Any]:
    """Send one of our messages again, the same bytes."""
    return _sent(outgoing.resend(session, message_id))


@router.post("/outgoing/{message_id}/discard")
def discard(session: Transaction, message_id: int) -> dict[str, Any]:
    """Never send one of our messages; those behind it in its order go on."""
    outgoing.discard(session, message_id)
    return _sent(outgoing.get(session, message_id))


def _answer(request: Request, octets: bytes) -> bytes:
    receiving: Pipeline = request.app.state.hl7
    return receiving.answer(octets, deps.address_of(request), WIRE)


async def _body(request: Request, most: int) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise TooLarge(f"a message of more than {most} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _enveloped(octets: bytes) -> bytes:
    try:
        envelope = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise Malformed("the envelope is not JSON") from error
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if not isinstance(message, str):
        raise Malformed('the envelope is {"message": "MSH|…"}')
    return message.encode("utf-8", "replace")


def _told(entry: Entry) -> dict[str, Any]:
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


def _sent(one: Outgoing) -> dict[str, Any]:
    return {
        "id": one.id,
        "created_at": one.created_at.isoformat(),
        "destination": one.destination,
        "state": one.state,
        "kind": one.kind,
        "control_id": one.control_id,
        "attempts": one.attempts,
        "next_try_at": one.next_try_at.isoformat(),
        "reason": one.reason,
        "keys": list(one.keys),
        "payload": _base64(one.payload),
        "answer": _base64(one.answer),
    }


def _base64(octets: bytes | None) -> str | None:
    return base64.b64encode(octets).decode() if octets is not None else None
