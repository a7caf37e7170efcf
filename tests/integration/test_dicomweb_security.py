"""Who may do what over HTTP, and what a hostile client gets."""

import random
import socket
import string
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from pydicom import Dataset
from starlette.routing import WebSocketRoute

from ris.reports import practitioners
from ris.reports.model import Practitioner
from storage.access import stations, tokens
from storage.access.stations import Facility
from storage.access.tokens import Role
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.http import HttpNode, multipart_body
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.plain import NO_AUTHORITIES
from viewer_api import service
from viewer_api.dicomweb import event_channel

ADMIN, RADIOLOGIST, TECHNOLOGIST, VIEWER, STATION = Role
STUDY = "/dicom-web/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
WORKITEMS = "/dicom-web/workitems"
WORKITEM = WORKITEMS + "/{uid}"
REPORTS = "/api/v1/reports"
REPORT = REPORTS + "/{uid}"
TEMPLATES = "/api/v1/report-templates"
RECONCILE = "/api/v1/reconcile"
READERS = frozenset({ADMIN, RADIOLOGIST, TECHNOLOGIST, VIEWER})
SENDERS = frozenset({ADMIN, RADIOLOGIST, TECHNOLOGIST})
WRITERS = frozenset({ADMIN, RADIOLOGIST})
ADMINS = frozenset({ADMIN})
ANYONE = frozenset(Role)
STATIONS = frozenset({STATION})
STATION_READS = (
    *("/changes", "/reports/{report_id}", "/reports/{report_id}/pdf"),
    *("/reports/{report_id}/key-images", "/reports/{report_id}/key-images/{number}"),
    *("/me", "/referrals", "/referrals/{referral_id}"),
)
STATION_WRITES = (
    *("/reports/{report_id}/receipt", "/patients/lookup", "/referrals", "/access/emergency"),
)
REJECTIONS = (
    *("", "/{note}", "/{note}/instances", "/{note}/instances/{instance}"),
    "/{note}/instances/{instance}/preview",
)
RELEASES = (
    *("/consents", "/consent-codes", "/release-bases/{uid}/withdraw"),
    *("/referrals/{uid}/accept", "/referrals/{uid}/decline"),
)

FHIR = {
    "Patient": READERS,
    "ServiceRequest": SENDERS,
    "ImagingStudy": READERS,
    "DiagnosticReport": READERS,
    "Endpoint": READERS,
    "Provenance": READERS,
    "AuditEvent": ADMINS,
    "Subscription": ADMINS,
}

