"""OHIF in a real browser against real studies, from signing in to an upload.

One browser goes through all of it, as a person would: to load the viewer anew for each
test would take minutes. It runs on demand: LIENTHONG_TEST_BROWSER=1 with Chromium installed.
"""

import csv
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
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
}
UPLOADED = "pydicom/CT_small.dcm"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.skipif("LIENTHONG_TEST_BROWSER" not in os.environ, reason="runs on demand"),
    pytest.mark.skipif(not programs.find("chromium"), reason="chromium is not installed"),
    pytest.mark.skipif(not programs.find("npm"), reason="npm is not installed: no OHIF"),
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared DICOM files are not there"),
]


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A started server with the viewer, and nobody's password."""
    one_each = {"LIENTHONG_DICOM_PROCESSES": "1", "LIENTHONG_HTTP_PROCESSES": "1"}
    made = Serving(tmp_path_factory.mktemp("viewer"), one_each)
    installed = made.run("viewer", "install")
    assert installed.returncode == 0, installed.stderr
    try:
        made.start(patience_s=180)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def studies(server: Serving) -> Mapping[str, str]:
    folder = server.folder / "studies"
    folder.mkdir()
    uids = put_in(folder)
    brought = server.run("import", str(folder))
    assert " 0 failed" in brought.stdout, brought.stdout + brought.stderr
    return uids


@pytest.fixture(scope="module")
def person(server: Serving) -> Iterator[Watched]:
    """Somebody at a browser who opened the link that `serve` printed."""
    hosts = frozenset({f"127.0.0.1:{server.http_port}", f"127.0.0.1:{server.viewer_port}"})
    with watched(hosts, server.folder / "pictures") as made:
        page = made.page
        page.goto(first_link(server))
        page.get_by_label("Mật khẩu mới", exact=True).fill(PASSWORD)
        page.get_by_label("Nhập lại mật khẩu mới").fill(PASSWORD)
        page.get_by_role("button", name="Đặt mật khẩu và đăng nhập").click()
        page.wait_for_url(f"{server.url}/")
        yield made


def first_link(server: Serving) -> str:
    """Return the link that `serve` prints while nobody has a password."""
    deadline = time.monotonic() + 60
    while True:
        found = re.search(r"first sign-in, good once: (\S+)", server.log.read_text())
        if found:
            return found[1]
        assert time.monotonic() < deadline, "no link was printed"
        time.sleep(0.1)


def open_study(person: Watched, server: Serving, uid: str) -> Page:
    """Open a study in the viewer by the link that the list has."""
    person.page.goto(f"{server.url}/viewer?StudyInstanceUIDs={uid}")
    return person.page


def counter(page: Page, text: str) -> None:
    """Wait until the first viewport says which image it shows."""
    shown = page.locator("[data-cy=viewport-overlay-bottom-right]").first
    expect(shown).to_contain_text(text, timeout=90_000)


def drawn(page: Page) -> None:
    """Wait until the first viewport shows an image: of more than a few shades."""
    page.wait_for_function(
        """() => {
          const canvas = document.querySelector('canvas.cornerstone-canvas');
          if (!canvas) return false;
          const small = document.createElement('canvas');
          small.width = small.height = 64;
          const context = small.getContext('2d');
          context.drawImage(canvas, 0, 0, 64, 64);
          const shades = new Set();
          const pixels = context.getImageData(0, 0, 64, 64).data;
          for (let i = 0; i < pixels.length; i += 4) shades.add(pixels[i]);
          return shades.size > 16;
        }""",
        timeout=90_000,
    )


