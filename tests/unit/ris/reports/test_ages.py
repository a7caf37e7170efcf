from datetime import date

import pytest

from ris.reports.ages import age_at

DAY = date(2026, 3, 12)


@pytest.mark.parametrize(
    ("born", "told"),
    [
        ("20260312", "0 ngày tuổi"),
        ("20260211", "29 ngày tuổi"),
        ("20260210", "1 tháng tuổi"),
        ("20260113", "1 tháng tuổi"),
        ("20260112", "2 tháng tuổi"),
        ("20200313", "71 tháng tuổi"),
        ("20200312", "6 tuổi"),
        ("19600102", "66 tuổi"),
        ("19600313", "65 tuổi"),
        ("1951", "75 tuổi"),
        ("195106", "75 tuổi"),
    ],
)
def test_age_comes_in_the_unit_that_fits_it(born: str, told: str) -> None:
    age = age_at(born, DAY)

    assert age is not None
    assert age.told("vi") == told


@pytest.mark.parametrize("born", ["", "?", "20260313", "2027", "20260230x"])
def test_there_is_no_age_without_a_date_that_can_be(born: str) -> None:
    assert age_at(born, DAY) is None


def test_day_that_is_none_leaves_the_year() -> None:
    age = age_at("20000230", DAY)

    assert age is not None
    assert age.told("en") == "26 years"
