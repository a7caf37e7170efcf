"""Reports on the real database: versions that stay, claims, second readers, what is told."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from ris import orders, outbox
from ris.reports import locks, queries
from ris.reports.faults import Invalid, Missing, NotAllowed, Refused
from ris.reports.model import Content, Report
from ris.reports.queries import Search
from ris.reports.states import Action, Status
from ris.reports.verbs import Stale
from storage.db.engine import transaction
from tests.fixtures.index import received
from tests.fixtures.reports import HEAD, OTHER_HEAD, READER, STUDY, TEXT, Desk

A = Action


def told(desk: Desk) -> list[tuple[str, int]]:
    with transaction(desk.engine) as session:
        return [(one.report_uid, one.revision) for one in outbox.untold_reports(session, 100)]


def test_whole_life_leaves_every_version_as_it_was(desk: Desk) -> None:
    report = desk.open()
    report = desk.act(A.SAVE, report, READER, content=replace(TEXT, impression="Theo dõi."))
    report = desk.act(A.RELEASE, report, READER)
    report = desk.act(A.SAVE, report, READER, content=TEXT)
    report = desk.act(A.APPROVE, desk.release(report), HEAD)
    report = desk.act(A.ADDEND, report, HEAD, addendum="Đã hội chẩn với khoa Nội.")
    report = desk.act(A.UNAPPROVE, report, HEAD, reason="Nhầm bên")
    report = desk.act(A.SAVE, report, HEAD, content=replace(TEXT, findings="Bên trái."))
    report = desk.act(A.CORRECT, report, HEAD, reason="Nhầm bên")

    found = desk.versions(report)

    assert [(one.revision, one.version, one.status, one.supersedes) for one in found] == [
        (1, 0, Status.DRAFT, None),
        (2, 0, Status.DRAFT, None),
        (3, 1, Status.PRELIMINARY, None),
        (4, 0, Status.PRELIMINARY, None),
        (5, 2, Status.FINAL, 3),
        (6, 3, Status.ADDENDED, 5),
        (7, 4, Status.UNAPPROVED, 6),
        (8, 0, Status.UNAPPROVED, None),
        (9, 5, Status.CORRECTED, 7),
    ]
    assert [one.author for one in found] == [READER] * 4 + [HEAD] * 5
    assert [one.reader for one in found] == [READER] * 7 + [HEAD] * 2
    assert [one.revision for one in found if one.verify_code] == [5, 6, 9]
    assert found[4].content == TEXT
    assert found[5].content.findings == found[4].content.findings
    assert [one.text for one in found[8].content.addenda] == ["Đã hội chẩn với khoa Nội."]
    assert found[6].reason == "Nhầm bên"
    assert told(desk) == [(report.uid, revision) for revision in (3, 5, 6, 7, 9)]
    assert desk.chain_is_whole(report)


def test_version_is_never_changed_nor_deleted_in_the_database(desk: Desk) -> None:
    report = desk.signed()

    for statement in (
        "UPDATE report_versions SET reason = 'x'",
        "DELETE FROM report_versions",
    ):
        with (
            pytest.raises(ProgrammingError, match="never changed"),
            transaction(desk.engine) as session,
        ):
            session.execute(text(statement))
    assert desk.chain_is_whole(report)


def test_chain_shows_what_was_changed_behind_the_back_of_the_triggers(desk: Desk) -> None:
    report = desk.signed()
    with transaction(desk.engine) as session:
        session.execute(text("ALTER TABLE report_versions DISABLE TRIGGER USER"))
        session.execute(
            text("UPDATE report_versions SET content = jsonb_set(content, '{findings}', '\"x\"')")
        )
        session.execute(text("ALTER TABLE report_versions ENABLE TRIGGER USER"))

    assert not desk.chain_is_whole(report)


def test_stale_step_is_refused_with_the_report_as_it_is(desk: Desk) -> None:
    seen = desk.open()
    desk.act(A.SAVE, seen, READER, content=replace(TEXT, findings="mới"))

    with pytest.raises(Stale) as stale:
        desk.act(A.SAVE, seen, READER, content=replace(TEXT, findings="cũ"))

    assert stale.value.current.latest.content.findings == "mới"
    assert stale.value.current.revision == 2


def test_of_two_approvals_at_once_one_is_stale(desk: Desk) -> None:
    report = desk.release(desk.open())
    outcomes: list[object] = []

    def approve() -> None:
        try:
            outcomes.append(desk.act(A.APPROVE, report, HEAD).status)
        except Stale as stale:
            outcomes.append(stale.current.status)

    threads = [threading.Thread(target=approve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes == [Status.FINAL, Status.FINAL]
    assert len(desk.versions(report)) == 2
    assert len(told(desk)) == 1


def test_save_that_changes_nothing_writes_nothing_and_renews_the_claim(desk: Desk) -> None:
    report = desk.release(desk.open())

    same = desk.act(A.SAVE, report, READER, content=TEXT)

    assert same.revision == 1
    assert same.lock is not None
    assert same.lock.code == READER.code


def test_claim_keeps_others_out_until_it_ends(desk: Desk) -> None:
    report = desk.open()

    with pytest.raises(Refused, match="works on this report"):
        desk.claim(report, HEAD)
    with pytest.raises(Refused, match="works on this report"):
        desk.act(A.APPROVE, report, HEAD)
    with transaction(desk.engine) as session:
        locks.claim(session, READER, report.uid, timedelta())

    assert desk.claim(report, HEAD).lock is not None
    with pytest.raises(Refused, match="works on this report"):
        desk.act(A.SAVE, report, READER, content=replace(TEXT, findings="x"))


def test_only_an_approver_takes_a_claim_over_and_says_why(desk: Desk) -> None:
    report = desk.open(HEAD)

    with pytest.raises(NotAllowed):
        desk.take_over(report, READER)
    with pytest.raises(Refused, match="reason"):
        desk.take_over(report, OTHER_HEAD, " ")

    taken = desk.take_over(report, OTHER_HEAD)
    assert taken.lock is not None
    assert taken.lock.code == OTHER_HEAD.code


def test_second_reader_of_an_older_text_does_not_count(desk: Desk) -> None:
    report = desk.release(desk.open(HEAD, second_reading=True), HEAD)
    with pytest.raises(Refused, match="second reader"):
        desk.act(A.APPROVE, report, HEAD)
    with pytest.raises(Refused, match="cannot be its second reader"):
        desk.read_second(report, HEAD)
    desk.read_second(report, OTHER_HEAD, "minor")

    changed = desk.act(A.SAVE, report, HEAD, content=replace(TEXT, impression="Khác."))
    with pytest.raises(Refused, match="second reader"):
        desk.act(A.APPROVE, changed, HEAD)
    desk.read_second(changed, READER)

    assert desk.act(A.APPROVE, changed, HEAD).status is Status.FINAL


def test_retraction_takes_two_persons_and_frees_the_order(desk: Desk) -> None:
    order = desk.order(desk.patient())
    report = desk.signed(order_ids=(order,))
    with pytest.raises(Refused, match="has a report already"):
        desk.open(order_ids=(order,))
    report = desk.act(A.REQUEST_RETRACTION, report, READER, reason="Nhầm người bệnh")
    report = desk.act(A.DECLINE_RETRACTION, report, HEAD, reason="Kiểm tra lại")
    report = desk.act(A.REQUEST_RETRACTION, report, HEAD, reason="Nhầm thật")
    with pytest.raises(Refused, match="cannot confirm"):
        desk.act(A.RETRACT, report, HEAD)

    retracted = desk.act(A.RETRACT, report, OTHER_HEAD)

    assert retracted.status is Status.RETRACTED
    assert retracted.version == 2
    assert retracted.retraction_asked_by == ""
    assert retracted.latest.reason == "Nhầm thật", "others are told why"
    assert desk.open(order_ids=(order,)).order_ids == (order,)


def test_order_knows_that_its_report_was_signed_or_taken_back(desk: Desk) -> None:
    order = desk.order(desk.patient())

    def reported() -> tuple[str, bool]:
        with transaction(desk.engine) as session:
            found = orders.get(session, order)
        return found.state, found.reported_at is not None

    opened = desk.open(order_ids=(order,))
    assert reported() == ("SCHEDULED", False)
    report = desk.act(A.APPROVE, desk.release(opened), HEAD)
    assert reported() == ("REPORTED", True)
    report = desk.act(A.REQUEST_RETRACTION, report, READER, reason="x")
    desk.act(A.RETRACT, report, HEAD)
    assert reported() == ("COMPLETED", False)


def test_of_two_reports_for_one_order_opened_at_once_one_is_refused(desk: Desk) -> None:
    order = desk.order(desk.patient())
    outcomes: list[str] = []

    def opened() -> None:
        try:
            outcomes.append(desk.open(order_ids=(order,)).status)
        except Refused:
            outcomes.append("refused")

    threads = [threading.Thread(target=opened) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["draft", "refused", "refused"]


def test_one_report_for_several_orders_has_their_studies_and_accessions(desk: Desk) -> None:
    patient = desk.patient()
    first = desk.order(patient, "A100", study=STUDY)
    second = desk.order(patient, "A101", study="2.25.77")

    report = desk.open(study_instance_uids=(), order_ids=(second, first))

    assert report.order_ids == tuple(sorted((first, second)))
    assert report.accession_numbers == ("A101", "A100")
    assert report.study_instance_uids == ("2.25.77", STUDY)
    assert report.latest.subject.patient_name == "NGUYỄN^VĂN AN"


def test_report_of_a_study_is_for_its_orders_that_have_none(desk: Desk) -> None:
    patient = desk.patient()
    taken = desk.order(patient, study=STUDY)
    free = desk.order(patient, study=STUDY)
    desk.open(order_ids=(taken,))

    assert desk.open().order_ids == (free,)


def test_report_is_about_one_patient(desk: Desk) -> None:
    other = desk.study("2", PatientID="BN2", PatientName="LÊ^THỊ BA")
    theirs = desk.order(desk.patient("BN9", "Phạm^Văn Chín"))
    ours = desk.order(desk.patient())

    for given, pointer in (
        ({"study_instance_uids": (STUDY, other)}, "/study_instance_uids/1"),
        ({"order_ids": (ours, theirs)}, "/order_ids/1"),
        ({"order_ids": (theirs,)}, "/study_instance_uids/0"),
    ):
        with pytest.raises(Invalid, match="another patient") as invalid:
            desk.open(**given)
        assert invalid.value.faults[0].pointer == pointer


@pytest.mark.parametrize(
    ("given", "code", "pointer"),
    [
        ({"study_instance_uids": ()}, "one_of_both", ""),
        ({"study_instance_uids": ("1.2.3",)}, "unknown_study", "/study_instance_uids/0"),
        ({"study_instance_uids": (STUDY, "x")}, "not_a_uid", "/study_instance_uids/1"),
        ({"order_ids": (10**15,)}, "unknown_order", "/order_ids/0"),
        ({"language": "fr"}, "unknown_value", "/language"),
        ({"content": Content(findings="\0")}, "not_text", "/content/findings"),
        ({"study_instance_uids": (STUDY,) * 21}, "too_many", "/study_instance_uids"),
    ],
)
def test_faulty_opening_names_the_field(
    desk: Desk, given: dict[str, object], code: str, pointer: str
) -> None:
    with pytest.raises(Invalid) as invalid:
        desk.open(**given)

    [fault] = invalid.value.faults
    assert (fault.code, fault.pointer) == (code, pointer)


@pytest.mark.parametrize("action", [A.UNAPPROVE, A.CORRECT, A.REQUEST_RETRACTION])
def test_change_of_what_was_signed_needs_a_reason(desk: Desk, action: Action) -> None:
    report = desk.signed()

    with pytest.raises(Invalid, match="/reason a reason is needed"):
        desk.act(action, report, HEAD, reason=" ")

    assert desk.get(report).revision == report.revision


def test_nothing_is_signed_without_findings_and_impression(desk: Desk) -> None:
    report = desk.open(HEAD, content=Content(technique="CT"))

    with pytest.raises(Invalid) as invalid:
        desk.act(A.APPROVE, report, HEAD)

    assert [one.pointer for one in invalid.value.faults] == [
        "/content/findings",
        "/content/impression",
    ]


def test_images_that_come_after_the_signature_are_flagged(desk: Desk) -> None:
    report = desk.signed()
    assert desk.flags(report).images_added == 0

    desk.study(images=5)
    desk.index.record(received("1", "9", Modality="DOC"), received("1", "8", Modality="SR"))

    assert desk.flags(report).images_added == 3, "the report's own documents are no images"


def test_changed_demographics_are_flagged(desk: Desk) -> None:
    order = desk.order(desk.patient(), study=STUDY)
    report = desk.signed(order_ids=(order,))
    assert desk.flags(report).demographics_changed == ()

    with transaction(desk.engine) as session:
        session.execute(text("UPDATE ris_patients SET patient_name = 'NGUYỄN^VĂN ÂN'"))

    assert desk.flags(report).demographics_changed == ("patient_name",)
    signed = desk.versions(report)[-1]
    assert signed.subject.patient_name == "NGUYỄN^VĂN AN", "as it was signed"


def test_reports_are_found_newest_first_page_by_page(desk: Desk) -> None:
    order = desk.order(desk.patient(), "A7")
    mine = [desk.open(order_ids=()), desk.open(order_ids=(order,)), desk.signed(order_ids=())]

    def found(limit: int = 10, before: str = "", **search: object) -> list[Report]:
        with transaction(desk.engine) as session:
            wanted = Search(**search)  # type: ignore[arg-type]
            return [*queries.find(session, wanted, limit=limit, before=before)]

    assert found() == mine[::-1]
    assert found(limit=2) == [mine[2], mine[1]]
    assert found(before=mine[1].uid) == [mine[0]]
    assert found(statuses=(Status.FINAL,)) == [mine[2]]
    assert found(order_id=order) == found(accession_number="A7") == [mine[1]]
    assert len(found(study_instance_uid=STUDY)) == 3
    assert found(study_instance_uid="1.2") == []


def test_code_on_paper_leads_to_its_version(desk: Desk) -> None:
    report = desk.signed()
    later = desk.act(A.CORRECT, report, HEAD, reason="x", content=replace(TEXT, findings="y"))
    code = report.latest.verify_code

    with transaction(desk.engine) as session:
        found, version = queries.by_verify_code(session, code)
        with pytest.raises(Missing):
            queries.by_verify_code(session, "x" * 16)

    assert (found, version) == (later, report.latest)
    assert code != later.latest.verify_code
