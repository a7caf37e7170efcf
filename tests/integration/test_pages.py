"""The pages: signing in and out, the list of studies, and what other sites cannot do."""

import html
import re
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from pydicom import Dataset
from sqlalchemy import text

from storage.access import codes, passwords, sessions, users
from storage.access.tokens import Role
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode
from tests.fixtures.plain import NO_AUTHORITIES
from viewer_api import pages
from viewer_api.web import studies

PASSWORD = "mưa rào tháng sáu"
ANOTHER = "nắng hạ tháng bảy"
COOKIE = "lienthong_session"
LONG_NAME = "CÔNG TẰNG TÔN NỮ^THỊ HOÀNG ANH THƯ NGUYỄN PHÚC BỬU^ĐĐĐĐĐĐĐĐĐĐĐĐ"


@pytest.fixture(scope="module")
def kept() -> str:
    return passwords.hashed(PASSWORD)


@pytest.fixture
def node(http_node: HttpNode, kept: str) -> HttpNode:
    with transaction(http_node.engine) as session:
        for role in (Role.RADIOLOGIST, Role.VIEWER):
            users.add(session, role, role, f"Người {role}")
        session.execute(text("UPDATE users SET password_hash = :kept"), {"kept": kept})
    return http_node


@pytest.fixture
def browser(node: HttpNode) -> Iterator[httpx.Client]:
    """What a browser sends, on a page of ours."""
    headers = {"Accept": "text/html,*/*", "Origin": node.url}
    with httpx.Client(
        base_url=node.url, headers=headers, timeout=30, verify=NO_AUTHORITIES
    ) as client:
        yield client


def sign_in(
    browser: httpx.Client, name: str = "radiologist", password: str = PASSWORD, **more: str
):
    return browser.post("/login", data={"name": name, "password": password, **more})


def shown(answer: httpx.Response) -> str:
    """Return the text of a page without its tags."""
    main = answer.text.partition("<main")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", main)).split())


# Signing in


def test_who_has_not_signed_in_is_led_to_the_form_and_back(browser: httpx.Client) -> None:
    led = browser.get("/?name=nguyen+van&page=2")
    form = browser.get(led.headers["location"])
    [back] = re.findall(r'name="next" value="([^"]*)"', form.text)

    signed_in = sign_in(browser, next=html.unescape(back))

    assert led.status_code == signed_in.status_code == 303
    assert led.headers["location"].startswith("/login?next=")
    assert signed_in.headers["location"] == "/?name=nguyen+van&page=2"
    assert browser.get(signed_in.headers["location"]).status_code == 200


def test_session_is_in_a_cookie_that_no_script_reads(browser: httpx.Client) -> None:
    cookie = sign_in(browser).headers["set-cookie"]

    attributes = {part.strip() for part in cookie.split(";")[1:]}
    assert cookie.startswith(f"{COOKIE}=")
    assert attributes == {"HttpOnly", "Path=/", "SameSite=lax"}


def test_behind_https_the_cookie_is_for_this_host_alone(browser: httpx.Client) -> None:
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example.vn"}
    own = {**proxied, "Origin": "https://pacs.example.vn"}

    answer = browser.post("/login", data={"name": "viewer", "password": PASSWORD}, headers=own)

    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert "Secure" in cookie
    [secret] = re.findall(r"=([^;]+)", cookie)[:1]
    for name, status in ((f"__Host-{COOKIE}", 200), (COOKIE, 303)):
        page = httpx.get(f"{browser.base_url}", headers={**proxied, "Cookie": f"{name}={secret}"})
        assert page.status_code == status


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("radiologist", "wrong"),
        ("radiologist", ""),
        ("nobody", PASSWORD),
        ("", ""),
        ("\0", "\0"),
        ("Ж" * 1000, "x" * 5000),
    ],
    ids=["wrong", "empty", "nobody", "nothing", "nul", "long"],
)
def test_wrong_name_and_wrong_password_are_answered_alike(
    browser: httpx.Client, name: str, password: str
) -> None:
    answer = sign_in(browser, name, password)

    assert answer.status_code == 403
    assert "Tên đăng nhập hoặc mật khẩu không đúng." in shown(answer)
    assert "set-cookie" not in answer.headers