def test_list_of_the_pages_finds_a_name_without_accents_and_leads_to_the_viewer(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = person.page
    page.goto(f"{server.url}/")
    page.get_by_label("Họ tên người bệnh").fill("nguyen an")
    page.get_by_role("button", name="Tìm").click()
    rows = page.locator("table.studies tbody tr")

    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("NGUYỄN VĂN AN")
    person.picture("pages-search")
    rows.filter(has_text="CT").get_by_role("link").click()

    page.wait_for_url(f"http://127.0.0.1:{server.viewer_port}/viewer?*{studies['CT']}*")
    counter(page, "(1/58)")
    assert person.troubles == []


def test_ct_scrolls_to_the_last_slice(person: Watched) -> None:
    page = person.page
    page.mouse.move(500, 300)

    page.mouse.wheel(0, 100)
    counter(page, "(2/58)")
    page.keyboard.press("End")
    counter(page, "(58/58)")

    drawn(page)
    person.picture("ct-last-slice")
    assert person.troubles == []


def test_prior_of_the_same_patient_is_offered(person: Watched) -> None:
    page = person.page

    panel = page.locator("[data-cy=studyBrowser-panel]")

    expect(panel).to_contain_text("06-Feb-2015")
    expect(panel).to_contain_text("DX")
    assert person.troubles == []


def test_ct_is_reformatted_in_three_planes(person: Watched) -> None:
    page = person.page

    page.click("[data-cy=Layout]")
    page.click("[data-cy=MPR]")

    overlays = page.locator("[data-cy=viewport-overlay-bottom-right]")
    expect(overlays).to_have_count(3)
    for number, slices in enumerate(("/84", "/512", "/304")):
        expect(overlays.nth(number)).to_contain_text(slices, timeout=90_000)
    drawn(page)
    person.picture("ct-mpr")
    assert person.troubles == []


def test_mr_scrolls_to_the_last_slice(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = open_study(person, server, studies["MR"])
    counter(page, "(1/17)")
    page.mouse.move(500, 300)

    for slice_ in range(2, 6):
        page.mouse.wheel(0, 100)
        counter(page, f"({slice_}/17)")
    page.keyboard.press("End")
    counter(page, "(17/17)")

    drawn(page)
    person.picture("mr-last-slice")
    assert person.troubles == []


def test_ultrasound_plays(person: Watched, server: Serving, studies: Mapping[str, str]) -> None:
    page = open_study(person, server, studies["US"])
    counter(page, "(1/30)")
    drawn(page)

    page.click("[data-cy=cine-player-play-pause]")

    shown = page.locator("[data-cy=viewport-overlay-bottom-right]").first
    expect(shown).not_to_contain_text("(1/30)", timeout=60_000)
    person.picture("us-cine")
    assert person.troubles == []


def test_radiograph_is_shown(person: Watched, server: Serving, studies: Mapping[str, str]) -> None:
    page = open_study(person, server, studies["DX"])

    drawn(page)

    person.picture("dx")
    assert person.troubles == []


def test_enhanced_multi_frame_scrolls_to_its_last_frame(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = open_study(person, server, studies["enhanced"])
    counter(page, "/64)")
    page.mouse.move(500, 300)

    page.keyboard.press("End")
    counter(page, "(64/64)")

    drawn(page)
    person.picture("enhanced-mr")
    assert person.troubles == []


def test_pdf_is_shown_in_the_viewer(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    with person.page.expect_response(lambda answer: "/rendered" in answer.url) as rendered:
        page = open_study(person, server, studies["PDF"])

    assert rendered.value.headers["content-type"] == "application/pdf"
    expect(page.locator("object[type='application/pdf']")).to_be_visible()
    deadline = time.monotonic() + 60
    while not any(frame.url.startswith("chrome-extension:") for frame in page.frames):
        assert time.monotonic() < deadline, "the browser does not show it"
        page.wait_for_timeout(100)
    person.picture("pdf")
    assert person.troubles == []


def test_structured_report_is_shown_as_text(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = open_study(person, server, studies["SR"])

    expect(page.get_by_text("Document Title").first).to_be_visible(timeout=90_000)
    expect(page.get_by_text("Report Text:").first).to_be_visible()
    person.picture("sr")
    assert person.troubles == []


def test_viewers_own_list_finds_a_name_without_accents(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = person.page
    page.goto(f"{server.url}/viewer")
    expect(page.get_by_text(f"1-{len(studies)} of {len(studies)}")).to_be_visible(timeout=90_000)

    page.locator("table input").first.fill("tran thi dep")

    expect(page.get_by_text("1-1 of 1")).to_be_visible(timeout=60_000)
    expect(page.locator("table tbody").last).to_contain_text("TRẦN")
    person.picture("viewer-list")
    assert person.troubles == []


def test_study_is_uploaded_from_the_viewer(person: Watched, server: Serving) -> None:
    page = person.page
    page.goto(f"http://127.0.0.1:{server.viewer_port}/")

    page.get_by_text("Upload").click()
    with page.expect_response(lambda answer: answer.request.method == "POST") as stored:
        page.locator("input[type=file]").first.set_input_files(SHARED / UPLOADED)

    assert stored.value.status == 200
    person.picture("upload")
    page.goto(f"{server.url}/?id={dcmread(SHARED / UPLOADED).PatientID}")
    found = page.locator("table.studies tbody tr")
    deadline = time.monotonic() + 60
    while not found.count():
        assert time.monotonic() < deadline, "the uploaded study is not in the list"
        page.reload()
    assert person.troubles == []


def test_who_signs_out_is_out_of_the_viewer_too(person: Watched, server: Serving) -> None:
    page = person.page
    page.goto(f"{server.url}/")

    page.get_by_role("button", name="Đăng xuất").click()
    page.wait_for_url(f"{server.url}/login")
    page.goto(f"http://127.0.0.1:{server.viewer_port}/")

    page.wait_for_url(f"{server.url}/login?*")
    assert person.requests > 100
    assert person.troubles == []


def test_server_refused_nothing_of_all_that(server: Serving, person: Watched) -> None:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    answered = [line for line in lines if line["event"] == "http_request"]

    assert len(answered) > 100
    assert [line for line in answered if line["http_status"] >= 400] == []
    assert [line["event"] for line in lines if line["level"] in {"ERROR", "CRITICAL"}] == []
    assert person.troubles == []
