from zoneinfo import ZoneInfo

import pytest

from ris.hl7 import grouping, mapping, message, profile
from ris.hl7.mapping import Reader
from ris.requests import Code, Identifier

HEAD = "MSH|^~\\&|HIS|BV|||20260101||ORM^O01|1|P|2.3.1||||||UNICODE UTF-8"


def reader(*segments: str, **paths: list[str]) -> Reader:
    read = message.read("\r".join([HEAD, *segments]).encode())
    changed = profile.changed(profile.named("generic"), {"paths": paths})
    return Reader(grouping.whole(read), changed, ZoneInfo("Asia/Ho_Chi_Minh"))


def test_first_position_with_a_value_wins() -> None:
    read = reader("ORC|NW||F1", "OBR|1|4711", placer_order_number=["ORC-2", "OBR-2", "OBR-3"])

    assert read.text("placer_order_number") == "4711"


def test_position_counts_unless_another_says_the_same() -> None:
    paths = {"accession_number": ["OBR-2.2!=OBR-2.1", "ORC-2"]}

    assert reader("ORC|NW|7", "OBR|1|7^8", **paths).text("accession_number") == "8"
    assert reader("ORC|NW|9", "OBR|1|7^7", **paths).text("accession_number") == "9"


def test_position_for_numbers_passes_over_words() -> None:
    paths = {"accession_number": ["OBR-2.2#", "ORC-2"]}

    assert reader("ORC|NW|7", "OBR|1|7^HIS", **paths).text("accession_number") == "7"
    assert reader("ORC|NW|7", "OBR|1|7^K8", **paths).text("accession_number") == "K8"


def test_not_sent_and_deleted_are_different() -> None:
    read = reader('ORC|NW||""', filler_order_number=["ORC-3"], placer_order_number=["ORC-2"])

    assert read.maybe("filler_order_number") == ""
    assert read.maybe("placer_order_number") is None
    assert read.maybe("comments") is None


def test_value_that_cannot_be_read_is_noted_and_the_next_taken() -> None:
    read = reader("ORC|NW|seven", "OBR|1|7", group_number=["ORC-2", "OBR-2"])

    assert read.first("group_number", int) == 7
    assert [note.partition(":")[0] for note in read.notes] == ["ORC-2 passed over"]


def test_code_has_value_meaning_and_scheme() -> None:
    read = reader("OBR|1|||18.1^Chụp \\T\\ chiếu^DMDC~2", procedure=["OBR-44", "OBR-4"])

    assert read.code("procedure") == Code("18.1", "Chụp & chiếu", "DMDC")
    assert read.description("procedure") == "Chụp & chiếu"


def test_code_that_is_null_is_none_and_its_description_empty() -> None:
    read = reader('OBR|1|||""', procedure=["OBR-4"])

    assert read.code("procedure") is None
    assert read.description("procedure") == ""


def test_words_are_parted_by_commas() -> None:
    assert reader("PV1|1|I|K1^B 2&x^^G").words("location") == "K1, B 2 x, G"
    assert reader('PV1|1|I|""').words("location") == ""
    assert reader("PV1|1|I").words("location") is None


def test_free_text_keeps_its_delimiters() -> None:
    assert (
        reader("OBR|1|" + "|" * 11 + "a & b^c~d").free_text("clinical_information") == "a & b^c\nd"
    )
    assert reader("OBR|1|" + "|" * 11 + '""').free_text("clinical_information") == ""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("bs01^Lê^Văn^Mẫu^^BS", "Lê^Văn^Mẫu^BS"),
        ("bs01^BS. Lê Văn Mẫu", "BS. Lê Văn Mẫu"),
        ("^^BS. Lê Văn Mẫu", "BS. Lê Văn Mẫu"),
        ("BS. Lê Văn Mẫu", "BS. Lê Văn Mẫu"),
        ('""', ""),
        ("", None),
    ],
)
def test_person_is_read_from_what_senders_write(sent: str, expected: str | None) -> None:
    read = reader(f"OBR|1|{'|' * 14}{sent}", requesting_physician=["OBR-16"])

    assert read.person("requesting_physician") == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("NGUYỄN^AN^VĂN", "NGUYỄN^AN^VĂN"),
        ("NGUYỄN^AN^VĂN^JR^ÔNG", "NGUYỄN^AN^VĂN^ÔNG^JR"),
        ("NGUYỄN VĂN AN", "NGUYỄN VĂN AN"),
        ("^Nguyễn Văn An", "^Nguyễn Văn An"),
        ("VAN DER BERG&VAN DER&BERG^JAN", "VAN DER BERG^JAN"),
        ("A & B^C", "A & B^C"),
        ("NGUYỄN=X\\S\\Y^AN", "NGUYỄN X Y^AN"),
        ('""', ""),
        ("", None),
    ],
)
def test_patient_name_is_turned_into_pn(sent: str, expected: str | None) -> None:
    segment = reader(f"PID|1||1||{sent}").scope.first("PID")
    assert segment is not None

    assert mapping.patient_name(segment, 5, strip_age=False) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("LÊ VĂN BÉ 5TH", "LÊ VĂN BÉ"),
        ("CB NGUYỄN THỊ MẸ 12NT", "CB NGUYỄN THỊ MẸ"),
        ("LÊ VĂN BÉ 71 TH", "LÊ VĂN BÉ"),
        ("LÊ^BÉ 3T", "LÊ^BÉ"),
        ("TRẦN VĂN TH", "TRẦN VĂN TH"),
        ("KHOA 5THX", "KHOA 5THX"),
    ],
)
def test_age_behind_a_childs_name_is_taken_off(sent: str, expected: str) -> None:
    segment = reader(f"PID|1||1||{sent}").scope.first("PID")
    assert segment is not None

    assert mapping.patient_name(segment, 5, strip_age=True) == expected
    assert mapping.patient_name(segment, 5, strip_age=False) == sent


def test_identifiers_without_authority_get_the_senders() -> None:
    segment = reader('PID|1||1^^^BV&1.2&ISO^PI~2^^^^HC~""~^^^X').scope.first("PID")
    assert segment is not None

    assert mapping.identifiers(segment, 3, "BVDK") == [
        Identifier("1", "BV", "PI"),
        Identifier("2", "BVDK", "HC"),
    ]
