"""WADO-RS over a real port: frames and objects in transfer syntaxes that they are not stored in."""

from dataclasses import dataclass
from io import BytesIO

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pacs import codecs, contexts, transcode
from pacs.decoding import Request
from pacs.frames import ImagePixel
from tests.fixtures.dicom_files import ct_slice, encapsulated, multi_frame, set_pixels
from tests.fixtures.http import HttpNode, multipart_parts

OCTETS = "application/octet-stream"
IN_PARTS = f'multipart/related; type="application/dicom"; transfer-syntax={JPEGLSLossless}'


@dataclass(frozen=True)
class Held:
    """The archive of these tests."""

    ct: Dataset
    movie: Dataset
    big_endian: Dataset
    """The picture of `ct`."""
    rle: Dataset
    """The same."""
    grey: Dataset
    """Of 8 bits."""
    broken: Dataset
    pdf: Dataset


@pytest.fixture(scope="module", params=["as it came", "settled"])
def held(shared_http_node: HttpNode, request: pytest.FixtureRequest) -> Held:
    """The archive, before and after the metadata objects of its series were made."""
    node = shared_http_node
    ct, movie, big_endian, rle, grey = (
        ct_slice(),
        multi_frame(3),
        ct_slice(),
        ct_slice(),
        ct_slice(),
    )
    same_series = {
        "StudyInstanceUID": ct.StudyInstanceUID,
        "SeriesInstanceUID": ct.SeriesInstanceUID,
    }
    big_endian.PixelData = pixels(big_endian).byteswap().tobytes()
    rle.file_meta = FileMetaDataset()
    rle.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rle.compress(RLELossless, generate_instance_uid=False)
    set_pixels(grey, np.add.outer(np.arange(64), np.arange(64)).astype("u1"))
    broken = encapsulated(ct_slice(), [b"\xff\x4f\xff\x51" + bytes(60)])
    pdf = ct_slice(Modality="DOC", SOPClassUID=EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(pdf, keyword)
    node.put(ct, ct_slice(**same_series, InstanceNumber=8), grey, pdf)
    node.put(movie, transfer_syntax=ImplicitVRLittleEndian)
    node.put(big_endian, transfer_syntax=ExplicitVRBigEndian)
    node.put(rle, transfer_syntax=RLELossless)
    node.put(broken, transfer_syntax=JPEG2000Lossless)
    if request.param == "settled":
        assert node.settle() >= 7
    return Held(ct, movie, big_endian, rle, grey, broken, pdf)


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode) -> httpx.Client:
    return shared_http_node.client()


def pixels(dataset: Dataset) -> np.ndarray:
    """(frames, rows, columns) uint16 of an uncompressed object."""
    shape = (-1, dataset.Rows, dataset.Columns)
    return np.frombuffer(dataset.PixelData, "<u2").reshape(shape)


def path(dataset: Dataset, rest: str = "", level: str = "instance") -> str:
    levels = [f"/dicom-web/studies/{dataset.StudyInstanceUID}"]
    levels.append(f"/series/{dataset.SeriesInstanceUID}" if level != "study" else "")
    levels.append(f"/instances/{dataset.SOPInstanceUID}" if level == "instance" else "")
    return "".join(levels) + rest


# what a client may name, the media type of the answer, the transfer syntax of the answer
RECODED = [
    ("image/jls", "image/jls", JPEGLSLossless),
    ("image/jpeg", "image/jpeg", JPEGLosslessSV1),
    ("image/jp2", "image/jp2", JPEG2000Lossless),
    ("image/jphc", "image/jphc", HTJ2KLossless),
    ("image/dicom-rle", "image/dicom-rle", RLELossless),
    (f"image/jp2; transfer-syntax={JPEG2000}", "image/jp2", JPEG2000),
    (f"image/jphc; transfer-syntax={HTJ2KLosslessRPCL}", "image/jphc", HTJ2KLosslessRPCL),
    (f"image/*; transfer-syntax={JPEGLSLossless}", "image/jls", JPEGLSLossless),
    (f"{OCTETS}; transfer-syntax={JPEGLSLossless}", OCTETS, JPEGLSLossless),
    ("image/png, image/gif, image/jls; q=0.1, image/jp2; q=0", "image/jls", JPEGLSLossless),
]


@pytest.mark.parametrize(("accept", "media_type", "syntax"), RECODED)
@pytest.mark.parametrize("name", ["ct", "movie", "big_endian", "rle"])
def test_frames_are_encoded_as_asked(held, client, name, accept, media_type, syntax):
    stored = getattr(held, name)
    original = held.movie if name == "movie" else held.ct
    number = 2 if name == "movie" else 1

    response = client.get(path(stored, f"/frames/{number}"), headers={"Accept": accept})

    told = response.headers["content-type"]
    if name == "rle" and syntax == RLELossless:
        assert told == f"{media_type}; transfer-syntax={syntax}"
        return
    assert (response.status_code, told) == (200, f"{media_type}; transfer-syntax={syntax}")
    shape = pixels(original)[number - 1]
    image = ImagePixel(*shape.shape, 1, 16, 16, 0, 0, "MONOCHROME2", 1)
    decoded = codecs.decode(response.content, Request(syntax, image))[0]
    assert decoded == shape.tobytes()


@pytest.mark.parametrize(("name", "media_type"), [("ct", "image/jpeg"), ("rle", "image/dicom-rle")])
@pytest.mark.parametrize("accept", ["image/*", "image/*; transfer-syntax=*"])
def test_any_picture_is_one_without_loss(held, client, name, media_type, accept):
    answer = client.get(path(getattr(held, name), "/frames/1"), headers={"Accept": accept})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(f"{media_type}; transfer-syntax=")


