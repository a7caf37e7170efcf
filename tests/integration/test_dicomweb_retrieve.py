"""WADO-RS over a real port: objects, frames, metadata and bulk data."""

import gzip
import hashlib
import json
from dataclasses import dataclass
from io import BytesIO

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from pacs import dicom_xml
from tests.fixtures.dicom_files import ct_slice, encapsulated, encode, multi_frame
from tests.fixtures.http import HttpNode, multipart_parts

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAMES_AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
OCTETS = "application/octet-stream"
XML_PARTS = 'multipart/related; type="application/dicom+xml"'


@dataclass(frozen=True)
class Held:
    """The archive of these tests."""

    node: HttpNode
    ct: Dataset
    ct_bytes: bytes
    second: Dataset
    """Another slice of the same series."""
    movie: Dataset
    big_endian: Dataset
    rle: Dataset
    broken: Dataset
    """Says JPEG 2000 and is none."""
    pdf: Dataset


@pytest.fixture(scope="module", params=["as it came", "settled"])
def held(shared_http_node: HttpNode, request: pytest.FixtureRequest) -> Held:
    """The archive, before and after the metadata objects of its series were made."""
    node = shared_http_node
    ct = ct_slice()
    same_series = {
        "StudyInstanceUID": ct.StudyInstanceUID,
        "SeriesInstanceUID": ct.SeriesInstanceUID,
    }
    second = ct_slice(**same_series, InstanceNumber=8)
    movie, big_endian = multi_frame(3), ct_slice()
    big_endian.PixelData = pixels(big_endian).byteswap().tobytes()
    rle = ct_slice()
    rle.file_meta = FileMetaDataset()
    rle.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rle.compress(RLELossless, generate_instance_uid=False)
    broken = encapsulated(ct_slice(), [b"\xff\x4f\xff\x51" + bytes(60)])
    pdf = _pdf()
    node.put(ct, second, pdf)
    node.put(movie, transfer_syntax=ImplicitVRLittleEndian)
    node.put(big_endian, transfer_syntax=ExplicitVRBigEndian)
    node.put(rle, transfer_syntax=RLELossless)
    node.put(broken, transfer_syntax=JPEG2000Lossless)
    if request.param == "settled":
        assert node.settle() >= 6
    return Held(node, ct, encode(ct), second, movie, big_endian, rle, broken, pdf)


def pixels(dataset: Dataset) -> np.ndarray:
    """(frames, rows, columns) uint16 of an uncompressed object."""
    shape = (-1, dataset.Rows, dataset.Columns)
    return np.frombuffer(dataset.PixelData, "<u2").reshape(shape)


def _pdf() -> Dataset:
    pdf = ct_slice(Modality="DOC", SOPClassUID=EncapsulatedPDFStorage)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(pdf, keyword)
    pdf.MIMETypeOfEncapsulatedDocument = "application/pdf"
    pdf.EncapsulatedDocument = b"%PDF-1.4" + bytes(5000)
    return pdf


@pytest.fixture(scope="module")
def client(held: Held) -> httpx.Client:
    return held.node.client()


def path(dataset: Dataset, rest: str = "", level: str = "instance") -> str:
    levels = [f"/dicom-web/studies/{dataset.StudyInstanceUID}"]
    levels.append(f"/series/{dataset.SeriesInstanceUID}" if level != "study" else "")
    levels.append(f"/instances/{dataset.SOPInstanceUID}" if level == "instance" else "")
    return "".join(levels) + rest


def dataset_of(part10: bytes) -> bytes:
    """The bytes behind the file meta information."""
    assert part10[:132] == bytes(128) + b"DICM"
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


# Objects


def test_instance_comes_back_as_it_was_stored(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.ct), headers={"Accept": AS_STORED})

    [(headers, content)] = multipart_parts(response)
    assert response.headers["content-type"].startswith(
        'multipart/related; type="application/dicom"; boundary='
    )
    assert headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    assert dataset_of(content) == held.ct_bytes


