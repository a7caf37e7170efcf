"""QIDO-RS over a real port."""

from collections.abc import Iterator

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from pacs import dicom_xml
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode, multipart_parts

NAME, ID, MODALITIES, STUDY, SERIES = "00100010", "00100020", "00080061", "0020000D", "0020000E"
OHIF_FIELDS = "00081030%2C00080060%2C00080090%2C00100030"


def study(patient_id: str, name: str, **values: object) -> Dataset:
    return ct_slice(PatientID=patient_id, PatientName=name, **values)


@pytest.fixture(scope="module")
def archive(shared_http_node: HttpNode) -> HttpNode:
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "S7", "R7"
    shared_http_node.put(
        study("P1", "NGUYỄN^VĂN AN", StudyDate="20260101", Modality="CT", SeriesNumber=4),
        study("P2", "TRẦN^THỊ BÌNH", StudyDate="20260215", Modality="MR"),
        study(
            "P3",
            "Đỗ^An",
            StudyDate="20260301",
            Modality="US",
            RequestAttributesSequence=[request],
        ),
    )
    return shared_http_node


@pytest.fixture(scope="module")
def client(archive: HttpNode) -> httpx.Client:
    return archive.client()


def ids(response: httpx.Response) -> list[str]:
    if response.status_code == 204:
        return []
    assert response.status_code == 200, response.text
    return [row[ID]["Value"][0] for row in response.json()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["P3", "P2", "P1"]),
        ("PatientID=P2", ["P2"]),
        ("00100020=P2", ["P2"]),
        ("PatientName=*nguyen*", ["P1"]),
        ("PatientName=NGUY%E1%BB%84N*", ["P1"]),
        ("PatientName=an+nguyen&fuzzymatching=true", ["P1"]),
        ("PatientName=do*", ["P3"]),
        ("StudyDate=20260201-", ["P3", "P2"]),
        ("StudyDate=20260101-20260215", ["P2", "P1"]),
        ("ModalitiesInStudy=MR", ["P2"]),
        ("ModalitiesInStudy=MR%2CUS", ["P3", "P2"]),
        ("PatientName=&ModalitiesInStudy=", ["P3", "P2", "P1"]),
        ("PatientID=nobody", []),
        ("limit=1", ["P3"]),
        ("limit=1&offset=1", ["P2"]),
        ("limit=2&offset=2", ["P1"]),
        ("offset=50", []),
    ],
)
def test_studies_are_found(client: httpx.Client, query: str, expected: list[str]) -> None:
    assert ids(client.get(f"/dicom-web/studies?{query}")) == expected


def test_uid_lists_are_exact(client: httpx.Client) -> None:
    uids = [row[STUDY]["Value"][0] for row in client.get("/dicom-web/studies").json()]

    for separator in (",", "\\"):
        wanted = separator.join(uids[:2])
        found = client.get("/dicom-web/studies", params={"StudyInstanceUID": wanted})
        assert ids(found) == ["P3", "P2"]


def test_the_viewer_gets_its_list(client: httpx.Client) -> None:
    response = client.get(
        f"/dicom-web/studies?limit=101&offset=0&fuzzymatching=true&includefield={OHIF_FIELDS}",
        headers={"Accept": "application/dicom+json"},
    )

    assert response.headers["content-type"] == "application/dicom+json"
    assert "warning" not in response.headers
    for row in response.json():
        assert row[MODALITIES]["Value"]
        assert row["00080005"]["Value"] == ["ISO_IR 192"]
        assert row["00081030"]["Value"] == ["Chụp cắt lớp ngực"]
        assert row["00081190"]["Value"][0].startswith(str(client.base_url))
        assert row["00201208"] == {"vr": "IS", "Value": [1]}


def test_nothing_found_is_204(client: httpx.Client) -> None:
    response = client.get("/dicom-web/studies?PatientID=nobody")

    assert (response.status_code, response.content) == (204, b"")


def test_more_results_are_announced_with_their_number(client: httpx.Client) -> None:
    few, all_of_them = client.get("/dicom-web/studies?limit=1"), client.get("/dicom-web/studies")

    assert few.headers["warning"] == (
        f'299 {few.url.netloc.decode()} "There are 2 additional results that can be requested"'
    )
    assert "warning" not in all_of_them.headers
    assert few.headers["x-total-count"] == all_of_them.headers["x-total-count"] == "3"
    assert client.get("/dicom-web/studies?PatientID=nobody").headers["x-total-count"] == "0"
    assert client.get("/dicom-web/studies?offset=2").headers["x-total-count"] == "3"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("studies?limit=2&PatientName=*&offset=0", ["P3", "P2", "P1"]),
        ("studies?limit=1&offset=1", ["P2", "P1"]),
        ("series?limit=1", ["P3", "P2", "P1"]),
        ("instances?limit=1&includefield=00100020", ["P3", "P2", "P1"]),
    ],
)
def test_pages_are_followed_by_their_links(
    client: httpx.Client, path: str, expected: list[str]
) -> None:
    response = client.get(f"/dicom-web/{path}")
    found = ids(response)

    while "next" in response.links:
        response = client.get(response.links["next"]["url"])
        found += ids(response)

    assert found == expected