def test_guesses_have_to_wait_also_with_the_right_password(
    node: HttpNode, browser: httpx.Client
) -> None:
    sign_in(browser, password="a guess")
    with transaction(node.engine) as session:  # as if there had been more of them
        session.execute(text("UPDATE guesses SET failures = 12 WHERE key LIKE 'pair:%'"))

    answer = sign_in(browser)

    assert answer.status_code == 429
    assert 60 < int(answer.headers["retry-after"]) <= 256
    assert f"thử lại sau {answer.headers['retry-after']} giây" in shown(answer)
    assert sign_in(browser, "viewer").status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "é",
     "/a\r\nSet-Cookie: x=y"],
)  # fmt: skip
def test_nobody_is_led_elsewhere_after_signing_in(browser: httpx.Client, elsewhere: str) -> None:
    assert sign_in(browser, next=elsewhere).headers["location"] == "/"
    led = browser.get("/language/en", params={"next": elsewhere})
    assert led.headers["location"] == "/"


def test_signed_out_session_is_over(browser: httpx.Client) -> None:
    secret = sign_in(browser).cookies[COOKIE]
    assert browser.get("/").status_code == 200

    left = browser.post("/logout")

    assert left.headers["location"] == "/login"
    assert browser.get("/").status_code == 303
    again = httpx.get(f"{browser.base_url}", headers={"Cookie": f"{COOKIE}={secret}"})
    assert again.status_code == 303