# Every route and the roles that it is open to. Health is the only one without a token.
MATRIX = {
    ("OPTIONS", "/dicom-web"): READERS,
    ("OPTIONS", "/dicom-web/"): READERS,
    ("GET", "/dicom-web/studies"): READERS,
    ("GET", "/dicom-web/series"): READERS,
    ("GET", "/dicom-web/instances"): READERS,
    ("GET", STUDY + "/series"): READERS,
    ("GET", STUDY + "/instances"): READERS,
    ("GET", SERIES + "/instances"): READERS,
    ("GET", STUDY): READERS,
    ("GET", SERIES): READERS,
    ("GET", INSTANCE): READERS,
    ("GET", STUDY + "/metadata"): READERS,
    ("GET", SERIES + "/metadata"): READERS,
    ("GET", INSTANCE + "/metadata"): READERS,
    ("GET", INSTANCE + "/frames/{frame_list}"): READERS,
    ("GET", INSTANCE + "/bulkdata/{path:path}"): READERS,
    ("GET", "/wado"): READERS,
    **{
        ("GET", f"{place}/{what}"): READERS
        for place in (STUDY, SERIES, INSTANCE, INSTANCE + "/frames/{frame_list}")
        for what in ("rendered", "thumbnail")
    },
    **{
        ("GET", f"{place}/{what}"): READERS
        for place in (STUDY, SERIES, INSTANCE)
        for what in ("bulkdata", "pixeldata")
    },
    ("GET", STUDY + "/archive"): READERS,
    ("GET", SERIES + "/archive"): READERS,
    ("POST", "/dicom-web/studies"): SENDERS,
    ("POST", STUDY): SENDERS,
    ("GET", WORKITEMS): READERS,
    ("POST", WORKITEMS): SENDERS,
    ("GET", WORKITEM): READERS,
    ("POST", WORKITEM): SENDERS,
    ("PUT", WORKITEM + "/state"): SENDERS,
    ("PUT", WORKITEM + "/state/{ae_title}"): SENDERS,
    ("POST", WORKITEM + "/cancelrequest"): SENDERS,
    ("POST", WORKITEM + "/cancelrequest/{ae_title}"): SENDERS,
    ("POST", WORKITEM + "/subscribers/{ae_title}"): SENDERS,
    ("DELETE", WORKITEM + "/subscribers/{ae_title}"): SENDERS,
    ("POST", WORKITEM + "/subscribers/{ae_title}/suspend"): SENDERS,
    ("GET", "/api/v1/quarantine"): ADMINS,
    ("GET", "/api/v1/incidents"): ADMINS,
    ("GET", "/api/v1/peers"): ADMINS,
    ("POST", "/api/v1/hl7"): ADMINS,
    ("GET", "/api/v1/hl7/messages"): ADMINS,
    ("GET", "/api/v1/hl7/messages/{message_id}"): ADMINS,
    ("POST", "/api/v1/hl7/messages/{message_id}/replay"): ADMINS,
    ("GET", "/api/v1/hl7/outgoing"): ADMINS,
    ("POST", "/api/v1/hl7/outgoing/{message_id}/resend"): ADMINS,
    ("POST", "/api/v1/hl7/outgoing/{message_id}/discard"): ADMINS,
    ("GET", "/api/v1/orders"): SENDERS,
    ("GET", "/api/v1/orders/{order_id}"): SENDERS,
    ("GET", "/api/v1/worklist"): SENDERS,
    ("GET", "/api/v1/worklist/explain"): SENDERS,
    ("GET", "/api/v1/performed-steps"): SENDERS,
    ("GET", "/api/v1/performed-steps/{uid}"): SENDERS,
    ("GET", RECONCILE): SENDERS,
    ("GET", RECONCILE + "/{study_instance_uid}"): SENDERS,
    ("GET", RECONCILE + "/{study_instance_uid}/journal"): SENDERS,
    ("POST", RECONCILE + "/{study_instance_uid}/preview"): SENDERS,
    ("POST", RECONCILE + "/{study_instance_uid}/actions"): SENDERS,
    ("POST", RECONCILE + "/journal/{entry_id}/undo"): SENDERS,
    ("GET", REPORTS): READERS,
    ("POST", REPORTS): WRITERS,
    ("GET", REPORT): READERS,
    ("GET", REPORT + "/versions"): READERS,
    ("GET", REPORT + "/pdf"): READERS,
    ("GET", REPORT + "/signatures"): READERS,
    ("GET", REPORT + "/key-images"): READERS,
    ("PUT", REPORT + "/key-images"): WRITERS,
    ("GET", REPORT + "/key-images/received"): READERS,
    ("GET", REPORT + "/critical-results"): WRITERS,
    ("POST", REPORT + "/critical-results"): WRITERS,
    ("GET", "/api/v1/critical-results"): WRITERS,
    ("POST", "/api/v1/critical-results/{critical}/notices"): WRITERS,
    ("GET", TEMPLATES): WRITERS,
    ("GET", TEMPLATES + "/{code}"): WRITERS,
    ("PUT", TEMPLATES + "/{code}"): ADMINS,
    ("DELETE", TEMPLATES + "/{code}"): ADMINS,
    ("POST", TEMPLATES + "/{code}/merge"): WRITERS,
    ("GET", TEMPLATES + "/{code}/mrrt"): WRITERS,
    ("PUT", TEMPLATES + "/{code}/mrrt"): ADMINS,
    ("PUT", REPORT + "/lock"): WRITERS,
    ("DELETE", REPORT + "/lock"): WRITERS,
    ("POST", REPORT + "/actions/{action}"): WRITERS,
    ("PUT", REPORT + "/second-reading"): WRITERS,
    ("GET", REPORT + "/second-readings"): WRITERS,
    ("POST", REPORT + "/second-readings"): WRITERS,
    ("GET", "/api/v1/letterhead"): ADMINS,
    ("PUT", "/api/v1/letterhead"): ADMINS,
    ("GET", "/api/v1/practitioners"): ADMINS,
    ("PUT", "/api/v1/practitioners/{code}"): ADMINS,
    ("GET", "/fhir/metadata"): ANYONE,
    **{
        (method, f"/fhir/{name}{rest}"): roles
        for name, roles in FHIR.items()
        for method, rest in (("GET", ""), ("POST", "/_search"), ("GET", "/{id}"))
    },
    ("POST", "/fhir/Subscription"): ADMINS,
    ("PUT", "/fhir/Subscription/{id}"): ADMINS,
    ("DELETE", "/fhir/Subscription/{id}"): ADMINS,
    ("GET", "/fhir/DiagnosticReport/{id}/_history"): READERS,
    ("GET", "/fhir/DiagnosticReport/{id}/_history/{version}"): READERS,
    ("GET", "/api/v1/insurance/orders/{number}"): SENDERS,
    ("GET", "/api/v1/insurance/services"): SENDERS,
    ("GET", "/api/v1/machines"): SENDERS,
    ("PUT", "/api/v1/machines/{ae_title}"): ADMINS,
    ("DELETE", "/api/v1/machines/{ae_title}"): ADMINS,
    ("GET", "/api/v1/statistics/turnaround"): ADMINS,
    ("GET", "/api/v1/statistics/workload"): ADMINS,
    ("GET", "/api/v1/deliveries"): SENDERS,
    ("POST", "/api/v1/deliveries"): SENDERS,
    ("POST", "/api/v1/deliveries/{uid}/revocation"): SENDERS,
    **{("GET", "/api/v1/rejections" + path): SENDERS for path in REJECTIONS},
    **{("POST", "/api/v1/rejections" + path): SENDERS for path in ("", "/preview")},
    ("POST", "/api/v1/rejections/{note}/restore"): SENDERS,
    ("GET", "/verify/{code}"): None,
    ("GET", "/metrics"): ADMINS,
    ("GET", "/openapi.json"): ANYONE,
    ("GET", "/docs"): ANYONE,
    **{("GET", "/stations/v1" + path): STATIONS for path in STATION_READS},
    **{("POST", "/stations/v1" + path): STATIONS for path in STATION_WRITES},
    ("POST", "/stations/v1/token"): None,
    ("GET", "/stations/v1/time"): None,
    ("GET", "/stations/v1/health"): None,
    **{("POST", "/api/v1" + path): SENDERS for path in RELEASES},
    ("POST", "/api/v1/release-bases/{uid}/review"): ADMINS,
    ("GET", "/api/v1/stations"): SENDERS,
    ("GET", "/api/v1/release-bases"): SENDERS,
    ("GET", "/api/v1/referrals"): SENDERS,
    ("PUT", REPORT + "/sensitive"): SENDERS,
    ("GET", REPORT + "/receipts"): SENDERS,
    ("GET", "/api/v1/station-alarms"): ADMINS,
    ("POST", "/api/v1/station-alarms/{alarm_id}/seen"): ADMINS,
    ("GET", "/api/v1/patients/merges"): SENDERS,
    ("POST", "/api/v1/patients/merges/{merge_id}/preview"): SENDERS,
    ("POST", "/api/v1/patients/merges/{merge_id}/undo"): SENDERS,
    ("GET", "/api/v1/audit"): ADMINS,
    ("GET", "/api/v1/station-use"): ADMINS,
    ("PUT", "/api/v1/patients/{patient_id}/sensitive"): SENDERS,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
}
LET_IN = frozenset({200, 204, 400, 404, 409, 415, 422})
"""Answers to who may: it is done, there is no such thing, or something is missing."""
OPEN = LET_IN | {429}
"""Answers where anybody may: who tries too many codes has to wait."""
# What people open in a browser; `test_pages` says who may.
PAGES = {
    *(("GET", path) for path in ("/", "/viewer", "/viewer/handover", "/static/{name}")),
    *(("GET", path) for path in ("/login", "/language/{tag}", "/welcome/{code}", "/password")),
    *(("POST", path) for path in ("/login", "/logout", "/welcome/{code}", "/password")),
}
FOREIGN = {"X-Forwarded-For": "203.0.113.9"}
"""As if it came through a proxy: nothing is local then."""