@pytest.mark.parametrize(
    "accept", ["application/dicom; transfer-syntax=*", "application/dicom", "application/*"]
)
def test_single_part_is_a_file(held: Held, client: httpx.Client, accept: str) -> None:
    response = client.get(path(held.ct), headers={"Accept": accept})

    assert response.headers["content-type"].startswith("application/dicom; transfer-syntax=")
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert dataset_of(response.content) == held.ct_bytes


def test_file_says_nothing_of_how_it_came(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.ct), headers={"Accept": "application/dicom"})

    meta = dcmread(BytesIO(response.content)).file_meta
    assert "PrivateInformation" not in meta
    assert b"MODALITY" not in response.content[:400]


def test_anything_is_given_as_stored(held: Held, client: httpx.Client) -> None:
    [(headers, content)] = multipart_parts(client.get(path(held.broken)))

    assert headers["content-type"].endswith(JPEG2000Lossless)
    assert dataset_of(content) == encode(held.broken, JPEG2000Lossless)


@pytest.mark.parametrize("level", ["study", "series"])
def test_all_instances_of_a_level(held: Held, client: httpx.Client, level: str) -> None:
    response = client.get(path(held.ct, level=level), headers={"Accept": AS_STORED})

    uids = [dcmread(BytesIO(content)).SOPInstanceUID for _, content in multipart_parts(response)]
    assert uids == [held.ct.SOPInstanceUID, held.second.SOPInstanceUID]


def test_default_is_explicit_little_endian(held: Held, client: httpx.Client) -> None:
    for stored in (held.movie, held.big_endian, held.rle):
        response = client.get(path(stored), headers={"Accept": "application/dicom"})

        assert response.status_code == 200, response.text
        found = dcmread(BytesIO(response.content))
        expected = held.movie if stored is held.movie else held.ct
        assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert found.PixelData == expected.PixelData


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom",
        f"application/dicom; transfer-syntax={RLELossless}",
        'multipart/related; type="application/dicom"',
    ],
)
def test_what_cannot_be_decoded_is_406(held: Held, client: httpx.Client, accept: str) -> None:
    response = client.get(path(held.broken), headers={"Accept": accept})

    assert response.status_code == 406
    assert response.json()["detail"]


@pytest.mark.parametrize(
    "accept", ["image/png", "text/html", 'multipart/related; type="image/jpeg"', "garbage"]
)
def test_what_is_no_dicom_is_406(held: Held, client: httpx.Client, accept: str) -> None:
    assert client.get(path(held.ct), headers={"Accept": accept}).status_code == 406


def test_study_is_never_one_file(held: Held, client: httpx.Client) -> None:
    accept = {"Accept": "application/dicom"}

    assert client.get(path(held.ct, level="study"), headers=accept).status_code == 406


def test_parents_are_checked(held: Held, client: httpx.Client) -> None:
    study, series, uid = (
        held.movie.StudyInstanceUID,
        held.ct.SeriesInstanceUID,
        held.ct.SOPInstanceUID,
    )
    wrong = [
        f"/dicom-web/studies/{study}/series/{series}",
        f"/dicom-web/studies/{study}/series/{series}/instances/{uid}",
        f"/dicom-web/studies/{study}/series/{series}/instances/{uid}/frames/1",
        f"/dicom-web/studies/{study}/series/{series}/instances/{uid}/metadata",
        f"/dicom-web/studies/{study}/series/{series}/instances/{uid}/bulkdata/7FE00010",
        f"/dicom-web/studies/{generate_uid()}",
    ]

    assert {client.get(each).status_code for each in wrong} == {404}


