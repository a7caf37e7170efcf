"""Templates, critical results and key images over HTTP and on the real database."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from pacs.rejecting import KEY_OBJECT_SELECTION
from pacs.reporting import Reporting
from ris.reports import criticals
from ris.reports.signing.local import LocalSigner
from storage.archive import instances
from storage.db.engine import transaction
from storage.jobs import queue
from storage.jobs.runner import Runner
from tests.fixtures.reading_room import REPORTS, Room

TEMPLATES = "/api/v1/report-templates"
OPEN = "/api/v1/critical-results"


# Templates


def template(**values: Any) -> dict[str, Any]:
    return {"title": "CLVT", "sections": {"findings": "Bình thường {{age}}."}, **values}


def test_templates_are_kept_found_and_merged(room: Room) -> None:
    room.admin.put(f"{TEMPLATES}/any", json=template())
    room.admin.put(f"{TEMPLATES}/head", json=template(service_codes=["18.0149"], modality="CT"))
    room.admin.put(f"{TEMPLATES}/mr", json=template(modality="MR"))

    case = {"service_code": "18.0149", "modality": "CT", "age_months": 700, "sex": "M"}
    found = room.reader.get(TEMPLATES, params=case).json()
    assert [one["code"] for one in found] == ["head", "any"]

    merged = room.reader.post(f"{TEMPLATES}/head/merge", json={"values": {"age": "60 tuổi"}})
    assert merged.json()["findings"] == "Bình thường 60 tuổi."
    assert room.admin.delete(f"{TEMPLATES}/head").status_code == 204
    assert room.reader.get(f"{TEMPLATES}/head").status_code == 404


def test_template_goes_out_and_comes_in_as_mrrt(room: Room) -> None:
    room.admin.put(f"{TEMPLATES}/a", json=template(sex="F", most_age_months=600))

    page = room.reader.get(f"{TEMPLATES}/a/mrrt")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"] == "sandbox"
    copied = room.admin.put(f"{TEMPLATES}/b/mrrt", json={"page": page.text}).json()

    original = room.reader.get(f"{TEMPLATES}/a").json()
    assert {name: copied[name] for name in ("sex", "most_age_months", "title")} == {
        name: original[name] for name in ("sex", "most_age_months", "title")
    }
    assert copied["sections"]["findings"] == original["sections"]["findings"]
    assert room.admin.put(f"{TEMPLATES}/c/mrrt", json={"page": "x"}).status_code == 400


def test_service_codes_survive_mrrt_as_they_are(room: Room) -> None:
    room.admin.put(f"{TEMPLATES}/a", json=template(service_codes=['A&"<b>', "18.0149"]))

    page = room.reader.get(f"{TEMPLATES}/a/mrrt").text
    copied = room.admin.put(f"{TEMPLATES}/b/mrrt", json={"page": page}).json()

    assert copied["service_codes"] == ['A&"<b>', "18.0149"]


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"title": " "}, "/title"),
        ({"language": "fr"}, "/language"),
        ({"sex": "X"}, "/sex"),
        ({"sections": {"lungs": "x"}}, "/sections/lungs"),
        ({"sections": {"findings": "{{phone}}"}}, "/sections/findings"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_faulty_template_names_its_field(room: Room, values: dict[str, Any], pointer: str) -> None:
    answer = room.admin.put(f"{TEMPLATES}/a", json=template(**values))

    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


# Critical results


def raised(room: Room, level: str = "red") -> dict[str, Any]:
    report = room.open()
    said = {"level": level, "finding": "Tràn khí màng phổi áp lực."}
    answer = room.reader.post(f"{REPORTS}/{report['uid']}/critical-results", json=said)
    assert answer.status_code == 201, answer.text
    return answer.json()


def overdue(room: Room) -> None:
    """Let the time of every critical result and job pass."""
    with transaction(room.node.engine) as session:
        session.execute(text("UPDATE critical_results SET due_at = due_at - interval '7 days'"))
        session.execute(text("UPDATE jobs SET due_at = due_at - interval '7 days'"))


def clock(room: Room) -> int:
    """Do the jobs of the clock that are due; return how many."""
    runner = Runner(room.node.engine, criticals.handlers(room.node.engine))
    return sum(iter(runner.run_once, False))


def test_critical_result_is_closed_by_who_has_read_it_back(room: Room) -> None:
    critical = raised(room)
    notices = f"{OPEN}/{critical['uid']}/notices"
    called = {"told": "BS Phạm Văn Cấp Cứu", "channel": "phone"}

    told = room.reader.post(notices, json=called).json()
    assert told["acknowledged_at"] is None
    unread = room.reader.post(notices, json={**called, "acknowledged": True})
    assert unread.json()["errors"][0]["pointer"] == "/read_back"
    closed = room.head.post(
        notices, json={**called, "read_back": True, "acknowledged": True, "note": "đã nhắc lại"}
    ).json()

    assert closed["acknowledged_at"] is not None
    assert [(one["read_back"], one["told_by"]["code"]) for one in closed["notices"]] == [
        (False, "BS01"),
        (True, "BS02"),
    ]
    assert room.reader.get(OPEN).json() == []
    assert room.reader.get(f"{REPORTS}/{critical['report_uid']}/critical-results").json() == [
        closed
    ]
    again = room.reader.post(notices, json=called)
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("level", "within"),
    [
        ("red", timedelta(minutes=30)),
        ("orange", timedelta(hours=6)),
        ("yellow", timedelta(days=3)),
    ],
)
def test_clock_escalates_what_nobody_acknowledges(
    room: Room, level: str, within: timedelta
) -> None:
    critical = raised(room, level)
    assert clock(room) == 0, "it is not due"
    with transaction(room.node.engine) as session:
        [job] = queue.list_open(session)
        [kept] = criticals.list_open(session)
    assert job.due_at == kept.due_at
    assert kept.due_at - kept.recognised_at == within

    overdue(room)
    assert clock(room) == 1
    assert clock(room) == 0, "its clock starts again"
    overdue(room)
    assert clock(room) == 1

    [shown] = room.reader.get(OPEN).json()
    assert (shown["uid"], shown["escalations"]) == (critical["uid"], 2)


def test_clock_stops_when_it_was_acknowledged(room: Room) -> None:
    critical = raised(room)
    said = {"told": "BS A", "channel": "phone", "read_back": True, "acknowledged": True}
    room.reader.post(f"{OPEN}/{critical['uid']}/notices", json=said)
    overdue(room)

    assert clock(room) == 1
    assert clock(room) == 0
    with transaction(room.node.engine) as session:
        assert queue.list_open(session) == []
    [kept] = room.reader.get(f"{REPORTS}/{critical['report_uid']}/critical-results").json()
    assert kept["escalations"] == 0


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"level": "blue", "finding": "x"}, "/level"),
        ({"level": "red", "finding": " "}, "/finding"),
    ],
    ids=["level", "finding"],
)
def test_faulty_critical_result_names_its_field(
    room: Room, said: dict[str, str], pointer: str
) -> None:
    report = room.open()

    answer = room.reader.post(f"{REPORTS}/{report['uid']}/critical-results", json=said)

    assert answer.json()["errors"][0]["pointer"] == pointer


# Key images


def chosen(room: Room, **values: Any) -> dict[str, Any]:
    uids = {
        "study_instance_uid": str(room.study.StudyInstanceUID),
        "sop_instance_uid": str(room.study.SOPInstanceUID),
    }
    return {**uids, "label": "Lát 12", **values}


def test_key_images_become_selections_that_are_read_again(room: Room) -> None:
    report = room.open()
    path = f"{REPORTS}/{report['uid']}/key-images"
    kept = room.reader.put(path, json=[chosen(room, for_provider=True), chosen(room)]).json()
    assert kept == room.head.get(path).json()
    assert [one["for_provider"] for one in kept] == [True, False]

    room.reader.delete(f"{REPORTS}/{report['uid']}/lock")
    room.act(room.head, "approve", report)
    node = room.node
    signer = LocalSigner(node.settings.secrets_dir)
    reporting = Reporting(node.settings, node.engine, node.store, node.spool, signer)
    runner = Runner(node.engine, reporting.handlers())
    while runner.run_once():
        pass
    node.ingest()

    with transaction(node.engine) as session:
        found = instances.locate(session, {"StudyInstanceUID": str(room.study.StudyInstanceUID)})
    assert sum(one.sop_class_uid == KEY_OBJECT_SELECTION for one in found) == 2
    received = room.viewer.get(f"{path}/received").json()
    assert sorted((one["sop_instance_uid"], one["for_provider"]) for one in received) == [
        (str(room.study.SOPInstanceUID), False),
        (str(room.study.SOPInstanceUID), True),
    ]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"sop_instance_uid": "1.2.3"}, "unknown_image"),
        ({"study_instance_uid": "1.2.3"}, "unknown_image"),
        ({"frame": 2}, "unknown_image"),
        ({"frame": 0}, "unknown_image"),
        ({"sop_instance_uid": "x"}, "not_a_uid"),
    ],
    ids=["instance", "study", "frame", "zero", "uid"],
)
def test_image_of_another_study_is_no_key_image(
    room: Room, values: dict[str, Any], code: str
) -> None:
    path = f"{REPORTS}/{room.open()['uid']}/key-images"

    answer = room.reader.put(path, json=[chosen(room), chosen(room, **values)])

    [fault] = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/1", code)
    assert room.reader.get(path).json() == []


def test_key_images_of_a_claimed_report_are_left_alone(room: Room) -> None:
    path = f"{REPORTS}/{room.open()['uid']}/key-images"

    assert room.head.put(path, json=[chosen(room)]).status_code == 409


def test_viewer_sees_key_images_of_what_was_issued_only(room: Room) -> None:
    report = room.open()
    path = f"{REPORTS}/{report['uid']}/key-images"
    room.reader.put(path, json=[chosen(room, label="u ác tính")])
    room.reader.delete(f"{REPORTS}/{report['uid']}/lock")

    draft = [room.viewer.get(one).status_code for one in (path, f"{path}/received")]
    signed = room.act(room.head, "approve", report).json()
    issued = room.viewer.get(path)
    asked = room.act(room.head, "request_retraction", signed, reason="Nhầm").json()
    room.act(room.other_head, "retract", asked)

    assert draft == [404, 404]
    assert [one["label"] for one in issued.json()] == ["u ác tính"]
    assert room.viewer.get(path).status_code == 403
    assert room.head.get(path).status_code == 200