def test_disabled_user_is_out_and_stays_out(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(browser)

    with transaction(node.engine) as session:
        users.disable(session, "radiologist")
    node.app.state.parts.callers.forget()

    assert browser.get("/").status_code == 303
    assert sign_in(browser).status_code == 403


def test_session_of_the_pages_is_none_of_the_viewer(node: HttpNode, browser: httpx.Client) -> None:
    secret = sign_in(browser).cookies[COOKIE]
    with transaction(node.engine) as session:
        viewer = sessions.begin_viewer(session, sessions.pages_id(session, secret, timedelta(1)))

    browser.cookies.clear()
    answers = [
        browser.get("/", headers={"Cookie": f"{name}={viewer}"})
        for name in (COOKIE, "lienthong_viewer")
    ]

    assert [answer.status_code for answer in answers] == [303, 303]


# One-time links and passwords


@pytest.fixture
def link(node: HttpNode) -> str:
    with transaction(node.engine) as session:
        user = users.add(session, "lan", Role.TECHNOLOGIST, "Trần Thị Lan <b>")
        return f"/welcome/{codes.issue_link(session, user)}"


def test_link_sets_the_first_password_once(browser: httpx.Client, link: str) -> None:
    assert "Chào Trần Thị Lan <b>" in shown(browser.get(link))
    assert browser.get(link).status_code == 200  # who only looks does not use it up

    answer = browser.post(link, data={"new": PASSWORD, "again": PASSWORD})

    assert answer.headers["location"] == "/"
    assert "Trần Thị Lan" in browser.get("/").text
    for void in (browser.get(link), browser.post(link, data={"new": ANOTHER, "again": ANOTHER})):
        assert void.status_code == 403
        assert "Liên kết không còn hiệu lực" in shown(void)
    assert sign_in(browser, "lan").status_code == 303


def test_no_secret_gets_into_the_log(
    browser: httpx.Client, link: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        browser.get(link)
        browser.post(link, data={"new": PASSWORD, "again": PASSWORD})
        browser.get("/?name=nguyen")

    written = [str(vars(record)) for record in caplog.records if record.name.startswith("viewer")]
    assert len(written) >= 3
    for secret in (link, link.rpartition("/")[2], PASSWORD, browser.cookies[COOKIE], "nguyen"):
        assert not [line for line in written if secret in line]


@pytest.mark.parametrize(
    ("new", "again", "said"),
    [
        (PASSWORD, ANOTHER, "không giống nhau"),
        ("ngắn", "ngắn", "ít nhất 10 ký tự"),
        ("aaaaaaaaaaaa", "aaaaaaaaaaaa", "5 ký tự khác nhau"),
        ("xin chào Lan", "xin chào Lan", "không được chứa tên đăng nhập"),
        ("MatKhau123", "MatKhau123", "quá phổ biến"),
        ("x7 " * 100, "x7 " * 100, "nhiều nhất 256 ký tự"),
        ("", "", "ít nhất 10 ký tự"),
    ],
)
def test_password_that_is_none_is_explained_and_the_link_stays_good(
    browser: httpx.Client, link: str, new: str, again: str, said: str
) -> None:
    answer = browser.post(link, data={"new": new, "again": again})

    assert answer.status_code == 400
    assert said in shown(answer)
    assert browser.get(link).status_code == 200


def test_another_password_ends_the_other_sessions(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(browser)
    with httpx.Client(
        base_url=node.url, headers=browser.headers, verify=NO_AUTHORITIES
    ) as elsewhere:
        sign_in(elsewhere)

        wrong = browser.post(
            "/password", data={"current": "wrong", "new": ANOTHER, "again": ANOTHER}
        )
        right = browser.post(
            "/password", data={"current": PASSWORD, "new": ANOTHER, "again": ANOTHER}
        )

        assert (wrong.status_code, right.status_code) == (403, 303)
        assert browser.get("/").status_code == 200
        assert elsewhere.get("/").status_code == 303
        assert sign_in(elsewhere).status_code == 403
        assert sign_in(elsewhere, password=ANOTHER).status_code == 303


# What other sites cannot do

FORMS = ("/login", "/logout", "/password", "/welcome/x")


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_form_of_another_site_is_refused(
    browser: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    sign_in(browser)

    answer = browser.post(path, data={"name": "viewer", "password": PASSWORD}, headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": ""}], ids=str)
def test_upload_of_another_site_with_our_cookie_is_refused(
    browser: httpx.Client, headers: dict[str, str]
) -> None:
    sign_in(browser)

    refused = browser.post("/dicom-web/studies", headers=headers)
    own = browser.post("/dicom-web/studies")

    assert refused.status_code == 403
    assert own.status_code == 415  # it was let in, and brought nothing


def test_token_needs_no_origin(node: HttpNode) -> None:
    answer = node.client().post("/dicom-web/studies", headers={"Origin": "https://ris.example"})

    assert answer.status_code == 415


def test_cookie_opens_the_interface_to_the_pages(browser: httpx.Client) -> None:
    sign_in(browser, "viewer")

    assert browser.get("/dicom-web/studies").status_code == 204
    assert browser.get("/api/v1/quarantine").status_code == 403
    assert browser.post("/dicom-web/studies").status_code == 403


def test_station_sees_no_page(node: HttpNode) -> None:
    station = node.client(node.token(Role.STATION, "BV01"))

    assert station.get("/").status_code == 403
    assert station.get("/viewer").status_code == 403


def test_pages_load_nothing_from_elsewhere_and_stand_in_no_frame(browser: httpx.Client) -> None:
    page = browser.get("/login")
    linked = re.findall(r'(?:href|src|action)="([^"]*)"', page.text)

    assert linked != []
    assert all(url.startswith(("/", "#")) and not url.startswith("//") for url in linked)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    for path in (url for url in linked if url.startswith("/static/")):
        asset = browser.get(path)
        assert asset.status_code == 200
        assert "immutable" in asset.headers["cache-control"]


def test_prefix_of_a_proxy_stands_before_every_link(browser: httpx.Client) -> None:
    proxied = {"X-Forwarded-Prefix": "/pacs", "X-Forwarded-Host": "bv.example.vn"}
    own = {**proxied, "Origin": "http://bv.example.vn"}

    page = browser.get("/login", headers=proxied)
    led = browser.get("/", headers=proxied)
    signed_in = browser.post("/login", data={"name": "viewer", "password": PASSWORD}, headers=own)

    linked = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
    assert all(url.startswith("/pacs/") for url in linked)
    assert led.headers["location"].startswith("/pacs/login")
    assert signed_in.headers["location"] == "/pacs/"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nowhere", 404, "Không tìm thấy trang"),
        ("/static/passwd", 404, "Không tìm thấy trang"),
        ("/logout", 405, "Trang không nhận yêu cầu này"),
        ("/viewer/handover?state=x", 400, "Yêu cầu không hợp lệ"),
    ],
)
def test_person_reads_what_is_wrong_and_a_program_gets_a_problem(
    browser: httpx.Client, path: str, status: int, said: str
) -> None:
    sign_in(browser)

    page = browser.get(path)
    problem = browser.get(path, headers={"Accept": "*/*"})

    assert page.status_code == problem.status_code == status
    assert said in shown(page)
    assert problem.headers["content-type"] == "application/problem+json"


def test_page_says_that_the_database_is_away(node: HttpNode, browser: httpx.Client) -> None:
    sign_in(browser)
    browser.get("/")

    with node.engine.connect() as holder, holder.begin():
        holder.execute(text("LOCK TABLE studies IN ACCESS EXCLUSIVE MODE"))
        page = browser.get("/")

    assert page.status_code == 503
    assert "retry-after" in page.headers
    assert "tạm thời" in shown(page)


# Languages


def test_english_is_there_by_choice_and_stays(browser: httpx.Client) -> None:
    assert browser.get("/login").headers["content-language"] == "vi"

    led = browser.get("/language/en?next=/login")
    page = browser.get(led.headers["location"])

    assert page.headers["content-language"] == "en"
    assert '<html lang="en">' in page.text
    assert "Sign in" in shown(page)
    browser.get("/language/xx")
    assert browser.get("/login").headers["content-language"] == "vi"


# Studies


def study(name: str, **values: str) -> Dataset:
    dataset = ct_slice()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = name
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def filled(node: HttpNode, browser: httpx.Client) -> httpx.Client:
    node.put(
        study("NGUYỄN^VĂN AN", PatientID="BN001", StudyDate="20260101", AccessionNumber="PC77"),
        study("TRẦN^THỊ ĐẸP", PatientID="BN002", StudyDate="20260102", StudyTime="143000.12",
              PatientSex="F", PatientBirthDate="19901231"),
        study(LONG_NAME, PatientID="<script>", StudyDate="", StudyDescription="<b>" * 10,
              Modality="MR"),
    )  # fmt: skip
    sign_in(browser)
    return browser


def test_empty_list_says_so(browser: httpx.Client) -> None:
    sign_in(browser)

    assert "Chưa có ca chụp nào" in shown(browser.get("/"))
    assert "Không tìm thấy ca chụp nào" in shown(browser.get("/?name=an"))


def test_list_shows_latest_first_with_what_people_look_for(filled: httpx.Client) -> None:
    said = shown(filled.get("/"))

    assert said.index("TRẦN THỊ ĐẸP") < said.index("NGUYỄN VĂN AN") < said.index("CÔNG TẰNG")
    assert "BN002 nữ sinh 31/12/1990 02/01/2026 14:30 CT" in said
    assert "(không rõ ngày)" in said
    assert "1 chuỗi, 1 ảnh" in said


def test_text_of_devices_is_text(filled: httpx.Client) -> None:
    page = filled.get("/").text

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name=tran+thi+dep", ["TRẦN THỊ ĐẸP"]),
        ("name=DEP+tran", ["TRẦN THỊ ĐẸP"]),
        ("name=ngu", ["NGUYỄN VĂN AN", "CÔNG"]),
        ("name=Đẹp", ["TRẦN THỊ ĐẸP"]),
        ("id=BN", ["TRẦN THỊ ĐẸP", "NGUYỄN VĂN AN"]),
        ("id=*002", ["TRẦN THỊ ĐẸP"]),
        ("accession=PC", ["NGUYỄN VĂN AN"]),
        ("modality=MR", ["CÔNG"]),
        ("from=2026-01-02", ["TRẦN THỊ ĐẸP"]),
        ("to=2026-01-01", ["NGUYỄN VĂN AN"]),
        ("from=2026-01-01&to=2026-01-02&modality=CT", ["TRẦN THỊ ĐẸP", "NGUYỄN VĂN AN"]),
        ("name=%5C&id=%5C%5C&page=x", ["TRẦN", "NGUYỄN", "CÔNG"]),
        ("id=<script>", ["CÔNG"]),
    ],
)
def test_search_finds_what_was_typed(filled: httpx.Client, query: str, found: list[str]) -> None:
    page = filled.get(f"/?{query}")

    names = re.findall(r'<span class="name">([^<]*)', page.text)
    assert page.status_code == 200
    assert len(names) == len(found)
    assert all(name.startswith(start) for name, start in zip(names, found, strict=True))


@pytest.mark.parametrize("query", ["from=yesterday", "to=2026-13-01", "from=" + "9" * 5000])
def test_what_is_no_date_is_said_on_the_page(filled: httpx.Client, query: str) -> None:
    page = filled.get(f"/?{query}")

    assert page.status_code == 400
    assert "kiểm tra lại" in shown(page)


def test_each_study_has_a_link_to_the_viewer(filled: httpx.Client, node: HttpNode) -> None:
    [uid] = re.findall(r"/viewer\?StudyInstanceUIDs=([0-9.]+)", filled.get("/?name=dep").text)

    led = filled.get(f"/viewer?StudyInstanceUIDs={uid}")

    viewer = f"http://127.0.0.1:{node.settings.viewer_port}"
    assert led.headers["location"] == f"{viewer}/viewer?StudyInstanceUIDs={uid}"
    assert filled.get("/viewer").headers["location"] == f"{viewer}/"


def test_pages_follow_each_other(
    node: HttpNode, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "PER_PAGE", 2)
    node.put(*(study(f"PATIENT {day}", StudyDate=f"2026010{day}") for day in range(1, 6)))
    sign_in(browser)
    seen, link = [], "/?modality=CT"

    while link:
        page = browser.get(link).text
        seen += re.findall(r'<span class="name">([^<]*)', page)
        [link] = re.findall(r'rel="next" href="([^"]*)"', page) or [""]
        link = html.unescape(link)

    assert seen == [f"PATIENT {day}" for day in range(5, 0, -1)]
    assert 'rel="prev"' in page


def test_every_style_that_pages_use_is_of_their_own(browser: httpx.Client) -> None:
    assert all((pages.ASSETS / name).is_file() for name in ("style.css", "icon.svg"))
    assert "style=" not in browser.get("/login").text