@pytest.mark.parametrize("rest", ["", "/frames/1", "/metadata"])
def test_unchanged_is_304(held: Held, client: httpx.Client, rest: str) -> None:
    first = client.get(path(held.ct, rest))
    etag = first.headers["etag"]

    again = client.get(path(held.ct, rest), headers={"If-None-Match": f'"other", W/{etag}'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    other = client.get(path(held.second, rest), headers={"If-None-Match": etag})
    assert other.status_code == 200


@pytest.mark.parametrize("rest", ["", "/frames/1", "/metadata"])
def test_head_is_get_without_a_body(held: Held, client: httpx.Client, rest: str) -> None:
    got, head = client.get(path(held.ct, rest)), client.head(path(held.ct, rest))

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["etag"] == got.headers["etag"]


def test_head_of_a_study_ends_at_once(held: Held, client: httpx.Client) -> None:
    assert client.head(path(held.ct, level="study")).status_code == 200
    assert client.get(path(held.ct, "/metadata")).status_code == 200


# Frames


def test_frame_as_the_viewer_asks_for_it(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.rle, "/frames/1"), headers={"Accept": FRAMES_AS_STORED})

    [(headers, content)] = multipart_parts(response)
    assert headers["content-type"] == f"{OCTETS}; transfer-syntax={RLELossless}"
    assert content[:4] == b"\x02\x00\x00\x00"


@pytest.mark.parametrize(
    "accept",
    [
        FRAMES_AS_STORED,
        'multipart/related; type="application/octet-stream"',
        "*/*",
        "",
        f'multipart/related; type="{OCTETS}"; transfer-syntax={ExplicitVRLittleEndian}',
    ],
)
@pytest.mark.parametrize("frame_list", ["1", "3,1", "1,2,3"])
def test_native_frames(held: Held, client: httpx.Client, accept: str, frame_list: str) -> None:
    response = client.get(path(held.movie, f"/frames/{frame_list}"), headers={"Accept": accept})

    numbers = list(map(int, frame_list.split(",")))
    parts = multipart_parts(response)
    assert [content for _, content in parts] == [
        pixels(held.movie)[number - 1].tobytes() for number in numbers
    ]
    assert {headers["content-type"] for headers, _ in parts} == {
        f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    }


def test_single_part_frame(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.movie, "/frames/2"), headers={"Accept": OCTETS})

    assert response.headers["content-type"].startswith(OCTETS)
    assert response.content == pixels(held.movie)[1].tobytes()


def test_two_frames_are_never_a_single_part(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.movie, "/frames/1,2"), headers={"Accept": OCTETS})

    assert response.status_code == 406


def test_compressed_frame_is_decoded_by_default(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.rle, "/frames/1"), headers={"Accept": OCTETS})

    assert response.content == held.ct.PixelData


def test_big_endian_frame_is_swapped(held: Held, client: httpx.Client) -> None:
    for accept in (OCTETS, FRAMES_AS_STORED):
        response = client.get(path(held.big_endian, "/frames/1"), headers={"Accept": accept})

        assert held.ct.PixelData in response.content


def test_coded_frame_under_its_own_media_type(held: Held, client: httpx.Client) -> None:
    accept = {"Accept": 'multipart/related; type="image/dicom-rle"'}

    [(headers, _)] = multipart_parts(client.get(path(held.rle, "/frames/1"), headers=accept))

    assert headers["content-type"] == f"image/dicom-rle; transfer-syntax={RLELossless}"


@pytest.mark.parametrize(
    ("frame_list", "status"),
    [
        ("0", 404),
        ("4", 404),
        ("1,4", 404),
        ("999999999", 404),
        ("-1", 400),
        ("one", 400),
        ("1,", 400),
        ("1;2", 400),
        ("²", 400),
        ("9" * 40, 404),
    ],
)
def test_unknown_frame(held: Held, client: httpx.Client, frame_list: str, status: int) -> None:
    assert client.get(path(held.movie, f"/frames/{frame_list}")).status_code == status


def test_object_without_pixels_has_no_frames(held: Held, client: httpx.Client) -> None:
    assert client.get(path(held.pdf, "/frames/1")).status_code == 404


def test_broken_frames_are_406_when_decoded(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.broken, "/frames/1"), headers={"Accept": OCTETS})

    assert response.status_code == 406


# Metadata and bulk data


