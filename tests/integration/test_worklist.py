"""The worklist on the real tables: every matching key, what is left unsaid, the entries."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pacs.scp.worklist_keys import ATTRIBUTES
from ris import worklist
from ris.tables import PatientRow, ProcedureRow, VisitRow
from ris.worklist import MATCHED, SHOWN, STATION, STATUS, STEP, Query, find_steps, finding
from storage.base.errors import Malformed
from storage.db.engine import Engine, Session, transaction
from tests.fixtures.orders import AT, add_step, person, place

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as opened:
        yield opened


def find(session: Session, keys: Mapping[str, str] | None = None, **options: Any) -> list[str]:
    """Return the accession numbers of the entries in order."""
    entries = find_steps(session, Query(keys or {}, **options), 1000, ZONE)
    return [str(entry["AccessionNumber"]) for entry in entries]


@pytest.fixture
def two(session: Session) -> Session:
    """Two steps that have no value in common."""
    place(
        session,
        1,
        order={
            "requesting_physician": "BS01^LÊ^HOA",
            "requesting_service": "Khoa Nội",
            "institution": "BVDK",
            "placer_issuer": "HIS1",
            "accession_issuer": "HIS1",
            "reason_code": "J18",
            "reason_meaning": "Viêm phổi",
            "transport": "WALK",
            "danger": "Khó thở",
            "clinical_information": "Ho ra máu",
            "confidentiality": "V",
            "comments": "Chụp trước 9 giờ",
            "issued_at": datetime(2026, 1, 4, 17, 0),
        },
        step={
            "station_name": "Phòng CT",
            "location": "Tầng 1",
            "performing_physician": "TRẦN VĂN BA",
            "protocol_code": "CT1",
            "protocol_scheme": "99L",
            "protocol_meaning": "Ngực",
            "description": "CLVT ngực",
            "end": datetime(2026, 1, 5, 8, 30),
            "further": {"PreMedication": "không", "CommentsOnTheScheduledProcedureStep": "x"},
        },
        procedure={
            "description": "Chụp CLVT ngực",
            "further": {"RequestedProcedureLocation": "P1"},
        },
    )
    other = person(
        session,
        2,
        "TYT01",
        patient_name="TRẦN^THỊ BÌNH",
        patient_birth_date=date(1971, 5, 6),
        patient_birth_date_sent="19710506",
        patient_sex="F",
        patient_address="Phan Thiết",
        patient_telephone="0901",
        mother_name="LÊ THỊ",
        ethnic_group="Kinh",
    )
    visit = VisitRow(
        patient_ref=other,
        sender="his",
        admission_id="V2",
        location="K03",
        referring_physician="NGÔ VĂN TƯ",
        pregnant=True,
        status="ADMITTED",
        created_at=AT,
        changed_at=AT,
    )
    session.add(visit)
    session.flush()
    place(
        session,
        2,
        patient=other,
        order={"priority": "STAT", "visit_ref": visit.id},
        procedure={"code": "18.0300", "meaning": "MRI sọ não"},
        step={
            "modality": "MR",
            "station_ae_titles": ["MR01", "MR02"],
            "start": datetime(2026, 1, 6, 9, 45, 30),
            "status": "ARRIVED",
        },
    )
    return session


@pytest.mark.parametrize(
    ("keyword", "first", "second"),
    [
        ("PatientName", "nguyễn*", "Bình Trần"),
        ("PatientID", "BN-1", "BN-2"),
        ("PatientID", "*1", "*-2"),
        ("IssuerOfPatientID", "BVDK", "TYT01"),
        ("PatientBirthDate", "19600302", "1971.05.06"),
        ("PatientBirthDate", "-19601231", "19610101-"),
        ("PatientSex", "M", "f"),
        ("PatientAge", "065Y", "054Y"),
        ("PatientAddress", None, "Phan*"),
        ("PatientTelephoneNumbers", None, "0901"),
        ("PatientMotherBirthName", None, "Lê"),
        ("EthnicGroup", None, "Kinh"),
        ("PregnancyStatus", None, "3"),
        ("AdmissionID", None, "V2"),
        ("CurrentPatientLocation", None, "K0?"),
        ("VisitStatusID", None, "ADMITTED"),
        ("ReferringPhysicianName", "HOA", "ngo van tu"),
        ("AccessionNumber", "A1", "A2"),
        ("AccessionNumber", "*1", "?2"),
        ("IssuerOfAccessionNumberSequence.LocalNamespaceEntityID", "HIS1", None),
        ("PlacerOrderNumberImagingServiceRequest", "7781001", "7781002"),
        ("FillerOrderNumberImagingServiceRequest", "F1", "F2"),
        ("OrderPlacerIdentifierSequence.LocalNamespaceEntityID", "HIS1", None),
        ("RequestingPhysician", "le hoa", None),
        ("RequestingService", "Khoa*", None),
        ("InstitutionName", "BVDK", None),
        ("IssueDateOfImagingServiceRequest", "20260104", None),
        ("IssueTimeOfImagingServiceRequest", "17", None),
        ("ConfidentialityConstraintOnPatientDataDescription", "V", None),
        ("PatientState", "Khó thở", None),
        ("MedicalAlerts", "Ho ra*", None),
        ("AdditionalPatientHistory", "*máu", None),
        ("RequestedProcedureID", "R1", "R2"),
        ("RequestedProcedureDescription", "Chụp CLVT ngực", "MRI*"),
        ("RequestedProcedureCodeSequence.CodeValue", "18.0219", "18.0300"),
        ("RequestedProcedureCodeSequence.CodeMeaning", "Chụp*", "*não"),
        ("RequestedProcedurePriority", "ROUTINE", "STAT"),
        ("RequestedProcedureComments", "*9 giờ", None),
        ("PatientTransportArrangements", "WALK", None),
        ("ReasonForTheRequestedProcedure", "Viêm phổi", None),
        ("ReasonForRequestedProcedureCodeSequence.CodeValue", "J18", None),
        ("StudyInstanceUID", "2.25.1", "2.25.9\\2.25.2"),
        (f"{STEP}.Modality", "CT", "mr"),
        (f"{STEP}.ScheduledStationAETitle", "CT01", "MR02"),
        (f"{STEP}.ScheduledStationAETitle", "CT*", "X\\MR01"),
        (f"{STEP}.ScheduledProcedureStepStartDate", "20260105", "20260106-20260106"),
        (f"{STEP}.ScheduledProcedureStepStartDate", "-20260105", "20260106-"),
        (f"{STEP}.ScheduledProcedureStepStartTime", "0815", "094530"),
        (f"{STEP}.ScheduledProcedureStepStartTime", "08-0900", "0900-"),
        (f"{STEP}.ScheduledProcedureStepEndDate", "20260105", None),
        (f"{STEP}.ScheduledProcedureStepEndTime", "0830", None),
        (f"{STEP}.ScheduledPerformingPhysicianName", "Trần Văn Ba", None),
        (f"{STEP}.ScheduledProcedureStepDescription", "CLVT*", None),
        (f"{STEP}.ScheduledProtocolCodeSequence.CodeValue", "CT1", None),
        (f"{STEP}.ScheduledProtocolCodeSequence.CodingSchemeDesignator", "99L", None),
        (f"{STEP}.ScheduledStationName", "Phòng CT", None),
        (f"{STEP}.ScheduledProcedureStepLocation", "Tầng 1", None),
        (f"{STEP}.ScheduledProcedureStepID", "S1", "S2"),
        (f"{STEP}.ScheduledProcedureStepStatus", "SCHEDULED", "arrived"),
        (f"{STEP}.PreMedication", "không", None),
        (f"{STEP}.CommentsOnTheScheduledProcedureStep", "x", None),
    ],
)
def test_each_key_finds_its_step_and_no_other(
    two: Session, keyword: str, first: str | None, second: str | None
) -> None:
    assert keyword in MATCHED
    if first is not None:
        assert find(two, {keyword: first}) == ["A1"]
    if second is not None:
        assert find(two, {keyword: second}) == ["A2"]


@pytest.mark.parametrize("value", ["", "*", "**", "-", " "])
def test_console_that_sends_the_same_in_every_key_gets_everything(two: Session, value: str) -> None:
    assert find(two, dict.fromkeys(MATCHED, value)) == ["A1", "A2"]


def test_keys_that_no_entry_has_ask_for_nothing(two: Session) -> None:
    keys = {"Occupation": "x", "StudyDate": "19990101", "PatientSpeciesDescription": "dog", "": "1"}

    assert find(two, keys) == ["A1", "A2"]


def test_every_key_that_is_matched_is_an_attribute_of_the_service() -> None:
    assert ATTRIBUTES.keys() >= MATCHED


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        (f"{STEP}.ScheduledProcedureStepStartDate", "5/1/2026"),
        (f"{STEP}.ScheduledProcedureStepStartTime", "25"),
        ("StudyInstanceUID", "S1"),
        ("PatientBirthDate", "1960"),
        ("TimezoneOffsetFromUTC", "+25"),
    ],
)
def test_value_that_cannot_be_read_is_named(session: Session, keyword: str, value: str) -> None:
    with pytest.raises(Malformed, match=keyword):
        find(session, {keyword: value})


def test_reversed_range_finds_nothing(two: Session) -> None:
    assert find(two, {worklist.START_DATE: "20260110-20260101"}) == []
    assert find(two, {worklist.START_TIME: "1800-0800"}) == []


@pytest.mark.parametrize("days", ["00010101-99991231", "-99991231", "00010101-"])
def test_dates_at_the_ends_of_the_calendar_are_taken(two: Session, days: str) -> None:
    assert find(two, {worklist.START_DATE: days}) == ["A1", "A2"]
    assert find(two, {worklist.START_DATE: days, "TimezoneOffsetFromUTC": "+0000"}) == ["A1", "A2"]


# What is left unsaid


def test_console_without_a_station_key_gets_its_own_station(two: Session) -> None:
    assert find(two, calling_ae_title="CT01") == ["A1"]
    assert find(two, {STATION: "*"}, calling_ae_title="MR02") == ["A2"]
    assert find(two, calling_ae_title="US01") == []


def test_console_that_names_a_station_gets_that(two: Session) -> None:
    assert find(two, {STATION: "MR01"}, calling_ae_title="CT01") == ["A2"]


def test_console_may_be_allowed_every_station(two: Session) -> None:
    assert find(two, calling_ae_title="CT01", every_station=True) == ["A1", "A2"]


def test_step_of_any_station_is_one_of_the_station_that_asks(session: Session) -> None:
    place(session, 3, step={"station_ae_titles": []})

    [entry] = find_steps(session, Query({}, "CT77"), 10, ZONE)

    assert entry[STEP][0]["ScheduledStationAETitle"] == "CT77"  # type: ignore[index]
    assert find(session, {STATION: "CT78"}, calling_ae_title="CT77") == ["A3"]
    assert find(session, {STATION: "CT*"}, calling_ae_title="CT77") == ["A3"]
    assert find(session, {STATION: "MR*"}, calling_ae_title="CT77") == []


def test_station_that_is_asked_for_comes_first(two: Session) -> None:
    [entry] = find_steps(two, Query({STATION: "MR02"}), 10, ZONE)

    assert entry[STEP][0]["ScheduledStationAETitle"] == "MR02\\MR01"  # type: ignore[index]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("SCHEDULED", True),
        ("ARRIVED", True),
        ("READY", True),
        ("STARTED", True),
        ("HELD", False),
        ("COMPLETED", False),
        ("DISCONTINUED", False),
        ("CANCELED", False),
    ],
)
def test_step_is_shown_while_it_is_to_be_done(
    session: Session, status: str, *, shown: bool
) -> None:
    place(session, 1, step={"status": status})

    assert (find(session) == ["A1"]) is shown
    assert find(session, {STATUS: status}) == ["A1"]
    assert (status in SHOWN) is shown


def test_cancelled_procedure_is_not_shown(session: Session) -> None:
    place(session, 1, procedure={"canceled": True})

    assert find(session) == []


def test_step_without_a_modality_is_shown_at_its_station_alone(session: Session) -> None:
    place(session, 1, step={"modality": ""})
    place(session, 2, step={"modality": "", "station_ae_titles": []})

    assert find(session) == ["A1"]
    assert find(session, {f"{STEP}.Modality": "CT"}, calling_ae_title="CT01") == ["A1"]
    [entry] = find_steps(session, Query({f"{STEP}.Modality": "ct"}), 10, ZONE)
    [step] = entry[STEP]
    assert isinstance(step, dict)
    assert step["Modality"] == "CT"


# Entries


def test_entry_has_every_attribute_that_is_known(two: Session) -> None:
    first, second = find_steps(two, Query(), 10, ZONE)

    assert first["PatientName"] == "NGUYỄN^VĂN AN"
    assert (first["PatientID"], first["IssuerOfPatientID"]) == ("BN-1", "BVDK")
    assert (first["PatientBirthDate"], first["PatientSex"]) == ("19600302", "M")
    assert first["RequestedProcedureLocation"] == "P1"
    assert first["IssuerOfAccessionNumberSequence"] == ({"LocalNamespaceEntityID": "HIS1"},)
    [step] = first[STEP]
    assert isinstance(step, dict)
    assert step == {
        "ScheduledStationAETitle": "CT01",
        "ScheduledProcedureStepStartDate": "20260105",
        "ScheduledProcedureStepStartTime": "081500",
        "ScheduledProcedureStepEndDate": "20260105",
        "ScheduledProcedureStepEndTime": "083000",
        "Modality": "CT",
        "ScheduledPerformingPhysicianName": "TRẦN VĂN BA",
        "ScheduledProcedureStepDescription": "CLVT ngực",
        "ScheduledProtocolCodeSequence": (
            {"CodeValue": "CT1", "CodingSchemeDesignator": "99L", "CodeMeaning": "Ngực"},
        ),
        "ScheduledStationName": "Phòng CT",
        "ScheduledProcedureStepLocation": "Tầng 1",
        "ScheduledProcedureStepID": "S1",
        "ScheduledProcedureStepStatus": "SCHEDULED",
        "PreMedication": "không",
        "RequestedContrastAgent": "",
        "CommentsOnTheScheduledProcedureStep": "x",
    }
    assert second["AdmissionID"] == "V2"
    # type 1 and 1C: consoles drop an entry without them
    for keyword in ("StudyInstanceUID", "RequestedProcedureID", "RequestedProcedureDescription"):
        assert second[keyword]


def test_steps_come_earliest_first_and_no_more_than_are_wanted(session: Session) -> None:
    for number, hour in ((1, 12), (2, 7), (3, 9)):
        place(session, number, step={"start": datetime(2026, 1, 5, hour)})

    entries = [*find_steps(session, Query(), 2, ZONE)]

    assert [entry["AccessionNumber"] for entry in entries] == ["A2", "A3"]


def test_limit_counts_entries_that_match(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "PAGE", 2)
    for number in range(1, 8):
        place(session, number, order={"priority": "STAT" if number % 3 == 0 else "ROUTINE"})

    assert find(session, {"RequestedProcedurePriority": "STAT"}) == ["A3", "A6"]


def test_pages_are_read_in_transactions_of_their_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PAGE", 2)
    with transaction(engine) as session:
        for number in range(1, 6):
            place(session, number)

    found = worklist.iterate(engine, Query(), 4, ZONE)

    assert [entry["AccessionNumber"] for entry in found] == ["A1", "A2", "A3", "A4"]


def test_patient_who_was_merged_is_shown_as_the_survivor(session: Session) -> None:
    prior, survivor = person(session, 1), person(session, 2, patient_name="LÊ VĂN CƯỜNG")
    place(session, 1, patient=prior)
    row = session.get(PatientRow, prior)
    assert row is not None
    row.root_ref = row.merged_into = survivor
    session.flush()

    [entry] = find_steps(session, Query({"PatientName": "lê cường"}), 10, ZONE)

    assert (entry["PatientName"], entry["PatientID"]) == ("LÊ VĂN CƯỜNG", "BN-2")
    assert find(session, {"PatientID": "BN-2"}) == ["A1"]
    assert find(session, {"PatientID": "BN-1"}) == []


def test_year_of_birth_gives_an_age_and_no_date(session: Session) -> None:
    patient = person(session, 1, patient_birth_date=None, patient_birth_date_sent="1951")
    place(session, 1, patient=patient)

    [entry] = find_steps(session, Query(), 10, ZONE)

    assert (entry["PatientBirthDate"], entry["PatientAge"]) == ("", "075Y")


def test_backslash_in_a_text_does_not_make_two_values(session: Session) -> None:
    place(session, 1, procedure={"description": "CT ngực \\ bụng\r\ncó cản quang"})

    [entry] = find_steps(session, Query(), 10, ZONE)

    assert entry["RequestedProcedureDescription"] == "CT ngực / bụng có cản quang"


def test_several_steps_of_a_procedure_are_entries_of_their_own(session: Session) -> None:
    placed = place(session, 1)
    procedure = session.get(ProcedureRow, placed.procedure)
    assert procedure is not None
    add_step(session, procedure, 2, modality="US")

    assert find(session) == ["A1", "A1"]
    assert find(session, {f"{STEP}.Modality": "US"}) == ["A1"]


# Time zone


def test_query_of_another_clock_is_answered_by_that(session: Session) -> None:
    place(session, 1, step={"start": datetime(2026, 1, 5, 3, 0)})  # 4 January, 20:00 UTC
    in_utc = {"TimezoneOffsetFromUTC": "+0000"}

    assert find(session, {worklist.START_DATE: "20260105"}) == ["A1"]
    assert find(session, {worklist.START_DATE: "20260105", **in_utc}) == []
    [entry] = find_steps(session, Query({worklist.START_DATE: "20260104", **in_utc}), 1, ZONE)
    [step] = entry[STEP]
    assert isinstance(step, dict)
    assert step["ScheduledProcedureStepStartTime"] == "200000"
    assert entry["TimezoneOffsetFromUTC"] == "+0000"


def test_hospital_clock_is_told(two: Session) -> None:
    [entry] = find_steps(two, Query({"PatientID": "BN-1", "TimezoneOffsetFromUTC": ""}), 1, ZONE)

    assert entry["TimezoneOffsetFromUTC"] == "+0700"
