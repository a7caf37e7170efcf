import pytest

from pacs.charsets import unaccented
from pacs.scp.texts import Texts
from storage.access.peers import Peer, TextProfile

NAME = "NGUYỄN^VĂN ĐỨC"


def texts(profile: TextProfile, length: int | None = None, asked: str = "") -> Texts:
    return Texts(Peer("CT01", "h", 104, "", profile, length), asked)


@pytest.mark.parametrize(
    ("profile", "given", "shaped", "charset"),
    [
        (TextProfile.UTF8, NAME, NAME, "ISO_IR 192"),
        (TextProfile.UTF8, "DOE", "DOE", ""),
        (TextProfile.FOLD_ASCII, NAME, "NGUYEN^VAN DUC", ""),
        (TextProfile.FOLD_ASCII, f"DUC={NAME}", "DUC", ""),
        (TextProfile.FOLD_ASCII, f"={NAME}", "NGUYEN^VAN DUC", ""),
        (TextProfile.LATIN1, "Hélène", "Hélène", "ISO_IR 100"),
        (TextProfile.LATIN1, NAME, "NGUYEN^VAN DUC", "ISO_IR 100"),
    ],
)
def test_name_is_written_in_the_letters_of_the_peer(
    profile: TextProfile, given: str, shaped: str, charset: str
) -> None:
    written = texts(profile).shape("PatientName", "PN", given)

    assert written == shaped
    assert texts(profile).charset([written]) == charset


def test_character_set_of_the_query_stands_where_it_has_all_letters() -> None:
    assert texts(TextProfile.UTF8, asked="ISO_IR 100").charset(["Hélène"]) == "ISO_IR 100"
    assert texts(TextProfile.UTF8, asked="ISO_IR 100").charset([NAME]) == "ISO_IR 192"


def test_peer_that_nobody_registered_gets_all_letters() -> None:
    unknown = Texts(None, "")

    assert unknown.shape("PatientName", "PN", NAME) == NAME
    assert unknown.charset([NAME]) == "ISO_IR 192"


@pytest.mark.parametrize(
    ("keyword", "vr", "given", "shaped"),
    [
        ("PatientName", "PN", "NGUYEN^VAN AN", "NGUYEN^V"),
        ("PatientName", "PN", "NGUYEN ^VAN", "NGUYEN"),
        ("PatientName", "PN", "ABCDEFGHIJ=KLMNOPQRST", "ABCDEFGH=KLMNOPQR"),
        ("RequestedProcedureDescription", "LO", "CT of the head", "CT of th"),
        ("RequestedProcedureDescription", "LO", "CT of the\\A", "CT of th\\A"),
        ("PatientID", "LO", "BN-0123456789", "BN-0123456789"),
        ("AccessionNumber", "SH", "A0123456789", "A0123456789"),
        ("CodeValue", "SH", "18.0119.0028", "18.0119.0028"),
        ("Modality", "CS", "CT", "CT"),
    ],
)
def test_only_names_and_descriptions_are_cut(
    keyword: str, vr: str, given: str, shaped: str
) -> None:
    assert texts(TextProfile.UTF8, 8).shape(keyword, vr, given) == shaped


def test_no_value_is_longer_than_its_vr_allows() -> None:
    shape = texts(TextProfile.UTF8).shape

    assert len(shape("ScheduledStationName", "SH", "x" * 20)) == 16
    assert len(shape("RequestedProcedureDescription", "LO", "x" * 99)) == 64


def test_line_breaks_and_escapes_stay_out_of_one_line() -> None:
    assert texts(TextProfile.UTF8).shape("MedicalAlerts", "LO", "a\r\nb\x1bc") == "a  b c"


@pytest.mark.parametrize(
    ("given", "bare"),
    [
        ("Nguyễn Thị Ỷ Đỗ ƯỜNG Ẵ Ộ", "Nguyen Thi Y Do UONG A O"),
        ("Ðinh đôi", "Dinh doi"),
        ("50 µg – 3 ₫", "50 ug - 3 d"),
        ("漢字", "??"),
    ],
)
def test_accents_are_dropped_and_case_stays(given: str, bare: str) -> None:
    assert unaccented(given) == bare
