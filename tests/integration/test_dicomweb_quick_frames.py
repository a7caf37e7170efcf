"""The short way to a frame gives what the ordinary way gives, to the same callers."""

from collections.abc import Iterator, Mapping

import httpx
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from storage.access.tokens import Role
from tests.fixtures.dicom_files import ct_slice, encapsulated, multi_frame
from tests.fixtures.http import HttpNode, multipart_parts
from viewer_api.dicomweb.quick_frames import QuickFrames

OCTETS = "application/octet-stream"
ACCEPTS = (
    "multipart/related; type=application/octet-stream; transfer-syntax=*",
    'multipart/related; type="application/octet-stream"',
    OCTETS,
    "*/*",
    "image/jpeg",
    "text/plain",
    "",
)
THE_ORDINARY_WAY = {"If-None-Match": '"another"'}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the paths that were answered the short way."""
    paths: list[str] = []
    answer = QuickFrames._answer  # noqa: SLF001 - which way was taken shows nowhere else

    def noting(self: QuickFrames, scope: dict[str, object]) -> object:
        found = answer(self, scope)
        if found is not None:
            paths.append(str(scope["path"]))
        return found

    monkeypatch.setattr(QuickFrames, "_answer", noting)
    return paths


@pytest.fixture(scope="module")
def held(shared_http_node: HttpNode) -> Mapping[str, Dataset]:
    """Settled objects of every kind that matters."""
    native, rle = ct_slice(), ct_slice()
    rle.file_meta = FileMetaDataset()
    rle.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rle.compress(RLELossless, generate_instance_uid=False)
    broken = encapsulated(ct_slice(), [b"\xff\x4f\xff\x51" + bytes(60)])
    movie = multi_frame(3)
    shared_http_node.put(native, movie)
    shared_http_node.put(rle, transfer_syntax=RLELossless)
    shared_http_node.put(broken, transfer_syntax=JPEG2000Lossless)
    shared_http_node.settle()
    return {"native": native, "movie": movie, "rle": rle, "broken": broken}


def path(dataset: Dataset, frame: str) -> str:
    """Where a frame of an object is."""
    return (
        f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}/frames/{frame}"
    )


def said(response: httpx.Response) -> object:
    """Return all of an answer but its date, its identifier and its boundary."""
    headers = dict(response.headers)
    for name in ("date", "x-request-id", "content-length"):
        headers.pop(name, None)
    content_type = headers.pop("content-type", "").partition("boundary=")[0]
    if response.is_success and content_type.startswith("multipart"):
        parts = [(dict(part), content) for part, content in multipart_parts(response)]
        return response.status_code, content_type, headers, parts
    return response.status_code, content_type, headers, response.content


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("frame", ["1", "3", "0", "9", "1,2", "x", "99999999"])
@pytest.mark.parametrize("name", ["native", "movie", "rle", "broken"])
def test_both_ways_answer_the_same(
    shared_http_node: HttpNode, held: Mapping[str, Dataset], name: str, frame: str, accept: str
) -> None:
    client = shared_http_node.client()
    asked = path(held[name], frame), {"Accept": accept}
    client.get(path(held[name], "1"), headers={"Accept": ACCEPTS[0]})  # the series is remembered

    quick = client.get(asked[0], headers=asked[1])
    ordinary = client.get(asked[0], headers={**asked[1], **THE_ORDINARY_WAY})

    assert said(quick) == said(ordinary)


def test_frames_of_a_series_that_was_asked_for_go_the_short_way(
    shared_http_node: HttpNode, held: Mapping[str, Dataset], taken: list[str]
) -> None:
    client = shared_http_node.client()
    paths = [path(held["movie"], number) for number in "123"] + [path(held["rle"], "1")]
    for one in paths:
        client.get(one, headers={"Accept": ACCEPTS[0]})
    taken.clear()

    for one in paths:
        assert client.get(one, headers={"Accept": ACCEPTS[0]}).is_success

    assert taken == paths


@pytest.mark.parametrize(("secret", "status"), [("", 401), ("lt_nobody", 401), (Role.STATION, 403)])
def test_who_may_not_read_gets_nothing_the_short_way(
    shared_http_node: HttpNode,
    held: Mapping[str, Dataset],
    taken: list[str],
    secret: str,
    status: int,
) -> None:
    asked, accept = path(held["native"], "1"), {"Accept": ACCEPTS[0]}
    for _ in range(2):
        shared_http_node.client().get(asked, headers=accept)
    if isinstance(secret, Role):
        secret = shared_http_node.token(secret, "01001")
    stranger = shared_http_node.client(secret)
    stranger.get("/dicom-web/studies")
    taken.clear()

    assert stranger.get(asked, headers=accept).status_code == status

    assert taken == []


def test_frame_whose_object_was_changed_is_not_given_the_short_way(
    shared_http_node: HttpNode, taken: list[str]
) -> None:
    rotten = ct_slice()
    shared_http_node.put(rotten)
    shared_http_node.settle()
    client, accept = shared_http_node.client(), {"Accept": ACCEPTS[0]}
    for _ in range(2):
        assert client.get(path(rotten, "1"), headers=accept).is_success
    taken.clear()
    for found in shared_http_node.store.list():
        file = shared_http_node.store.folder / found.key
        content = file.read_bytes()
        if rotten.SOPInstanceUID.encode() in content and b"DICM" in content[:132]:
            file.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])

    assert client.get(path(rotten, "1"), headers=accept).status_code == 503

    assert taken == []


def test_request_on_the_short_way_is_counted_under_its_route(
    shared_http_node: HttpNode, held: Mapping[str, Dataset], taken: list[str]
) -> None:
    client, accept = shared_http_node.client(), {"Accept": ACCEPTS[0]}
    for _ in range(2):
        client.get(path(held["native"], "1"), headers=accept)

    assert taken
    counted = client.get("/metrics").text
    assert (
        'route="/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames' in counted
    )
