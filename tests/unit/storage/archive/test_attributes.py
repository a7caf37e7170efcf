import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from storage.archive.attributes import ATTRIBUTES, REQUIRED, STORED, Matching, of_level, visible
from storage.archive.model import Level

# PS3.18 Tables 10.6.1-1 and 10.6.3-3 to -5: what QIDO-RS must match and return
REQUIRED_MATCHING = {
    Level.STUDY: {
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ModalitiesInStudy",
        "ReferringPhysicianName",
        "PatientName",
        "PatientID",
        "StudyInstanceUID",
        "StudyID",
    },
    Level.SERIES: {
        "Modality",
        "SeriesInstanceUID",
        "SeriesNumber",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "RequestAttributesSequence.RequestedProcedureID",
    },
    Level.IMAGE: {"SOPClassUID", "SOPInstanceUID", "InstanceNumber"},
}
REQUIRED_RETURN = {
    Level.STUDY: {
        "PatientBirthDate",
        "PatientSex",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    },
    Level.SERIES: {"SeriesDescription", "NumberOfSeriesRelatedInstances"},
    Level.IMAGE: {"Rows", "Columns", "BitsAllocated", "NumberOfFrames"},
}
VRS = {
    Matching.UID: {"UI"},
    Matching.NAME: {"PN"},
    Matching.DATE: {"DA"},
    Matching.TIME: {"TM"},
    Matching.INTEGER: {"IS", "US"},
    Matching.TEXT: {"LO", "LT", "SH", "CS"},
    Matching.LIST: {"CS", "UI"},
}


@pytest.mark.parametrize("row", ATTRIBUTES, ids=lambda row: f"{row.level} {row.keyword}")
def test_tag_and_vr_are_those_of_the_dictionary(row) -> None:
    keywords = row.keyword.split(".")

    assert [*row.path] == [tag_for_keyword(keyword) for keyword in keywords]
    assert row.vr == dictionary_VR(row.tag)
    assert all(dictionary_VR(parent) == "SQ" for parent in row.path[:-1])


@pytest.mark.parametrize("row", ATTRIBUTES, ids=lambda row: f"{row.level} {row.keyword}")
def test_matching_fits_the_vr(row) -> None:
    assert row.matching is Matching.NONE or row.vr in VRS[row.matching]


@pytest.mark.parametrize("row", ATTRIBUTES, ids=lambda row: f"{row.level} {row.keyword}")
def test_received_values_are_several_where_the_standard_says_so(row) -> None:
    if row.received:
        in_a_sequence = len(row.path) > 1
        assert row.multiple == (in_a_sequence or dictionary_VM(row.tag) != "1")


@pytest.mark.parametrize("level", REQUIRED_MATCHING)
def test_keys_that_qido_requires_are_matched(level: Level) -> None:
    matched = {row.keyword for row in visible(level).values() if row.matching is not Matching.NONE}

    assert REQUIRED_MATCHING[level] <= matched
    assert REQUIRED_RETURN[level] <= visible(level).keys()


def test_a_keyword_stands_once_at_a_level() -> None:
    for level in Level:
        keywords = [row.keyword for row in of_level(level)]
        columns = [row.column for row in of_level(level) if row.column]
        assert len(keywords) == len({*keywords})
        assert len(columns) == len({*columns})


def test_a_level_sees_what_is_above_and_the_nearer_first() -> None:
    assert "PatientName" in visible(Level.IMAGE)
    assert "Modality" not in visible(Level.STUDY)
    assert visible(Level.STUDY)["InstitutionName"].level is Level.STUDY
    assert visible(Level.IMAGE)["InstitutionName"].level is Level.SERIES


def test_required_keywords_are_stored_and_computed_ones_are_not() -> None:
    assert set(REQUIRED) <= STORED
    assert not STORED & {"ModalitiesInStudy", "NumberOfStudyRelatedInstances"}
