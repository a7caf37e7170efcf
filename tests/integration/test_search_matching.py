"""Each kind of matching of PS3.4 C.2.2.2, on the real index."""

import pytest

from storage.archive import search
from storage.archive.attributes import visible
from storage.archive.model import Level, Query
from storage.base.errors import Malformed
from storage.db.engine import Session, transaction
from tests.fixtures.index import MR, Index, received

NAMES = {
    "1": "NGUYỄN^VĂN AN",
    "2": "TRẦN THỊ BÌNH",
    "3": "JOHNNY^B",
    "4": "DOE^JOHN",
    "5": "DOE",
    "6": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "7": "100%_A!B^C",
    "8": "",
}


def found(index: Index, *, fuzzy: bool = False, **keys: str) -> str:
    """Return the last parts of the Study Instance UIDs that match, in order, as one text."""
    uids = index.uids(Level.STUDY, fuzzy=fuzzy, **keys)
    return "".join(sorted(uid.removeprefix("2.25.") for uid in uids))


@pytest.fixture
def named(index: Index) -> Index:
    index.record(*(received(study=n, PatientID=n, PatientName=name) for n, name in NAMES.items()))
    return index


@pytest.mark.parametrize(
    ("key", "studies"),
    [
        ("nguyen", "1"),
        ("NGUYỄN", "1"),
        ("an nguyen", "1"),
        ("Nguyễn^An^Văn", "1"),
        ("JOHN", "4"),
        ("john^doe", "4"),
        ("doe", "45"),
        ("doe doe", "45"),
        ("NGUY", ""),
        ("nguyen an binh", ""),
        ("山田", "6"),
        ("たろう", "6"),
        ("yamada=山田", "6"),
        ("yamada=鈴木", ""),
        ("100%", "7"),
        ("100_", ""),
        ("binh\\johnny", "23"),
        ("", "12345678"),
        ("*", "12345678"),
        ("**", "12345678"),
        ("^^", "12345678"),
    ],
)
def test_name_without_wild_card_matches_whole_words_in_any_order(
    named: Index, key: str, studies: str
) -> None:
    assert found(named, PatientName=key) == studies


@pytest.mark.parametrize(
    ("key", "studies"),
    [
        ("NGU*", "1"),
        ("nguyễn^v*", "1"),
        ("NGUYEN VAN*", "1"),
        ("*an", "1"),
        ("*^an", "1"),
        ("AN*", ""),
        ("DOE^J*", "4"),
        ("DOE^*", "45"),
        ("DOE*", "45"),
        ("D?E", "5"),
        ("D?E^J???", "4"),
        ("DOE^JOHN^^^", "4"),
        ("*N*^*B*", "23"),
        ("*TH*B*", "2"),
        ("山*", "6"),
        ("*太*", "6"),
        ("た*", ""),
        ("*たろ?", "6"),
        ("Y*=山*", "6"),
        ("Y*=鈴*", ""),
        ("Y*太*", ""),
        ("100%*", "7"),
        ("10_%*", ""),
        ("*!b*", "7"),
        ("*QZ*", ""),
        ("*\\", "12345678"),
        ("JO*\\TR*", "23"),
    ],
)
def test_name_pattern_is_anchored_in_one_group(named: Index, key: str, studies: str) -> None:
    assert found(named, PatientName=key) == studies


@pytest.mark.parametrize(
    ("key", "studies"),
    [("ngu", "1"), ("a ngu", "1"), ("JOHN", "34"), ("b", "23"), ("ohn", ""), ("太", "6")],
)
def test_fuzzy_name_matches_beginnings_of_words(named: Index, key: str, studies: str) -> None:
    assert found(named, fuzzy=True, PatientName=key) == studies


def test_names_match_alike_at_every_level(named: Index) -> None:
    for level in Level:
        assert len(named.uids(level, PatientName="an nguyen")) == 1
        assert len(named.uids(level, PatientName="DOE^*")) == 2


