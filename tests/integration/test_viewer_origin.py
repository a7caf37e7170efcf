"""The viewer's origin: the login handed over to it, its files, DICOMweb beside them."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute

from storage.access import sessions, users
from storage.access.tokens import Role
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode
from tests.fixtures.plain import NO_AUTHORITIES
from viewer_api.viewer import build

PAGE = "<!doctype html><script>window.PUBLIC_URL='/'</script><div id=root></div>"
SCRIPT = "app.bundle.0f6159c501addfe9.js"
HTML = {"Accept": "text/html,*/*"}


@pytest.fixture
def node(http_node: HttpNode) -> HttpNode:
    folder = build.folder(http_node.settings.viewer_dir)
    folder.mkdir(parents=True)
    for name, content in {
        "index.html": PAGE,
        SCRIPT: "plain",
        f"{SCRIPT}.gz": "packed",
        "app.bundle.css": "a{}",
        "secret.pem": "no kind of file that is served",
    }.items():
        (folder / name).write_text(content)
    return http_node


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    """A browser that has not signed in; it sends the cookies of both origins to both."""
    with httpx.Client(headers=HTML, timeout=30, verify=NO_AUTHORITIES) as client:
        yield client


def sign_in(node: HttpNode, browser: httpx.Client, role: Role = Role.RADIOLOGIST) -> str:
    with transaction(node.engine) as session:
        secret = sessions.begin(session, users.add(session, f"a.{role}", role))
    browser.cookies.set("lienthong_session", secret)
    return secret


def followed(browser: httpx.Client, url: str) -> list[httpx.Response]:
    """Return every answer on the way to a page."""
    answers = [browser.get(url)]
    while answers[-1].is_redirect and len(answers) < 9:
        answers.append(browser.get(urljoin(str(answers[-1].url), answers[-1].headers["location"])))
    return answers


def test_link_from_the_pages_ends_in_the_viewer_without_a_secret_in_the_address(
    node: HttpNode, browser: httpx.Client
) -> None:
    secret = sign_in(node, browser)

    answers = followed(browser, f"{node.url}/viewer?StudyInstanceUIDs=1.2.3")

    assert answers[-1].text == PAGE
    assert str(answers[-1].url) == f"{node.viewer_url}/viewer?StudyInstanceUIDs=1.2.3"
    assert all(secret not in str(answer.url) for answer in answers)
    assert len(answers) == 5  # pages, viewer, pages with the state, viewer with the code, viewer
    assert browser.cookies["lienthong_viewer"] not in "".join(str(one.url) for one in answers)


def test_link_straight_to_the_viewer_leads_there_too(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)

    answers = followed(browser, f"{node.viewer_url}/viewer?StudyInstanceUIDs=1.2.3")

    assert answers[-1].text == PAGE
    again = followed(browser, f"{node.viewer_url}/")
    assert [answer.status_code for answer in again] == [200]


def test_who_has_not_signed_in_is_asked_to_on_the_pages(
    node: HttpNode, browser: httpx.Client
) -> None:
    answers = followed(browser, f"{node.viewer_url}/viewer?StudyInstanceUIDs=1.2.3")

    assert str(answers[-1].url).startswith(f"{node.url}/login?next=%2Fviewer%2Fhandover")
    back = parse_qs(urlsplit(str(answers[-1].url)).query)["next"][0]
    sign_in(node, browser)
    assert str(followed(browser, node.url + back)[-1].url).endswith("StudyInstanceUIDs=1.2.3")


def code_for(node: HttpNode, browser: httpx.Client) -> str:
    """Return the address with the code that is meant for `browser`."""
    asked = browser.get(f"{node.viewer_url}/")
    return str(browser.get(asked.headers["location"]).headers["location"])


def test_code_is_of_no_use_to_another_browser(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)
    address = code_for(node, browser)

    with httpx.Client(headers=HTML, verify=NO_AUTHORITIES) as other:
        followed(other, f"{node.viewer_url}/")  # with a nonce of its own
        refused = followed(other, address)[-1]
        assert "lienthong_viewer" not in other.cookies

    assert refused.status_code == 403
    assert "Chưa mở được trình xem ảnh" in refused.text
    assert "code" not in str(refused.url)
    assert browser.get(address).status_code == 303


def test_code_is_good_once(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)
    address = code_for(node, browser)
    nonce = browser.cookies["lienthong_handover"]

    first = browser.get(address)
    browser.cookies.set("lienthong_handover", nonce)
    second = followed(browser, address)[-1]

    assert (first.status_code, second.status_code) == (303, 403)


def test_two_tabs_on_their_way_at_once_both_arrive(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)
    one, other = (browser.get(f"{node.viewer_url}/viewer?tab={tab}") for tab in (1, 2))
    codes = [browser.get(each.headers["location"]).headers["location"] for each in (one, other)]

    nonce = browser.cookies["lienthong_handover"]
    arrived = []
    for code in codes:
        browser.cookies.set("lienthong_handover", nonce)
        arrived.append(browser.get(code).headers["location"])

    assert arrived == ["/viewer?tab=1", "/viewer?tab=2"]


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil"])
def test_nobody_is_led_elsewhere(node: HttpNode, browser: httpx.Client, elsewhere: str) -> None:
    sign_in(node, browser)
    address = re.sub(r"next=[^&]*", f"next={quote(elsewhere)}", code_for(node, browser))

    assert browser.get(address).headers["location"] == "/"


def test_viewer_ends_with_the_session_of_the_pages(node: HttpNode, browser: httpx.Client) -> None:
    secret = sign_in(node, browser)
    followed(browser, f"{node.viewer_url}/")
    studies = f"{node.viewer_url}/dicom-web/studies"
    assert browser.get(studies).status_code == 204

    with transaction(node.engine) as session:
        sessions.end(session, secret)
    node.app.state.parts.callers.forget()

    assert browser.get(studies).status_code == 401
    assert browser.get(f"{node.viewer_url}/").status_code == 303


def test_session_of_the_pages_opens_nothing_here(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)

    assert browser.get(f"{node.viewer_url}/dicom-web/studies").status_code == 401


def test_viewer_asks_its_own_origin_for_everything(node: HttpNode, browser: httpx.Client) -> None:
    dataset = ct_slice()
    node.put(dataset)
    node.settle()
    sign_in(node, browser)
    followed(browser, f"{node.viewer_url}/")
    series = f"{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    frame = f"{series}/instances/{dataset.SOPInstanceUID}/frames/1"

    for path in (series + "/metadata", frame, frame):
        answer = browser.get(
            f"{node.viewer_url}/dicom-web/studies/{path}", headers={"Accept": "*/*"}
        )
        assert answer.status_code == 200, path
    config = browser.get(f"{node.viewer_url}/app-config.js")
    assert "${window.location.origin}/dicom-web" in config.text
    assert f'"{node.url}/"' in config.text  # the way back


def test_list_counts_the_modalities_of_every_study(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)
    node.put(ct_slice(Modality=""))
    followed(browser, f"{node.viewer_url}/")

    [here] = browser.get(f"{node.viewer_url}/dicom-web/studies").json()
    [elsewhere] = node.client().get("/dicom-web/studies").json()

    assert here["00080061"] == {"vr": "CS", "Value": []}
    assert elsewhere["00080061"] == {"vr": "CS"}


def test_who_signs_in_beside_an_open_viewer_is_told_to_go_back(
    node: HttpNode, browser: httpx.Client
) -> None:
    asked = browser.get(f"{node.viewer_url}/signed-in")
    sign_in(node, browser)

    page = followed(browser, f"{node.viewer_url}/signed-in")[-1]

    assert asked.is_redirect  # what the bar in the viewer takes for: not yet
    assert "Đã đăng nhập lại" in page.text
    assert (page.status_code, str(page.url)) == (200, f"{node.viewer_url}/signed-in")


def test_pages_on_the_viewers_origin_lead_nowhere_but_to_the_pages(
    node: HttpNode, browser: httpx.Client
) -> None:
    sign_in(node, browser)
    followed(browser, f"{node.viewer_url}/")

    page = browser.get(f"{node.viewer_url}/nothing.js").text

    links = set(re.findall(r'<a [^>]*href="([^"]+)"', page)) - {"#main"}
    assert links == {f"{node.url}/"}
    assert "<form" not in page


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec-Fetch-Site": "same-origin"}, 415), ({"Sec-Fetch-Site": "same-site"}, 403),
     ({"Origin": "VIEWER"}, 415), ({"Origin": "PAGES"}, 403), ({}, 403)],
    ids=str,
)  # fmt: skip
def test_upload_is_of_the_viewers_own_page(
    node: HttpNode, browser: httpx.Client, headers: dict[str, str], status: int
) -> None:
    sign_in(node, browser)
    followed(browser, f"{node.viewer_url}/")
    known = {"VIEWER": node.viewer_url, "PAGES": node.url}
    sent = {name: known.get(value, value) for name, value in headers.items()}

    answer = browser.post(f"{node.viewer_url}/dicom-web/studies", headers=sent)

    assert answer.status_code == status


def test_language_of_the_pages_goes_along(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)
    browser.get(f"{node.url}/language/en")

    address = code_for(node, browser)
    browser.cookies.delete("lienthong_language")
    browser.get(address)

    assert '"en-US"' in browser.get(f"{node.viewer_url}/app-config.js").text
    browser.cookies.delete("lienthong_language")
    assert '"vi"' in browser.get(f"{node.viewer_url}/app-config.js").text


def test_files_are_packed_and_kept_for_ever(node: HttpNode, browser: httpx.Client) -> None:
    packed = browser.send(browser.build_request("GET", f"{node.viewer_url}/{SCRIPT}"), stream=True)
    plain = browser.get(f"{node.viewer_url}/{SCRIPT}", headers={"Accept-Encoding": "identity"})

    assert packed.headers["content-encoding"] == "gzip"
    assert b"".join(packed.iter_raw()) == b"packed"
    assert plain.text == "plain"
    assert "content-encoding" not in plain.headers
    for answer in (packed, plain):
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


def test_file_without_a_hash_is_asked_for_again_and_not_sent_again(
    node: HttpNode, browser: httpx.Client
) -> None:
    first = browser.get(f"{node.viewer_url}/app.bundle.css")
    again = browser.get(
        f"{node.viewer_url}/app.bundle.css", headers={"If-None-Match": first.headers["etag"]}
    )

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("held", ["W/{}", '"another", {}', "*"])
def test_file_that_is_held_by_any_name_is_not_sent_again(
    node: HttpNode, browser: httpx.Client, held: str
) -> None:
    url = f"{node.viewer_url}/app.bundle.css"
    etag = browser.get(url).headers["etag"]

    assert browser.get(url, headers={"If-None-Match": held.format(etag)}).status_code == 304


def test_packed_file_is_for_who_takes_it_and_has_a_tag_of_its_own(
    node: HttpNode, browser: httpx.Client
) -> None:
    url = f"{node.viewer_url}/{SCRIPT}"

    refused = browser.get(url, headers={"Accept-Encoding": "gzip;q=0, identity"})
    packed = browser.send(browser.build_request("GET", url), stream=True)
    packed.close()

    assert refused.text == "plain"
    assert refused.headers["etag"] != packed.headers["etag"]


@pytest.mark.parametrize(
    "path",
    ["/secret.pem", "/nothing.js", f"/{SCRIPT}.gz", "/..%2f..%2fsecrets%2fx.js", "/%2e%2e/x.css",
     "/dicom-web/nothing", "/dicom-web", "/index.htm"],
)  # fmt: skip
def test_what_is_no_file_of_the_viewer_is_not_found(
    node: HttpNode, browser: httpx.Client, path: str
) -> None:
    sign_in(node, browser)
    followed(browser, f"{node.viewer_url}/")

    assert browser.get(f"{node.viewer_url}{path}").status_code == 404


def test_page_lets_nothing_be_asked_for_elsewhere(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(node, browser)

    page = followed(browser, f"{node.viewer_url}/")[-1]

    policy = page.headers["content-security-policy"]
    sources = {one for rule in policy.split(";") for one in rule.split()[1:]}
    plain = {one for one in sources if not one.startswith("'sha256-")}
    assert plain == {"'self'", "'none'", "'unsafe-eval'", "'unsafe-inline'", "blob:", "data:"}
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert page.headers["cache-control"] == "no-store"


def test_viewer_that_is_not_installed_says_how_and_is_taken_without_a_restart(
    node: HttpNode, browser: httpx.Client, tmp_path: Path
) -> None:
    sign_in(node, browser)
    folder = build.folder(node.settings.viewer_dir)
    aside = folder.rename(tmp_path / "aside")

    absent = followed(browser, f"{node.viewer_url}/")[-1]
    aside.rename(folder)
    there = browser.get(f"{node.viewer_url}/")

    assert absent.status_code == 503
    assert "lienthong viewer install" in absent.text
    assert there.text == PAGE


def test_root_of_the_viewer_and_of_the_pages_may_be_told(node: HttpNode) -> None:
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "viewer.example.vn"}

    asked = httpx.get(node.viewer_url, headers={**HTML, **proxied})

    assert asked.headers["location"].startswith(f"https://viewer.example.vn:{node.port}/viewer/")
    assert asked.headers["set-cookie"].startswith("__Host-lienthong_handover=")


def test_every_route_of_the_viewer_but_its_files_is_of_dicomweb(node: HttpNode) -> None:
    own = {
        route.path
        for route in node.viewer.routes
        if isinstance(route, APIRoute) and not route.path.startswith("/dicom-web")
    }

    assert own == {"/enter", "/static/{name}", "/app-config.js", "/signed-in", "/{path:path}"}