@pytest.mark.parametrize(("level", "count"), [("study", 2), ("series", 2), ("instance", 1)])
def test_metadata_of_every_level(held: Held, client: httpx.Client, level: str, count: int) -> None:
    response = client.get(path(held.ct, "/metadata", level))

    assert response.headers["content-type"] == "application/dicom+json"
    found = response.json()
    assert len(found) == count
    assert found[0]["00100010"]["Value"] == [{"Alphabetic": "NGUYỄN^VĂN AN"}]
    assert found[0]["00080005"]["Value"] == ["ISO_IR 192"]
    assert found[0]["00280010"] == {"vr": "US", "Value": [16]}
    assert found[0]["00083002"]["Value"] == [ExplicitVRLittleEndian]
    assert not any(tag.startswith("0002") for tag in found[0])


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_metadata_are_the_same_in_xml(held: Held, client: httpx.Client, level: str) -> None:
    where = path(held.ct, "/metadata", level)

    answer = client.get(
        where, headers={"Accept": 'multipart/related; type="application/dicom+xml"'}
    )

    assert 'type="application/dicom+xml"' in answer.headers["content-type"]
    told = [dicom_xml.encode(one) for one in client.get(where).json()]
    assert [content for _, content in multipart_parts(answer)] == told


def test_metadata_of_one_instance_may_be_one_document(held: Held, client: httpx.Client) -> None:
    where = path(held.ct, "/metadata")

    answer = client.get(where, headers={"Accept": "application/dicom+xml"})

    assert answer.headers["content-type"] == "application/dicom+xml"
    assert answer.content == dicom_xml.encode(client.get(where).json()[0])
    study = path(held.ct, "/metadata", "study")
    assert client.get(study, headers={"Accept": "application/dicom+xml"}).status_code == 406


def test_metadata_is_readable_by_pydicom(held: Held, client: httpx.Client) -> None:
    [found] = client.get(path(held.rle, "/metadata")).json()

    read = Dataset.from_json(found, lambda *_: b"")

    assert read.SOPInstanceUID == held.rle.SOPInstanceUID
    assert str(read.PatientName) == str(held.rle.PatientName)


def test_metadata_is_zipped_when_asked(held: Held, client: httpx.Client) -> None:
    def raw(coding: str) -> tuple[str | None, bytes]:
        with client.stream(
            "GET", path(held.ct, "/metadata"), headers={"Accept-Encoding": coding}
        ) as response:
            return response.headers.get("content-encoding"), b"".join(response.iter_raw())

    (plain_coding, plain), (zipped_coding, zipped) = raw("identity"), raw("gzip;q=1.0, br")

    assert (plain_coding, zipped_coding) == (None, "gzip")
    assert json.loads(gzip.decompress(zipped)) == json.loads(plain)


def test_bulk_data_is_where_the_metadata_say(held: Held, client: httpx.Client) -> None:
    wanted = {
        held.ct.SOPInstanceUID: ("7FE00010", held.ct.PixelData),
        held.movie.SOPInstanceUID: ("7FE00010", held.movie.PixelData),
        held.pdf.SOPInstanceUID: ("00420011", held.pdf.EncapsulatedDocument),
    }
    for stored in (held.ct, held.movie, held.pdf):
        [found] = client.get(path(stored, "/metadata")).json()
        tag, value = wanted[stored.SOPInstanceUID]

        url = found[tag]["BulkDataURI"]
        single = client.get(url, headers={"Accept": OCTETS})
        [(_, content)] = multipart_parts(client.get(url))

        assert url.startswith(held.node.url)
        assert single.content == content == value


def test_broken_object_keeps_no_other_bulk_data_away(
    shared_http_node: HttpNode, client: httpx.Client
) -> None:
    sound = ct_slice()
    short = ct_slice(StudyInstanceUID=sound.StudyInstanceUID, InstanceNumber=1)
    short.PixelData = short.PixelData[:-8]
    shared_http_node.put(short, sound)

    alone = client.get(path(short, "/bulkdata"))
    [(headers, content)] = multipart_parts(
        client.get(f"/dicom-web/studies/{sound.StudyInstanceUID}/pixeldata")
    )

    assert alone.status_code == 406
    assert "need" in alone.json()["detail"]
    assert sound.SOPInstanceUID in headers["content-location"]
    assert content == sound.PixelData


