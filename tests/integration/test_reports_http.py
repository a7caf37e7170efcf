"""Reports over HTTP: who sees what, what an error says, and what a paper's code leads to."""

import base64
from typing import Any

import pytest

from tests.fixtures.papers import jpeg, text_of
from tests.fixtures.reading_room import REPORTS, SECTIONS, Room
from tests.fixtures.reports import HEAD, READER, TEXT


def test_report_from_draft_to_correction(room: Room) -> None:
    report = room.open()
    assert (report["status"], report["status_name"]["vi"]) == ("draft", "nháp")
    assert report["lock"]["name"] == READER.name
    assert report["shown"]["content"]["findings"] == TEXT.findings
    assert report["shown"]["subject"]["patient_id"] == "BN1"
    assert {"save", "approve", "cancel"} <= {*report["actions"]}

    report = room.act(room.reader, "submit", report).json()
    assert report["lock"] is None
    report = room.act(room.head, "approve", report).json()
    assert (report["status"], report["version"]) == ("final", 1)
    corrected = {**SECTIONS, "impression": "Đính chính."}
    report = room.act(room.head, "correct", report, content=corrected, reason="Nhầm bên").json()

    assert (report["status"], report["version"], report["revision"]) == ("corrected", 2, 4)
    assert report["shown"]["reason"] == "Nhầm bên"
    versions = room.reader.get(f"{REPORTS}/{report['uid']}/versions").json()
    assert [one["status"] for one in versions] == ["draft", "transcribed", "final", "corrected"]
    assert versions[2]["content"]["impression"] == TEXT.impression


def test_viewer_sees_what_was_issued_and_nothing_before(room: Room) -> None:
    report = room.open()
    path = f"{REPORTS}/{report['uid']}"

    assert room.viewer.get(REPORTS).json() == []
    before = room.viewer.get(path).json()
    assert before["shown"] is None
    assert before["lock"] is None
    assert TEXT.findings not in str(before)

    room.act(room.reader, "release", report)
    seen = room.reader.get(path).json()
    room.act(room.reader, "save", seen, content={**SECTIONS, "findings": "còn viết dở"})

    after = room.viewer.get(path).json()
    assert (after["status"], after["shown"]["content"]["findings"]) == (
        "preliminary",
        TEXT.findings,
    )
    assert after["actions"] == []
    assert "còn viết dở" not in room.viewer.get(f"{path}/versions").text
    assert [one["uid"] for one in room.viewer.get(REPORTS).json()] == [report["uid"]]


def test_stale_step_is_answered_with_the_current_report(room: Room) -> None:
    report = room.open()
    room.act(room.reader, "save", report, content={**SECTIONS, "findings": "mới"})

    answer = room.act(room.reader, "save", report, content={**SECTIONS, "findings": "cũ"})

    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"][0]["code"] == "stale"
    assert problem["current"]["revision"] == 2
    assert problem["current"]["shown"]["content"]["findings"] == "mới"
    assert room.reader.get(f"{REPORTS}/{report['uid']}").json() == problem["current"]


@pytest.mark.parametrize(
    ("accepted", "language", "detail"),
    [
        ("vi-VN,vi;q=0.9,en;q=0.5", "vi", "không được để trống"),
        ("en-GB", "en", "must not be empty"),
        ("fr, en;q=0.2, vi;q=0.7", "vi", "không được để trống"),
        ("vi;q=0, fr", "en", "must not be empty"),
        ("vi;q=x", "en", "must not be empty"),
        ("", "en", "must not be empty"),
    ],
)
def test_fault_names_its_field_in_the_language_of_the_client(
    room: Room, accepted: str, language: str, detail: str
) -> None:
    report = room.open(content={"findings": "Không thấy gì."})
    room.reader.delete(f"{REPORTS}/{report['uid']}/lock")
    room.head.headers["Accept-Language"] = accepted

    answer = room.act(room.head, "approve", report)

    assert answer.status_code == 400
    assert answer.headers["content-language"] == language
    assert answer.json()["errors"] == [
        {"pointer": "/content/impression", "code": "required", "detail": detail}
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"study_instance_uids": ["1.2.3"]}, "/study_instance_uids/0"),
        ({"order_ids": [10**12]}, "/order_ids/0"),
        ({}, ""),
        (
            {"content": {"measurements": [{"name": "x", "value": "sáu"}]}, "order_ids": []},
            "/content/measurements/0/value",
        ),
    ],
    ids=["study", "order", "nothing", "measurement"],
)
def test_faulty_opening_is_answered_with_its_field(
    room: Room, body: dict[str, Any], pointer: str
) -> None:
    if "content" in body:
        body["study_instance_uids"] = [room.study.StudyInstanceUID]

    answer = room.reader.post(REPORTS, json=body)

    assert answer.status_code == 400
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "body",
    [
        {"order_ids": ["x"]},
        {"unknown": 1},
        {"content": {"findings": 7}},
        {"order_ids": [2**63]},
        [],
    ],
    ids=str,
)
def test_body_of_another_shape_names_what_does_not_fit(room: Room, body: Any) -> None:
    answer = room.reader.post(REPORTS, json=body)

    assert answer.status_code == 422
    assert all(one["pointer"] or body == [] for one in answer.json()["errors"])


