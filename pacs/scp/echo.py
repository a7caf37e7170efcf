"""C-ECHO SCP (PS3.4 Annex A): we are here."""

from pacs.scp import status
from pacs.scp.exchange import Exchange, Request, Response


def echo(request: Request, exchange: Exchange) -> tuple[Response]:  # noqa: ARG001 - a Service
    """Answer a verification request."""
    return (Response(status.SUCCESS),)