@pytest.mark.parametrize("after", ["x", "W10", "WyJhIl0", "bnVsbA"])
def test_invented_place_is_a_bad_request(client: httpx.Client, after: str) -> None:
    assert client.get(f"/dicom-web/studies?after={after}").status_code == 400


def test_unsupported_key_is_announced_and_passed_over(client: httpx.Client) -> None:
    response = client.get("/dicom-web/studies?PixelSpacing=1&PatientID=P1")

    assert ids(response) == ["P1"]
    assert "PixelSpacing" in response.headers["warning"]


def test_series_of_a_study(client: httpx.Client) -> None:
    [row] = client.get("/dicom-web/studies?PatientID=P1").json()
    uid = row[STUDY]["Value"][0]

    [series] = client.get(
        f"/dicom-web/studies/{uid}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011"
    ).json()

    assert series[STUDY]["Value"] == [uid]
    assert series["00080060"]["Value"] == ["CT"]
    assert series["00200011"]["Value"] == [4]
    assert series["00081190"]["Value"][0].endswith(f"/series/{series[SERIES]['Value'][0]}")


def test_series_by_the_step_that_asked_for_them(client: httpx.Client) -> None:
    for key in ("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009"):
        [series] = client.get(f"/dicom-web/series?{key}=S7").json()

        [item] = series["00400275"]["Value"]
        assert item["00400009"]["Value"] == ["S7"]
        assert item["00401001"]["Value"] == ["R7"]
        assert series[ID]["Value"] == ["P3"]


def test_instances_at_every_path(client: httpx.Client) -> None:
    [row] = client.get("/dicom-web/instances?PatientID=P1").json()
    study_uid, series_uid, uid = (row[tag]["Value"][0] for tag in (STUDY, SERIES, "00080018"))
    paths = [
        f"/dicom-web/studies/{study_uid}/instances",
        f"/dicom-web/studies/{study_uid}/series/{series_uid}/instances",
        f"/dicom-web/instances?SOPInstanceUID={uid}",
    ]

    for path in paths:
        [found] = client.get(path).json()
        assert found["00080018"]["Value"] == [uid]
        assert found["00280010"] == {"vr": "US", "Value": [16]}
        assert found["00081190"]["Value"][0].endswith(f"/instances/{uid}")


def test_series_of_another_study_is_not_found(client: httpx.Client) -> None:
    [row] = client.get("/dicom-web/instances?PatientID=P1").json()
    series_uid = row[SERIES]["Value"][0]

    response = client.get(f"/dicom-web/studies/{generate_uid()}/series/{series_uid}/instances")

    assert response.status_code == 204


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("studies?PatientNmae=x", 400),
        ("studies?limit=-1", 400),
        ("studies?StudyDate=yesterday", 400),
        ("studies?StudyDate=-", 400),
        ("studies/not-a-uid/series", 400),
        ("studies/1..2/series", 400),
        ("studies/1.2/series?StudyInstanceUID=1.3", 400),
        ("nothing", 404),
    ],
)
def test_bad_request_is_a_problem(client: httpx.Client, path: str, status: int) -> None:
    response = client.get(f"/dicom-web/{path}")

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("application/json", 200, "application/json"),
        ("text/html, */*;q=0.1", 200, "application/dicom+json"),
        ('multipart/related; type="application/dicom"', 406, "application/problem+json"),
        ("application/dicom+xml", 406, "application/problem+json"),
    ],
)
def test_media_type_is_negotiated(
    client: httpx.Client, accept: str, status: int, media_type: str
) -> None:
    response = client.get("/dicom-web/studies", headers={"Accept": accept})

    assert (response.status_code, response.headers["content-type"]) == (status, media_type)


def test_results_are_the_same_in_xml(client: httpx.Client) -> None:
    accept = {"Accept": "multipart/related; type=application/dicom+xml"}

    parts = multipart_parts(client.get("/dicom-web/studies", headers=accept))

    assert {headers["content-type"] for headers, _ in parts} == {"application/dicom+xml"}
    rows = client.get("/dicom-web/studies").json()
    assert [content for _, content in parts] == [dicom_xml.encode(row) for row in rows]


def test_results_are_zipped_when_asked(client: httpx.Client) -> None:
    zipped = client.get("/dicom-web/studies", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/dicom-web/studies", headers={"Accept-Encoding": "identity"})

    assert zipped.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in zipped.headers["vary"]
    assert "content-encoding" not in plain.headers
    assert zipped.json() == plain.json()


def test_urls_are_those_behind_the_proxy(client: httpx.Client) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example.vn"}

    [row] = client.get("/dicom-web/studies?PatientID=P1", headers=forwarded).json()

    assert row["00081190"]["Value"][0].startswith("https://pacs.example.vn/dicom-web/studies/")


@pytest.fixture
def names_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level("DEBUG"):
        yield caplog


def test_access_log_has_no_query_string(
    client: httpx.Client, names_logged: pytest.LogCaptureFixture
) -> None:
    client.get("/dicom-web/studies?PatientName=SECRETNAME*")

    lines = [r for r in names_logged.records if r.name == "viewer_api.edge"]
    assert [line.__dict__["route"] for line in lines] == ["/dicom-web/studies"]
    assert not any("SECRETNAME" in str(line.__dict__) for line in lines)