@pytest.fixture
def described(index: Index) -> Index:
    index.record(
        received(study="1", StudyDescription="CT abdomen", PatientID="A_1", AccessionNumber="1"),
        received(study="2", StudyDescription="ct Abdomen", PatientID="AB1", AccessionNumber="2"),
        received(study="3", StudyDescription="100% \\ done", PatientID="a_1", AccessionNumber=""),
        received(
            study="4",
            StudyDescription="",
            PatientID="x" * 70 + "1",
            AccessionNumber="9" * 70 + "1",
            PatientComments="a\\b",
            PatientSex="F",
        ),
    )
    return index


@pytest.mark.parametrize(
    ("keys", "studies"),
    [
        ({"StudyDescription": "CT abdomen"}, "1"),
        ({"StudyDescription": "CT*"}, "1"),
        ({"StudyDescription": "?t ?bdomen"}, "2"),
        ({"StudyDescription": "*ABDOMEN"}, ""),
        ({"StudyDescription": "*bdo*"}, "12"),
        ({"StudyDescription": "*%*"}, "3"),
        ({"StudyDescription": "CT abdomen\\ct*"}, "12"),
        ({"StudyDescription": " CT abdomen "}, "1"),
        ({"StudyDescription": "CT_abdomen"}, ""),
        ({"PatientID": "A_1"}, "1"),
        ({"PatientID": "A_*"}, "1"),
        ({"PatientID": "A?1"}, "12"),
        ({"PatientID": "?_1"}, "13"),
        ({"PatientID": "A_1\\AB1"}, "12"),
        ({"PatientID": "x" * 70}, ""),
        ({"PatientID": "x" * 70 + "1"}, "4"),
        ({"PatientID": "x" * 70 + "*"}, "4"),
        ({"PatientID": "x" * 70 + "2"}, ""),
        ({"AccessionNumber": "9*"}, "4"),
        ({"AccessionNumber": "9" * 70 + "1\\2"}, "24"),
        ({"AccessionNumber": "?"}, "12"),
        ({"PatientComments": "a\\b"}, "4"),
        ({"PatientComments": "a"}, ""),
        ({"PatientSex": "F"}, "4"),
        ({"PatientSex": "f"}, ""),
        ({"StudyDescription": "CT abdomen", "PatientID": "AB1"}, ""),
    ],
    ids=str,
)
def test_text_matches_case_sensitively_with_wild_cards(
    described: Index, keys: dict[str, str], studies: str
) -> None:
    assert found(described, **keys) == studies


@pytest.fixture
def dated(index: Index) -> Index:
    times = {
        "1": ("20240101", "0700"),
        "2": ("20240102", "065959.5"),
        "3": ("20240103", "235959.999999"),
        "4": ("20240103", ""),
        "5": ("", "0700"),
        "6": ("", ""),
        "7": ("19991231", "07"),
    }
    index.record(
        *(received(study=n, StudyDate=day, StudyTime=hour) for n, (day, hour) in times.items())
    )
    return index


@pytest.mark.parametrize(
    ("days", "hours", "studies"),
    [
        ("20240101", "", "1"),
        ("20240101-20240102", "", "12"),
        ("20240103-", "", "34"),
        ("-20240101", "", "17"),
        ("2024.01.01-2024.01.02", "", "12"),
        ("20240102-20240101", "", ""),
        ("19990101-20241231", "", "12347"),
        ("20240101\\20240103", "", "134"),
        ("*", "", "1234567"),
        ("", "07", "157"),
        ("", "0700", "157"),
        ("", "070000.000000", "157"),
        ("", "07-", "1357"),
        ("", "-0659", "2"),
        ("", "06-0659", "2"),
        ("", "06:59:59.5", "2"),
        ("", "1000-0900", ""),
        ("20240101-20240103", "0000-0659", "2"),
    ],
)
def test_ranges_of_dates_and_times_are_independent(
    dated: Index, days: str, hours: str, studies: str
) -> None:
    assert found(dated, StudyDate=days, StudyTime=hours) == studies


