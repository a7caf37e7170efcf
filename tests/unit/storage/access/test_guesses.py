import pytest

from storage.access.guesses import LIMITS, Limit


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 0), (4, 0), (5, 2), (6, 4), (10, 64), (14, 900), (10**6, 900)]
)
def test_wait_doubles_beyond_the_free_tries(failures: int, wait_s: float) -> None:
    assert Limit(free=5, longest_s=900).wait_s(failures) == wait_s


def test_wait_for_a_name_alone_never_locks_its_owner_out() -> None:
    assert LIMITS["name"].wait_s(10**9) <= 60


@pytest.mark.parametrize("kind", LIMITS)
def test_a_day_of_guessing_stays_far_below_the_passwords_there_are(kind: str) -> None:
    limit, tries, seconds = LIMITS[kind], 0, 0.0

    while seconds < 86_400:
        seconds += max(limit.wait_s(tries), 0.001)
        tries += 1

    assert tries < 1_600
