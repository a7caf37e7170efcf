"""STOW-RS over a real port: what is taken, what is refused, what a broken body leaves."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from pacs import dicom_xml, part10
from storage.access.tokens import Role
from tests.fixtures.dicom_files import ct_slice, encapsulated, encode, part10_file
from tests.fixtures.http import HttpNode, multipart_body, multipart_parts
from tests.fixtures.patience import PATIENCE_S
from viewer_api import uploads

TYPE = 'multipart/related; type="application/dicom"; boundary=b'
STUDIES = "/dicom-web/studies"
REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"


@pytest.fixture
def client(http_node: HttpNode) -> httpx.Client:
    return http_node.client()


def post(
    client: httpx.Client, *files: bytes, path: str = STUDIES, **headers: str
) -> httpx.Response:
    given = {"Content-Type": TYPE, **headers}
    return client.post(path, content=multipart_body(files), headers=given)


def items(response: httpx.Response, tag: str) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/dicom+json", response.text
    return list(response.json().get(tag, {}).get("Value", []))


def uids(response: httpx.Response, tag: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in items(response, tag)]


def reasons(response: httpx.Response, tag: str = FAILED) -> list[int]:
    return [item["00081197"]["Value"][0] for item in items(response, tag)]


def waiting(node: HttpNode) -> int:
    return node.spool.backlog().count


def test_stored_instances_are_referenced_and_come_back(
    http_node: HttpNode, client: httpx.Client
) -> None:
    first = ct_slice()
    second = ct_slice(StudyInstanceUID=first.StudyInstanceUID)

    response = post(client, part10_file(first), part10_file(second))

    assert response.status_code == 200
    assert uids(response, REFERENCED) == [first.SOPInstanceUID, second.SOPInstanceUID]
    assert FAILED not in response.json()
    assert response.json()["00081190"]["Value"] == [
        f"{http_node.url}{STUDIES}/{first.StudyInstanceUID}"
    ]
    http_node.ingest()
    url = items(response, REFERENCED)[0]["00081190"]["Value"][0]
    [(_, content)] = multipart_parts(client.get(url))
    assert content.endswith(encode(first))


def test_spooled_object_says_who_sent_it_and_keeps_its_bytes(
    http_node: HttpNode, client: httpx.Client
) -> None:
    dataset = ct_slice()

    post(client, part10_file(dataset))

    [record] = http_node.spool.sealed(10)
    content = record.path.read_bytes()
    head = part10.read_head(content)
    assert head.provenance is not None
    assert (head.provenance.wire, head.provenance.source_ae_title) == ("stow", "a admin")
    assert head.provenance.address == "127.0.0.1"
    assert content[head.length :] == encode(dataset)


@pytest.mark.parametrize(
    "content_type",
    [
        TYPE,
        "multipart/related; type=application/dicom; boundary=b",
        'MULTIPART/Related; Boundary="b"; Type="Application/DICOM"; start="x"',
        "multipart/related; boundary=b",
    ],
)
def test_content_type_is_taken_in_every_shape(client: httpx.Client, content_type: str) -> None:
    response = post(client, part10_file(ct_slice()), **{"Content-Type": content_type})

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/pdf"}, 415),
        ({"Content-Type": 'multipart/related; type="image/jpeg"; boundary=b'}, 415),
        ({"Content-Type": "multipart/form-data; boundary=b"}, 415),
        ({"Content-Type": "nonsense"}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, 400),
        (
            {"Content-Type": f'multipart/related; type="application/dicom"; boundary={"x" * 71}'},
            400,
        ),
        ({"Content-Type": TYPE, "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": TYPE, "Accept": "text/html"}, 406),
    ],
)
def test_other_types_are_refused_with_what_is_taken(
    http_node: HttpNode, client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    response = post(client, part10_file(ct_slice()), **headers)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert waiting(http_node) == 0


def test_coding_that_is_taken_is_told(client: httpx.Client) -> None:
    answer = post(client, b"", **{"Content-Type": TYPE, "Content-Encoding": "gzip"})

    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")


@pytest.mark.parametrize(
    "strip",
    [
        pytest.param(lambda file: file[128:], id="no preamble"),
        pytest.param(lambda file: file[144 + int.from_bytes(file[140:144], "little") :], id="bare"),
        pytest.param(lambda file: b"MZ" + bytes(126) + file[128:], id="polyglot"),
    ],
)
def test_files_in_odd_shapes_are_stored(
    http_node: HttpNode, client: httpx.Client, strip: Any
) -> None:
    dataset = ct_slice()

    response = post(client, strip(part10_file(dataset)))

    assert response.status_code == 200, response.text
    http_node.ingest()
    found = client.get(items(response, REFERENCED)[0]["00081190"]["Value"][0])
    [(_, content)] = multipart_parts(found)
    assert content[:128] == bytes(128)
    assert content.endswith(encode(dataset))


def test_compressed_object_is_kept_as_sent(http_node: HttpNode, client: httpx.Client) -> None:
    dataset = encapsulated(ct_slice(), [b"\xff\x4f\xff\x51" + bytes(60)])

    response = post(client, part10_file(dataset, JPEG2000Lossless))

    assert response.status_code == 200
    [record] = http_node.spool.sealed(10)
    assert part10.read_head(record.path.read_bytes()).transfer_syntax_uid == JPEG2000Lossless


def test_sound_parts_beside_faulty_ones_are_202(http_node: HttpNode, client: httpx.Client) -> None:
    good, liar, nameless = ct_slice(), ct_slice(), ct_slice(StudyInstanceUID="")
    lying = _with_meta_uid(liar, generate_uid())

    response = post(client, part10_file(good), b"not DICOM at all", lying, part10_file(nameless))

    assert response.status_code == 202
    assert uids(response, REFERENCED) == [good.SOPInstanceUID]
    assert reasons(response) == [0xA900, 0xC000]
    assert reasons(response, OTHERS) == [0xC000]
    assert "Study Instance UID" in items(response, FAILED)[1]["00000902"]["Value"][0]
    http_node.ingest()
    held = client.get("/api/v1/quarantine").json()
    assert {one["wire"] for one in held} == {"stow"}
    assert len(held) == 2


def test_nothing_stored_is_409(client: httpx.Client) -> None:
    response = post(client, b"nonsense", b"")

    assert response.status_code == 409
    assert reasons(response, OTHERS) == [0xC000, 0xC000]


def test_cut_dataset_is_a_failure_and_kept_for_the_quarantine(
    http_node: HttpNode, client: httpx.Client
) -> None:
    response = post(client, part10_file(ct_slice())[:-100])

    assert response.status_code == 409
    assert reasons(response) == [0xC000]
    assert waiting(http_node) == 1


def test_part_of_another_type_is_a_failure(client: httpx.Client) -> None:
    body = multipart_body([b"{}"], content_type="application/json")

    response = client.post(STUDIES, content=body, headers={"Content-Type": TYPE})

    assert (response.status_code, reasons(response, OTHERS)) == (409, [0xC000])


def test_study_of_the_path_is_held_to(http_node: HttpNode, client: httpx.Client) -> None:
    mine, other = ct_slice(), ct_slice()

    response = post(
        client,
        part10_file(mine),
        part10_file(other),
        path=f"{STUDIES}/{mine.StudyInstanceUID}",
    )

    assert response.status_code == 202
    assert uids(response, REFERENCED) == [mine.SOPInstanceUID]
    assert (uids(response, FAILED), reasons(response)) == ([other.SOPInstanceUID], [0xA900])
    assert waiting(http_node) == 1


def test_path_that_is_no_uid_is_refused_before_the_body(client: httpx.Client) -> None:
    assert post(client, b"x", path=f"{STUDIES}/none").status_code == 400


def test_result_is_the_same_in_xml(client: httpx.Client) -> None:
    file = part10_file(ct_slice())

    told = post(client, file)
    answer = post(client, file, Accept="application/dicom+xml")

    assert answer.headers["content-type"] == "application/dicom+xml"
    assert dicom_xml.decode(answer.content) == told.json()


def test_repeated_upload_is_one_object(http_node: HttpNode, client: httpx.Client) -> None:
    dataset = ct_slice()

    for _ in range(2):
        assert post(client, part10_file(dataset)).status_code == 200
        http_node.ingest()

    [found] = client.get("/dicom-web/studies").json()
    assert found["00201208"]["Value"] == [1]
    assert client.get("/api/v1/quarantine").json() == []


def test_chunked_body_in_odd_pieces(http_node: HttpNode, client: httpx.Client) -> None:
    dataset = ct_slice()
    body = multipart_body([part10_file(dataset)])

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 333):
            yield body[start : start + 333]

    response = client.post(STUDIES, content=pieces(), headers={"Content-Type": TYPE})

    assert response.status_code == 200
    assert waiting(http_node) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--b--\r\n", id="no part"),
        pytest.param(b"rubbish" * 100, id="no boundary"),
        pytest.param(b"--b\r\nContent-Type: application/dicom\r\n\r\nDICM", id="never closed"),
        pytest.param(b"--b\r\nX: " + b"y" * 20_000, id="headers without end"),
        pytest.param(b"--b\r\nContent-Type: multipart/mixed\r\n\r\n\r\n--b--", id="nested"),
    ],
)
def test_broken_body_is_4xx_and_leaves_nothing(
    http_node: HttpNode, client: httpx.Client, body: bytes
) -> None:
    response = client.post(STUDIES, content=body, headers={"Content-Type": TYPE})

    assert 400 <= response.status_code < 500
    assert response.headers["content-type"] == "application/problem+json"
    assert waiting(http_node) == 0
    assert list(http_node.spool.folder.glob("*.part")) == []


def test_too_many_parts_are_413(http_node: HttpNode, client: httpx.Client) -> None:
    body = b"--b\r\n\r\n\r\n" * 10_000

    response = client.post(STUDIES, content=body, headers={"Content-Type": TYPE})

    assert response.status_code == 413
    assert waiting(http_node) == 0


def test_body_without_end_keeps_its_complete_parts(
    http_node: HttpNode, client: httpx.Client
) -> None:
    first, second = part10_file(ct_slice()), part10_file(ct_slice())
    body = multipart_body([first, second])[: -len(second) // 2]

    response = client.post(STUDIES, content=body, headers={"Content-Type": TYPE})

    assert response.status_code == 400
    assert "the 1 objects before it are stored" in response.json()["detail"]
    assert waiting(http_node) == 1


def test_client_that_goes_away_leaves_complete_parts_only(http_node: HttpNode) -> None:
    first, second = part10_file(ct_slice()), part10_file(ct_slice())
    body = multipart_body([first, second])
    with _raw(http_node, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[: len(first) + 200])
        _until(lambda: waiting(http_node) == 1)

    _until(lambda: not list(http_node.spool.folder.glob("*.part")))
    assert waiting(http_node) == 1


@pytest.mark.parametrize("length", ["17179869185", "4294967296000", "99999999999999"])
def test_absurd_content_length_is_413_at_once(http_node: HttpNode, length: str) -> None:
    with _raw(http_node, f"Content-Length: {length}") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "lengths",
    [
        "Content-Length: -5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: five",
    ],
)
def test_contradicting_lengths_are_400(http_node: HttpNode, lengths: str) -> None:
    with _raw(http_node, lengths) as connection:
        connection.sendall(b"x" * 10)
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


def test_viewers_may_not_store(http_node: HttpNode) -> None:
    client = http_node.client(http_node.token(Role.VIEWER))

    assert post(client, part10_file(ct_slice())).status_code == 403
    assert waiting(http_node) == 0


def test_full_spool_is_507_and_heals_by_itself(http_node: HttpNode, client: httpx.Client) -> None:
    files = [part10_file(ct_slice()) for _ in range(2)]
    http_node.spool.room.reserve_bytes = 1 << 60  # the disk is full

    full = post(client, *files)
    http_node.spool.room.reserve_bytes = 0

    assert full.status_code == 507
    assert reasons(full) == [0xA700, 0xA700]
    assert int(full.headers["retry-after"]) > 0
    assert waiting(http_node) == 0
    assert post(client, *files).status_code == 200


def test_error_comment_holds_no_patient_data(client: httpx.Client) -> None:
    dataset = ct_slice(PatientName="SECRET^NAME", PatientID="SECRETID", SeriesInstanceUID="")

    response = post(client, part10_file(dataset))

    assert response.status_code == 409
    assert "SECRET" not in json.dumps(response.json())


def _with_meta_uid(dataset: Dataset, uid: str) -> bytes:
    return part10.head(str(dataset.SOPClassUID), uid, ExplicitVRLittleEndian) + encode(dataset)


def _raw(node: HttpNode, length: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", node.port), timeout=10)
    head = (
        f"POST {STUDIES} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {TYPE}\r\n"
        f"Authorization: Bearer {node.token()}\r\n{length}\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection


def _until(condition: Any, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_body_that_stops_is_408_and_gives_its_place_back(
    http_node: HttpNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PAUSE_S", 0.3)
    first = part10_file(ct_slice())
    body = multipart_body([first, first])
    with _raw(http_node, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[: len(first) + 200])

        assert connection.recv(100).startswith(b"HTTP/1.1 408")

    assert waiting(http_node) == 1
    assert list(http_node.spool.folder.glob("*.part")) == []


def test_body_that_trickles_is_408(http_node: HttpNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_S", 0.2)
    with _raw(http_node, "Content-Length: 1000") as connection:
        connection.settimeout(0.05)
        answer = b""
        for _ in range(200):
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(100)
            if answer:
                break

    assert answer.startswith(b"HTTP/1.1 408")
