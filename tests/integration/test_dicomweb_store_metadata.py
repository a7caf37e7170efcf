"""STOW-RS of metadata with bulk data: JPEG, PDF and MP4 become objects of the right class."""

import json
import tracemalloc
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import httpx
import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from pacs import contexts, dicom_xml
from storage.base.errors import StoreFull
from tests.fixtures.dicom_files import ct_slice, encode, multi_frame
from tests.fixtures.films import mp4
from tests.fixtures.http import HttpNode, multipart_parts

STUDIES = "/dicom-web/studies"
REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"
JSON, XML = "application/dicom+json", "application/dicom+xml"
COLOUR = np.random.default_rng(1).integers(0, 255, (24, 40, 3), dtype=np.uint8)
JPEG = imagecodecs.jpeg8_encode(COLOUR, level=90)
PDF = b"%PDF-1.4\n%odd number of bytes\n%%EOF\n"
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'

Part = tuple[str, str, bytes]
"""Content-Type, Content-Location ('' for none), content."""


@pytest.fixture
def client(http_node: HttpNode) -> httpx.Client:
    return http_node.client()


def body(parts: Sequence[Part]) -> bytes:
    made = b""
    for content_type, location, content in parts:
        lines = f"--b\r\nContent-Type: {content_type}\r\n"
        if location:
            lines += f"Content-Location: {location}\r\n"
        made += lines.encode() + b"\r\n" + content + b"\r\n"
    return made + b"--b--\r\n"


def post(
    client: httpx.Client, kind: str, *parts: Part, study: str = "", **headers: str
) -> httpx.Response:
    given = {"Content-Type": f'multipart/related; type="{kind}"; boundary=b', **headers}
    path = f"{STUDIES}/{study}" if study else STUDIES
    return client.post(path, content=body(parts), headers=given)


def metadata(*objects: dict[str, Any]) -> Part:
    return JSON, "", json.dumps(objects).encode()


def document(*objects: dict[str, Any]) -> list[Part]:
    return [(XML, "", dicom_xml.encode(one)) for one in objects]


def person(**attributes: Any) -> dict[str, Any]:
    return {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "NGUYỄN^VĂN AN"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        **attributes,
    }


def pixels(uri: str = "pixels") -> dict[str, Any]:
    return {"7FE00010": {"vr": "OB", "BulkDataURI": uri}}


def items(response: httpx.Response, tag: str) -> list[dict[str, Any]]:
    return list(response.json().get(tag, {}).get("Value", []))


def comments(response: httpx.Response, tag: str) -> list[str]:
    return [item["00000902"]["Value"][0] for item in items(response, tag)]


def fetched(node: HttpNode, client: httpx.Client, response: httpx.Response) -> Any:
    """Return the one stored object as a reader of files sees it."""
    assert response.status_code in {200, 202}, response.text
    node.ingest()
    assert client.get("/api/v1/quarantine").json() == []
    [item] = items(response, REFERENCED)
    found = client.get(item["00081190"]["Value"][0], headers={"Accept": AS_STORED})
    [(_, content)] = multipart_parts(found)
    return dcmread(BytesIO(content))


@pytest.mark.parametrize("kind", [JSON, XML])
def test_photograph_becomes_a_photographic_image(
    http_node: HttpNode, client: httpx.Client, kind: str
) -> None:
    told = person(**pixels())
    first = [metadata(told)] if kind == JSON else document(told)

    response = post(client, kind, *first, ("image/jpeg", "pixels", JPEG))

    found = fetched(http_node, client, response)
    assert response.status_code == 200
    assert found.SOPClassUID.name == "VL Photographic Image Storage"
    assert found.file_meta.TransferSyntaxUID == contexts.JPEG_BASELINE
    assert (found.PatientName, found.Modality) == ("NGUYỄN^VĂN AN", "XC")
    assert (found.Rows, found.Columns, found.SamplesPerPixel) == (24, 40, 3)
    assert found.LossyImageCompression == "01"
    assert found.PatientBirthDate == ""
    instance = f"{STUDIES}/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}/instances/"
    instance += found.SOPInstanceUID
    coded = {"Accept": 'multipart/related; type="image/jpeg"'}
    [(_, frame)] = multipart_parts(client.get(f"{instance}/frames/1", headers=coded))
    assert frame.rstrip(b"\0") == JPEG
    assert client.get(f"{instance}/rendered").status_code == 200


@pytest.mark.parametrize("kind", [JSON, XML])
def test_document_becomes_an_encapsulated_pdf(
    http_node: HttpNode, client: httpx.Client, kind: str
) -> None:
    told = person(**{"00420011": {"vr": "OB", "BulkDataURI": "report.pdf"}})
    first = [metadata(told)] if kind == JSON else document(told)

    response = post(client, kind, *first, ("application/pdf", "report.pdf", PDF))

    found = fetched(http_node, client, response)
    assert found.SOPClassUID.name == "Encapsulated PDF Storage"
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength] == PDF
    assert found.Modality == "DOC"


