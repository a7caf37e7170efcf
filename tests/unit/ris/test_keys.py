"""The matching of worklist keys on one entry (PS3.4 C.2.2.2)."""

import time
from typing import Any

import pytest

from ris.keys import Attributes, Matcher, is_universal
from storage.base.errors import Malformed

STEP = "ScheduledProcedureStepSequence"
ENTRY: Attributes = {
    "PatientName": "NGUYỄN^VĂN AN=阮文安",
    "PatientID": "BN-0007",
    "PatientWeight": "61.5",
    "PatientBirthDate": "19600102",
    "AccessionNumber": "A7",
    "StudyInstanceUID": "2.25.7",
    "RequestedProcedureComments": "đau \\ ho",
    "OtherPatientIDs": "CC1\\CC2",
    "MedicalAlerts": "",
    STEP: [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": "CT01\\CT02",
            "ScheduledProcedureStepStartDate": "20260105",
            "ScheduledProcedureStepStartTime": "081500",
            "ScheduledPerformingPhysicianName": "LÊ THỊ HOA",
            "ScheduledProtocolCodeSequence": [
                {"CodeValue": "P1", "CodingSchemeDesignator": "L"},
                {"CodeValue": "P2", "CodingSchemeDesignator": "DCM"},
            ],
        }
    ],
}


def matches(keyword: str, value: str, **options: Any) -> bool:
    return Matcher({keyword: value}, **options).matches(ENTRY)


DATE, TIME = f"{STEP}.ScheduledProcedureStepStartDate", f"{STEP}.ScheduledProcedureStepStartTime"
STATION, CODE = f"{STEP}.ScheduledStationAETitle", f"{STEP}.ScheduledProtocolCodeSequence"