def test_who_is_no_practitioner_writes_nothing(room: Room) -> None:
    answer = room.admin.post(REPORTS, json={"study_instance_uids": [room.study.StudyInstanceUID]})

    assert answer.status_code == 403
    assert answer.json()["errors"][0]["code"] == "no_practitioner"


def test_reader_without_the_right_does_not_approve(room: Room) -> None:
    answer = room.act(room.reader, "approve", room.open())

    assert answer.status_code == 403
    assert answer.json()["errors"][0]["code"] == "needs_approver"


def test_claim_is_told_to_others_and_may_be_taken_over(room: Room) -> None:
    report = room.open()
    lock = f"{REPORTS}/{report['uid']}/lock"
    room.head.headers["Accept-Language"] = "vi"

    refused = room.head.put(lock, json={})
    assert refused.status_code == 409
    assert READER.name in refused.json()["detail"]
    assert "đang giữ ca này" in refused.json()["detail"]

    taken = room.head.put(lock, json={"take_over": True, "reason": "hết ca trực"})
    assert taken.json()["lock"]["code"] == HEAD.code
    assert room.act(room.reader, "save", report).status_code == 409


def test_second_reader_over_http(room: Room) -> None:
    report = room.open(second_reading=True)
    path = f"{REPORTS}/{report['uid']}/second-readings"
    said = {"revision": 1, "agreement": "minor", "comment": "Thêm kích thước"}

    assert room.reader.post(path, json=said).json()["errors"][0]["code"] == "own_reading"
    wrong = room.head.post(path, json={**said, "agreement": "maybe"})
    assert wrong.json()["errors"][0]["pointer"] == "/agreement"
    assert room.head.post(path, json={**said, "revision": 9}).json()["current"]["revision"] == 1
    assert room.head.post(path, json=said).status_code == 201

    [read] = room.reader.get(path).json()
    assert (read["reader"]["name"], read["comment"]) == (HEAD.name, "Thêm kích thước")


def test_text_of_a_retracted_report_is_hidden(room: Room) -> None:
    report = room.signed()
    report = room.act(room.head, "request_retraction", report, reason="Nhầm người").json()
    assert report["retraction_asked"]
    assert "retract" in report["actions"]

    answer = room.act(room.other_head, "retract", report)

    assert answer.json()["status"] == "retracted"
    for client in (room.viewer, room.reader):
        path = f"{REPORTS}/{report['uid']}"
        assert TEXT.findings not in client.get(path).text + client.get(f"{path}/versions").text
    kept = room.head.get(f"{REPORTS}/{report['uid']}/versions").json()
    assert kept[1]["content"]["findings"] == TEXT.findings


def test_report_that_is_not_there(room: Room) -> None:
    answer = room.reader.get(f"{REPORTS}/{'0' * 32}", headers={"Accept-Language": "vi"})

    assert answer.status_code == 404
    assert answer.json()["detail"] == "không có phiếu kết quả này"
    assert room.reader.get(f"{REPORTS}/..%2f").status_code in {404, 422}


