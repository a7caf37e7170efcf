"""HL7 over HTTP: the same pipeline as MLLP, and the messages that came and that are sent."""

import base64
import json
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
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


class _Asked(BaseModel):
    """What both lists can be asked for."""

    patient: str = ""
    order: str = ""
    accession: str = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Annotated[int | None, Field(ge=1, le=MAX_ID)] = None

    def named(self) -> dict[str, Any]:
        """Return the search by the names that it has inside."""
        given = self.model_dump(exclude={"patient", "order", "accession", "limit", "before"})
        numbers = {
            "patient_id": self.patient,
            "order_number": self.order,
            "accession_number": self.accession,
        }
        return {**given, **numbers}


class _Messages(_Asked):
    state: ledger.State | None = None
    sender: str = ""
    since: datetime | None = None
    until: datetime | None = None


class _Outgoing(_Asked):
    state: outgoing.State | None = None
    destination: str = ""


def _announced(request: Request, background: BackgroundTasks) -> None:
    """Tell who delivers, when all is committed, that there may be something to send."""
    background.add_task(request.app.state.outbox_bell.ring)


@router.post("", dependencies=[Depends(_announced)])
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
def list_messages(
    session: Transaction, asked: Annotated[_Messages, Query()]
) -> list[dict[str, object]]:
    """List the messages that came, newest first; `before` is the id of the last one seen."""
    return [
        ledger.facts(one)
        for one in ledger.search(session, Search(**asked.named()), asked.limit, asked.before)
    ]


@router.get("/messages/{message_id}")
def show(session: Transaction, message_id: int) -> dict[str, object]:
    """Return a message with its bytes and its answer, both in base64."""
    entry = ledger.get(session, message_id)
    return {**ledger.facts(entry), "raw": _base64(entry.raw), "answer": _base64(entry.answer)}


@router.post("/messages/{message_id}/replay", dependencies=[Depends(_announced)])
async def replay(request: Request, message_id: int) -> dict[str, object]:
    """Apply a message that failed once more; a body is a corrected copy to apply in its place."""
    parts = deps.parts(request)
    octets = await _body(request, parts.settings.max_hl7_message_bytes)

    def work() -> Entry:
        receiving = service.repairing(parts.settings, parts.engine)
        if octets:
            return repair.correct(parts.engine, receiving, message_id, octets)
        return repair.replay(parts.engine, receiving, message_id)

    return ledger.facts(await run_in_threadpool(work))


@router.get("/outgoing")
def list_outgoing(
    session: Transaction, asked: Annotated[_Outgoing, Query()]
) -> list[dict[str, object]]:
    """List the messages that we send, newest first; `before` is the id of the last one seen."""
    return [
        _sent(one)
        for one in outgoing.search(session, Wanted(**asked.named()), asked.limit, asked.before)
    ]


@router.post("/outgoing/{message_id}/resend", dependencies=[Depends(_announced)])
def resend(session: Transaction, message_id: int) -> dict[str, object]:
    """Send one of our messages again, the same bytes."""
    return _sent(outgoing.resend(session, message_id))


@router.post("/outgoing/{message_id}/discard", dependencies=[Depends(_announced)])
def discard(session: Transaction, message_id: int) -> dict[str, object]:
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


def _sent(one: Outgoing) -> dict[str, object]:
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
