from collections.abc import Mapping
from typing import Any

import pytest

from storage.archive.model import Level
from viewer_api.dicomweb import parameters, results

URL = "https://pacs.example.vn/dicom-web"
STUDY = {
    "StudyInstanceUID": "1.2",
    "PatientName": "NGUYỄN^VĂN AN=漢字",
    "PatientID": "P1",
    "StudyDate": "20260701",
    "ModalitiesInStudy": ("CT", "SR"),
    "NumberOfStudyRelatedInstances": 7,
    "AccessionNumber": "",
    "PatientWeight": "72.5",
    "StudyDescription": "Ngực",
    "TimezoneOffsetFromUTC": "",
}


def answer(
    match: Mapping[str, Any], level: Level = Level.STUDY, query: str = "", **parents: str
) -> dict[str, Any]:
    asked = parameters.parse(query, level, parents, 100)
    return results.dataset(match, results.wanted(asked, parents), level, URL)


def test_study_has_what_the_standard_demands() -> None:
    found = answer(STUDY)

    assert found == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080020": {"vr": "DA", "Value": ["20260701"]},
        "00080030": {"vr": "TM"},
        "00080050": {"vr": "SH"},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00080090": {"vr": "PN"},
        "00081190": {"vr": "UR", "Value": [f"{URL}/studies/1.2"]},
        "00100010": {
            "vr": "PN",
            "Value": [{"Alphabetic": "NGUYỄN^VĂN AN", "Ideographic": "漢字"}],
        },
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA"},
        "00100040": {"vr": "CS"},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "00200010": {"vr": "SH"},
        "00201206": {"vr": "IS"},
        "00201208": {"vr": "IS", "Value": [7]},
    }
    assert list(found) == sorted(found)


def test_asked_and_matched_attributes_are_returned() -> None:
    found = answer(STUDY, query="includefield=StudyDescription&PatientWeight=&00091001=x")

    assert found["00081030"] == {"vr": "LO", "Value": ["Ngực"]}
    assert found["00101030"] == {"vr": "DS", "Value": [72.5]}
    assert "00091001" not in found


def test_all_returns_every_attribute_of_the_level() -> None:
    found = answer(STUDY, query="includefield=all")

    assert {"00081030", "00101030", "00080080"} <= found.keys()


def test_series_below_a_study_leaves_the_study_out() -> None:
    match = {**STUDY, "SeriesInstanceUID": "1.2.3", "Modality": "CT", "SeriesNumber": 4}

    inside = answer(match, Level.SERIES, StudyInstanceUID="1.2")
    alone = answer(match, Level.SERIES)

    assert "00100010" not in inside
    assert alone["00100010"]["vr"] == "PN"
    assert inside["00081190"]["Value"] == [f"{URL}/studies/1.2/series/1.2.3"]
    assert inside["00200011"] == {"vr": "IS", "Value": [4]}


@pytest.mark.parametrize(
    ("steps", "procedures", "items"),
    [
        ("", "", None),
        (("S1",), ("R1",), [("S1", "R1")]),
        (("S1", "S2"), ("R1",), [("S1", "R1"), ("S2", None)]),
        ("S1", "", [("S1", None)]),
    ],
)
def test_attributes_of_a_sequence_stand_in_its_items(
    steps: object, procedures: object, items: list[tuple[str, str]] | None
) -> None:
    match = {
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "RequestAttributesSequence.ScheduledProcedureStepID": steps,
        "RequestAttributesSequence.RequestedProcedureID": procedures,
    }

    sequence = answer(match, Level.SERIES)["00400275"]

    found = [
        tuple(item.get(tag, {}).get("Value", [None])[0] for tag in ("00400009", "00401001"))
        for item in sequence.get("Value", [])
    ]
    assert found == (items or [])
    assert ("Value" in sequence) is (items is not None)


def test_instance_has_pixel_facts_only_when_there_are_any() -> None:
    match = {
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "SOPInstanceUID": "1.2.3.4",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Rows": 512,
        "Columns": "",
        "AvailableTransferSyntaxUID": "1.2.840.10008.1.2.1",
    }

    found = answer(match, Level.IMAGE, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")

    assert found["00280010"] == {"vr": "US", "Value": [512]}
    assert found["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert "00280011" not in found
    assert found["00200013"] == {"vr": "IS"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.5", {"vr": "DS", "Value": [1.5]}),
        ("70", {"vr": "DS", "Value": [70]}),
        ("0", {"vr": "DS", "Value": [0]}),
        ("heavy", {"vr": "DS", "Value": ["heavy"]}),
        ("nan", {"vr": "DS", "Value": ["nan"]}),
        ("1e400", {"vr": "DS", "Value": ["1e400"]}),
        ("", {"vr": "DS"}),
        (0, {"vr": "DS", "Value": [0]}),
    ],
)
def test_decimal_strings_are_numbers_where_they_are(value: object, expected: object) -> None:
    found = answer({"StudyInstanceUID": "1.2", "PatientWeight": value}, query="PatientWeight=")

    assert found["00101030"] == expected
