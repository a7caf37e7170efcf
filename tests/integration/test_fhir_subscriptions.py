"""Who subscribes is told of what he wants to know, of nothing else, and of no patient unasked."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from ris.listing import subscriptions
from storage.access.tokens import Role
from storage.db.engine import Engine, transaction
from storage.jobs.runner import Runner
from tests.fixtures.fhir import Asking, World, validated
from tests.fixtures.http import http_node_on
from tests.fixtures.reports import Desk
from viewer_api.fhir.notifying import Notifier

JSON = "application/fhir+json"


@dataclass
class Hook:
    """A subscriber's server."""

    port: int = 0
    status: int = 200
    got: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.got.append((self.command, self.path, headers, body))
            self.send_response(made.status)
            self.send_header("Location", "http://169.254.169.254/latest")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = answer  # noqa: N815 - as the library has it

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def world(engine: Engine, tmp_path: Path, hook: Hook) -> Iterator[World]:
    with http_node_on(
        engine, tmp_path / "node", fhir_hook_hosts=f"127.0.0.1:{hook.port} his.example.vn"
    ) as node:
        yield World(node, Desk(engine), Asking(node.client()))


def wanted(hook: Hook, criteria: str, **channel: Any) -> dict[str, Any]:
    endpoint = f"http://127.0.0.1:{hook.port}/hook"
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "kết quả mới",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": endpoint, **channel},
    }


def subscribe(world: World, body: dict[str, Any]) -> httpx.Response:
    return world.admin.client.post("/fhir/Subscription", json=body)


def work(world: World) -> None:
    """Do what the worker does, until there is nothing to do."""
    notifier = Notifier(world.node.settings, world.node.engine)
    runner = Runner(world.node.engine, {subscriptions.NOTIFY: notifier.notify})
    while notifier.sort() or runner.run_once():
        pass


def test_a_subscriber_without_payload_hears_that_there_is_news_and_no_more(
    world: World, hook: Hook
) -> None:
    made = subscribe(world, wanted(hook, "DiagnosticReport?status=final", header=["X-Key: abc"]))
    assert made.status_code == 201, made.text

    world.report(world.study(1))
    work(world)

    [(method, path, headers, body)] = hook.got
    assert (method, path, body) == ("POST", "/hook", b"")
    assert headers["x-key"] == "abc"


def test_a_subscriber_with_payload_gets_the_resource(world: World, hook: Hook) -> None:
    subscribe(world, wanted(hook, "DiagnosticReport?status=final", payload=JSON))

    report = world.report(world.study(1))
    work(world)

    [(method, path, headers, body)] = hook.got
    assert (method, path) == ("PUT", f"/hook/DiagnosticReport/{report.uid}")
    assert headers["content-type"] == JSON
    told = validated(httpx.Response(200, content=body).json())
    assert (told["id"], told["status"]) == (report.uid, "final")


def test_what_does_not_match_is_not_told(world: World, hook: Hook) -> None:
    subscribe(world, wanted(hook, "ServiceRequest?status=revoked", payload=JSON))
    subscribe(world, wanted(hook, "ImagingStudy?modality=MR"))

    world.study(1)
    order = world.order(world.person("P1", "LÊ^A"), accession_number="A")
    work(world)
    assert hook.got == []
    world.touch(order, state="CANCELED")
    work(world)

    assert [path for _, path, *_ in hook.got] == [f"/hook/ServiceRequest/{order}"]


def test_nothing_is_noted_while_nobody_subscribes(world: World) -> None:
    world.study(1)

    with transaction(world.node.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM resource_changes")) == 0


def test_a_subscriber_who_fails_is_told_later_and_given_up_after_a_day(
    world: World, hook: Hook
) -> None:
    uid = subscribe(world, wanted(hook, "ImagingStudy")).json()["id"]
    hook.status = 302
    world.study(1)

    work(world)
    first = world.admin.read(f"Subscription/{uid}")
    hook.status = 200
    again(world)
    work(world)
    second = world.admin.read(f"Subscription/{uid}")
    hook.status = 500
    world.study(2)
    work(world)
    with transaction(world.node.engine) as session:
        ago = {"ago": timedelta(hours=25)}
        session.execute(text("UPDATE subscriptions SET failing_since = now() - :ago"), ago)
    again(world)
    work(world)
    third = world.admin.read(f"Subscription/{uid}")

    assert (first["status"], first["error"]) == ("error", "HTTP 302")
    assert (second["status"], second.get("error")) == ("active", None)
    assert (third["status"], third["error"]) == ("off", "HTTP 500")
    assert len(hook.got) == 4  # no redirection was followed


def again(world: World) -> None:
    """Make the jobs that wait due."""
    with transaction(world.node.engine) as session:
        session.execute(text("UPDATE jobs SET due_at = now()"))


def test_headers_are_shown_to_nobody_and_stay_when_hidden(world: World, hook: Hook) -> None:
    body = wanted(hook, "ImagingStudy", header=["Authorization: Bearer secret"])
    shown = subscribe(world, body).json()
    assert shown["channel"]["header"] == ["Authorization: ***"]

    changed = world.admin.client.put(
        f"/fhir/Subscription/{shown['id']}", json={**shown, "reason": "khác"}
    )
    assert changed.status_code == 200, changed.text
    world.study(1)
    work(world)

    assert hook.got[0][2]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"criteria": "Patient?shoe=42"}, 400),
        ({"criteria": "Observation?code=1"}, 400),
        ({"reason": 7}, 400),
        ({"status": "perhaps"}, 400),
        ({"channel": {"type": "email", "endpoint": "mailto:a@b"}}, 400),
        ({"channel": {"type": "rest-hook", "endpoint": "http://169.254.169.254/"}}, 403),
        ({"channel": {"type": "rest-hook", "endpoint": "http://his.example.vn@10.0.0.1/"}}, 400),
        ({"channel": {"type": "rest-hook", "endpoint": "file:///etc/passwd"}}, 400),
        (
            {
                "channel": {
                    "type": "rest-hook",
                    "endpoint": "https://his.example.vn/",
                    "header": ["A: b\r\nHost: c"],
                }
            },
            400,
        ),
        (
            {
                "channel": {
                    "type": "rest-hook",
                    "endpoint": "https://his.example.vn/",
                    "header": ["Host: c"],
                }
            },
            400,
        ),
    ],
    ids=range(10),
)
def test_what_cannot_be_served_is_refused(
    world: World, hook: Hook, change: dict[str, Any], status: int
) -> None:
    answer = subscribe(world, {**wanted(hook, "ImagingStudy"), **change})

    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_only_who_manages_subscribes(world: World, hook: Hook) -> None:
    client = world.as_(Role.RADIOLOGIST).client

    assert client.post("/fhir/Subscription", json=wanted(hook, "Patient")).status_code == 403
    assert client.get("/fhir/Subscription").status_code == 403


def test_who_unsubscribes_is_told_no_more(world: World, hook: Hook) -> None:
    uid = subscribe(world, wanted(hook, "ImagingStudy")).json()["id"]
    world.study(1)

    gone = world.admin.client.delete(f"/fhir/Subscription/{uid}")
    work(world)

    assert gone.status_code == 204
    assert hook.got == []
    world.admin.refused(f"Subscription/{uid}", 404)