@pytest.fixture(scope="module")
def node(shared_http_node: HttpNode) -> HttpNode:
    return shared_http_node


@pytest.fixture(scope="module")
def slice_(node: HttpNode) -> Dataset:
    dataset = ct_slice()
    node.put(dataset)
    return dataset


@pytest.fixture(scope="module")
def anonymous(node: HttpNode) -> httpx.Client:
    return node.client("")


@pytest.fixture(scope="module")
def secrets(node: HttpNode) -> dict[Role, str]:
    made = {role: node.token(role, station="BV01" if role is STATION else None) for role in Role}
    with transaction(node.engine) as session:
        stations.add(session, Facility(code="BV01", name="Trạm Y tế xã Mẫu"))
        for role in WRITERS:
            person = Practitioner(role, f"BS {role}", may_approve=True)
            practitioners.put(session, person, made[role].split("_")[1])
    return made


def filled(path: str, dataset: Dataset) -> str:
    values = {
        "study": dataset.StudyInstanceUID,
        "series": dataset.SeriesInstanceUID,
        "instance": dataset.SOPInstanceUID,
        "note": "2.25.1",
        "frame_list": "1",
        "frame": "1",
        "uid": "0" * 32,
        "critical": "0" * 32,
        "action": "approve",
        "ae_title": "WATCH",
        "code": "BS01",
        "report_id": "0" * 32,
        "referral_id": "0" * 32,
        "alarm_id": "1",
        "merge_id": "1",
        "patient_id": "1",
        "number": "1",
        "order_id": "1",
        "entry_id": "1",
        "message_id": "1",
        "study_instance_uid": dataset.StudyInstanceUID,
        "id": "1",
        "version": "1",
    }
    return path.replace("{path:path}", "7FE00010").format_map(values)


