"""OHIF in a real browser against real studies, from a search to a session that ends.

The tests build on each other, as a day's work does: see `conftest`.
"""

import json
import time
from collections.abc import Iterator, Mapping

import pytest
from playwright.sync_api import Page, expect
from pydicom import dcmread

from tests.browser.conftest import PASSWORD, SHARED
from tests.fixtures.browser import PATIENCE_MS, Watched, shades
from tests.fixtures.serving import Serving

UPLOADED = "pydicom/CT_small.dcm"
WHITE = 200

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


@pytest.fixture(scope="module", autouse=True)
def told_before(server: Serving, person: Watched) -> Iterator[int]:  # noqa: ARG001
    """How long the server's log was before the first of these tests."""
    return server.log.stat().st_size


def open_study(person: Watched, server: Serving, uid: str) -> Page:
    """Open a study in the viewer by the link that the list has."""
    person.page.goto(f"{server.url}/viewer?StudyInstanceUIDs={uid}")
    return person.page


def counter(page: Page, text: str) -> None:
    """Wait until the first viewport says which image it shows."""
    shown = page.locator("[data-cy=viewport-overlay-bottom-right]").first
    expect(shown).to_contain_text(text, timeout=PATIENCE_MS)


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
        timeout=PATIENCE_MS,
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
    panel.get_by_text("25-Jan-2020").click()

    thumbnails = panel.locator("img")
    expect(thumbnails).to_have_count(2, timeout=PATIENCE_MS)
    for number in range(2):
        expect(thumbnails.nth(number)).to_have_js_property("complete", value=True)
        expect(thumbnails.nth(number)).not_to_have_js_property("naturalWidth", value=0)
    person.picture("ct-prior")
    assert person.troubles == []


def test_ct_is_reformatted_in_three_planes(person: Watched) -> None:
    page = person.page

    page.click("[data-cy=Layout]")
    page.click("[data-cy=MPR]")

    overlays = page.locator("[data-cy=viewport-overlay-bottom-right]")
    expect(overlays).to_have_count(3)
    for number, slices in enumerate(("/84", "/512", "/304")):
        expect(overlays.nth(number)).to_contain_text(slices, timeout=PATIENCE_MS)
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
    expect(shown).not_to_contain_text("(1/30)", timeout=PATIENCE_MS)
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
    shown = page.locator("object[type='application/pdf']")
    expect(shown).to_be_visible()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while sum((found := shades(shown))[WHITE:]) < sum(found) / 5:
        assert time.monotonic() < deadline, "there is no paper on the screen"
    person.picture("pdf")
    assert person.troubles == []


def test_structured_report_is_shown_as_text(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = open_study(person, server, studies["SR"])

    expect(page.get_by_text("Document Title").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("Report Text:").first).to_be_visible()
    person.picture("sr")
    assert person.troubles == []


def test_viewers_own_list_finds_a_name_without_accents(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = person.page
    page.goto(f"{server.url}/viewer")
    expect(page.get_by_text("Người bệnh", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    rows = page.locator("table tbody").last.locator("tr")
    expect(rows.nth(len(studies) - 1)).to_be_visible(timeout=PATIENCE_MS)

    page.locator("table input").first.fill("tran thi dep")

    expect(page.get_by_text("1-1 of 1")).to_be_visible(timeout=PATIENCE_MS)
    expect(rows).to_contain_text(["TRẦN, THỊ ĐẸP"])
    person.picture("viewer-list")
    rows.first.dblclick()
    page.wait_for_url(f"**/viewer?*{studies['MR']}*")
    counter(page, "(1/17)")
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


def test_nothing_of_all_that_was_refused(
    server: Serving, person: Watched, told_before: int
) -> None:
    with server.log.open(encoding="utf-8") as log:
        log.seek(told_before)
        lines = [json.loads(line) for line in log if line[:1] == "{"]
    answered = [line for line in lines if line["event"] == "http_request"]

    assert len(answered) > 100
    assert [line for line in answered if line["http_status"] >= 400] == []
    assert [line["event"] for line in lines if line["level"] in {"ERROR", "CRITICAL"}] == []
    assert person.requests > 100
    assert person.troubles == []


def test_session_that_ends_leaves_the_images_and_leads_back(
    person: Watched, server: Serving, studies: Mapping[str, str]
) -> None:
    page = open_study(person, server, studies["CT"])
    counter(page, "(1/58)")
    beside = page.context.new_page()
    beside.goto(f"{server.url}/")
    beside.get_by_role("button", name="Đăng xuất").click()
    beside.wait_for_url(f"{server.url}/login")
    beside.close()
    until_refused(page, server)

    page.locator("[data-cy=studyBrowser-panel]").get_by_text("25-Jan-2020").click()

    bar = page.locator("#lienthong-session")
    expect(bar).to_contain_text("Phiên đăng nhập đã hết.", timeout=PATIENCE_MS)
    counter(page, "(1/58)")
    person.picture("session-over")
    with page.expect_popup() as opened:
        bar.get_by_role("link", name="Đăng nhập lại").click()
    form = opened.value
    form.get_by_label("Tên đăng nhập").fill("admin")
    form.get_by_label("Mật khẩu").fill(PASSWORD)
    form.get_by_role("button", name="Đăng nhập").click()
    expect(form.get_by_role("heading", name="Đã đăng nhập lại")).to_be_visible()
    form.close()
    expect(bar).to_have_count(0, timeout=PATIENCE_MS)
    counter(page, "(1/58)")
    assert {trouble[:3] for trouble in person.troubles} == {"401"}
    person.troubles.clear()


def until_refused(page: Page, server: Serving) -> None:
    """Wait until DICOMweb does not know the session any more: it remembers for a moment."""
    deadline = time.monotonic() + 60
    address = f"http://127.0.0.1:{server.viewer_port}/dicom-web/studies?limit=1"
    while page.request.get(address).status != 401:
        assert time.monotonic() < deadline, "the session goes on"
        time.sleep(0.1)


def test_who_signs_out_is_out_of_the_viewer_too(person: Watched, server: Serving) -> None:
    page = person.page
    page.goto(f"{server.url}/")

    page.get_by_role("button", name="Đăng xuất").click()
    page.wait_for_url(f"{server.url}/login")
    page.goto(f"http://127.0.0.1:{server.viewer_port}/")

    page.wait_for_url(f"{server.url}/login?*")
    assert person.troubles == []


def test_no_secret_was_ever_in_an_address(person: Watched) -> None:
    visited = person.visited()
    secrets = [cookie["value"] for cookie in person.page.context.cookies()]

    assert len(visited) > 10
    assert [one for one in visited if "code=" in one] == []
    assert [one for one in visited if any(len(it) > 8 and it in one for it in secrets)] == []