@pytest.mark.parametrize(
    ("days", "hours", "studies"),
    [
        ("20240101-20240103", "0700-0659", "124"),
        ("20240101-20240102", "0701-0700", "2"),
        ("20240103-", "2359-", "34"),
        ("-20240101", "-0700", "17"),
        ("20240101", "0600-0700", "1"),
        ("20240103", "00-01", "4"),
        ("20240101-20240103", "", "1234"),
        ("", "07", "157"),
        ("20240101\\20240103", "07", "1"),
    ],
)
def test_combined_date_and_time_are_one_interval(
    dated: Index, days: str, hours: str, studies: str
) -> None:
    query = Query(Level.STUDY, {"StudyDate": days, "StudyTime": hours}, combined_datetime=True)

    with transaction(dated.engine) as session:
        page = search.find(session, query, limit=100)

    assert "".join(sorted(match["StudyInstanceUID"][-1] for match in page.matches)) == studies


@pytest.fixture
def mixed(index: Index) -> Index:
    index.record(
        received("1", "1", "1", InstanceNumber="7", ImageType="ORIGINAL\\PRIMARY\\AXIAL"),
        received("2", "1", "1", InstanceNumber="007", ImageType="DERIVED\\SECONDARY"),
        received("3", "2", "1", InstanceNumber="", SeriesNumber="-2", Modality="SR"),
        received(
            "4",
            "1",
            "2",
            SOPClassUID=MR,
            Modality="MR",
            OperatorsName="LÊ^A\\TRẦN^B",
            RequestAttributesSequence__ScheduledProcedureStepID="S1\\S2",
            OtherPatientIDs="X1\\X2",
            InstitutionName="BV A",
            PatientID="BN2",
        ),
    )
    return index


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ({"InstanceNumber": "7"}, "12"),
        ({"InstanceNumber": "+07"}, "12"),
        ({"InstanceNumber": "7\\4"}, "124"),
        ({"InstanceNumber": "99999999999"}, ""),
        ({"SeriesNumber": "-2"}, "3"),
        ({"ModalitiesInStudy": "SR"}, "123"),
        ({"ModalitiesInStudy": "SR\\MR"}, "1234"),
        ({"ModalitiesInStudy": "S*\\X"}, "123"),
        ({"ModalitiesInStudy": "?R"}, "1234"),
        ({"ModalitiesInStudy": "R"}, ""),
        ({"ModalitiesInStudy": "SR", "Modality": "CT"}, "12"),
        ({"SOPClassesInStudy": MR}, "4"),
        ({"SOPClassUID": MR}, "4"),
        ({"ImageType": "AXIAL"}, "1"),
        ({"ImageType": "*ARY"}, "12"),
        ({"ImageType": "ORIGINAL\\DERIVED"}, "12"),
        ({"ImageType": "PRIMARY?AXIAL"}, ""),
        ({"OperatorsName": "tran b"}, "4"),
        ({"OperatorsName": "LE*"}, "4"),
        ({"OperatorsName": "*LE*TRAN*"}, ""),
        ({"RequestAttributesSequence.ScheduledProcedureStepID": "S2"}, "4"),
        ({"OtherPatientIDs": "X?"}, "4"),
        ({"InstitutionName": "BV*"}, "4"),
        ({"StudyInstanceUID": "2.25.1\\2.25.9"}, "123"),
        ({"SeriesInstanceUID": "2.25.1.1", "StudyInstanceUID": "2.25.1"}, "12"),
        ({"SeriesInstanceUID": "2.25.1.1", "StudyInstanceUID": "2.25.2"}, ""),
        ({"SOPInstanceUID": "2.25.1.1.1\\2.25.2.1.4"}, "14"),
        ({"AvailableTransferSyntaxUID": "1.2.840.10008.1.2.1"}, "1234"),
        ({"PatientID": "BN2"}, "4"),
        ({"NumberOfStudyRelatedInstances": "1"}, "1234"),
        ({"NoSuchKeyword": "x"}, "1234"),
    ],
    ids=str,
)
def test_lists_numbers_and_members(mixed: Index, keys: dict[str, str], numbers: str) -> None:
    uids = mixed.uids(Level.IMAGE, **keys)

    assert "".join(sorted(uid[-1] for uid in uids)) == numbers