def test_film_becomes_a_video(http_node: HttpNode, client: httpx.Client) -> None:
    film = mp4(padding=5 << 20)

    response = post(client, JSON, metadata(person(**pixels())), ("video/mp4", "pixels", film))

    found = fetched(http_node, client, response)
    assert found.SOPClassUID.name == "Video Photographic Image Storage"
    assert found.file_meta.TransferSyntaxUID.name.startswith("MPEG-4 AVC/H.264 High Profile")
    assert (found.Rows, found.Columns, found.NumberOfFrames) == (480, 640, 50)
    assert (found.FrameTime, found.CineRate) == (40, 25)
    assert found.PixelData[16:].startswith(film[:100])
    assert film in found.PixelData


def test_single_object_has_what_nobody_named(http_node: HttpNode, client: httpx.Client) -> None:
    response = post(client, JSON, metadata(person()), ("image/jpeg", "", JPEG))

    assert fetched(http_node, client, response).Rows == 24


def test_frames_in_parts_of_their_own_are_one_object(
    http_node: HttpNode, client: httpx.Client
) -> None:
    parts = [("image/jpeg", "pixels", JPEG) for _ in range(3)]

    response = post(client, JSON, metadata(person(**pixels())), *parts)

    found = fetched(http_node, client, response)
    assert found.SOPClassUID.name == "Multi-frame True Color Secondary Capture Image Storage"
    assert found.NumberOfFrames == 3


def test_object_comes_back_as_its_own_metadata_and_pixels(
    http_node: HttpNode, client: httpx.Client
) -> None:
    """What we give out as metadata and bulk data makes the same object again."""
    dataset = multi_frame(3)
    http_node.put(dataset)
    base = f"{STUDIES}/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    [told] = client.get(f"{base}/instances/{dataset.SOPInstanceUID}/metadata").json()
    uid = generate_uid()
    told["00080018"]["Value"] = [uid]
    part = ("application/octet-stream", told["7FE00010"]["BulkDataURI"], dataset.PixelData)

    response = post(client, JSON, metadata(told), part, study=dataset.StudyInstanceUID)

    found = fetched(http_node, client, response)
    dataset.SOPInstanceUID = uid
    del found.file_meta
    assert found == dataset
    assert response.status_code == 200


def test_two_objects_of_a_request_have_each_their_result(
    http_node: HttpNode, client: httpx.Client
) -> None:
    good, bad = person(**pixels("a")), person(**pixels("nowhere"))
    uid = generate_uid()
    bad["00080018"] = {"vr": "UI", "Value": [uid]}
    bad["00080016"] = {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.77.1.4"]}

    response = post(
        client,
        JSON,
        metadata(good, bad),
        ("image/jpeg", "a", JPEG),
        ("image/jpeg", "b", JPEG),
    )

    assert response.status_code == 202
    assert len(items(response, REFERENCED)) == 1
    [failed] = items(response, FAILED)
    assert failed["00081155"]["Value"] == [uid]
    assert comments(response, FAILED)[0].startswith("(7FE00010): no part")
    assert comments(response, OTHERS) == ["bulk data that no metadata name"]
    assert http_node.spool.backlog().count == 1


def test_metadata_that_contradict_the_picture_are_corrected_with_a_warning(
    http_node: HttpNode, client: httpx.Client
) -> None:
    told = person(**pixels(), **{"00280010": {"vr": "US", "Value": [512]}})

    response = post(client, JSON, metadata(told), ("image/jpeg", "pixels", JPEG))

    assert response.status_code == 202
    [item] = items(response, REFERENCED)
    assert item["00081196"]["Value"] == [0xB000]
    assert item["00000902"]["Value"] == ["corrected: Rows"]
    assert fetched(http_node, client, response).Rows == 24


def test_structured_report_needs_no_bulk_data(http_node: HttpNode, client: httpx.Client) -> None:
    told = person(
        **{
            "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.88.11"]},
            "0040A040": {"vr": "CS", "Value": ["CONTAINER"]},
            "0040A730": {"vr": "SQ", "Value": [{"0040A160": {"vr": "UT", "Value": ["phổi"]}}]},
        }
    )
    study = generate_uid()

    response = client.post(
        f"{STUDIES}/{study}", content=json.dumps([told]).encode(), headers={"Content-Type": JSON}
    )

    found = fetched(http_node, client, response)
    assert found.ContentSequence[0].TextValue == "phổi"
    assert found.StudyInstanceUID == study


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (("image/jpeg", "pixels", b"nothing"), "no JPEG"),
        (("application/pdf", "pixels", b"nothing"), "no application/pdf"),
        (("video/mp4", "pixels", b"nothing"), "no MP4"),
        (("video/mp4", "pixels", mp4(level=62)), "H.264 of profile"),
        (
            ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90", "pixels", JPEG),
            "named as JPEG 2000",
        ),
        (("application/octet-stream", "pixels", b"x"), "SOP Class UID (0008,0016) is missing"),
        (("image/x-unknown", "pixels", b"x"), "the transfer syntax of the bulk data is not named"),
    ],
    ids=range(7),
)
def test_what_cannot_be_wrapped_is_told(
    http_node: HttpNode, client: httpx.Client, part: Part, said: str
) -> None:
    response = post(client, JSON, metadata(person(**pixels())), part)

    assert response.status_code == 409
    assert comments(response, OTHERS)[0].startswith(said)
    assert http_node.spool.backlog().count == 0


