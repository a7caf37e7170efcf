"""HL7 over HTTP: the same pipeline as MLLP, and what people ask of the ledger."""

import base64
import json

import pytest

from ris import service
from ris.hl7 import outgoing
from ris.hl7.outgoing import Draft
from storage.access.tokens import Role
from storage.db.engine import transaction
from tests.fixtures.hl7 import acknowledged, order_message
from tests.fixtures.http import HttpNode
from tests.fixtures.patience import PATIENCE_S

PLAIN = {"Content-Type": "application/hl7-v2"}


def test_message_is_answered_as_over_mllp(http_node: HttpNode) -> None:
    client = http_node.client()

    answers = [
        client.post("/api/v1/hl7", content=order_message("4711"), headers=PLAIN) for _ in range(2)
    ]
    wrong = client.post("/api/v1/hl7", content=order_message(control="ZZ"), headers=PLAIN)

    assert [one.status_code for one in (*answers, wrong)] == [200, 200, 200]
    assert acknowledged(answers[0].content) == ("AA", "C1")
    assert answers[0].content == answers[1].content
    assert answers[0].headers["content-type"] == "application/hl7-v2"
    assert acknowledged(wrong.content)[0] == "AE"


def test_envelope_is_answered_in_an_envelope(http_node: HttpNode) -> None:
    text = order_message("4711").decode().replace("\r", "\n")

    answer = http_node.client().post("/api/v1/hl7", json={"message": text})

    assert acknowledged(answer.json()["message"].encode()) == ("AA", "C1")


def test_who_tells_others_is_woken_by_a_message(http_node: HttpNode) -> None:
    bell = service.outbox_bell(http_node.settings)
    bell.listen()

    http_node.client().post("/api/v1/hl7", content=order_message("4711"), headers=PLAIN)

    assert bell.wait(PATIENCE_S)


@pytest.mark.parametrize("verb", ["resend", "discard"])
def test_who_tells_others_is_woken_by_a_person(http_node: HttpNode, verb: str) -> None:
    with transaction(http_node.engine) as session:
        outgoing.enqueue(session, [Draft("his", "order:1", "C1", "ORM^O01", b"MSH|")])
    client = http_node.client()
    [waiting] = client.get("/api/v1/hl7/outgoing").json()
    bell = service.outbox_bell(http_node.settings)
    bell.listen()

    answer = client.post(f"/api/v1/hl7/outgoing/{waiting['id']}/{verb}")

    assert answer.status_code == 200
    assert bell.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"message": 7}', "application/json", 400),
        (b"{" * 100_000, "application/json", 400),
        (order_message(), "application/dicom", 415),
        (b"x" * ((32 << 20) + 1), "application/hl7-v2", 413),
        (b"PID|1", "application/hl7-v2", 200),
    ],
    ids=["no message", "list", "number", "deep", "other type", "too long", "no header"],
)
def test_what_is_no_message_is_said_so(
    http_node: HttpNode, content: bytes, kind: str, status: int
) -> None:
    answer = http_node.client().post("/api/v1/hl7", content=content, headers={"Content-Type": kind})

    assert answer.status_code == status
    if status == 200:
        assert acknowledged(answer.content)[0] == "AR"


def test_only_who_manages_may_send(http_node: HttpNode) -> None:
    client = http_node.client(http_node.token(Role.RADIOLOGIST))

    answer = client.post("/api/v1/hl7", content=order_message(), headers=PLAIN)

    assert answer.status_code == 403
    assert http_node.client().get("/api/v1/hl7/messages").json() == []


def test_messages_are_found_shown_and_replayed(http_node: HttpNode) -> None:
    client = http_node.client()
    client.post("/api/v1/hl7", content=order_message("4711"), headers=PLAIN)
    client.post("/api/v1/hl7", content=order_message("4712", "C2", "ZZ"), headers=PLAIN)

    dead, applied = client.get("/api/v1/hl7/messages").json()
    found = client.get("/api/v1/hl7/messages", params={"accession": "4711"}).json()
    shown = client.get(f"/api/v1/hl7/messages/{dead['id']}").json()
    replay = f"/api/v1/hl7/messages/{dead['id']}/replay"
    again = client.post(replay)
    corrected = client.post(replay, content=order_message("4712", "C2"))

    assert (dead["state"], applied["state"]) == ("dead", "applied")
    assert [one["id"] for one in found] == [applied["id"]]
    assert base64.b64decode(shown["raw"]) == order_message("4712", "C2", "ZZ")
    assert again.json()["state"] == "dead"
    assert (corrected.json()["state"], corrected.json()["corrects"]) == ("applied", dead["id"])
    assert client.post(replay).status_code == 409
    assert client.get("/api/v1/hl7/messages/999999").status_code == 404
    assert json.loads(client.get("/api/v1/hl7/outgoing").content) == []
    assert client.post("/api/v1/hl7/outgoing/1/resend").status_code == 404
    assert client.post("/api/v1/hl7/outgoing/1/discard").status_code == 404