def test_lower_keys_are_ignored_and_told(mixed: Index) -> None:
    query = Query(
        Level.STUDY,
        {
            "Modality": "SR",
            "StudyDate": "",
            "PatientAge": "",
            "PatientWeight": "70",
            "PixelData": "",
            "InstitutionName": "x",
        },
    )

    assert search.unsupported(query) == {"Modality", "PatientWeight", "PixelData"}
    assert len(mixed.uids(Level.STUDY, Modality="SR")) == 2


def test_the_series_answers_with_its_own_institution(index: Index) -> None:
    index.record(received(InstitutionName="A"), received("2", "2", InstitutionName="B"))

    assert [m["InstitutionName"] for m in index.find(Level.STUDY)] == ["A"]
    assert [m["InstitutionName"] for m in index.find(Level.SERIES)] == ["A", "B"]
    assert index.uids(Level.STUDY, InstitutionName="B") == []
    assert index.uids(Level.SERIES, InstitutionName="B") == ["2.25.1.2"]


def test_answer_holds_every_attribute_down_to_its_level(mixed: Index) -> None:
    [answer] = mixed.find(Level.IMAGE, SOPInstanceUID="2.25.2.1.4")

    assert answer["OperatorsName"] == ("LÊ^A", "TRẦN^B")
    assert answer["RequestAttributesSequence.ScheduledProcedureStepID"] == ("S1", "S2")
    assert answer["ModalitiesInStudy"] == ("MR",)
    assert answer["ImageType"] == ""
    assert answer["InstanceNumber"] == 4
    assert answer["NumberOfStudyRelatedInstances"] == 1
    assert answer["PatientName"] == "NGUYỄN^VĂN AN"
    assert "NumberOfPatientRelatedStudies" not in answer


def test_patient_counts_are_given_below_when_asked(mixed: Index) -> None:
    answers = mixed.find(Level.SERIES, NumberOfPatientRelatedInstances="", PatientID="BN1")

    assert [answer["NumberOfPatientRelatedInstances"] for answer in answers] == [3, 3]


BAD_VALUES = [
    ("StudyDate", "2024-01-01x"),
    ("StudyDate", "-"),
    ("StudyDate", "20240*"),
    ("StudyDate", "20241301"),
    ("StudyTime", "25"),
    ("StudyTime", "07-08-09"),
    ("PatientBirthDate", "yesterday"),
    ("StudyInstanceUID", "1.2.x"),
    ("StudyInstanceUID", "1.2.*"),
    ("StudyInstanceUID", "1.2\\abc"),
    ("SOPClassesInStudy", "1.2.840.*"),
    ("SeriesNumber", "1.5"),
    ("SeriesNumber", "1-3"),
    ("InstanceNumber", "seven"),
    ("SOPInstanceUID", "1" * 65),
]


@pytest.mark.parametrize(
    ("level", "keyword", "value"),
    [(level, *bad) for level in Level for bad in BAD_VALUES if bad[0] in visible(level)],
)
def test_bad_value_is_refused_by_keyword(level: Level, keyword: str, value: str) -> None:
    with pytest.raises(Malformed, match=keyword) as caught:
        search.find(Session(), Query(level, {keyword: value}), limit=1)

    assert value not in str(caught.value)


def test_bad_value_of_a_combined_key_is_refused_by_keyword() -> None:
    query = Query(
        Level.STUDY, {"StudyDate": "20240101", "StudyTime": "noon"}, combined_datetime=True
    )

    with pytest.raises(Malformed, match="StudyTime"):
        search.find(Session(), query, limit=1)
