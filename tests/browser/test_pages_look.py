"""Our own pages in a real browser: on a telephone and on a screen, in both languages, by keyboard.

What a program can see of WCAG 2.2 AA is asked of every page, in light and in dark colours; the
pictures are for people.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD
from tests.fixtures.browser import Watched
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.serving import Serving
from viewer_api import texts
from viewer_api.texts import Language

WINDOWS: Final[Mapping[str, tuple[int, int]]] = {"phone": (360, 740), "screen": (1280, 800)}
SCREEN: Final = (1000, 640)
ROWS: Final = 60
LONG: Final[Mapping[str, str]] = {
    "PatientName": "CÔNG TẰNG TÔN NỮ^THỊ HOÀNG HẠNH THƯ TRƯƠNG PHÚC BỬU^ĐĐĐĐĐĐĐĐĐĐĐĐ",
    "PatientID": "BV-0123456789-0123456789-0123456789-0123456789-01234567890123456",
    "StudyDescription": "CHỤP_CẮT_LỚP_VI_TÍNH_BỤNG_TIỂU_KHUNG_CÓ_TIÊM_THUỐC_CẢN_QUANG",
    "AccessionNumber": "0123456789ABCDEF",
}

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(300)]
in_both_languages = pytest.mark.parametrize("language", [*Language], ids=str)


@pytest.fixture(autouse=True)
def screen_afterwards(visitor: Watched) -> Iterator[None]:
    """Leave the browser as the next test expects it."""
    yield
    visitor.page.set_viewport_size({"width": SCREEN[0], "height": SCREEN[1]})
    visitor.page.emulate_media(color_scheme="light")
    speak(visitor, Language.VI)


def speak(visitor: Watched, language: Language) -> None:
    """Choose the language of the next page."""
    host = {"name": "lienthong_language", "domain": "127.0.0.1", "path": "/"}
    visitor.page.context.add_cookies([{**host, "value": str(language)}])  # type: ignore[list-item]


def look(visitor: Watched, language: Language, name: str) -> None:
    """Ask what is wrong with the page that is open, in each window and colour; keep pictures."""
    page = visitor.page
    expect(page.locator("html")).to_have_attribute("lang", language)
    wrong = {}
    for window, (width, height) in WINDOWS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            if faults := visitor.audit():
                wrong[window, scheme] = faults
        visitor.picture(f"page-{name}-{language}-{window}", whole=True)
    assert wrong == {}


def refused(visitor: Watched, *statuses: int) -> None:
    """Hold that just these requests of the test were refused, and forget them."""
    troubles, visitor.troubles[:] = [*visitor.troubles], []
    assert [int(trouble[:3]) for trouble in troubles] == [*statuses], troubles


def say(language: Language) -> partial[str]:
    return partial(texts.say, language)


# before anybody has a password


@in_both_languages
def test_one_time_link(visitor: Watched, first_link: str, language: Language) -> None:
    page, told = visitor.page, say(language)
    speak(visitor, language)

    page.goto(first_link)
    look(visitor, language, "welcome")
    page.get_by_label(told("new_password"), exact=True).fill(PASSWORD)
    page.get_by_label(told("again")).fill(PASSWORD + "!")
    page.get_by_role("button", name=told("set_password")).click()

    expect(page.get_by_role("alert")).to_have_text(told("password_differs"))
    look(visitor, language, "welcome-fault")
    refused(visitor, 400)


@in_both_languages
def test_link_that_is_void(visitor: Watched, server: Serving, language: Language) -> None:
    speak(visitor, language)

    visitor.page.goto(f"{server.url}/welcome/{'x' * 43}")

    look(visitor, language, "link-void")
    refused(visitor, 403)


@in_both_languages
def test_sign_in(visitor: Watched, server: Serving, language: Language) -> None:
    page, told = visitor.page, say(language)
    speak(visitor, language)

    page.goto(f"{server.url}/")
    look(visitor, language, "sign-in")
    page.keyboard.type("bác.sĩ." + "x" * 57)  # the cursor stands where to begin
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_have_text(told("sign_in_wrong"))
    look(visitor, language, "sign-in-wrong")
    refused(visitor, 403)


@in_both_languages
def test_paper_that_is_not_ours(visitor: Watched, server: Serving, language: Language) -> None:
    visitor.page.goto(f"{server.url}/verify/nothing?lang={language}")

    look(visitor, language, "verify-unknown")
    refused(visitor, 404)


# signed in


@in_both_languages
def test_list_without_a_study(person: Watched, server: Serving, language: Language) -> None:
    page, told = person.page, say(language)
    speak(person, language)

    page.goto(f"{server.url}/")
    expect(page.get_by_role("heading", name=told("empty"))).to_be_visible()
    look(person, language, "list-empty")
    page.goto(f"{server.url}/?name=kh%C3%B4ng+ai")
    expect(page.get_by_role("heading", name=told("nothing_found"))).to_be_visible()
    look(person, language, "list-nothing")
    page.goto(f"{server.url}/?from=gestern")
    look(person, language, "list-no-date")

    refused(person, 400)


@pytest.fixture(scope="package")
def many(server: Serving, tmp_path_factory: pytest.TempPathFactory) -> None:
    """More studies than a page of the list has, with the longest names that DICOM allows."""
    folder: Path = tmp_path_factory.mktemp("many")
    for number in range(ROWS):
        short = {"PatientName": f"LÊ^VĂN {number:02}", "PatientID": f"BV{number:02}"}
        (folder / f"{number:02}.dcm").write_bytes(
            part10_file(ct_slice(**(short if number % 3 else LONG)))
        )
    brought = server.run("import", str(folder))
    assert " 0 failed" in brought.stdout, brought.stdout + brought.stderr


@pytest.mark.usefixtures("many")
@in_both_languages
def test_list_of_many_studies_with_long_names(
    person: Watched, server: Serving, language: Language
) -> None:
    page, told = person.page, say(language)
    speak(person, language)

    page.goto(f"{server.url}/?from=2026-03-01&to=2026-03-01")
    expect(page.locator("table.studies tbody tr")).to_have_count(50)
    look(person, language, "list-many")
    page.get_by_role("link", name=told("next")).click()
    expect(page.locator("table.studies tbody tr")).to_have_count(ROWS - 50)
    look(person, language, "list-last")

    refused(person)


@pytest.mark.usefixtures("many")
def test_list_is_used_by_keyboard_alone(person: Watched, server: Serving) -> None:
    page = person.page
    page.goto(f"{server.url}/?id=BV-0123")
    wanted = page.evaluate(FOCUSABLE)

    reached = []
    for _ in wanted:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))

    assert [name for name, _ in reached] == wanted
    assert [name for name, outlined in reached if not outlined] == []
    assert len(wanted) > 20
    page.goto(f"{server.url}/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that skips the header
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "name"
    page.keyboard.type("le van 01")
    page.keyboard.press("Enter")
    expect(page.locator("table.studies tbody tr")).to_have_count(1)
    refused(person)


# Each control that shows, in the order in which it is written, by what it is.
FOCUSABLE: Final = """() =>
  [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select')]
    .flatMap(one => Array(one.type === 'date' ? 4 : 1).fill(one.outerHTML.slice(0, 60)))"""
FOCUSED: Final = """() => {
  const one = document.activeElement;
  // the button of the calendar is within the field, and the browser's own
  const outlined = getComputedStyle(one).outlineStyle !== 'none' || one.type === 'date';
  return [one.outerHTML.slice(0, 60), outlined];
}"""


@in_both_languages
def test_another_password(person: Watched, server: Serving, language: Language) -> None:
    page, told = person.page, say(language)
    speak(person, language)

    page.goto(f"{server.url}/password")
    look(person, language, "password")
    page.get_by_label(told("current_password")).fill("wrong")
    page.get_by_label(told("new_password"), exact=True).fill(PASSWORD + "!")
    page.get_by_label(told("again")).fill(PASSWORD + "!")
    page.get_by_role("button", name=told("save")).click()

    expect(page.get_by_role("alert")).to_have_text(told("password_current_wrong"))
    look(person, language, "password-wrong")
    refused(person, 403)


@in_both_languages
def test_errors(person: Watched, server: Serving, language: Language) -> None:
    viewer = f"http://127.0.0.1:{server.viewer_port}"
    speak(person, language)

    for name, address in {
        "error-404": f"{server.url}/nothing/{'here' * 30}",
        "handover-failed": f"{viewer}/enter?code=void&next=/viewer",
        "viewer-404": f"{viewer}/nothing.here",
        "signed-in": f"{viewer}/signed-in",
    }.items():
        person.page.goto(address)
        look(person, language, name)

    refused(person, 404, 403, 404)
    assert all("code=" not in address for address in person.visited())


def test_language_is_chosen_on_the_page(person: Watched, server: Serving) -> None:
    page: Page = person.page
    page.goto(f"{server.url}/?name=an")

    page.get_by_role("link", name="English").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Studies")
    expect(page.get_by_label("Patient name")).to_have_value("an")
    page.get_by_role("link", name="Tiếng Việt").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Ca chụp")
    refused(person)
