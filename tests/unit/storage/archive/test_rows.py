import pytest

from storage.archive import rows
from storage.archive.model import Level


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("  A \0", "A"),
        ("a\0b", "ab"),
        ("Nguyê\u0303n", "Nguyễn"),
        ("a\ud800b", "a?b"),
        ("x" * 20_000, "x" * rows.MAX_TEXT),
        ("", ""),
    ],
)
def test_text_is_kept_trimmed_composed_and_storable(text: str, kept: str) -> None:
    assert rows.clean(text) == kept


@pytest.mark.parametrize(
    ("keyword", "text", "column", "kept"),
    [
        ("StudyDate", "2026.03.01", "study_date", "20260301"),
        ("StudyDate", "20260230", "study_date", ""),
        ("StudyDate", "00010101", "study_date", "00010101"),
        ("StudyTime", "07:30:15", "study_time", "07:30:15"),
        ("StudyTime", "07:30:15", "study_time_key", "073015.000000"),
        ("StudyTime", "0730", "study_time_key", "073000.000000"),
        ("StudyTime", "noon", "study_time_key", ""),
        (
            "ReferringPhysicianName",
            "LÊ^C=漢",
            "referring_physician_name_key",
            " LE C = 漢 ",
        ),
        (
            "NameOfPhysiciansReadingStudy",
            "LÊ^C \\ TRẦN^D",
            "name_of_physicians_reading_study",
            "LÊ^C\\TRẦN^D",
        ),
        (
            "NameOfPhysiciansReadingStudy",
            "LÊ^C\\TRẦN^D",
            "name_of_physicians_reading_study_key",
            " LE C = TRAN D ",
        ),
    ],
)
def test_study_columns_hold_what_is_matched(
    keyword: str, text: str, column: str, kept: str
) -> None:
    assert rows.values(Level.STUDY, {keyword: text})[column] == kept


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("-07", -7),
        ("+7 ", 7),
        ("1\\2", 1),
        ("2147483648", None),
        ("1.5", None),
        ("", None),
        ("٧", None),
    ],
)
def test_integer_columns_hold_numbers_that_fit(text: str, number: int | None) -> None:
    assert rows.values(Level.IMAGE, {"InstanceNumber": text})["instance_number"] == number


def test_long_names_have_a_key_that_fits_an_index_page() -> None:
    key = rows.values(Level.PATIENT, {"PatientName": "漢 " * 5_000})["patient_name_key"]

    assert len(str(key)) == rows.MAX_NAME_KEY
    assert len(str(key).encode()) < 2_000


def test_only_blanks_are_filled() -> None:
    held = rows.values(Level.STUDY, {"StudyDate": "20260301", "StudyTime": "", "StudyID": "1"})

    found = rows.fills(
        Level.STUDY,
        held,
        {"StudyDate": "20260302", "StudyTime": "07", "StudyID": "", "AdmissionID": " ", "X": "y"},
    )

    assert found == {"study_time": "07", "study_time_key": "070000.000000"}


def test_what_cannot_be_read_fills_no_blank() -> None:
    held = rows.values(Level.SERIES, {})

    assert rows.fills(Level.SERIES, held, {"SeriesDate": "soon", "SeriesNumber": "x"}) == {}
