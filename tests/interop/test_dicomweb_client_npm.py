"""The npm package `dicomweb-client`, which web viewers are built on, does all that it can do."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from tests.fixtures.dicom_files import ct_slice, multi_frame, part10_file
from tests.fixtures.http import HttpNode

PACKAGE = Path(__file__).with_name("npm")
PNG = [0x89, *b"PNG"]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        shutil.which("node") is None or not (PACKAGE / "node_modules").is_dir(),
        reason="node and the npm package dicomweb-client are not installed",
    ),
]


@pytest.fixture(scope="module")
def movie(shared_http_node: HttpNode) -> Dataset:
    dataset = multi_frame(2)
    family = {"StudyInstanceUID": dataset.StudyInstanceUID, "PatientID": dataset.PatientID}
    shared_http_node.put(dataset, ct_slice(**family))
    return dataset


@pytest.fixture(scope="module")
def uploaded() -> Dataset:
    return ct_slice()


@pytest.fixture(scope="module")
def results(
    shared_http_node: HttpNode,
    movie: Dataset,
    uploaded: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("upload") / "file.dcm"
    file.write_bytes(part10_file(uploaded))
    asked = {
        "root": f"{shared_http_node.url}/dicom-web",
        "wado": f"{shared_http_node.url}/wado",
        "token": shared_http_node.token(),
        "study": movie.StudyInstanceUID,
        "series": movie.SeriesInstanceUID,
        "instance": movie.SOPInstanceUID,
        "upload": str(file),
    }
    done = subprocess.run(
        ["node", "operations.mjs", json.dumps(asked)],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # the package talks too
    return found


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("searchForStudies", 1),
        ("searchForSeries", 2),
        ("searchForInstances", 1),
        ("searchForNothing", 0),
        ("retrieveStudyMetadata", 2),
        ("retrieveSeriesMetadata", 1),
        ("retrieveInstanceFrames", [128, 128]),
        ("retrieveInstanceFramesAsStored", [128, 128]),
        ("retrieveBulkData", [256]),
        ("retrieveInstanceRendered", PNG),
        ("retrieveInstanceThumbnail", PNG),
        ("retrieveInstanceFramesRendered", PNG),
        ("retrieveInstanceFramesThumbnail", PNG),
        ("absent", {"error": 404}),
    ],
)
def test_operation_brings_what_is_there(
    results: dict[str, Any], operation: str, expected: object
) -> None:
    assert results[operation] == expected


def test_metadata_are_of_the_instance(results: dict[str, Any], movie: Dataset) -> None:
    assert results["retrieveInstanceMetadata"] == movie.SOPInstanceUID


def test_objects_come_whole(results: dict[str, Any], movie: Dataset) -> None:
    length = len(part10_file(movie))
    for operation in ("retrieveInstance", "retrieveSeries", "buildInstanceWadoURIUrl"):
        [size] = results[operation]
        assert abs(size - length) < 200, operation  # file meta information is ours
    assert len(results["retrieveStudy"]) == 2


def test_stored_object_is_referenced(
    shared_http_node: HttpNode, results: dict[str, Any], uploaded: Dataset
) -> None:
    [item] = results["storeInstances"]["00081199"]["Value"]

    assert item["00081155"]["Value"] == [uploaded.SOPInstanceUID]
    shared_http_node.ingest()
    found = shared_http_node.client().get(item["00081190"]["Value"][0])
    assert found.status_code == 200
