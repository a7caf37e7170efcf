"""UPS-RS over real sockets: the transactions of PS3.18 11 and the event channel."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom.uid import generate_uid
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pacs import dicom_xml
from ris.workitems import contents, records
from ris.workitems.contents import Json
from storage.access import tokens
from storage.access.tokens import Role
from storage.db.engine import create as create_engine
from storage.db.engine import transaction
from tests.fixtures.http import HttpNode, http_node_on, multipart_parts
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.workitems import PERFORMED, attributes, workitem
from viewer_api.dicomweb import event_channel

CLAIM = "2.25.4711"
ROOT = "/dicom-web/workitems"
JSON = {"Content-Type": "application/dicom+json"}


@pytest.fixture
def client(http_node: HttpNode) -> httpx.Client:
    return http_node.client()


@pytest.fixture(scope="module")
def shared_client(shared_http_node: HttpNode) -> httpx.Client:
    return shared_http_node.client()


def create(client: httpx.Client, **changes: object) -> str:
    uid = str(generate_uid())
    answer = client.post(ROOT, params={"workitem": uid}, json=[workitem(**changes)], headers=JSON)
    assert answer.status_code == 201, answer.text
    return uid


def change(client: httpx.Client, uid: str, state: str, claim: str = CLAIM) -> httpx.Response:
    wish = attributes(ProcedureStepState=state, TransactionUID=claim)
    return client.put(f"{ROOT}/{uid}/state", json=[wish], headers=JSON)


def update(client: httpx.Client, uid: str, sent: Json, claim: str = "") -> httpx.Response:
    params = {"transaction-uid": claim} if claim else {}
    return client.post(f"{ROOT}/{uid}", params=params, json=[sent], headers=JSON)


def state_of(client: httpx.Client, uid: str) -> str:
    [found] = client.get(f"{ROOT}/{uid}").json()
    return contents.text(found, "ProcedureStepState")


@contextmanager
def channel(node: HttpNode, title: str, token: str | None = None) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{node.port}/dicom-web/subscribers/{title}"
    headers = {"Authorization": f"Bearer {node.token() if token is None else token}"}
    with connect(url, additional_headers=headers, open_timeout=PATIENCE_S) as socket:
        yield socket


def next_event(socket: ClientConnection) -> tuple[str, int, str]:
    """Return UID, event type and state of the next event."""
    told = json.loads(socket.recv(timeout=PATIENCE_S))
    return (
        told["00001000"]["Value"][0],
        told["00001002"]["Value"][0],
        contents.text(told, "ProcedureStepState"),
    )


# Transactions


def test_workitem_lives_from_creation_to_completion(client: httpx.Client) -> None:
    answer = client.post(f"{ROOT}?2.25.99", json=[workitem()], headers=JSON)
    claimed = change(client, "2.25.99", "IN PROGRESS")
    updated = update(client, "2.25.99", PERFORMED, CLAIM)
    completed = change(client, "2.25.99", "COMPLETED")
    again = change(client, "2.25.99", "COMPLETED")

    codes = [one.status_code for one in (answer, claimed, updated, completed, again)]
    assert codes == [201, 200, 200, 200, 200]
    assert answer.headers["content-location"].endswith("/dicom-web/workitems/2.25.99")
    assert answer.headers["location"] == answer.headers["content-location"]
    assert "already in the requested state of COMPLETED" in again.headers["warning"]
    [found] = client.get(f"{ROOT}/2.25.99").json()
    assert found["00741000"] == {"vr": "CS", "Value": ["COMPLETED"]}
    assert found["00080018"] == {"vr": "UI", "Value": ["2.25.99"]}
    assert found["00100010"]["Value"] == [{"Alphabetic": "Nguyễn^Văn An"}]
    assert "00081195" not in found


def test_uid_may_stand_in_the_dataset_or_be_left_to_us(client: httpx.Client) -> None:
    named = client.post(ROOT, json=workitem(SOPInstanceUID="2.25.98"), headers=JSON)
    made = client.post(ROOT, json=workitem(), headers=JSON)

    assert named.headers["location"].endswith("/2.25.98")
    assert client.get(made.headers["location"]).status_code == 200


def test_workitem_comes_and_goes_as_xml(client: httpx.Client) -> None:
    sent = dicom_xml.encode(workitem(ProcedureStepLabel="Đọc phim <ngực>"))
    made = client.post(
        f"{ROOT}?workitem=2.25.97", content=sent, headers={"Content-Type": "application/dicom+xml"}
    )

    alone = client.get(f"{ROOT}/2.25.97", headers={"Accept": "application/dicom+xml"})
    many = client.get(ROOT, headers={"Accept": 'multipart/related; type="application/dicom+xml"'})

    assert made.status_code == 201, made.text
    found = dicom_xml.decode(alone.content)
    assert contents.text(found, "ProcedureStepLabel") == "Đọc phim <ngực>"
    [(_, part)] = multipart_parts(many)
    assert contents.text(dicom_xml.decode(part), "SOPInstanceUID") == "2.25.97"


@pytest.mark.parametrize(
    ("state", "claim", "status", "text"),
    [
        ("IN PROGRESS", "2.25.1", 400, "Transaction UID is incorrect"),
        ("IN PROGRESS", CLAIM, 409, "inconsistent"),
        ("COMPLETED", CLAIM, 409, "inconsistent"),
        ("COMPLETED", "", 400, "Transaction UID is missing"),
        ("SCHEDULED", CLAIM, 400, "inconsistent"),
        ("CANCELED", "2.25.1", 400, "Transaction UID is incorrect"),
    ],
)
def test_refusal_says_why_in_a_warning(
    shared_client: httpx.Client, state: str, claim: str, status: int, text: str
) -> None:
    client = shared_client
    uid = create(client)
    change(client, uid, "IN PROGRESS")

    answer = change(client, uid, state, claim)

    assert answer.status_code == status
    assert text in answer.headers["warning"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert state_of(client, uid) == "IN PROGRESS"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", ROOT, b"", 400),
        ("POST", ROOT, b"[{}, {}]", 400),
        ("POST", ROOT, b'{"00741000": {"vr": "CS"}}', 400),
        ("POST", ROOT, b"\xff", 400),
        ("POST", ROOT, b"[" * 100_000, 400),
        ("POST", f"{ROOT}?workitem=x", b"{}", 400),
        ("POST", f"{ROOT}/2.25.5", b"{}", 404),
        ("PUT", f"{ROOT}/2.25.5/state", b'{"00741000": {"vr": "CS", "Value": ["DONE"]}}', 400),
        ("POST", f"{ROOT}/2.25.5/cancelrequest", b"", 404),
        ("GET", f"{ROOT}/2.25.5", b"", 404),
        ("GET", f"{ROOT}/x", b"", 400),
        ("GET", f"{ROOT}?NoSuchKey=1", b"", 400),
        ("GET", f"{ROOT}?ScheduledProcedureStepStartDateTime=soon", b"", 400),
        ("POST", f"{ROOT}/{records.FILTERED}/subscribers/WATCH", b"", 400),
        ("POST", f"{ROOT}/2.25.5/subscribers/WATCH", b"", 404),
        ("POST", f"{ROOT}/2.25.5/subscribers/WATCH/suspend", b"", 409),
        ("POST", f"{ROOT}/2.25.5/subscribers/{'X' * 17}", b"", 400),
    ],
    ids=str,
)
def test_bad_request_is_refused_and_changes_nothing(
    shared_client: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    client = shared_client
    before = client.get(ROOT).content

    answer = client.request(method, path, content=body, headers=JSON)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(ROOT).content == before


def test_same_uid_twice_is_a_conflict(client: httpx.Client) -> None:
    uid = create(client)

    answer = client.post(f"{ROOT}?workitem={uid}", json=workitem(), headers=JSON)

    assert answer.status_code == 409


def test_of_two_claimants_at_once_one_wins(http_node: HttpNode) -> None:
    uid = create(http_node.client())
    claims = ["2.25.1", "2.25.2"]
    clients = {claim: http_node.client() for claim in claims}
    start = threading.Barrier(len(claims))
    codes: dict[str, int] = {}

    def claim(transaction_uid: str) -> None:
        start.wait()
        codes[transaction_uid] = change(
            clients[transaction_uid], uid, "IN PROGRESS", transaction_uid
        ).status_code

    threads = [threading.Thread(target=claim, args=[one]) for one in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [winner] = [one for one in claims if codes[one] == 200]
    assert sorted(codes.values()) == [200, 400]
    assert update(clients[winner], uid, PERFORMED, winner).status_code == 200


def test_search_shows_what_the_standard_demands(client: httpx.Client) -> None:
    uid = create(client)
    create(client, WorklistLabel="HUMAN")
    keys = {"ProcedureStepState": "SCHEDULED", "WorklistLabel": "AI", "includefield": "00404041"}

    [found] = client.get(ROOT, params=keys).json()

    assert found["00080018"]["Value"] == [uid]
    assert found["00404041"]["Value"] == ["READY"]
    assert found["00100040"] == {"vr": "CS"}
    assert "00081195" not in found


def test_search_is_paged(client: httpx.Client) -> None:
    made = [create(client) for _ in range(3)]

    first = client.get(ROOT, params={"limit": 2})
    second = client.get(ROOT, params={"limit": 2, "offset": 2})

    found = [one["00080018"]["Value"][0] for answer in (first, second) for one in answer.json()]
    assert found == made
    assert "additional results" in first.headers["warning"]
    assert "warning" not in second.headers


def test_cancellation_of_an_unclaimed_workitem_happens_at_once(client: httpx.Client) -> None:
    uid = create(client)

    answer = client.post(f"{ROOT}/{uid}/cancelrequest")
    again = client.post(f"{ROOT}/{uid}/cancelrequest")

    assert (answer.status_code, again.status_code) == (202, 202)
    assert "already in the requested state of CANCELED" in again.headers["warning"]
    assert state_of(client, uid) == "CANCELED"


def test_performer_without_subscription_cannot_be_contacted(client: httpx.Client) -> None:
    uid = create(client)
    change(client, uid, "IN PROGRESS")

    answer = client.post(f"{ROOT}/{uid}/cancelrequest")

    assert answer.status_code == 409
    assert "performer cannot be contacted" in answer.headers["warning"]


# The event channel


def test_subscription_leads_to_the_channel(http_node: HttpNode, client: httpx.Client) -> None:
    uid = create(client)

    answer = client.post(f"{ROOT}/{uid}/subscribers/WATCH")

    url = answer.headers["content-location"]
    assert answer.status_code == 201
    assert url == f"ws://127.0.0.1:{http_node.port}/dicom-web/subscribers/WATCH"
    with connect(url, additional_headers={"Authorization": f"Bearer {http_node.token()}"}):
        pass


def test_events_come_over_the_channel(http_node: HttpNode, client: httpx.Client) -> None:
    with channel(http_node, "WATCH") as socket:
        client.post(f"{ROOT}/{records.GLOBAL}/subscribers/WATCH")
        uid = create(client)
        change(client, uid, "IN PROGRESS")

        told = [next_event(socket), next_event(socket)]

    assert told == [(uid, 1, "SCHEDULED"), (uid, 1, "IN PROGRESS")]


def test_event_comes_within_a_second(http_node: HttpNode, client: httpx.Client) -> None:
    with channel(http_node, "WATCH") as socket:
        client.post(f"{ROOT}/{records.GLOBAL}/subscribers/WATCH")
        create(client)
        next_event(socket)  # the notices are heard by now
        begun = time.monotonic()
        create(client)
        next_event(socket)

    assert time.monotonic() - begun < 1  # far below the time of a look without a notice


def test_filter_and_unsubscription_hold_over_the_channel(
    http_node: HttpNode, client: httpx.Client
) -> None:
    watch = f"{ROOT}/{records.FILTERED}/subscribers/WATCH"
    with channel(http_node, "WATCH") as socket:
        made = client.post(watch, params={"filter": "WorklistLabel=AI,PatientID=BN1"})
        create(client, WorklistLabel="HUMAN")
        uid = create(client)
        told = next_event(socket)
        ended = client.delete(watch)
        change(client, uid, "IN PROGRESS")
        create(client)

        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.5)

    assert told == (uid, 1, "SCHEDULED")
    assert (made.status_code, ended.status_code) == (201, 200)


def test_cancel_request_reaches_the_performer(http_node: HttpNode, client: httpx.Client) -> None:
    uid = create(client)
    with channel(http_node, "AI1") as socket:
        client.post(f"{ROOT}/{uid}/subscribers/AI1")
        wish = attributes(ProcedureStepState="IN PROGRESS", TransactionUID=CLAIM)
        client.put(f"{ROOT}/{uid}/state/AI1", json=wish, headers=JSON)
        reason = attributes(ReasonForCancellation="wrong patient")
        answer = client.post(f"{ROOT}/{uid}/cancelrequest/RIS", json=reason, headers=JSON)
        told = [json.loads(socket.recv(timeout=PATIENCE_S)) for _ in range(3)][-1]

    assert answer.status_code == 202
    assert told["00001002"]["Value"] == [2]
    assert contents.text(told, "RequestingAE") == "RIS"
    assert contents.text(told, "ReasonForCancellation") == "wrong patient"
    assert state_of(client, uid) == "IN PROGRESS"


def test_two_processes_tell_each_other(
    http_node: HttpNode, client: httpx.Client, tmp_path: Path
) -> None:
    with (
        http_node_on(http_node.engine, tmp_path / "other") as other,
        channel(other, "WATCH") as socket,
    ):
        client.post(f"{ROOT}/{records.GLOBAL}/subscribers/WATCH")
        uid = create(client)

        assert next_event(socket) == (uid, 1, "SCHEDULED")


def test_channel_needs_a_token_with_the_right_role(http_node: HttpNode) -> None:
    station = http_node.token(Role.STATION, station="BV01")

    for token, status in (("lt_000000000000_" + "A" * 43, 401), (station, 403)):
        with pytest.raises(InvalidStatus) as refused, channel(http_node, "WATCH", token):
            pass
        assert refused.value.response.status_code == status
    with pytest.raises(InvalidStatus) as refused, channel(http_node, "X" * 17):
        pass
    assert refused.value.response.status_code == 400


def test_channel_of_a_revoked_token_is_closed(
    http_node: HttpNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_channel, "LOOK_S", 0.2)
    secret = http_node.token()
    with channel(http_node, "WATCH", secret) as socket:
        with transaction(http_node.engine) as session:
            tokens.revoke(session, secret.split("_")[1])

        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_page_of_another_site_opens_no_channel(http_node: HttpNode) -> None:
    url = f"ws://127.0.0.1:{http_node.port}/dicom-web/subscribers/WATCH"
    headers = {"Cookie": "lienthong_session=abc"}

    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url, additional_headers=headers, origin="http://evil.example"),  # type: ignore[arg-type]
    ):
        pass

    assert refused.value.response.status_code == 403


def test_node_with_open_channels_stops_at_once(http_node: HttpNode) -> None:
    with channel(http_node, "WATCH") as socket:
        begun = time.monotonic()
        http_node.close()

        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)

    assert time.monotonic() - begun < 5
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


WATCHER = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], additional_headers={"Authorization": "Bearer " + sys.argv[2]}) as socket:
    print("open", flush=True)
    while True:
        print(socket.recv(), flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_watcher_that_is_gone_holds_nobody_up(
    http_node: HttpNode, client: httpx.Client, how: signal.Signals
) -> None:
    url = f"ws://127.0.0.1:{http_node.port}/dicom-web/subscribers/WATCH"
    command = [sys.executable, "-c", WATCHER, url, http_node.token()]
    client.post(f"{ROOT}/{records.GLOBAL}/subscribers/WATCH")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "open\n"
        create(client)
        assert "00001002" in watcher.stdout.readline()
        os.kill(watcher.pid, how)

        with channel(http_node, "WATCH") as socket:
            begun = time.monotonic()
            uids = [create(client) for _ in range(20)]
            told = [next_event(socket)[0] for _ in uids]

        assert time.monotonic() - begun < 20
        assert told == uids
        watcher.kill()


def test_database_that_restarts_is_heard_again(http_node: HttpNode, client: httpx.Client) -> None:
    client.post(f"{ROOT}/{records.GLOBAL}/subscribers/WATCH")
    with channel(http_node, "WATCH") as socket:
        create(client)
        next_event(socket)
        end_listeners(http_node)

        uid = create(client)

        assert next_event(socket)[0] == uid


def end_listeners(node: HttpNode) -> None:
    url = node.engine.url.render_as_string(hide_password=False)
    engine = create_engine(url)
    query = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    with engine.connect() as connection:
        assert any(connection.scalars(query).all())
    engine.dispose()