def test_administrator_registers_who_signs(room: Room) -> None:
    path = "/api/v1/practitioners"
    person = {"name": "Phạm Văn Ẩn", "licence_number": "009", "may_approve": True}

    assert room.admin.put(f"{path}/BS09", json=person).json()["name"] == "Phạm Văn Ẩn"
    faulty = room.admin.put(f"{path}/BS10", json={"name": " "})

    assert faulty.json()["errors"][0]["pointer"] == "/name"
    assert "BS09" in [one["code"] for one in room.admin.get(path).json()]
    entries = room.admin.get("/api/v1/audit").json()
    details = [one["details"] for one in entries if one["kind"] == "registry"]
    assert details == [
        {"what": "practitioner", "code": "BS09", "may_approve": True, "caller": ""}
    ], "who gives the right to approve stands in the journal"


def test_letterhead_stands_on_the_next_paper(room: Room) -> None:
    logo = base64.b64encode(jpeg()).decode()
    said = {"hospital": "BỆNH VIỆN ĐA KHOA TỈNH", "place": "Phan Thiết", "logo": logo}

    kept = room.admin.put("/api/v1/letterhead", json=said).json()
    assert {name: kept[name] for name in said} == said
    assert room.admin.get("/api/v1/letterhead").json() == kept
    broken = base64.b64encode(b"no picture").decode()
    assert room.admin.put("/api/v1/letterhead", json={"logo": broken}).status_code == 400

    paper = room.viewer.get(f"{REPORTS}/{room.signed()['uid']}/pdf").content
    assert "BỆNH VIỆN ĐA KHOA TỈNH" in text_of(paper)


def test_paper_is_verified_by_anybody_and_tells_little(room: Room) -> None:
    report = room.signed()
    anyone = room.node.client("")

    page = anyone.get(f"/verify/{room.verify_code()}")

    assert page.status_code == 200
    assert "Hợp lệ: đây là phiên bản mới nhất" in page.text
    assert "N*** V*** A***" in page.text
    assert report["shown"]["digest"] in page.text
    for secret in ("NGUYỄN", "BN1", TEXT.findings, TEXT.impression, report["uid"]):
        assert secret not in page.text
    english = anyone.get(f"/verify/{room.verify_code()}?lang=en")
    assert "Valid: this is the newest version" in english.text


def test_paper_of_a_version_that_was_replaced_says_so(room: Room) -> None:
    report, code = room.signed(), room.verify_code()
    anyone = room.node.client("")

    report = room.act(room.head, "unapprove", report, reason="x").json()
    assert "Đã huỷ duyệt: đang chờ bản đính chính" in anyone.get(f"/verify/{code}").text
    report = room.act(room.head, "correct", report, reason="x").json()
    assert "Đã được thay thế" in anyone.get(f"/verify/{code}").text
    report = room.act(room.head, "request_retraction", report, reason="x").json()
    room.act(room.other_head, "retract", report)
    assert "không sử dụng bản giấy này" in anyone.get(f"/verify/{code}").text


@pytest.mark.parametrize("code", ["x" * 16, "a%00b", "%3Cscript%3E", "x" * 65])
def test_code_that_leads_nowhere(room: Room, code: str) -> None:
    answer = room.node.client("").get(f"/verify/{code}")

    assert answer.status_code in {404, 422}
    assert "<script>" not in answer.text


def test_who_tries_codes_has_to_wait(room: Room) -> None:
    room.signed()
    anybody = room.node.client("")

    tried = [anybody.get(f"/verify/{number:016}") for number in range(8)]

    assert {one.status_code for one in tried[:4]} == {404}
    assert tried[-1].status_code == 429
    assert int(tried[-1].headers["retry-after"]) > 0
    assert "thử lại sau" in tried[-1].text


def test_who_reads_a_report_stands_in_the_journal(room: Room) -> None:
    report = room.signed()
    path = f"{REPORTS}/{report['uid']}"

    for asked in (path, f"{path}/pdf", f"{path}/versions"):
        assert room.viewer.get(asked).status_code == 200
    room.viewer.get(REPORTS, params={"study_instance_uid": room.study.StudyInstanceUID})

    entries = room.admin.get("/api/v1/audit", params={"report_uid": report["uid"]}).json()
    read = [(one["kind"], one["report_version"]) for one in entries if one["role"] == "viewer"]
    assert read == [("list", None), ("view", None), ("download", 1), ("view", 1)]


def test_report_that_nobody_is_told_of_is_listed_and_flagged(room: Room) -> None:
    signed = room.signed()

    assert signed["flags"]["order_missing"] is True
    listed = room.head.get(REPORTS, params={"order_missing": True}).json()
    assert [one["uid"] for one in listed] == [signed["uid"]]