@pytest.mark.parametrize("level", ["study", "series", "instance"])
@pytest.mark.parametrize("rest", ["/bulkdata", "/pixeldata"])
def test_bulk_data_of_every_level_say_where_they_belong(
    held: Held, client: httpx.Client, level: str, rest: str
) -> None:
    told = client.get(path(held.ct, "/metadata", level)).json()

    parts = multipart_parts(client.get(path(held.ct, rest, level)))

    assert [headers["content-location"] for headers, _ in parts] == [
        one["7FE00010"]["BulkDataURI"] for one in told
    ]
    first = next(one for one in parts if held.ct.SOPInstanceUID in one[0]["content-location"])
    assert first[1] == held.ct.PixelData


def test_what_is_not_pixels_is_bulk_data_alone(held: Held, client: httpx.Client) -> None:
    [(headers, content)] = multipart_parts(client.get(path(held.pdf, "/bulkdata")))

    assert headers["content-location"].endswith("/bulkdata/00420011")
    assert content == held.pdf.EncapsulatedDocument
    assert multipart_parts(client.get(path(held.pdf, "/pixeldata"))) == []
    single = client.get(path(held.pdf, "/bulkdata"), headers={"Accept": OCTETS})
    assert single.status_code == 406


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=999999-", 416, None),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_range_of_bulk_data(
    held: Held, client: httpx.Client, asked: str, status: int, expected: slice | None
) -> None:
    where = path(held.ct, "/bulkdata/7FE00010")

    answer = client.get(where, headers={"Accept": OCTETS, "Range": asked})

    assert answer.status_code == status
    if expected is not None:
        assert answer.content == held.ct.PixelData[expected]


def test_compressed_bulk_data_has_a_part_for_each_frame(held: Held, client: httpx.Client) -> None:
    response = client.get(path(held.rle, "/bulkdata/7FE00010"))

    [(headers, _)] = multipart_parts(response)
    assert headers["content-type"].endswith(RLELossless)


@pytest.mark.parametrize("bulk", ["00100010", "00091001", "../../../etc/passwd", "7FE0", "x" * 500])
def test_unknown_bulk_data_is_404(held: Held, client: httpx.Client, bulk: str) -> None:
    assert client.get(path(held.ct, f"/bulkdata/{bulk}")).status_code == 404


def test_urls_of_metadata_follow_the_proxy(held: Held, client: httpx.Client) -> None:
    for host in ("a.example", "b.example"):
        [found] = client.get(path(held.ct, "/metadata"), headers={"X-Forwarded-Host": host}).json()
        assert found["7FE00010"]["BulkDataURI"].startswith(f"http://{host}/dicom-web/studies/")


# Trouble


def test_rotten_object_is_never_served_as_whole(http_node: HttpNode) -> None:
    dataset = ct_slice()
    http_node.put(dataset)
    [kept] = [p for p in (http_node.settings.data_dir / "objects").rglob("*") if p.is_file()]
    kept.chmod(0o600)
    content = bytearray(kept.read_bytes())
    content[-5] ^= 1
    kept.write_bytes(content)
    client = http_node.client()

    assert client.get(path(dataset)).status_code == 503
    assert client.get(path(dataset, "/frames/1")).status_code == 503


def test_polyglot_is_served_with_a_zero_preamble(http_node: HttpNode) -> None:
    dataset = ct_slice()
    http_node.put(dataset)

    response = http_node.client().get(path(dataset), headers={"Accept": "application/dicom"})

    assert response.content[:128] == bytes(128)


def test_large_object_streams_whole(http_node: HttpNode) -> None:
    dataset = multi_frame(1)
    noise = np.random.default_rng(1).integers(0, 65535, (9, 1024, 1024), dtype="<u2")
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 9, 1024, 1024
    dataset.PixelData = noise.tobytes()
    http_node.put(dataset)
    client = http_node.client()

    whole = client.get(path(dataset), headers={"Accept": "application/dicom"})
    frame = client.get(path(dataset, "/frames/9"), headers={"Accept": OCTETS})
    bulk = client.get(path(dataset, "/bulkdata/7FE00010"), headers={"Accept": OCTETS})

    digest = hashlib.sha256(encode(dataset)).hexdigest()
    assert whole.headers["content-length"] == str(len(whole.content))
    assert hashlib.sha256(dataset_of(whole.content)).hexdigest() == digest
    assert frame.content == noise[8].tobytes()
    assert bulk.content == noise.tobytes()
