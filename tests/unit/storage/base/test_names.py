import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.base.names import (
    PersonName,
    fold,
    in_reading_order,
    masked,
    parse_pn,
    same_person_name,
    search_key,
    words,
)

SHAPES = (
    "NGUYỄN VĂN AN",
    "NGUYỄN^VĂN AN",
    "^Nguyễn Văn An",
    "NGUYỄN^AN^VĂN",
    "NGUYEN^VAN^AN",
    unicodedata.normalize("NFD", "Nguyễn Văn An"),
    "Nguyễn_Văn,An",
    "NGUYỄN^VĂN AN^^^",
)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Đặng Thị Ơn", "DANG THI ON"),
        ("ĐÐƉđðɖ", "DDDDDD"),
        ("ưƯơƠăâêô", "UUOOAAEO"),
        ("  a \u00a0\t b\u200b^c=d ", "A B C D"),
        ("ＮＧＵＹＥＮ", "NGUYEN"),
        ("Müller-Straße", "MULLER STRASSE"),
        ("hoà hòa", "HOA HOA"),
        ("Lý", "LY"),
        ("NG*N?", "NG*N?"),
        ("山田^太郎", "山田 太郎"),
        ("김^희중", "김 희중"),
        ("", ""),
        ("^^^=", ""),
    ],
)
def test_folding_drops_marks_and_joins_words_by_one_space(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_normal_form_makes_no_difference(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


def test_name_has_three_groups_and_the_rest_is_left_out() -> None:
    assert parse_pn("Yamada^Tarou =山田^太郎=やまだ^たろう=x\0") == PersonName(
        "Yamada^Tarou", "山田^太郎", "やまだ^たろう"
    )
    assert parse_pn("") == PersonName()


def test_words_keep_their_order() -> None:
    assert words("NGUYỄN^VĂN AN") == ("NGUYEN", "VAN", "AN")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("NGUYỄN^VĂN AN=漢字", " NGUYEN VAN AN = 漢字 "),
        ("=漢字", " 漢字 "),
        ("A==B", " A = B "),
        ("A=B=C=D", " A = B = C "),
        ("^=", ""),
        ("", ""),
    ],
)
def test_search_key_has_each_word_between_single_spaces(text: str, key: str) -> None:
    assert search_key(text) == key


@pytest.mark.parametrize("one", SHAPES)
@pytest.mark.parametrize("other", SHAPES)
def test_every_shape_of_a_name_is_the_same_name(one: str, other: str) -> None:
    assert same_person_name(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NGUYEN VAN AN 5TH", "Nguyễn Văn An"),
        ("NGUYEN VAN AN 5 THANG TUOI", "Nguyễn Văn An"),
        ("NGUYEN VAN AN (12NT)", "Nguyễn Văn An"),
        ("NGUYEN VAN AN 5TH/12NT", "Nguyễn Văn An"),
        ("Nguyen Van An=NGUYỄN VĂN AN", "NGUYỄN^VĂN AN"),
        ("NGUYEN=阮文安", "X=阮文安"),
        ("", "NGUYEN VAN AN"),
        ("^", "NGUYEN VAN AN"),
        ("5TH", "5TH"),
    ],
)
def test_age_other_groups_and_empty_names_do_not_contradict(one: str, other: str) -> None:
    assert same_person_name(one, other)
    assert same_person_name(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NGUYEN VAN AN", "NGUYEN VAN BINH"),
        ("NGUYEN VAN AN", "NGUYEN AN"),
        ("NGUYEN AN AN", "NGUYEN AN"),
        ("NGUYEN VAN AN 1", "NGUYEN VAN AN 2"),  # twins
        ("NGUYEN VAN AN 5TH", "NGUYEN VAN BINH 5TH"),
    ],
)
def test_other_words_are_another_person(one: str, other: str) -> None:
    assert not same_person_name(one, other)


@given(st.text(), st.text())
def test_comparison_takes_any_text_and_has_no_direction(one: str, other: str) -> None:
    assert same_person_name(one, one)
    assert same_person_name(one, other) == same_person_name(other, one)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("NGUYỄN VĂN AN", "NGUYỄN VĂN AN"),
        ("NGUYỄN^VĂN AN", "NGUYỄN VĂN AN"),
        ("NGUYỄN^AN^VĂN", "NGUYỄN VĂN AN"),
        ("^Nguyễn Văn An", "Nguyễn Văn An"),
        ("Đỗ^Ỷ^^BS^Jr", "BS Đỗ Ỷ Jr"),
        ("=漢字", "漢字"),
        ("a^b^c^d^e^f", "d a c b e"),
        ("", ""),
        ("^^ ^", ""),
    ],
)
def test_name_is_shown_in_the_order_of_reading(name: str, shown: str) -> None:
    assert in_reading_order(name) == shown
    assert masked(name) == " ".join(f"{word[0]}***" for word in shown.split())