def test_every_route_stands_in_the_matrix(node: HttpNode) -> None:
    sockets = [route for route in node.app.routes if isinstance(route, WebSocketRoute)]
    others = [route for route in node.app.routes if route not in sockets]
    routes = {
        (method, route.path) for route in others for method in getattr(route, "methods", ["?"])
    }

    assert {route.path for route in sockets} == {*event_channel.PATHS}
    assert all(isinstance(route, APIRoute) for route in others)
    assert routes == MATRIX.keys() | PAGES


@pytest.mark.parametrize(("method", "path"), MATRIX, ids=str)
def test_each_role_may_what_the_matrix_says(
    node: HttpNode, slice_: Dataset, secrets: dict[Role, str], method: str, path: str
) -> None:
    allowed = MATRIX[method, path]
    answers = {}

    with httpx.Client(base_url=node.url, headers=FOREIGN, verify=NO_AUTHORITIES) as client:
        for role, secret in secrets.items():
            bearer = {"Authorization": f"Bearer {secret}"}
            answers[role] = client.request(method, filled(path, slice_), headers=bearer)

    for role, answer in answers.items():
        if allowed is None or role in allowed:
            assert answer.status_code in (LET_IN if allowed else OPEN), (role, answer.text)
        else:
            assert answer.status_code == 403, role
            assert str(slice_.PatientName).encode() not in answer.content


