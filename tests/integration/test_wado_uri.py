"""WADO-URI over a real port: objects and pictures by the parameters of a query."""

from io import BytesIO

import httpx
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.fixtures.dicom_files import ct_slice, encode, multi_frame
from tests.fixtures.http import HttpNode


@pytest.fixture(scope="module")
def slice_(shared_http_node: HttpNode) -> Dataset:
    dataset = ct_slice()
    shared_http_node.put(dataset, transfer_syntax=ImplicitVRLittleEndian)
    return dataset


@pytest.fixture(scope="module")
def movie(shared_http_node: HttpNode) -> Dataset:
    dataset = multi_frame(3)
    shared_http_node.put(dataset)
    return dataset


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode) -> httpx.Client:
    return shared_http_node.client()


def wado(client: httpx.Client, dataset: Dataset, **more: str) -> httpx.Response:
    asked = {
        "requestType": "WADO",
        "studyUID": dataset.StudyInstanceUID,
        "seriesUID": dataset.SeriesInstanceUID,
        "objectUID": dataset.SOPInstanceUID,
        **more,
    }
    return client.get("/wado", params=asked)


def test_object_is_explicit_little_endian_unless_named(
    client: httpx.Client, slice_: Dataset
) -> None:
    plain = wado(client, slice_, contentType="application/dicom")
    stored = wado(client, slice_, contentType="application/dicom", transferSyntax="*")

    assert plain.headers["content-type"].startswith("application/dicom")
    found = dcmread(BytesIO(plain.content))
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.PatientName == slice_.PatientName
    assert stored.content.endswith(encode(slice_, ImplicitVRLittleEndian))


def test_image_is_a_jpeg_by_default(client: httpx.Client, slice_: Dataset) -> None:
    answer = wado(client, slice_)

    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(answer.content)).size == (16, 16)
    again = client.get(answer.url, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_picture_is_drawn_as_asked(client: httpx.Client, slice_: Dataset) -> None:
    kind = "image/png"
    whole = wado(client, slice_, contentType=kind, windowCenter="128", windowWidth="256")
    corner = wado(
        client,
        slice_,
        contentType=kind,
        region="0,0,0.5,0.5",
        columns="8",
        windowCenter="128",
        windowWidth="256",
    )

    assert whole.headers["content-type"] == "image/png"
    expected = Image.open(BytesIO(whole.content)).crop((0, 0, 8, 8))
    assert Image.open(BytesIO(corner.content)).tobytes() == expected.tobytes()


def test_frame_by_its_number(client: httpx.Client, movie: Dataset) -> None:
    frames = [
        wado(
            client,
            movie,
            contentType="image/png",
            frameNumber=str(number),
            windowCenter="96",
            windowWidth="192",
        ).content
        for number in (1, 2)
    ]

    assert frames[0] != frames[1]
    assert wado(client, movie, contentType="image/png", frameNumber="4").status_code == 400
    assert wado(client, movie).headers["content-type"] == "image/jpeg"


def test_first_of_several_content_types_that_there_is(
    client: httpx.Client, slice_: Dataset
) -> None:
    answer = wado(client, slice_, contentType="text/rtf,image/png,image/jpeg")

    assert answer.headers["content-type"] == "image/png"


def test_region_is_given_in_its_original_size(client: httpx.Client, slice_: Dataset) -> None:
    answer = wado(client, slice_, contentType="image/png", region="0.25,0,0.75,0.25")

    with Image.open(BytesIO(answer.content)) as picture:
        assert picture.size == (slice_.Columns // 2, slice_.Rows // 4)


def test_annotation_is_written(client: httpx.Client, slice_: Dataset) -> None:
    asked = {"contentType": "image/png", "columns": "256"}

    plain, written = (
        wado(client, slice_, **asked),
        wado(client, slice_, **asked, annotation="patient"),
    )

    assert written.status_code == 200
    assert written.content != plain.content


def test_document_is_an_object_by_default_and_a_document_when_asked(
    shared_http_node: HttpNode, client: httpx.Client
) -> None:
    dataset = ct_slice(SOPClassUID=EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF-1.4 x")
    del dataset.PixelData
    shared_http_node.put(dataset)

    assert wado(client, dataset).headers["content-type"].startswith("application/dicom")
    paper = wado(client, dataset, contentType="application/pdf")
    assert paper.headers["content-type"] == "application/pdf"
    assert paper.content.startswith(b"%PDF")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"requestType": "QIDO"}, 400),
        ({"objectUID": ""}, 400),
        ({"objectUID": "none"}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"seriesUID": "1.2.3"}, 404),
        ({"contentType": "text/html"}, 406),
        ({"contentType": "application/dicom", "transferSyntax": "1.2.3"}, 406),
        ({"contentType": "application/dicom", "transferSyntax": "x"}, 400),
        ({"anonymize": "yes"}, 406),
        ({"presentationUID": "1.2.3"}, 400),
        ({"windowCenter": "5"}, 400),
        ({"rows": "0"}, 400),
        ({"columns": "9999999"}, 400),
        ({"imageQuality": "101"}, 400),
        ({"frameNumber": "1,2"}, 400),
        ({"frameNumber": "0"}, 400),
        ({"annotation": "nonsense"}, 400),
        ({"region": "0,0,2,2"}, 400),
        ({"region": "1,1,0,0"}, 400),
        ({"region": "x"}, 400),
    ],
    ids=range(20),
)
def test_what_cannot_be_given_is_told(
    client: httpx.Client, slice_: Dataset, parameters: dict[str, str], status: int
) -> None:
    answer = wado(client, slice_, **parameters)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
