"""Whether this node works: for balancers, supervisors and people with a terminal.

The only routes without a token. They tell states to everybody, and reasons, which
name folders and hosts, to this machine only; a reason is also in the log.
"""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from viewer_api import deps

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
def live() -> Response:
    """Say that this process answers."""
    return JSONResponse({"status": "live"})


@router.get("/ready", responses={503: {"description": "A part does not work."}})
def ready(request: Request) -> Response:
    """Say of each part whether it works; 503 when one does not."""
    reasons = deps.parts(request).health.reasons()
    told = deps.is_local(request)
    parts = {name: _part(reason, told=told) for name, reason in reasons.items()}
    well = not any(reasons.values())
    body = {"status": "ready" if well else "not ready", "parts": parts}
    return JSONResponse(body, 200 if well else 503)


def _part(reason: str, *, told: bool) -> Mapping[str, str]:
    if not reason:
        return {"state": "up"}
    return {"state": "down", "reason": reason} if told else {"state": "down"}
