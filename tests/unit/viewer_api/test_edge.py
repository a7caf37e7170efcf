import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from viewer_api.edge import SECURITY_HEADERS, Edge
from viewer_api.metrics import Metrics

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def ask(app: App, method: str = "GET", path: str = "/", query: bytes = b"") -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [],
        "client": ("10.0.0.5", 4711),
    }
    asyncio.run(Edge(app, Metrics())(scope, receive, send))
    return sent


def answering(*bodies: bytes, status: int = 200, **headers: str) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def headers(sent: list[Message]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def test_security_headers_are_set_unless_the_route_did() -> None:
    found = headers(ask(answering(**{"cache-control": "private"})))

    assert found["cache-control"] == "private"
    assert found.keys() == {name.lower() for name in SECURITY_HEADERS}


def test_head_runs_as_get_and_ends_behind_the_headers() -> None:
    methods = []
    answer = answering(b"one", b"two")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        methods.append(scope["method"])
        await answer(scope, receive, send)

    sent = ask(app, "HEAD")

    assert methods == ["GET"]
    assert [message.get("body") for message in sent[1:]] == [b""]
    assert not sent[-1]["more_body"]


def test_defect_is_a_plain_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        raise RuntimeError("a secret")

    with caplog.at_level(logging.ERROR):
        sent = ask(app)

    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert caplog.records[0].exc_info is not None


def test_defect_inside_an_answer_cuts_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    with pytest.raises(RuntimeError):
        ask(app)


@pytest.mark.parametrize(
    ("status", "path"), [(200, "/studies/1.2"), (404, ""), (400, ""), (500, "")]
)
def test_log_has_no_query_and_no_path_that_led_nowhere(
    caplog: pytest.LogCaptureFixture, status: int, path: str
) -> None:
    with caplog.at_level(logging.INFO):
        ask(answering(status=status), path="/studies/1.2", query=b"PatientName=SECRET")

    [record] = caplog.records
    assert record.__dict__["path"] == path
    assert "SECRET" not in str(record.__dict__)
    assert record.__dict__["peer"] == "10.0.0.5"


def test_health_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    class Route:
        path = "/health/live"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route()
        await answering()(scope, receive, send)

    with caplog.at_level(logging.INFO):
        ask(app)

    assert caplog.records == []