@pytest.mark.parametrize("value", ["", "*", "***", " ", "\0", "-", "CT\\*", "**\0"])
@pytest.mark.parametrize(
    "keyword",
    ["PatientName", "PatientID", "MedicalAlerts", "StudyInstanceUID", DATE, TIME, STATION],
)
def test_universal_value_matches_everything(keyword: str, value: str) -> None:
    assert is_universal(value)
    assert matches(keyword, value)


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("PatientName", "nguyen", True),
        ("PatientName", "Nguyễn", True),
        ("PatientName", "Nguye\u0302\u0303n", True),
        ("PatientName", "AN NGUYỄN", True),
        ("PatientName", "NGUYỄN*", True),
        ("PatientName", "nguyen^van*", True),
        ("PatientName", "NGUYỄN VĂN AN^*", True),
        ("PatientName", "*vă*", True),
        ("PatientName", "NGUY?N*", True),
        ("PatientName", "阮*", True),
        ("PatientName", "NGUYỄN*=阮文安", True),
        ("PatientName", "^", True),
        ("PatientName", "NGU", False),
        ("PatientName", "VĂN*", False),
        ("PatientName", "TRẦN*", False),
        ("PatientName", "NGUYỄN*=王*", False),
        ("PatientID", "BN-0007", True),
        ("PatientID", " BN-0007 ", True),
        ("PatientID", "BN*7", True),
        ("PatientID", "BN-000?", True),
        ("PatientID", "bn-0007", False),
        ("PatientID", "BN-000", False),
        ("PatientID", "X\\BN-0007", True),
        ("PatientID", "BN-0007\\", True),
        ("PatientID", "X*\\BN-0007", True),
        ("OtherPatientIDs", "CC2", True),
        ("OtherPatientIDs", "CC3", False),
        ("MedicalAlerts", "x", False),
        ("PatientWeight", "61.50", True),
        ("PatientWeight", "62", False),
        ("PatientWeight", "sixty", False),
        ("StudyInstanceUID", "2.25.7", True),
        ("StudyInstanceUID", "2.25.8\\2.25.7", True),
        ("StudyInstanceUID", "2.25.8", False),
        ("RequestedProcedureComments", "đau \\ ho", True),
        ("RequestedProcedureComments", "*ho", True),
        ("RequestedProcedureComments", "ho", False),
        ("PatientBirthDate", "19600102", True),
        ("PatientBirthDate", "1960.01.02", True),
        ("PatientBirthDate", "1959*", None),
        (f"{STEP}.Modality", "ct", True),
        (f"{STEP}.Modality", "C?", True),
        (f"{STEP}.Modality", "MR", False),
        (f"{STEP}.Modality", "MR\\CT", True),
        (STATION, "CT02", True),
        (STATION, "CT0*", True),
        (STATION, "CT03", False),
        (f"{STEP}.ScheduledPerformingPhysicianName", "hoa", True),
        (f"{CODE}.CodeValue", "P2", True),
        (f"{CODE}.CodeValue", "P3", False),
        ("ReferencedStudySequence.ReferencedSOPInstanceUID", "2.25.1", False),
        (DATE, "20260105", True),
        (DATE, "20260101-20260105", True),
        (DATE, "20260105-", True),
        (DATE, "-20260105", True),
        (DATE, "-20260104", False),
        (DATE, "20260106-", False),
        (DATE, "20260110-20260101", False),
        (DATE, "2026-01-05", None),
        (DATE, "today", None),
        (TIME, "0815", True),
        (TIME, "08", True),
        (TIME, "0700-0815", True),
        (TIME, "081501-", False),
        (TIME, "25", None),
        ("StudyInstanceUID", "2.25.*", None),
    ],
)
def test_key_matches_by_its_vr(keyword: str, value: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(Malformed, match=keyword):
            matches(keyword, value)
    else:
        assert matches(keyword, value) is expected


def test_all_keys_of_a_sequence_are_matched_by_one_item() -> None:
    one = Matcher({f"{CODE}.CodeValue": "P2", f"{CODE}.CodingSchemeDesignator": "DCM"})
    crossed = Matcher({f"{CODE}.CodeValue": "P1", f"{CODE}.CodingSchemeDesignator": "DCM"})

    assert one.matches(ENTRY)
    assert not crossed.matches(ENTRY)
    assert len(crossed.failing(ENTRY)) == 1


@pytest.mark.parametrize(
    ("days", "moments", "expected"),
    [
        # PS3.4 Table K.6-1: two ranges are one period
        ("20260104-20260106", "1000-1800", []),
        ("20260105-20260106", "1000-0600", [TIME]),
        ("20260104-20260105", "1000-0800", [TIME]),
        ("20260104-20260105", "1000-0815", []),
        ("20260104-", "1000-", []),
        ("20260105-", "1000-", [TIME]),
        ("-20260105", "-0800", [TIME]),
        ("20260106-20260107", "0000-2359", [DATE]),
        # one of them is none
        ("20260105", "1000-1800", [TIME]),
        ("20260104-20260106", "10", [TIME]),
    ],
)
def test_two_ranges_of_date_and_time_are_one_period(
    days: str, moments: str, expected: list[str]
) -> None:
    assert Matcher({DATE: days, TIME: moments}).failing(ENTRY) == expected


def test_combined_matching_takes_single_values_as_a_period_too() -> None:
    keys = {DATE: "20260104-20260106", TIME: "10"}

    assert Matcher(keys, combined_datetime=True).failing(ENTRY) == []


def test_step_without_a_time_is_in_a_period_of_its_day() -> None:
    entry: Attributes = {STEP: [{"ScheduledProcedureStepStartDate": "20260105"}]}

    assert Matcher({DATE: "20260105-20260106", TIME: "1000-1800"}).matches(entry)
    assert not Matcher({DATE: "20260105", TIME: "1000-1800"}).matches(entry)


def test_every_key_that_excludes_is_named() -> None:
    keys = {"PatientID": "X", "PatientName": "nguyen", STATION: "MR01", f"{STEP}.Modality": "MR"}

    assert Matcher(keys).failing(ENTRY) == ["PatientID", STATION, f"{STEP}.Modality"]


def test_words_of_a_name_are_beginnings_in_fuzzy_matching() -> None:
    assert not matches("PatientName", "ngu")
    assert matches("PatientName", "ngu v", fuzzy=True)
    assert not matches("PatientName", "ngu x", fuzzy=True)


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID"])
def test_pattern_of_many_stars_does_not_stall(keyword: str) -> None:
    entry: Attributes = {keyword: "A" * 64}
    hostile = Matcher({keyword: "*A" * 60 + "*B"})
    started = time.monotonic()

    assert not any(hostile.matches(entry) for _ in range(100))
    assert time.monotonic() - started < 1
