"""What goes wrong between a hospital information system and us, case by case, over real bytes."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from ris import merges, news, orders, outbox, patients
from ris.following import Following
from ris.model import OrderState, Rules, StepStatus
from ris.requests import Context
from storage.archive import instances, rejections
from storage.archive.instances import Scope
from storage.archive.model import Level, ReceivedInstance
from storage.archive.rejection_rules import Title
from storage.base.clock import utc_now
from storage.db.engine import Engine, transaction
from tests.fixtures.his import EIGHT, IHE, ZONE, His, acknowledged, order, pid
from tests.fixtures.index import Index, received
from tests.fixtures.rejection_notes import KOS, received_note

LATER = EIGHT + timedelta(hours=1)


def images_come(index: Index, his: His, number: str, **values: str) -> None:
    """Let an image of the order's study arrive."""
    uid = his.study(number)
    index.record(received(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", **values))


def become(his: His, number: str, status: StepStatus) -> None:
    with transaction(his.engine) as session:
        for step in his.steps(number):
            orders.step_became(session, step.id, status)


def told(engine: Engine) -> list[tuple[str, str]]:
    with transaction(engine) as session:
        return [(event.control, event.status) for event in outbox.untold(session, 100)]


# The same again


def test_double_sent_message_gets_the_stored_answer_and_does_nothing(his: His) -> None:
    octets = his.message("ORM^O01", *order("NW", "7781"))

    first = his.pipeline.answer(octets, "10.1.0.5")
    again = his.pipeline.answer(octets, "10.1.0.5")

    assert first == again
    assert len(his.orders("7781")) == 1


def test_same_control_id_with_another_body_is_processed(his: His) -> None:
    first = his.message("ORM^O01", *order("NW", "1"))
    number = first.split(b"|")[9]
    other = his.message("ORM^O01", *order("NW", "2"))
    reused = other.replace(other.split(b"|")[9], number)

    answers = [his.pipeline.answer(octets, "10.1.0.5") for octets in (first, reused)]

    assert [acknowledged(one.decode())[0] for one in answers] == ["AA", "AA"]
    assert his.only_order("1").id != his.only_order("2").id


def test_same_order_twice_changes_nothing(his: His) -> None:
    his.order("NW", "7781")
    before = his.only_order("7781"), his.steps("7781"), his.study("7781")

    assert his.order("NW", "7781") == "AA"

    after = his.only_order("7781"), his.steps("7781"), his.study("7781")
    assert his.entry().outcome == "unchanged"
    assert after[1:] == before[1:]


def test_new_order_with_a_known_number_and_other_content_is_a_change(his: His) -> None:
    his.order("NW", "7781", modality="CT")
    uid = his.study("7781")

    his.order("NW", "7781", modality="MR", code="18.0300^Chụp MRI sọ não")

    [step] = his.steps("7781")
    assert (his.entry().outcome, step.modality, step.description) == (
        "changed",
        "MR",
        "Chụp MRI sọ não",
    )
    assert his.study("7781") == uid


# Out of order


def test_change_before_new_makes_the_order(his: His) -> None:
    assert his.order("XO", "7781", at=LATER) == "AA"

    assert his.only_order("7781").state is OrderState.SCHEDULED
    assert len(his.steps("7781")) == 1


def test_new_that_comes_after_its_change_fills_blanks_and_takes_nothing_back(his: His) -> None:
    his.order("XO", "7781", modality="MR", at=LATER)

    his.order("NW", "7781", modality="CT", reason="đau đầu", at=EIGHT)

    [step] = his.steps("7781")
    assert step.modality == "MR"
    assert his.only_order("7781").clinical_information == "đau đầu"


def test_cancel_before_new_keeps_the_order_cancelled(his: His) -> None:
    assert his.order("CA", "7781", at=LATER) == "AA"

    assert his.order("NW", "7781", at=EIGHT) == "AA"

    assert his.only_order("7781").state is OrderState.CANCELED
    assert {step.status for step in his.steps("7781")} == {StepStatus.CANCELED}


def test_cancel_before_new_is_remembered_without_an_order(his: His) -> None:
    his.order("CA", "7781")

    assert his.entry().outcome == "remembered"
    assert his.only_order("7781").awaited is True
    assert his.steps("7781") == []


def test_order_that_is_newer_than_its_cancellation_is_scheduled(his: His) -> None:
    his.order("CA", "7781", at=EIGHT)

    his.order("NW", "7781", at=LATER)

    assert his.only_order("7781").state is OrderState.SCHEDULED
    assert [step.status for step in his.steps("7781")] == [StepStatus.SCHEDULED]


def test_order_of_the_time_of_its_cancellation_stays_cancelled(his: His) -> None:
    his.order("CA", "7781", at=EIGHT)

    his.order("NW", "7781", at=EIGHT)

    assert his.only_order("7781").state is OrderState.CANCELED


def test_older_change_that_comes_late_is_left(his: His) -> None:
    his.order("NW", "7781", at=EIGHT)
    his.order("XO", "7781", modality="MR", at=LATER)

    assert his.order("XO", "7781", modality="US", at=EIGHT + timedelta(minutes=5)) == "AA"

    assert his.steps("7781")[0].modality == "MR"
    assert "older than what is known" in his.entry().reason


def test_cancellation_wins_over_a_new_order_at_the_same_moment(engine: Engine) -> None:
    his = His(engine)
    octets = [
        his.message("ORM^O01", *order("NW", "7781"), at=EIGHT),
        his.message("ORM^O01", *order("CA", "7781"), at=LATER),
    ]
    threads = [
        threading.Thread(target=his.pipeline.answer, args=(one, "10.1.0.5")) for one in octets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert his.only_order("7781").state is OrderState.CANCELED


def test_order_that_tells_nothing_of_the_patient_does_not_make_older_news_late(his: His) -> None:
    his.order("NW", "7781", person=pid("1", "", "", ""), at=LATER)

    his.admit("1", "TRẦN THỊ SỚM", at=EIGHT)

    assert his.patient("1").patient_name == "TRẦN THỊ SỚM"


# Cancelled when it is too late


def test_cancel_before_the_exam_takes_it_off_the_worklist(his: His) -> None:
    his.order("NW", "7781")

    his.order("CA", "7781")

    assert his.only_order("7781").state is OrderState.CANCELED
    assert [step.status for step in his.steps("7781")] == [StepStatus.CANCELED]
    assert told(his.engine) == [("SC", "SC"), ("SC", "CA")]


def test_cancel_after_images_deletes_nothing_and_tells_a_person(his: His, index: Index) -> None:
    his.order("NW", "7781")
    images_come(index, his, "7781", PatientID="1", PatientName="NGUYỄN VĂN MẪU")

    assert his.order("CA", "7781") == "AA"

    assert his.only_order("7781").state is OrderState.CANCELED
    assert his.notices() == ["canceled_after_images"]
    with transaction(his.engine) as session:
        assert orders.has_images(session, his.only_order("7781").id)


def test_cancel_after_the_final_report_is_refused(his: His) -> None:
    his.order("NW", "7781")
    become(his, "7781", StepStatus.COMPLETED)
    with transaction(his.engine) as session:
        orders.mark_reported(session, his.only_order("7781").id, utc_now())

    assert his.order("CA", "7781") == "AA"

    assert his.only_order("7781").state is OrderState.REPORTED
    assert his.notices() == ["cancel_refused"]
    assert told(his.engine)[-1] == ("UC", "CM")


def test_answer_to_a_refused_cancel_says_unable(engine: Engine) -> None:
    his = His(engine, answer_orders=True)
    his.order("NW", "7781")
    become(his, "7781", StepStatus.COMPLETED)
    with transaction(engine) as session:
        orders.mark_reported(session, his.only_order("7781").id, utc_now())

    _, _, answer = his.answer("ORM^O01", *order("CA", "7781"))

    assert "\rORC|UC|7781|" in answer


def test_discontinue_after_start_leaves_the_performed_step_its_end(his: His) -> None:
    his.order("NW", "7781")
    become(his, "7781", StepStatus.STARTED)

    his.order("DC", "7781")
    become(his, "7781", StepStatus.COMPLETED)

    assert his.only_order("7781").state is OrderState.DISCONTINUED
    assert [step.status for step in his.steps("7781")] == [StepStatus.COMPLETED]


# Images that must not be used


def exam(his: His, index: Index, number: str, study: str = "") -> ReceivedInstance:
    """Let an image come that was made from the worklist entry of an order; return it."""
    uid = study or his.study(number)
    image = received(
        StudyInstanceUID=uid,
        SeriesInstanceUID=f"{uid}.1",
        SOPInstanceUID=f"{uid}.1.1",
        AccessionNumber=his.only_order(number).accession_number,
        PatientID="1",
        PatientName="NGUYỄN VĂN MẪU",
        PatientBirthDate="19800101",
        PatientSex="M",
        StudyDate="",
    )
    taken(his, index, image)
    return image


def taken(his: His, index: Index, *some: ReceivedInstance) -> None:
    """Record what comes, and let the studies be looked after until they are at rest."""
    index.record(*some)
    with transaction(his.engine) as session:
        news.notice(session, {one.attributes["StudyInstanceUID"] for one in some}, utc_now())
    Following(his.engine, ZONE).run_once()
    Following(his.engine, ZONE).run_once(utc_now() + timedelta(hours=1))


def note_on(image: ReceivedInstance, title: Title) -> ReceivedInstance:
    """Return a rejection note on an image."""
    facts = {**image.attributes, "SOPClassUID": KOS, "Modality": "KO"}
    facts |= {
        "SOPInstanceUID": f"{image.attributes['SOPInstanceUID']}.9",
        "SeriesInstanceUID": f"{image.attributes['StudyInstanceUID']}.9",
    }
    return replace(received_note("9", title, image), attributes=facts)


def test_wrong_worklist_entry_hides_the_original_and_both_placers_are_told(
    his: His, index: Index
) -> None:
    his.order("NW", "7781")
    his.order("NW", "7782")
    wrong = exam(his, index, "7781")
    assert his.only_order("7781").state is OrderState.COMPLETED
    before = len(told_of(his))

    taken(his, index, note_on(wrong, Title.WRONG_ENTRY))
    right = exam(his, index, "7782", study="2.25.4712")

    assert index.uids(Level.STUDY) == [right.attributes["StudyInstanceUID"]]
    kept = {"StudyInstanceUID": wrong.attributes["StudyInstanceUID"]}
    with transaction(his.engine) as session:
        assert len(instances.locate(session, kept, Scope.KEPT)) == 2, "retained"
        [noted] = rejections.list_notes(session)
    assert (noted.title, noted.in_force) == (Title.WRONG_ENTRY, 1)
    assert his.only_order("7781").state is OrderState.SCHEDULED
    assert his.only_order("7782").state is OrderState.COMPLETED
    # HL7 table 0119 SC: the status of either has changed
    assert told_of(his)[before:][:1] == [("7781", "SC", "SC")]
    assert {(number, control) for number, control, _ in told_of(his)[before:]} == {
        ("7781", "SC"),
        ("7782", "SC"),
    }
    assert told_of(his)[-1] == ("7782", "SC", "CM")


@pytest.mark.parametrize("title", [Title.QUALITY, Title.SAFETY])
def test_rejection_for_quality_or_safety_hides_keeps_and_moves_no_order(
    his: His, index: Index, title: Title
) -> None:
    his.order("NW", "7781")
    image = exam(his, index, "7781")
    before = told_of(his)

    taken(his, index, note_on(image, title))

    assert index.uids(Level.STUDY) == []
    uid = image.attributes["SOPInstanceUID"]
    with transaction(his.engine) as session:
        [kept] = instances.locate(session, {"SOPInstanceUID": uid}, Scope.KEPT)
    assert kept.dataset_sha256 == image.dataset_sha256
    assert his.only_order("7781").state is OrderState.COMPLETED
    assert told_of(his) == before


def told_of(his: His) -> list[tuple[str, str, str]]:
    """Return order, order control and status of what destinations are told."""
    with transaction(his.engine) as session:
        return [
            (
                orders.get(session, event.order_id).placer_order_number,
                event.control,
                event.status,
            )
            for event in outbox.untold(session, 100)
        ]


# Changed when it is too late


def test_change_before_the_exam_changes_the_worklist(his: His) -> None:
    his.order("NW", "7781", modality="CT", start="20260301090000")

    his.order("XO", "7781", modality="MR", start="20260302100000")

    [step] = his.steps("7781")
    assert (step.modality, step.start and step.start.day) == ("MR", 2)
    assert not his.only_order("7781").changed_after_start


def test_change_after_start_keeps_what_the_machine_was_shown(his: His) -> None:
    his.order("NW", "7781", modality="CT")
    become(his, "7781", StepStatus.STARTED)

    his.order("XO", "7781", modality="MR", reason="ngã")

    changed = his.only_order("7781")
    assert his.steps("7781")[0].modality == "CT"
    assert (changed.changed_after_start, changed.clinical_information) == (True, "ngã")
    assert his.notices() == ["changed_after_start"]


# Patients who are one


def test_merge_shows_visits_and_orders_under_the_survivor(his: His) -> None:
    his.order("NW", "7781", "PRIOR")
    his.admit("SURVIVOR")

    assert his.merge("SURVIVOR", "PRIOR") == "AA"

    survivor = his.patient("SURVIVOR")
    assert his.shown("PRIOR").id == survivor.id
    with transaction(his.engine) as session:
        [found] = orders.of_patient(session, survivor.id)
    assert found.placer_order_number == "7781"


def test_message_for_a_dead_number_goes_to_the_survivor(his: His) -> None:
    his.admit("SURVIVOR")
    his.merge("SURVIVOR", "PRIOR")

    assert his.order("NW", "7781", "PRIOR") == "AA"

    with transaction(his.engine) as session:
        [found] = orders.of_patient(session, his.patient("SURVIVOR").id)
    assert found.placer_order_number == "7781"
    assert "taken for the survivor" in his.entry().reason


def test_merge_of_an_unknown_number_is_remembered(his: His) -> None:
    his.admit("SURVIVOR")

    assert his.merge("SURVIVOR", "NEVER-SEEN") == "AA"

    his.admit("NEVER-SEEN", "TRẦN THỊ KHÁC", born="19900505")
    assert his.shown("NEVER-SEEN").id == his.patient("SURVIVOR").id
    assert his.patient("SURVIVOR").patient_name == "NGUYỄN VĂN MẪU"


def test_chain_of_merges_is_followed_to_its_end(his: His) -> None:
    for number in "ABC":
        his.admit(number)

    his.merge("B", "A")
    his.merge("C", "B")

    assert his.shown("A").id == his.patient("C").id


def test_chain_of_merges_in_the_wrong_order_ends_the_same(his: His) -> None:
    for number in "ABC":
        his.admit(number)

    his.merge("C", "B")
    his.merge("B", "A")

    assert his.shown("A").id == his.patient("C").id


def test_circle_of_merges_is_an_error_and_changes_nothing(his: His) -> None:
    for number in "ABC":
        his.admit(number)
    his.merge("B", "A")
    his.merge("C", "B")

    code, error, _ = his.answer("ADT^A40", pid("A"), "MRG|C")

    assert (code, error) == ("AE", "207")
    assert his.shown("A").id == his.patient("C").id
    assert his.patient("C").merged_into is None


def test_merge_into_itself_is_an_error(his: His) -> None:
    his.admit("A")

    assert his.answer("ADT^A40", pid("A"), "MRG|A")[:2] == ("AE", "205")


def test_merge_of_several_pairs_is_done_whole_or_not_at_all(his: His) -> None:
    for number in ("S1", "S2", "P1"):
        his.admit(number)
    pairs = [pid("S1"), "MRG|P1", pid("S2"), "MRG|S2"]

    code, _, _ = his.answer("ADT^A40", *pairs)

    assert code == "AE"
    assert his.patient("P1").merged_into is None


def test_merge_of_several_pairs_merges_each(his: His) -> None:
    for number in ("S1", "S2", "P1", "P2"):
        his.admit(number)

    his.send("ADT^A40", pid("S1"), "MRG|P1", pid("S2"), "MRG|P2")

    assert his.shown("P1").id == his.patient("S1").id
    assert his.shown("P2").id == his.patient("S2").id


def test_merge_that_came_before_is_no_error(his: His) -> None:
    his.admit("A")
    his.merge("A", "B")

    assert his.merge("A", "B") == "AA"
    assert his.entry().outcome == "unchanged"


def test_merge_of_one_who_was_merged_into_another_is_left_to_a_person(his: His) -> None:
    for number in "ABC":
        his.admit(number)
    his.merge("B", "A")

    assert his.merge("C", "A") == "AE"
    assert his.shown("A").id == his.patient("B").id


def test_orders_of_both_with_one_accession_number_are_kept(his: His) -> None:
    other = His(his.engine, "other", issuer="TRAM01")
    his.order("NW", "1001", "A")
    other.order("NW", "1001", "B")
    with transaction(his.engine) as session:
        found = orders.find_by_accession(session, "1001")

    assert len(found) == 2
    assert {one.accession_issuer for one in found} == {"his", "other"}


def test_new_number_takes_the_place_of_the_old_one(his: His) -> None:
    his.order("NW", "7781", "OLD")

    assert his.send("ADT^A47", pid("NEW"), "MRG|OLD") == "AA"

    patient = his.patient("NEW")
    assert patient.identifier.value == "NEW"
    assert his.patient("OLD").id == patient.id
    his.order("NW", "7782", "OLD")
    with transaction(his.engine) as session:
        assert len(orders.of_patient(session, patient.id)) == 2


def test_new_number_that_another_patient_has_is_an_error(his: His) -> None:
    his.admit("OLD")
    his.admit("NEW")

    assert his.answer("ADT^A47", pid("NEW"), "MRG|OLD")[:2] == ("AE", "205")
    assert his.patient("OLD").id != his.patient("NEW").id


@pytest.mark.parametrize("event", ["A46", "A47"])
def test_new_number_twice_is_no_error(his: His, event: str) -> None:
    his.admit("OLD")
    his.send(f"ADT^{event}", pid("NEW"), "MRG|OLD")

    assert his.send(f"ADT^{event}", pid("NEW"), "MRG|OLD") == "AA"
    assert his.entry().outcome == "unchanged"


def test_new_number_can_be_taken_back(his: His) -> None:
    his.admit("OLD")
    his.send("ADT^A47", pid("NEW"), "MRG|OLD")

    his.send("ADT^A47", pid("OLD"), "MRG|NEW")

    assert his.patient("NEW").identifier.value == "OLD"


def test_unlink_undoes_a_merge_with_all_that_came_through_it(his: His) -> None:
    his.admit("SURVIVOR", "LÊ VĂN SỐNG", born="19700101")
    his.admit("PRIOR", "LÊ VĂN SÓNG", born="19700101")
    his.order("NW", "1", "PRIOR", person=pid("PRIOR", "LÊ VĂN SÓNG", "19700101"))
    his.merge("SURVIVOR", "PRIOR")
    his.admit("PRIOR", "LÊ VĂN SÔNG", born="19700101")
    assert his.patient("SURVIVOR").patient_name == "LÊ VĂN SÔNG"

    assert his.send("ADT^A37", pid("SURVIVOR"), pid("PRIOR")) == "AA"

    assert his.patient("SURVIVOR").patient_name == "LÊ VĂN SỐNG"
    assert his.patient("PRIOR").patient_name == "LÊ VĂN SÔNG"
    with transaction(his.engine) as session:
        [found] = orders.of_patient(session, his.patient("PRIOR").id)
        assert not orders.of_patient(session, his.patient("SURVIVOR").id)
    assert found.placer_order_number == "1"


def test_unlink_twice_is_no_error(his: His) -> None:
    his.admit("A")
    his.merge("A", "B")
    his.send("ADT^A37", pid("A"), pid("B"))

    assert his.send("ADT^A37", pid("A"), pid("B")) == "AA"


def test_unlink_of_patients_merged_through_others_is_left_to_a_person(his: His) -> None:
    his.admit("A")
    his.merge("B", "A")
    his.merge("C", "B")

    assert his.send("ADT^A37", pid("A"), pid("C")) == "AE"
    assert his.shown("A").id == his.patient("C").id


def test_link_notes_that_two_are_one_and_moves_nothing(his: His) -> None:
    his.admit("A")
    his.admit("B")

    assert his.send("ADT^A24", pid("A"), pid("B")) == "AA"

    assert his.shown("B").id == his.patient("B").id
    with transaction(his.engine) as session:
        [entry] = merges.journal(session, his.patient("A").id)
    assert (entry.kind, entry.undone_at) == ("link", None)
    his.send("ADT^A37", pid("A"), pid("B"))
    with transaction(his.engine) as session:
        assert merges.journal(session, his.patient("A").id)[0].undone_at is not None


def test_merge_with_the_direction_swapped_can_be_undone_and_done_again(his: His) -> None:
    his.order("NW", "1", "RIGHT")
    his.admit("WRONG")
    his.merge("WRONG", "RIGHT")

    his.send("ADT^A37", pid("WRONG"), pid("RIGHT"))
    his.merge("RIGHT", "WRONG")

    assert his.shown("WRONG").id == his.patient("RIGHT").id
    assert his.shown("RIGHT").merged_into is None


def test_person_can_undo_a_merge_by_its_number(his: His) -> None:
    his.admit("A")
    his.merge("A", "B")

    with transaction(his.engine) as session:
        [entry] = merges.journal(session, his.patient("A").id)
        merges.undo(session, Context(sender="", sent_at=None), entry.id)

    assert his.shown("B").id == his.patient("B").id


# Who it is


def test_unknown_person_is_filed_under_a_temporary_number(his: His) -> None:
    his.order("NW", "7781", "TN-001", person="PID|||TN-001||VÔ DANH||||U")
    john = his.patient("TN-001")
    assert (john.patient_birth_date, john.patient_sex) == (None, "")

    his.merge("0001234", "TN-001", name="PHẠM THỊ THẬT")

    shown = his.shown("TN-001")
    assert (shown.identifier.value, shown.patient_name) == ("0001234", "PHẠM THỊ THẬT")
    his.admit("TN-001", "VÔ DANH", born="", sex="", at=LATER)
    assert his.shown("TN-001").patient_name == "PHẠM THỊ THẬT"


def test_survivor_without_a_name_is_shown_with_that_of_the_prior(his: His) -> None:
    his.admit("PRIOR", "PHẠM THỊ THẬT")

    his.merge("NEW", "PRIOR")

    assert his.shown("PRIOR").patient_name == "PHẠM THỊ THẬT"
    his.send("ADT^A37", pid("NEW", ""), pid("PRIOR", ""))
    assert his.patient("NEW").patient_name == ""


def test_same_number_from_two_senders_is_two_patients(his: His) -> None:
    station = His(his.engine, "tramyte", issuer="TRAM01")
    his.admit("0001", "NGUYỄN VĂN MỘT")
    station.admit("0001", "TRẦN THỊ HAI")

    assert his.patient("0001").patient_name == "NGUYỄN VĂN MỘT"
    assert station.patient("0001", "TRAM01").patient_name == "TRẦN THỊ HAI"


def test_senders_that_nobody_gave_an_issuer_share_no_patients(engine: Engine) -> None:
    one, other = (His(engine, name, issuer="") for name in ("one", "other"))
    one.admit("0001", "NGUYỄN VĂN MỘT")
    other.admit("0001", "TRẦN THỊ HAI")

    one.order("NW", "5", "0001", person=pid("0001", "NGUYỄN VĂN MỘT"))

    with transaction(engine) as session:
        found = orders.get(session, one.only_order("5").id)
        assert patients.shown(session, found.patient_id).patient_name == "NGUYỄN VĂN MỘT"


def test_leading_zeros_tell_patients_apart_and_a_person_is_told(his: His) -> None:
    his.admit("0000123456")
    his.admit("123456", "TRẦN THỊ HAI")

    assert his.patient("0000123456").id != his.patient("123456").id
    assert his.notices() == ["look_alike"]


def test_leading_zeros_can_be_told_not_to_count(engine: Engine) -> None:
    his = His(engine, rules=Rules(ignore_leading_zeros=True))
    his.admit("0000123456")
    his.admit("123456")

    assert his.patient("0000123456").id == his.patient("123456").id
    assert his.patient("123456").identifier.value == "0000123456"


@pytest.mark.parametrize("written", [" BN 1", "bn1", "BN1 "])
def test_spaces_and_case_of_a_number_do_not_count(his: His, written: str) -> None:
    his.admit("BN1")
    his.admit(written, at=LATER)

    assert len(his.patient("BN1").identifiers) == 1


def test_late_change_of_the_patient_moves_an_order_without_images(his: His) -> None:
    his.order("NW", "7781", "A")
    uid = his.study("7781")

    assert his.order("XO", "7781", "B", person=pid("B", "TRẦN THỊ HAI")) == "AA"

    assert his.only_order("7781").patient_id == his.patient("B").id
    assert his.study("7781") != uid
    assert his.notices() == ["order_of_another_patient"]


def test_late_change_of_the_patient_with_images_is_left_to_a_person(his: His, index: Index) -> None:
    his.order("NW", "7781", "A")
    images_come(index, his, "7781", PatientID="A", PatientName="NGUYỄN VĂN MẪU")

    assert his.order("XO", "7781", "B", person=pid("B", "TRẦN THỊ HAI")) == "AA"

    assert his.only_order("7781").patient_id == his.patient("A").id
    assert his.notices() == ["order_of_another_patient"]
    assert his.entry().outcome == "refused"


# Groups and lines


def test_group_of_orders_with_one_study_is_accepted(his: His) -> None:
    his.order("NW", "1", study="2.25.77", group="G1")
    his.order("NW", "2", study="2.25.77", group="G1")

    assert his.study("1") == his.study("2") == "2.25.77"
    assert "shares its study" in his.entry().reason
    assert his.notices() == []


def test_study_of_another_patients_order_is_noticed(his: His) -> None:
    his.order("NW", "1", "A", study="2.25.77")

    assert his.order("NW", "2", "B", study="2.25.77") == "AA"
    assert his.notices() == ["shared_study"]


def test_lines_of_one_order_are_cancelled_one_by_one(engine: Engine) -> None:
    his = His(engine, profile="infomed")
    lines = [
        "ORC|NW|4711",
        "OBR|1|4711|L1|A^Một|||20260301090000|||||||||||||||||CT",
        "OBR|2|4711|L2|B^Hai|||20260301090000|||||||||||||||||MR",
    ]
    lines[1] = lines[1].replace("|4711|L1|", "|4711^L1||")
    lines[2] = lines[2].replace("|4711|L2|", "|4711^L2||")
    assert his.send("OMI^O23", pid("1"), *lines) == "AA"
    assert [one.accession_number for one in his.orders("4711")] == ["L1", "L2"]

    his.send("OMI^O23", pid("1"), "ORC|CA|4711", lines[2])

    assert [one.state for one in his.orders("4711")] == [
        OrderState.SCHEDULED,
        OrderState.CANCELED,
    ]


def test_second_procedure_of_a_scheduler_is_appended_to_the_order(engine: Engine) -> None:
    ris = His(engine, "ris", IHE)

    def omi(procedure: str, step: str, modality: str) -> list[str]:
        return [
            pid("1"),
            "ORC|NW|P1|F1",
            "TQ1|||||||20260301090000",
            "OBR|1|P1|F1|X^Xương",
            f"IPC|ACC1|{procedure}|2.25.{step}|{step}|{modality}",
        ]

    ris.send("OMI^O23", *omi("RP1", "11", "CT"))
    ris.send("OMI^O23", *omi("RP2", "12", "US"))

    found = ris.only_order("P1")
    with transaction(engine) as session:
        procedures = orders.procedures_of(session, found.id)
    assert [one.requested_procedure_id for one in procedures] == ["RP1", "RP2"]
    assert [step.modality for step in ris.steps("P1")] == ["CT", "US"]


def test_one_order_may_have_many_steps(engine: Engine) -> None:
    ris = His(engine, "ris", IHE)
    ris.send(
        "OMI^O23",
        pid("1"),
        "ORC|NW|P1|F1",
        "TQ1|||||||20260301090000",
        "OBR|1|P1|F1|X^Xương",
        "IPC|ACC1|RP1|2.25.5|S1|CT|||CT1|CT01",
        "IPC|ACC1|RP1|2.25.5|S2|MR|||MR1|MR01",
    )

    assert [(one.scheduled_procedure_step_id, one.modality) for one in ris.steps("P1")] == [
        ("S1", "CT"),
        ("S2", "MR"),
    ]


def test_second_performance_of_a_step_brings_the_order_back_in_progress(his: His) -> None:
    his.order("NW", "7781")
    become(his, "7781", StepStatus.COMPLETED)

    become(his, "7781", StepStatus.STARTED)

    assert his.only_order("7781").state is OrderState.IN_PROGRESS
    assert told(his.engine) == [("SC", "SC"), ("SC", "CM"), ("SC", "IP")]


# What is not there


def test_order_without_accession_number_gets_one(engine: Engine) -> None:
    ris = His(engine, "ris", IHE)
    ris.send("OMG^O19", pid("1"), "ORC|NW|P1", "OBR|1|P1||X^Xương||||||||||||||||||||CT")

    found = ris.only_order("P1")
    assert found.accession_number.startswith("LT")
    assert len(found.accession_number) <= 16
    assert ris.study("P1").startswith("2.25.")


def test_order_number_that_is_too_long_gets_a_short_accession_number(his: His) -> None:
    number = "12345678901234567890"
    his.order("NW", number)

    found = his.only_order(number)
    assert found.placer_order_number == number
    assert len(found.accession_number) <= 16


def test_order_without_modality_is_taken_and_a_person_is_told(his: His) -> None:
    assert his.order("NW", "7781", modality="", code="9999^Không rõ") == "AA"
    assert his.notices() == ["no_modality"]

    his.order("XO", "7781", modality="CT")

    assert his.notices() == []


def test_hl7_null_deletes_and_what_is_not_sent_stays(his: His) -> None:
    his.order("NW", "7781", reason="đau đầu", doctor="BS1^Bác sĩ^Một")

    his.order("XO", "7781", reason='""')

    found = his.only_order("7781")
    assert found.clinical_information == ""
    assert found.requesting_physician


def test_name_is_neither_deleted_nor_damaged(his: His) -> None:
    his.admit("1", "NGUYỄN THỊ ĐIỂM")

    his.admit("1", '""')
    his.admit("1", "NGUY?N TH? ?I?M")

    assert his.patient("1").patient_name == "NGUYỄN THỊ ĐIỂM"


def test_year_of_birth_alone_does_not_delete_the_whole_date(his: His) -> None:
    his.admit("1", born="19510203")

    his.admit("1", born="1951")

    born = his.patient("1").patient_birth_date
    assert born is not None
    assert born.isoformat() == "1951-02-03"


def test_year_of_birth_alone_is_kept_as_it_was_sent(his: His) -> None:
    his.admit("1", born="1951")

    assert his.patient("1").patient_birth_date is None
    assert his.patient("1").patient_birth_date_sent == "1951"


# Holding, appointments, visits


def test_held_order_is_off_the_worklist_until_it_is_released(his: His) -> None:
    his.order("NW", "7781")

    his.order("HD", "7781")
    assert his.only_order("7781").state is OrderState.HELD
    assert [step.status for step in his.steps("7781")] == [StepStatus.HELD]

    his.order("XO", "7781", modality="MR")
    assert his.only_order("7781").state is OrderState.HELD

    his.order("RL", "7781")
    assert [step.status for step in his.steps("7781")] == [StepStatus.SCHEDULED]


def siu(his: His, event: str, number: str, start: str, **more: object) -> str:
    return his.send(f"SIU^{event}", f"SCH|{number}||||||||||^^^{start}", pid("1"), **more)


def test_appointment_moves_the_time_of_the_order(his: His) -> None:
    his.order("NW", "7781")

    assert siu(his, "S13", "7781", "20260305140000") == "AA"

    [step] = his.steps("7781")
    assert step.start is not None
    assert (step.start.day, step.start.hour) == (5, 14)


def test_appointment_before_the_order_is_remembered(his: His) -> None:
    assert siu(his, "S12", "7781", "20260305140000") == "AA"

    his.order("NW", "7781", start="20260301090000")

    [step] = his.steps("7781")
    assert step.start is not None
    assert step.start.day == 5


def test_cancelled_appointment_takes_the_time_back_and_leaves_the_order(his: His) -> None:
    his.order("NW", "7781")

    siu(his, "S15", "7781", "")

    assert his.steps("7781")[0].start is None
    assert his.only_order("7781").state is OrderState.SCHEDULED


def test_older_appointment_that_comes_late_is_left(his: His) -> None:
    his.order("NW", "7781")
    siu(his, "S13", "7781", "20260305140000", at=LATER)

    siu(his, "S13", "7781", "20260304100000", at=EIGHT)

    [step] = his.steps("7781")
    assert step.start is not None
    assert step.start.day == 5


def test_arrival_marks_what_waits_for_the_patient(his: His) -> None:
    his.order("NW", "7781", "1")

    his.admit("1", event="A10")

    assert [step.status for step in his.steps("7781")] == [StepStatus.ARRIVED]


def test_first_messages_of_one_patient_at_once_make_one_patient(engine: Engine) -> None:
    his = His(engine)
    octets = [his.message("ORM^O01", *order("NW", str(number), "NEU")) for number in range(6)]
    octets += [his.message("ADT^A04", pid("NEU"), "PV1||O") for _ in range(2)]
    answers: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda one=one: answers.append(his.pipeline.answer(one, "10.1.0.5"))
        )
        for one in octets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [acknowledged(one.decode())[0] for one in answers] == ["AA"] * 8
    with transaction(engine) as session:
        assert len(orders.of_patient(session, his.patient("NEU").id)) == 6


def test_merges_and_orders_of_both_at_once_lose_nothing(his: His) -> None:
    his.admit("A")
    his.admit("B")
    octets = [
        his.message("ORM^O01", *order("NW", f"{patient}{number}", patient))
        for number in range(4)
        for patient in "AB"
    ]
    octets += [
        his.message("ADT^A40", pid("A", ""), "MRG|B"),
        his.message("ADT^A08", pid("B", "TRẦN THỊ BÍCH"), "PV1||O"),
        his.message("ADT^A08", pid("A", "NGUYỄN VĂN MẬU"), "PV1||O"),
    ]
    answers: list[str] = []

    def send(one: bytes) -> None:
        answers.append(acknowledged(his.pipeline.answer(one, "10.1.0.5").decode())[0])

    threads = [threading.Thread(target=send, args=(one,)) for one in octets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == ["AA"] * len(octets)
    with transaction(his.engine) as session:
        assert len(orders.of_patient(session, his.patient("A").id)) == 8
        told_of = merges.journal(session, his.patient("B").id)
    assert [entry.undone_at for entry in told_of] == [None]


def test_cancel_with_another_patient_than_the_order_moves_nothing(his: His) -> None:
    his.order("NW", "7781", "A")

    his.order("CA", "7781", "B", person=pid("B", "TRẦN THỊ HAI"))

    assert his.only_order("7781").patient_id == his.patient("A").id
    assert his.notices() == ["order_of_another_patient"]


@pytest.mark.parametrize("number", ["", "   ", "9" * 65])
def test_patient_without_a_usable_number_is_an_error(his: His, number: str) -> None:
    assert his.order("NW", "7781", number) == "AE"
    assert his.orders("7781") == []


def test_order_number_longer_than_any_may_be_is_an_error(his: His) -> None:
    assert his.order("NW", "9" * 300) == "AE"


def test_patient_without_a_name_is_taken(his: His) -> None:
    assert his.order("NW", "7781", "1", person="PID|||1||||") == "AA"
    assert his.patient("1").patient_name == ""
