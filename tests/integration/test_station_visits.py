"""Devices, persons, look-ups, emergencies and referrals over HTTP."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from sqlalchemy import text

from storage.access import assertions, devices, one_time, station_users, stations
from storage.access.assertions import PrivateKey
from storage.access.devices import Device
from storage.access.sealing import Seal, seal_of
from storage.access.station_users import NewPerson, StationRole
from storage.audit.model import Kind, Outcome
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, StoreUnavailable
from storage.db.engine import transaction
from tests.fixtures.stations import API, Province

CODE, OTHER = "68001", "68002"
PASSWORD = "trạm y tế xã nhà"
LAN = NewPerson(
    code=CODE,
    name="lan",
    full_name="Nguyễn Thị Lan",
    role=StationRole.DOCTOR,
    licence="0042/LĐ",
    password=PASSWORD,
)


class Desk:
    """A device at a station, and a person at it."""

    def __init__(self, province: Province, key: PrivateKey) -> None:
        self.province, self.key = province, key
        with transaction(province.engine) as session:
            pem = assertions.pem_of(key.public_key())
            self.device: Device = devices.add(session, CODE, "PC phòng khám", pem)
            self.seal = seal_of(province.node.settings.secrets_dir)
            _, self.secret = station_users.add(session, LAN, self.seal)
        self.url = f"{province.node.url}{API}/token"
        self.http = province.node.client("")

    def assertion(self, **changed: Any) -> str:
        given = {"device": self.device.uid, "audience": self.url, "now": utc_now(), **changed}
        return assertions.make(self.key, given["device"], given["audience"], given["now"])

    def ask(self, assertion: str = "", **fields: str) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion or self.assertion(),
        }
        return self.http.post(f"{API}/token", data={**form, **fields})

    def otp(self, steps: int = 0) -> str:
        return one_time.password(self.secret, one_time.step_of(utc_now()) + steps)

    def person(self) -> httpx.Client:
        answer = self.ask(username="Lan", password=PASSWORD, otp=self.otp())
        assert answer.status_code == 200, answer.text
        return self.province.node.client(answer.json()["access_token"])


@pytest.fixture
def sent(province: Province) -> int:
    """A patient whom the station has sent, with a card and a citizen number."""
    province.station(CODE)
    province.station(OTHER)
    patient = province.patient()
    province.number(patient, "NI", "068060000123")
    province.number(patient, "HC", "GD4686820012345")
    return patient


@pytest.fixture(params=["P-256", "Ed25519"])
def desk(province: Province, sent: int, request: pytest.FixtureRequest) -> Desk:
    assert sent
    keys: dict[str, Any] = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    return Desk(province, keys[request.param]())


@pytest.fixture
def plain_desk(province: Province, sent: int) -> Desk:
    assert sent
    return Desk(province, ec.generate_private_key(ec.SECP256R1()))


def test_a_device_signs_in_and_acts_for_its_station(desk: Desk) -> None:
    answer = desk.ask()
    token = answer.json()["access_token"]
    client = desk.province.node.client(token)

    assert (answer.status_code, answer.json()["expires_in"]) == (200, 900)
    assert answer.headers["cache-control"] == "no-store"
    assert client.get(f"{API}/changes").status_code == 200
    me = client.get(f"{API}/me").json()
    assert (me["code"], me["device_name"], me["user"]) == (CODE, "PC phòng khám", "")
    refused = client.post(f"{API}/patients/lookup", json={"ma_bn": "BN1", "birth_year": 1960})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (403, "needs_person")
    assert client.get("/dicom-web/studies").status_code == 401


def test_an_assertion_is_taken_once(desk: Desk) -> None:
    assertion = desk.assertion()

    assert desk.ask(assertion).status_code == 200
    assert desk.ask(assertion).status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"audience": "https://elsewhere.example/token"},
        {"device": "0" * 32},
        {"now": utc_now() - timedelta(hours=1)},
        {"now": utc_now() + timedelta(days=400)},
    ],
    ids=["audience", "device", "over", "clock"],
)
def test_an_assertion_that_does_not_hold_is_refused_and_noted(
    plain_desk: Desk, changed: dict[str, Any]
) -> None:
    assert plain_desk.ask(plain_desk.assertion(**changed)).status_code == 401

    [entry] = plain_desk.province.journal(kinds=(Kind.SIGN_IN,), outcomes=(Outcome.REFUSED,))
    assert entry.details["why"]


def test_forged_assertions_are_refused(plain_desk: Desk) -> None:
    header, claims, signature = plain_desk.assertion().split(".")
    none = "eyJhbGciOiJub25lIn0"
    stranger = replace_key(plain_desk).assertion()

    forged = (
        f"{none}.{claims}.",
        f"{none}.{claims}.{signature}",
        f"{header}.{claims}.AAAA",
        f"{header}.{claims}",
        "a.b.c",
        stranger,
        "." * 3,
        f"{header}.bnVsbA.{signature}",
    )
    for one in forged:
        assert plain_desk.ask(one).status_code == 401, one


def replace_key(desk: Desk) -> Desk:
    other = object.__new__(Desk)
    other.__dict__.update(desk.__dict__)
    other.key = ec.generate_private_key(ec.SECP256R1())
    return other


def test_what_is_revoked_is_shut_out_at_once(plain_desk: Desk) -> None:
    province = plain_desk.province
    person = plain_desk.person()
    device = province.node.client(plain_desk.ask().json()["access_token"])
    token = province.clients[CODE]
    assert {one.get(f"{API}/me").status_code for one in (person, device, token)} == {200}

    with transaction(province.engine) as session:
        station_users.disable(session, "lan")
    assert person.get(f"{API}/me").status_code == 401
    assert device.get(f"{API}/me").status_code == 200
    with transaction(province.engine) as session:
        devices.revoke(session, plain_desk.device.uid)
    assert device.get(f"{API}/me").status_code == 401
    assert plain_desk.ask().status_code == 401
    with transaction(province.engine) as session:
        stations.revoke(session, CODE)
    assert token.get(f"{API}/changes").status_code == 403


def test_a_person_needs_both_passwords_and_each_one_time_password_once(plain_desk: Desk) -> None:
    otp = plain_desk.otp()
    wrong = (
        {"username": "lan", "password": "gì đó khác hẳn", "otp": otp},
        {"username": "lan", "password": PASSWORD, "otp": "000000"},
        {"username": "lan", "password": PASSWORD},
        {"username": "hoa", "password": PASSWORD, "otp": otp},
    )

    assert {plain_desk.ask(**one).status_code for one in wrong} == {401}
    assert plain_desk.ask(username="lan", password=PASSWORD, otp=otp).status_code == 200
    again = plain_desk.ask(username="lan", password=PASSWORD, otp=otp)
    assert again.status_code in {401, 429}


def look_up(client: httpx.Client, **body: Any) -> httpx.Response:
    given = {"birth_year": 1960, "basis": "referral", **body}
    return client.post(f"{API}/patients/lookup", json=given)


@pytest.mark.parametrize(
    "number",
    [{"cccd": "068060000123"}, {"bhyt": "GD 4 68 6820012345"}, {"ma_bn": "BN1"}],
    ids=["cccd", "bhyt", "ma_bn"],
)
def test_a_patient_is_found_by_each_number(
    plain_desk: Desk, sent: int, number: dict[str, str]
) -> None:
    province = plain_desk.province
    report = province.signed(province.order(sent, CODE))

    answer = look_up(plain_desk.person(), **number)

    assert answer.status_code == 200, answer.text
    assert answer.json()["patient"]["name"] == "NGUYỄN VĂN AN"
    assert [one["id"] for one in answer.json()["reports"]] == [report.uid]
    [entry] = province.journal(kinds=(Kind.LOOK_UP,))
    assert (entry.actor, entry.actor_name, entry.licence) == ("lan", "Nguyễn Thị Lan", "0042/LĐ")
    assert (entry.patient_id, entry.outcome, entry.device) == (
        sent,
        Outcome.SUCCESS,
        plain_desk.device.uid,
    )
    assert "068060000123" not in str(entry)


def test_nobody_and_nothing_released_are_the_same_answer(province: Province, sent: int) -> None:
    province.signed(province.order(sent, CODE))
    other = province.clients[OTHER]

    not_its_own = look_up(other, ma_bn="BN1").json()
    nobody = look_up(other, ma_bn="BN404").json()
    wrong_year = look_up(other, ma_bn="BN1", birth_year=1961).json()

    for one in (not_its_own, nobody, wrong_year):
        assert {**one, "server_time": ""} == {**nobody, "server_time": ""}
    entries = province.journal(kinds=(Kind.LOOK_UP,))
    assert [(one.outcome, one.patient_id) for one in entries] == [
        (Outcome.EMPTY, None),
        (Outcome.EMPTY, None),
        (Outcome.EMPTY, sent),
    ]


@pytest.mark.parametrize(
    "body", [{}, {"ma_bn": "1", "cccd": "2"}, {"ma_bn": "1", "birth_year": "x"}], ids=str
)
def test_a_look_up_needs_one_number_and_a_year(
    province: Province, sent: int, body: dict[str, Any]
) -> None:
    assert sent
    answer = look_up(province.clients[CODE], **body)

    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_code_that_the_patient_shows_opens_his_reports_once(
    province: Province, sent: int
) -> None:
    report = province.signed(province.order(sent))
    made = province.node.client().post("/api/v1/consent-codes", json={"patient_id": sent})
    given = {"ma_bn": "BN1", "basis": "consent", "evidence": made.json()["code"]}
    own, other = province.clients[CODE], province.clients[OTHER]
    wrong = look_up(own, **{**given, "evidence": "guess"})

    opened = look_up(own, **given)

    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (403, "/evidence")
    assert [one["id"] for one in opened.json()["reports"]] == [report.uid]
    assert opened.json()["basis_ends_at"]
    assert own.get(f"{API}/reports/{report.uid}/pdf").status_code == 200
    assert look_up(other, **given).status_code == 403
    assert province.shown(OTHER) == {}


def test_too_many_look_ups_wait_until_tomorrow_and_alarm_once(
    province: Province, sent: int
) -> None:
    assert sent
    with transaction(province.engine) as session:
        stations.configure(session, CODE, look_ups_a_day=3)
    client = province.clients[CODE]

    answers = [look_up(client, ma_bn="BN404") for _ in range(6)]

    assert [one.status_code for one in answers] == [200] * 3 + [429] * 3
    assert 0 < int(answers[-1].headers["retry-after"]) <= 86401
    assert client.get(f"{API}/me").json()["look_ups_left"] == 0
    alarms = province.node.client().get("/api/v1/station-alarms").json()
    assert [(one["kind"], one["details"]) for one in alarms] == [("limit", {"limit": "look-ups"})]
    assert len(province.journal(kinds=(Kind.LOOK_UP,), outcomes=(Outcome.REFUSED,))) == 3


def test_who_tries_what_is_not_his_again_and_again_raises_an_alarm(
    province: Province, sent: int
) -> None:
    report = province.signed(province.order(sent, CODE))
    client = province.clients[OTHER]

    for _ in range(21):
        client.get(f"{API}/reports/{report.uid}")

    alarms = province.node.client().get("/api/v1/station-alarms").json()
    assert [one["kind"] for one in alarms] == ["probing"]


def test_an_emergency_opens_alarms_and_is_judged(province: Province, sent: int) -> None:
    report = province.signed(province.order(sent))
    client, admin = province.clients[CODE], province.node.client()
    body = {"ma_bn": "BN1", "birth_year": 1960, "reason": "hôn mê, không người nhà"}

    opened = client.post(f"{API}/access/emergency", json=body)

    assert opened.status_code == 201, opened.text
    assert [one["id"] for one in opened.json()["reports"]] == [report.uid]
    assert client.get(f"{API}/reports/{report.uid}/pdf").status_code == 200
    [alarm] = admin.get("/api/v1/station-alarms", params={"unseen": True}).json()
    assert (alarm["kind"], alarm["details"]["basis"]) == ("emergency", opened.json()["id"])
    assert [one["kind"] for one in client.get(f"{API}/me").json()["notices"]] == ["emergency"]
    [basis] = admin.get("/api/v1/release-bases", params={"kind": "emergency"}).json()
    assert basis["reason"] == body["reason"]
    path = f"/api/v1/release-bases/{basis['uid']}"
    judged = admin.post(f"{path}/review", json={"verdict": "unjustified"})
    assert judged.json()["review"] == "unjustified"
    assert admin.post(f"/api/v1/station-alarms/{alarm['id']}/seen").json()["seen_at"]
    admin.post(f"{path}/withdraw", json={"reason": "lạm dụng"})
    assert client.get(f"{API}/reports/{report.uid}").status_code == 404
    assert province.shown(CODE) == {report.uid: "deleted"}
    kinds = {one.kind for one in province.journal()}
    assert {Kind.EMERGENCY, Kind.REVIEW, Kind.WITHDRAW} <= kinds
    unknown = [
        client.post(f"{API}/access/emergency", json={**body, "ma_bn": "BN404"}).status_code
        for _ in range(10)
    ]
    assert unknown == [404] * 9 + [429]  # who only tries is stopped too


REFERRAL = {
    "patient": {"name": "TRẦN THỊ Ỷ", "birth_date": "1971", "sex": "F", "cccd": "068171000001"},
    "reason": "Ho ra máu",
    "service": "Chụp Xquang ngực",
    "a_field_of_tomorrow": 1,
}


def test_a_referral_is_sent_once_however_often_it_comes(province: Province, sent: int) -> None:
    client, other = province.clients[CODE], province.clients[OTHER]
    key = {"Idempotency-Key": "68001-2026-0001"}

    answers = [client.post(f"{API}/referrals", json=REFERRAL, headers=key) for _ in range(3)]
    changed = client.post(f"{API}/referrals", json={**REFERRAL, "reason": "Khác"}, headers=key)
    keyless = client.post(f"{API}/referrals", json=REFERRAL)
    of_other = other.post(f"{API}/referrals", json=REFERRAL, headers=key)

    uid = answers[0].json()["id"]
    assert [one.status_code for one in answers] == [201] * 3
    assert {one.json()["id"] for one in answers} == {uid}
    assert (changed.status_code, keyless.status_code) == (409, 400)
    assert of_other.json()["id"] != uid
    assert other.get(f"{API}/referrals/{uid}").status_code == 404
    assert [one["id"] for one in client.get(f"{API}/referrals").json()] == [uid]

    order = province.order(sent)
    admin = province.node.client()
    admin.post(f"/api/v1/referrals/{uid}/accept", json={"order_id": order})
    report = province.signed(order)
    state = client.get(f"{API}/referrals/{uid}", headers={"Accept-Language": "vi"}).json()
    assert (state["state"], state["state_name"]) == ("accepted", "đã tiếp nhận")
    assert province.shown(CODE) == {report.uid: "released"}


def test_the_paper_comes_in_parts_and_is_the_same(province: Province, sent: int) -> None:
    report = province.signed(province.order(sent, CODE), size=5000)
    client, path = province.clients[CODE], f"{API}/reports/{report.uid}/pdf"
    whole = client.get(path)
    etag = whole.headers["etag"]

    first = client.get(path, headers={"Range": "bytes=0-999"})
    rest = client.get(path, headers={"Range": "bytes=1000-", "If-Range": etag})
    other = client.get(path, headers={"Range": "bytes=1000-", "If-Range": '"old"'})

    assert (first.status_code, rest.status_code, other.status_code) == (206, 206, 200)
    assert first.content + rest.content == whole.content == other.content
    assert first.headers["content-range"] == f"bytes 0-999/{len(whole.content)}"
    assert client.get(path, headers={"Range": "bytes=99999-"}).status_code == 416
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    sizes = [one.size for one in province.journal(kinds=(Kind.DOWNLOAD,)) if one.size]
    assert sum(sizes) == 3 * len(whole.content)


def test_receipts_are_proof_and_come_late(province: Province, sent: int) -> None:
    report = province.signed(province.order(sent, CODE))
    client, path = province.clients[CODE], f"{API}/reports/{report.uid}/receipt"
    weeks_ago = utc_now() - timedelta(weeks=3)
    body = {"version": 1, "kind": "printed", "happened_at": weeks_ago.isoformat(), "person": "Lan"}
    province.correct(report)

    for _ in range(2):
        assert client.post(path, json=body, headers={"Idempotency-Key": "p1"}).status_code == 201
    client.post(path, json=body, headers={"Idempotency-Key": "p2"})
    wrong = client.post(path, json={**body, "sha256": "0" * 64})
    early = client.post(path, json={**body, "version": 9})
    times = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-26T08:00:00")
    never = [client.post(path, json={**body, "happened_at": one}).status_code for one in times]

    kept = province.node.client().get(f"/api/v1/reports/{report.uid}/receipts").json()
    assert [(one["kind"], one["version"], one["actor_name"]) for one in kept] == [
        ("printed", 1, "Lan")
    ] * 2
    assert (wrong.status_code, early.status_code, never) == (400, 404, [400] * 3)


def test_time_and_health_are_open_to_devices_that_cannot_sign_in_yet(province: Province) -> None:
    anonymous = province.node.client("")

    assert anonymous.get(f"{API}/time").json()["server_time"].endswith("+07:00")
    assert anonymous.get(f"{API}/health").json() == {"status": "ready"}


class _Hook(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(self.rfile.read(length))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Hook)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_station_is_told_that_there_is_news_and_not_a_word_of_whom(
    province: Province, sent: int, hook: HTTPServer
) -> None:
    with transaction(province.engine) as session:
        stations.configure(session, CODE, hook_url=f"http://127.0.0.1:{hook.server_port}/news")

    province.signed(province.order(sent, CODE))
    province.follow()

    assert [json.loads(one) for one in hook.bodies] == [{"event": "changes"}]  # type: ignore[attr-defined]


def test_a_wiped_station_is_told_so(province: Province, sent: int) -> None:
    assert sent
    with transaction(province.engine) as session:
        stations.wipe(session, CODE)

    assert province.changes(CODE)["wipe"] is True


def test_what_is_marked_of_a_patient_is_taken_back_and_comes_with_its_own_basis(
    province: Province, sent: int
) -> None:
    report = province.signed(province.order(sent, CODE))
    admin = province.node.client()

    admin.put(f"/api/v1/patients/{sent}/sensitive", json={"sensitive": ["hiv"]})

    [item] = province.changes(CODE)["items"]
    assert (item["state"], item["reason"]) == ("deleted", "restricted")
    consent = {"patient_id": sent, "station": CODE, "evidence": "phiếu 3", "covers": ["hiv"]}
    assert admin.post("/api/v1/consents", json=consent).status_code == 201
    assert province.shown(CODE) == {report.uid: "released"}
    admin.put(f"/api/v1/reports/{report.uid}/sensitive", json={"sensitive": ["abuse"]})
    assert province.shown(CODE) == {report.uid: "deleted"}
    nothing = admin.put(f"/api/v1/reports/{'0' * 32}/sensitive", json={"sensitive": []})
    assert nothing.status_code == 404


def test_the_weekly_reading_names_look_ups_after_which_nothing_was_read(
    province: Province, sent: int
) -> None:
    report = province.signed(province.order(sent, CODE))
    client = province.clients[CODE]
    look_up(client, ma_bn="BN1")
    look_up(client, ma_bn="BN404")
    admin = province.node.client()
    [before] = admin.get("/api/v1/station-use").json()

    client.get(f"{API}/reports/{report.uid}")

    [after] = admin.get("/api/v1/station-use").json()
    counted = ("look_ups", "empty_look_ups", "unread_look_ups")
    assert [before[name] for name in counted] == [2, 1, 1]
    assert [after[name] for name in counted] == [2, 1, 0]
    assert after["station"] == CODE


def test_secrets_of_one_time_passwords_lie_sealed(desk: Desk) -> None:
    with transaction(desk.province.engine) as session:
        [kept] = session.scalars(text("SELECT otp_secret FROM station_users")).all()

    assert desk.secret not in bytes(kept)
    assert desk.seal.open(bytes(kept), "station user lan") == desk.secret
    with pytest.raises(StoreUnavailable):
        desk.seal.open(bytes(kept), "station user hoa")
    with pytest.raises(StoreUnavailable):
        Seal(bytes(32)).open(bytes(kept), "station user lan")


def test_secrets_from_before_they_were_sealed_keep_working(desk: Desk) -> None:
    with transaction(desk.province.engine) as session:
        session.execute(text("UPDATE station_users SET otp_secret = :s"), {"s": desk.secret})

    assert desk.person().get(f"{API}/me").json()["user"]

    with transaction(desk.province.engine) as session:
        assert station_users.count_unsealed(session) == 0, "signing in has sealed it"


def test_all_that_lies_open_is_sealed_at_once(desk: Desk) -> None:
    with transaction(desk.province.engine) as session:
        session.execute(text("UPDATE station_users SET otp_secret = :s"), {"s": desk.secret})
        assert station_users.count_unsealed(session) == 1

        station_users.seal_all(session, desk.seal)

        assert station_users.count_unsealed(session) == 0
    assert desk.person().get(f"{API}/me").json()["user"]


def test_node_with_another_key_lets_nobody_in_and_enters_nobody(desk: Desk) -> None:
    node = desk.province.node
    (node.settings.secrets_dir / "sealing.key").write_text("00" * 32)

    answer = desk.ask(username="Lan", password=PASSWORD, otp=desk.otp())
    other = seal_of(node.settings.secrets_dir)

    assert answer.status_code == 503
    with pytest.raises(Conflict, match="SEALING_KEY"), transaction(node.engine) as session:
        station_users.add(session, replace(LAN, name="hoa"), other)


@pytest.mark.parametrize("url", ["http://h:99999/x", "http://h:x/", "ftp://h/", "http://u@h/"])
def test_hook_that_cannot_be_called_is_refused(desk: Desk, url: str) -> None:
    with pytest.raises(Malformed), transaction(desk.province.engine) as session:
        stations.configure(session, CODE, hook_url=url)