def test_several_frames_are_encoded_in_parts(held, client):
    accept = {"Accept": 'multipart/related; type="image/jls"'}

    parts = multipart_parts(client.get(path(held.movie, "/frames/1,3"), headers=accept))

    kinds = {headers["content-type"] for headers, _ in parts}
    assert kinds == {f"image/jls; transfer-syntax={JPEGLSLossless}"}
    image = ImagePixel(8, 8, 1, 16, 16, 0, 0, "MONOCHROME2", 1)
    decoded = [codecs.decode(body, Request(JPEGLSLossless, image))[0] for _, body in parts]
    assert decoded == [pixels(held.movie)[0].tobytes(), pixels(held.movie)[2].tobytes()]


def test_the_next_wish_is_taken_when_the_first_cannot_be(held, client):
    accept = f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}, image/jls; q=0.5"

    answer = client.get(path(held.ct, "/frames/1"), headers={"Accept": accept})

    assert answer.headers["content-type"] == f"image/jls; transfer-syntax={JPEGLSLossless}"


@pytest.mark.parametrize(
    ("accept", "reason"),
    [
        (f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}", "8 bits"),
        (f"image/jxl; transfer-syntax={contexts.JPEG_XL_LOSSLESS}", "served as"),
        (f"image/jls; transfer-syntax={RLELossless}", "served as"),
        ("image/gif", "served as"),
    ],
)
def test_frames_that_cannot_be_encoded_so_are_406(held, client, accept, reason):
    answer = client.get(path(held.ct, "/frames/1"), headers={"Accept": accept})

    assert answer.status_code == 406
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless])
@pytest.mark.parametrize("name", ["ct", "movie", "big_endian"])
def test_instances_are_transcoded_as_asked(held, client, name, syntax):
    stored = getattr(held, name)
    accept = {"Accept": f"application/dicom; transfer-syntax={syntax}"}

    found = dcmread(BytesIO(client.get(path(stored), headers=accept).content))

    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.SOPInstanceUID == stored.SOPInstanceUID
    original = pixels(held.movie if name == "movie" else held.ct)
    assert np.array_equal(found.pixel_array.reshape(original.shape), original)


def test_the_first_possible_transfer_syntax_in_the_clients_order_is_given(held, client):
    accept = ", ".join(
        f"application/dicom; transfer-syntax={syntax}"
        for syntax in (JPEGBaseline8Bit, JPEGLSLossless, ExplicitVRLittleEndian)
    )

    answer = client.get(path(held.rle), headers={"Accept": accept})

    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={JPEGLSLossless}"


def test_a_series_is_transcoded_as_asked(held, client):
    accept = {
        "Accept": f'multipart/related; type="application/dicom"; transfer-syntax={JPEGLSLossless}'
    }

    parts = multipart_parts(client.get(path(held.ct, level="series"), headers=accept))

    found = [dcmread(BytesIO(body)) for _, body in parts]
    assert len(found) == 2
    assert {headers["content-type"] for headers, _ in parts} == {
        f"application/dicom; transfer-syntax={JPEGLSLossless}"
    }
    assert all(np.array_equal(one.pixel_array, pixels(held.ct)[0]) for one in found)


@pytest.mark.parametrize(
    ("name", "syntax", "reason"),
    [
        ("pdf", JPEGLSLossless, "no pixel data"),
        ("broken", JPEGLSLossless, "JPEG 2000"),
        ("ct", JPEGBaseline8Bit, "8 bits"),
        ("ct", contexts.JPEG_XL_LOSSLESS, "cannot be converted"),
        ("ct", "1.2.840.10008.1.2.4.100", "cannot be converted"),
    ],
)
def test_instances_that_cannot_be_transcoded_are_406(held, client, name, syntax, reason):
    accept = {"Accept": f"application/dicom; transfer-syntax={syntax}"}

    answer = client.get(path(getattr(held, name)), headers=accept)

    assert answer.status_code == 406
    assert reason in answer.json()["detail"]


def test_pixel_data_as_bulk_data_are_encoded_as_asked(held, client):
    accept = {"Accept": 'multipart/related; type="image/jls"'}

    parts = multipart_parts(client.get(path(held.movie, "/bulkdata/7FE00010"), headers=accept))

    image = ImagePixel(8, 8, 1, 16, 16, 0, 0, "MONOCHROME2", 1)
    decoded = [codecs.decode(body, Request(JPEGLSLossless, image))[0] for _, body in parts]
    assert b"".join(decoded) == held.movie.PixelData


def test_a_lossy_object_is_another_instance(held, client):
    accept = {"Accept": f"application/dicom; transfer-syntax={JPEGBaseline8Bit}"}

    found = dcmread(BytesIO(client.get(path(held.grey), headers=accept).content))

    uid = transcode.derived_uid(held.grey.SOPInstanceUID, JPEGBaseline8Bit)
    assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID == uid
    assert found.LossyImageCompression == "01"
    original = np.add.outer(np.arange(64), np.arange(64))
    assert np.abs(found.pixel_array.astype(int) - original).max() <= 4


def test_a_study_with_what_cannot_be_transcoded_gives_that_as_stored(held, client):
    accept = {
        "Accept": f'multipart/related; type="application/dicom"; transfer-syntax={JPEGLSLossless}'
    }

    [(headers, body)] = multipart_parts(client.get(path(held.pdf, level="study"), headers=accept))

    assert headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    assert dcmread(BytesIO(body)).EncapsulatedDocument == b"%PDF"
