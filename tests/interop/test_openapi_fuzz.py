"""Schemathesis asks everything that our OpenAPI tells of: nothing is answered 500.

Once with whatever it invents, once with the UIDs of objects that are there.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import Dataset

from storage.access.tokens import Role
from tests.fixtures.dicom_files import ct_slice, multi_frame
from tests.fixtures.http import HttpNode
from tests.fixtures.stations import Province

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = "5"
PROGRAM = str(Path(sys.executable).with_name("schemathesis"))


@pytest.fixture(scope="module")
def slice_(shared_http_node: HttpNode) -> Dataset:
    dataset = ct_slice()
    family = {"StudyInstanceUID": dataset.StudyInstanceUID, "PatientID": dataset.PatientID}
    shared_http_node.put(dataset, multi_frame(2, **family), ct_slice())
    return dataset


def configuration(folder: Path, *lines: str) -> Path:
    file = folder / "schemathesis.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def run(
    node: HttpNode, configured: Path, phases: str, token: str = "", *further: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(
                str(Path(sys.executable).with_name("schemathesis")),
                "--config-file",
                str(configured),
            ),
            *("run", f"{node.url}/openapi.json", "--no-color", "--generation-deterministic"),
            *("--header", f"Authorization: Bearer {token or node.token()}"),
            *("--checks", "not_a_server_error", "--max-examples", EXAMPLES),
            *("--phases", phases, "--request-timeout", "40", *further),
        ],
        capture_output=True,
        text=True,
        cwd=configured.parent,
        timeout=580,
        check=False,
    )


def test_nothing_invented_is_a_server_error(
    shared_http_node: HttpNode, slice_: Dataset, tmp_path: Path
) -> None:
    assert slice_ is not None

    done = run(shared_http_node, configuration(tmp_path), "coverage,fuzzing")

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert (selected := re.search(r"Selected: (\d+)/\1\b", done.stdout)), done.stdout[-2000:]
    assert f"Tested: {selected[1]}" in done.stdout


def test_nothing_asked_of_real_objects_is_a_server_error(
    shared_http_node: HttpNode, slice_: Dataset, tmp_path: Path
) -> None:
    configured = configuration(
        tmp_path,
        "[parameters]",
        f'"path.study" = "{slice_.StudyInstanceUID}"',
        f'"path.series" = "{slice_.SeriesInstanceUID}"',
        f'"path.instance" = "{slice_.SOPInstanceUID}"',
    )

    done = run(shared_http_node, configured, "fuzzing")

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert (selected := re.search(r"Selected: (\d+)/\1\b", done.stdout)), done.stdout[-2000:]
    assert f"Tested: {selected[1]}" in done.stdout


def test_nothing_that_a_station_asks_is_a_server_error(
    shared_http_node: HttpNode, tmp_path: Path
) -> None:
    province = Province(shared_http_node)
    province.register("68001")
    report = province.signed(province.order(province.patient(), "68001"))
    token = shared_http_node.token(Role.STATION, "68001")
    configured = configuration(tmp_path, "[parameters]", f'"path.report_id" = "{report.uid}"')
    only = ("--include-path-regex", "^/stations/")

    done = run(shared_http_node, configured, "coverage,fuzzing", token, *only)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"Tested: 1[0-9]", done.stdout), done.stdout[-2000:]
