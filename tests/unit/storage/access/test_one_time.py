from datetime import UTC, datetime

import pytest

from storage.access import one_time

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_passwords_of_rfc_6238(seconds: int, expected: str) -> None:
    step = one_time.step_of(datetime.fromtimestamp(seconds, UTC))

    assert one_time.password(SECRET, step) == expected


@pytest.mark.parametrize("off", [-2, -1, 0, 1, 2])
def test_a_clock_may_be_off_by_one_step(off: int) -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    given = one_time.password(SECRET, one_time.step_of(now) + off)

    assert (one_time.accepted(SECRET, given, now, 0) is not None) is (abs(off) <= 1)


def test_no_password_is_taken_twice_nor_one_from_before() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    present = one_time.step_of(now)
    before, given = (one_time.password(SECRET, step) for step in (present - 1, present))

    used = one_time.accepted(SECRET, given, now, 0)

    assert used == present
    assert one_time.accepted(SECRET, given, now, used) is None
    assert one_time.accepted(SECRET, before, now, used) is None
