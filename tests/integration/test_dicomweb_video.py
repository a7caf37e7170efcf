"""Films as they lie, and as a browser plays them."""

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import VideoEndoscopicImageStorage, generate_uid

from tests.fixtures.dicom_files import ct_slice, encapsulated
from tests.fixtures.films import mp4, transport_stream
from tests.fixtures.http import HttpNode, multipart_parts

H264 = "1.2.840.10008.1.2.4.102"
MPEG2 = "1.2.840.10008.1.2.4.100"
UNITS = [bytes((0x67, 77, 0, 31)), b"\x68\xee", b"\x65key"]
STREAM = transport_stream([(0, 0, UNITS), (3600, 3600, [b"\x41other"])])


def film(content: bytes) -> Dataset:
    made = ct_slice(SOPClassUID=VideoEndoscopicImageStorage, SOPInstanceUID=generate_uid())
    made.SamplesPerPixel, made.PlanarConfiguration = 3, 0
    made.PhotometricInterpretation = "YBR_PARTIAL_420"
    made.Rows, made.Columns, made.NumberOfFrames = 480, 640, 2
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    return encapsulated(made, [content + b"\0" * (len(content) % 2)], table=False)


@pytest.fixture(scope="module")
def films() -> dict[str, Dataset]:
    return {"mp4": film(mp4()), "ts": film(STREAM), "mpeg2": film(b"\0\0\1\xb3old")}


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode, films: dict[str, Dataset]) -> httpx.Client:
    for name, one in films.items():
        shared_http_node.put(one, transfer_syntax=MPEG2 if name == "mpeg2" else H264)
    return shared_http_node.client()


def path(dataset: Dataset) -> str:
    return (
        f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )


@pytest.mark.parametrize("accept", ["video/mp4", "*/*"])
def test_a_film_that_is_mp4_is_played_as_it_lies(client, films, accept):
    answer = client.get(f"{path(films['mp4'])}/rendered", headers={"Accept": accept})

    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content.startswith(mp4())


def test_a_film_in_a_transport_stream_is_put_into_mp4(client, films):
    answer = client.get(f"{path(films['ts'])}/rendered", headers={"Accept": "video/mp4"})

    assert answer.status_code == 200, answer.text
    assert answer.content[4:8] == b"ftyp"
    assert b"\0\0\0\x04key"[4:] in answer.content


def test_its_frames_are_given_as_they_lie(client, films):
    answer = client.get(
        f"{path(films['ts'])}/frames/1",
        headers={"Accept": 'multipart/related; type="video/mp4"; transfer-syntax=*'},
    )

    [(headers, content)] = multipart_parts(answer)
    assert headers["content-type"].startswith("video/mp4")
    assert content.startswith(STREAM)


@pytest.mark.parametrize(
    ("name", "rest", "accept"),
    [
        ("mp4", "rendered", "image/jpeg"),
        ("mp4", "thumbnail", "*/*"),
        ("mp4", "frames/1/rendered", "*/*"),
        ("mpeg2", "rendered", "*/*"),
    ],
)
def test_what_is_not_decoded_is_refused_with_a_reason(client, films, name, rest, accept):
    answer = client.get(f"{path(films[name])}/{rest}", headers={"Accept": accept})

    assert answer.status_code == 406
    assert answer.json()["detail"]