@pytest.mark.parametrize(("method", "path"), MATRIX, ids=str)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer lt_000000000000_" + "A" * 43,
        "Basic YWRtaW46YWRtaW4=",
        "Bearer " + "x" * 5000,
        "Bearer \u00ff\u00fe",
        "Bearer ' OR 1=1 --",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_without_a_valid_token_there_is_nothing(
    anonymous: httpx.Client, slice_: Dataset, method: str, path: str, authorization: str | None
) -> None:
    headers: dict[str, bytes] = {name: value.encode() for name, value in FOREIGN.items()}
    if authorization is not None:
        headers["Authorization"] = authorization.encode("latin-1")

    response = anonymous.request(method, filled(path, slice_), headers=headers)

    if MATRIX[method, path] is None:
        assert response.status_code in OPEN
    else:
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json"])
def test_what_shows_no_patients_is_open_to_this_machine_only(
    anonymous: httpx.Client, path: str
) -> None:
    assert anonymous.get(path).status_code == 200
    assert anonymous.get(path, headers={"Host": "pacs.example.vn"}).status_code == 401
    assert anonymous.get(path, headers={"Via": "1.1 proxy"}).status_code == 401


def test_revoked_token_is_refused_within_seconds(node: HttpNode) -> None:
    secret = node.token()
    client = node.client(secret)
    assert client.get("/dicom-web/studies").status_code in {200, 204}

    with transaction(node.engine) as session:
        tokens.revoke(session, secret.split("_")[1])

    deadline = time.monotonic() + PATIENCE_S
    while client.get("/dicom-web/studies").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_answer_carries_the_security_headers(anonymous: httpx.Client, node: HttpNode) -> None:
    answers = [
        anonymous.get("/health/live"),
        anonymous.get("/dicom-web/studies"),
        anonymous.get("/nowhere"),
        anonymous.post("/health/live"),
        node.client().get("/dicom-web/studies"),
    ]

    assert [answer.status_code for answer in answers[1:4]] == [401, 404, 405]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_ready_tells_states_to_all_and_reasons_to_this_machine(
    node: HttpNode, anonymous: httpx.Client
) -> None:
    node.down["spool"] = "/srv/spool: no space"
    time.sleep(1.1)  # longer than an answer is kept

    here = anonymous.get("/health/ready")
    far = anonymous.get("/health/ready", headers=FOREIGN)
    node.down.clear()

    assert (here.status_code, far.status_code) == (503, 503)
    assert here.json()["parts"] == {
        "database": {"state": "up"},
        "spool": {"state": "down", "reason": "/srv/spool: no space"},
    }
    assert "/srv/spool" not in far.text
    time.sleep(1.1)
    assert anonymous.get("/health/ready").json()["status"] == "ready"


def test_openapi_describes_every_route_but_itself(anonymous: httpx.Client) -> None:
    described = anonymous.get("/openapi.json").json()

    paths = {path.replace("{path:path}", "{path}") for _, path in MATRIX}
    assert described["paths"].keys() == paths - {"/openapi.json", "/docs"}


