"""One server with the viewer, one browser: shared by all tests here, in the order they stand.

To start and load them for each test would take minutes. The tests use them as a visitor would,
from the first sign-in to signing out.
"""

import csv
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.fixtures import programs
from tests.fixtures.browser import Watched, watched
from tests.fixtures.serving import Serving

SHARED = Path(__file__).parents[3] / "shared" / "data" / "dicom"
PASSWORD = "mưa rào tháng sáu"
AN = ("NGUYỄN^VĂN AN", "BN0001")

# what → (a file of its series, patient name and ID for what was made anonymous)
STUDIES: Mapping[str, tuple[str, tuple[str, str] | None]] = {
    "CT": ("dcm_qa_ct/S3010__I10", AN),
    "DX": ("highdicom/dx_image.dcm", AN),
    "MR": ("dcm_qa_uih/00000001.dcm", ("TRẦN^THỊ ĐẸP", "BN0002")),
    "US": ("pydicom/examples_ybr_color.dcm", None),
    "PDF": ("dcmjs-dimse/pdf.dcm", None),
    "SR": ("pydicom/reportsi.dcm", None),
    "enhanced": ("dcm_qa_enh/IM_0027_fMAP.dcm", None),
    "no modality": ("pydicom/GDCMJ2K_TextGBR.dcm", None),
}


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A started server with the viewer, and nobody's password."""
    for program in ("chromium", "npm"):
        if not programs.find(program):
            pytest.skip(f"{program} is not installed")
    one_each = {"LIENTHONG_DICOM_PROCESSES": "1", "LIENTHONG_HTTP_PROCESSES": "1"}
    made = Serving(tmp_path_factory.mktemp("browser"), one_each)
    installed = made.run("viewer", "install")
    if "npm could not fetch" in installed.stderr:
        pytest.skip("the package of OHIF cannot be fetched")
    assert installed.returncode == 0, installed.stderr
    try:
        made.start(patience_s=180)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="package")
def visitor(server: Serving) -> Iterator[Watched]:
    """Somebody at a browser who has not been here before."""
    hosts = frozenset({f"127.0.0.1:{server.http_port}", f"127.0.0.1:{server.viewer_port}"})
    with watched(hosts, server.folder / "pictures") as made:
        yield made


@pytest.fixture(scope="package")
def first_link(server: Serving) -> str:
    """The link that `serve` prints while nobody has a password."""
    deadline = time.monotonic() + 60
    while True:
        found = re.search(r"first sign-in, good once: (\S+)", server.log.read_text())
        if found:
            return found[1]
        assert time.monotonic() < deadline, "no link was printed"
        time.sleep(0.1)


@pytest.fixture(scope="package")
def studies(server: Serving) -> Mapping[str, str]:
    """The Study Instance UIDs of `STUDIES`, which the archive holds from now on."""
    if not SHARED.is_dir():
        pytest.skip("the shared DICOM files are not there")
    folder = server.folder / "studies"
    folder.mkdir()
    uids = put_in(folder)
    brought = server.run("import", str(folder))
    assert " 0 failed" in brought.stdout, brought.stdout + brought.stderr
    return uids


def put_in(folder: Path) -> dict[str, str]:
    """Write the studies into `folder`; return their Study Instance UIDs."""
    uids = {}
    for what, (file, patient) in STUDIES.items():
        for number, path in enumerate(series_of(file)):
            dataset = dcmread(path)
            if patient:
                dataset.SpecificCharacterSet = "ISO_IR 192"
                dataset.PatientName, dataset.PatientID = patient
            dataset.save_as(folder / f"{what}-{number}.dcm")
            uids[what] = str(dataset.StudyInstanceUID)
    return uids


def series_of(file: str) -> list[Path]:
    """Return the files of the series that `file` of the shared set is of, each object once."""
    with (SHARED / "MANIFEST.tsv").open(encoding="utf-8") as manifest:
        rows = [*csv.DictReader(manifest, delimiter="\t")]
    [uid] = [row["SeriesInstanceUID"] for row in rows if row["file"] == file]
    objects: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["file"] != file):
        if row["SeriesInstanceUID"] == uid:
            objects.setdefault(row["SOPInstanceUID"], row["file"])
    return [SHARED / name for name in objects.values()]


@pytest.fixture(scope="package")
def person(visitor: Watched, server: Serving, first_link: str) -> Watched:
    """The visitor, who opened the link and set a password."""
    page = visitor.page
    page.goto(first_link)
    page.get_by_label("Mật khẩu mới", exact=True).fill(PASSWORD)
    page.get_by_label("Nhập lại mật khẩu mới").fill(PASSWORD)
    page.get_by_role("button", name="Đặt mật khẩu và đăng nhập").click()
    page.wait_for_url(f"{server.url}/")
    return visitor