def test_bulk_data_that_did_not_come_are_told(http_node: HttpNode, client: httpx.Client) -> None:
    response = post(client, JSON, metadata(person(**pixels())), ("image/jpeg", "others", JPEG))

    assert response.status_code == 409
    assert comments(response, OTHERS)[0].startswith("(7FE00010): no part of the request")
    assert http_node.spool.backlog().count == 0


@pytest.mark.parametrize(
    ("size", "status"), [(15, 200), (16, 200), (14, 409), (17, 409), (30, 409)]
)
def test_native_pixels_are_as_long_as_their_module_says(
    client: httpx.Client, size: int, status: int
) -> None:
    module = {"00280002": 1, "00280010": 3, "00280011": 5, "00280100": 8, "00280101": 8}
    told = {tag: {"vr": "US", "Value": [value]} for tag, value in module.items()}
    uids = {
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": [generate_uid()]},
    }
    sent = metadata(person(**told, **uids, **pixels()))

    response = post(client, JSON, sent, ("application/octet-stream", "pixels", bytes(size)))

    assert response.status_code == status
    if status != 200:
        assert [item["00081197"]["Value"] for item in items(response, FAILED)] == [[0xA900]]


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"[1]", b'"x"', b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000],
    ids=range(6),
)
@pytest.mark.parametrize("kind", [JSON, XML])
def test_broken_metadata_are_4xx_and_leave_nothing(
    http_node: HttpNode, client: httpx.Client, content: bytes, kind: str
) -> None:
    response = post(client, kind, (kind, "", content), ("image/jpeg", "x", JPEG))

    assert 400 <= response.status_code < 500
    assert http_node.spool.backlog().count == 0
    assert list(http_node.spool.folder.glob("*.part")) == []


def test_other_study_than_the_path_names_is_refused(
    http_node: HttpNode, client: httpx.Client
) -> None:
    told = person(**pixels(), **{"0020000D": {"vr": "UI", "Value": [generate_uid()]}})

    response = post(
        client, JSON, metadata(told), ("image/jpeg", "pixels", JPEG), study=generate_uid()
    )

    assert response.status_code == 409
    assert http_node.spool.backlog().count == 0


def test_full_spool_is_507_and_heals_by_itself(
    http_node: HttpNode, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = metadata(person(**pixels())), ("image/jpeg", "pixels", JPEG)
    with monkeypatch.context() as patched:
        patched.setattr(http_node.spool.room, "reserve_bytes", 1 << 60)
        full = post(client, JSON, *parts)

    assert full.status_code == 507
    assert int(full.headers["retry-after"]) > 0
    assert [item["00081197"]["Value"] for item in items(full, OTHERS)] == [[0xA700]]
    assert post(client, JSON, *parts).status_code == 200


def test_who_waits_for_our_word_sends_nothing_to_a_full_spool(
    http_node: HttpNode, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_node.spool.room, "reserve_bytes", 1 << 60)

    response = post(
        client,
        JSON,
        metadata(person(**pixels())),
        ("image/jpeg", "pixels", JPEG),
        Expect="100-continue",
    )

    assert response.status_code == 507
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == StoreFull.__name__
    assert int(response.headers["retry-after"]) > 0


def test_memory_does_not_grow_with_bulk_data(client: httpx.Client) -> None:
    film = mp4(padding=64 << 20)
    content = body([metadata(person(**pixels())), ("video/mp4", "pixels", film)])
    headers = {"Content-Type": f'multipart/related; type="{JSON}"; boundary=b'}

    def pieces() -> Any:
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]

    tracemalloc.start()
    try:
        response = client.post(STUDIES, content=pieces(), headers=headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert response.status_code == 200
    assert peak < 32 << 20


def test_single_object_may_be_the_whole_body(http_node: HttpNode, client: httpx.Client) -> None:
    dataset = ct_slice()

    response = client.post(
        STUDIES, content=encode(dataset), headers={"Content-Type": "application/dicom"}
    )

    assert fetched(http_node, client, response).SOPInstanceUID == dataset.SOPInstanceUID