def test_docs_load_nothing(anonymous: httpx.Client) -> None:
    page = anonymous.get("/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert "/dicom-web/studies" in page.text
    assert "src=" not in page.text
    assert "http" not in page.text.replace("https://schema", "")


def test_metrics_count_by_route_and_never_by_path(
    node: HttpNode, anonymous: httpx.Client, slice_: Dataset
) -> None:
    node.client().get(filled(INSTANCE, slice_))

    text = anonymous.get("/metrics").text

    assert f'route="{INSTANCE}"' in text
    assert slice_.StudyInstanceUID not in text
    assert "lienthong_spool_records" in text


# Hostile clients

HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE studies; --",
    "1 UNION SELECT secret FROM tokens",
    "%",
    "_",
    "\\",
    "*" * 300,
    "*?" * 200,
    "\x00",
    "a\x00b",
    "\r\nSet-Cookie: a=b",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "..%2f..%2f",
    "x" * 4000,
    "²³",
    "\u202e\ufeff",
    "\ud7ff\U0010ffff",
    "NGUYỄN^VĂN AN=漢字=ひらがな",
    "=" * 50,
    "^" * 100,
    "-",
    "20260101-",
    "-20260101",
    "99999999",
    "20260230",
    "20260101-20250101",
    "235960",
    "240000-",
    "-1",
    "9" * 400,
    "1e308",
    "NaN",
    "1.2.3\\1.2.4",
    "1.2.3," * 500,
    "1" * 65,
    "(((((" * 50,
    "[[[]]]",
    "${jndi:ldap://x}",
    "{{7*7}}",
]
KEYS = [
    *("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"),
    *("ModalitiesInStudy", "ReferringPhysicianName", "StudyInstanceUID", "SeriesInstanceUID"),
    *("SOPInstanceUID", "InstanceNumber", "SeriesNumber", "Rows", "00100010", "00081030"),
    *("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009", "PixelData"),
    *("limit", "offset", "fuzzymatching", "includefield", "00091001", "NoSuchKeyword", "a.b.c"),
]
PATHS = [
    "/dicom-web/studies",
    "/dicom-web/series",
    "/dicom-web/instances",
    "/dicom-web/studies/{}",
    "/dicom-web/studies/{}/series",
    "/dicom-web/studies/{}/instances",
    "/dicom-web/studies/{}/metadata",
    "/dicom-web/studies/{}/series/{}/instances/{}",
    STUDY + "/series/{}",
    INSTANCE + "/frames/{}",
    INSTANCE + "/bulkdata/{}",
    "/api/v1/quarantine",
    "/api/v1/incidents",
    "/{}",
]
OPERATIONS = ["limit", "after", "before", "state", "reason"]
HEADERS = ["Accept", "Accept-Encoding", "If-None-Match", "Range", "Forwarded", "X-Forwarded-Host"]


def hostile_requests(slice_: Dataset, seed: int, count: int) -> Iterator[tuple[str, str, dict]]:
    chance = random.Random(seed)

    def value() -> str:
        if chance.random() < 0.8:
            return chance.choice(HOSTILE)
        return "".join(chance.choices(string.printable, k=chance.randrange(40)))

    for _ in range(count):
        path = filled(chance.choice(PATHS).replace("{}", "\0"), slice_)
        path = "".join(quote(value(), safe="") if c == "\0" else c for c in path)
        names = chance.choices(OPERATIONS if "/api/" in path else KEYS, k=chance.randrange(4))
        query = "&".join(f"{quote(name)}={quote(value())}" for name in names)
        headers = {
            name: value().encode("latin-1", "replace").translate(None, b"\r\n\0\x0b\x0c").strip()
            for name in chance.choices(HEADERS, k=chance.randrange(3))
        }
        yield chance.choice(["GET", "GET", "GET", "HEAD", "POST"]), f"{path}?{query}", headers


@pytest.mark.parametrize("seed", range(4))
def test_hostile_requests_never_break_the_server(
    node: HttpNode, slice_: Dataset, seed: int
) -> None:
    client = node.client()
    slow, broken = [], []

    for method, url, headers in hostile_requests(slice_, seed, 250):
        started = time.perf_counter()
        response = client.request(method, url, headers=headers)
        if time.perf_counter() - started > 2:
            slow.append((method, url))
        if response.status_code >= 500:
            broken.append((method, url, headers, response.text))

    assert broken == []
    assert slow == []
    assert client.get("/dicom-web/studies").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=" + ",".join(f"{n}-{n + 1}" for n in range(2000))},
        {"Accept": ",".join(f"a/b{n};q=0.{n}" for n in range(3000))},
        {"Accept": '"' * 8000},
        {"Accept": "multipart/related; type=" + "\\" * 5000},
        {"If-None-Match": ",".join(f'"{n}"' for n in range(3000))},
        {"Accept-Encoding": ",".join(["gzip;q=0.5"] * 3000)},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_abusive_headers_are_quick(
    node: HttpNode, slice_: Dataset, headers: dict[str, str]
) -> None:
    client = node.client()
    client.get(filled(INSTANCE, slice_))

    started = time.perf_counter()
    response = client.get(filled(INSTANCE, slice_), headers=headers)

    assert response.status_code < 500
    assert time.perf_counter() - started < 0.5


def test_hostile_body_values_do_not_reach_a_path(node: HttpNode) -> None:
    """S04: what a peer names never becomes the name of a file."""
    client = node.client()
    type_ = 'multipart/related; type="application/dicom"; boundary=b'
    before = set(node.settings.data_dir.rglob("*"))

    for uid in ("../../../../tmp/evil", "/etc/passwd", "..\\..\\evil", "CON", "1.2\x00.3"):
        file = part10_file(ct_slice()).replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"x" * 26)
        body = multipart_body([file.replace(b"1.2.826", uid[:7].ljust(7).encode())])
        response = client.post("/dicom-web/studies", content=body, headers={"Content-Type": type_})
        assert response.status_code in {200, 409}
    node.ingest()

    added = set(node.settings.data_dir.rglob("*")) - before
    for path in added:
        relative = path.relative_to(node.settings.data_dir)
        assert not any(mark in str(relative) for mark in ("evil", "passwd", "CON"))


# Connections


def connect(node: HttpNode) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=30)


def test_headers_without_end_are_refused(node: HttpNode) -> None:
    with connect(node) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n")
        refused = b""
        try:
            for _ in range(200):
                connection.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")
            refused = connection.recv(100)
        except OSError:
            refused = b"HTTP/1.1 400"

    assert refused.startswith(b"HTTP/1.1 400")


def test_silent_client_is_sent_away(node: HttpNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HEAD_S", 0.3)
    for start in (b"", b"GET /health/live HTTP/1.1\r\nHost: lo"):
        with connect(node) as connection:
            connection.sendall(start)
            assert connection.recv(100) == b""


def test_many_silent_clients_do_not_stop_the_others(
    node: HttpNode, anonymous: httpx.Client
) -> None:
    silent = [connect(node) for _ in range(200)]
    try:
        assert anonymous.get("/health/live").status_code == 200
    finally:
        for connection in silent:
            connection.close()


def test_slow_uploads_leave_room_for_readers(node: HttpNode, slice_: Dataset) -> None:
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=b\r\n'
        f"Authorization: Bearer {node.token()}\r\n\r\n--b"
    )
    slow = [connect(node) for _ in range(40)]
    try:
        for connection in slow:
            connection.sendall(head.encode())
        time.sleep(0.3)

        assert node.client().get(filled(INSTANCE, slice_)).status_code == 200
        answered = [connection for connection in slow if _has_answer(connection)]
        assert len(answered) == 40 - 16
        assert answered[0].recv(12) == b"HTTP/1.1 503"
    finally:
        for connection in slow:
            connection.close()


def _has_answer(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


def test_open_requests_are_finished_when_the_node_stops(http_node: HttpNode) -> None:
    datasets = [ct_slice() for _ in range(1)]
    http_node.put(*datasets)
    upload = part10_file(ct_slice())
    body = multipart_body([upload])
    answers: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield body[:300]
        http_node.stop.set()
        time.sleep(1)
        yield body[300:]

    def send() -> None:
        type_ = 'multipart/related; type="application/dicom"; boundary=b'
        response = http_node.client().post(
            "/dicom-web/studies", content=pieces(), headers={"Content-Type": type_}
        )
        answers.append(response.status_code)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(20)

    assert answers == [200]
    assert http_node.spool.backlog().count == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{http_node.url}/health/live")
