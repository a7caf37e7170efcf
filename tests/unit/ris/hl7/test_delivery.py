import pytest

from ris.hl7 import delivery


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [delivery.pause_s(failures, 1.0) for failures in range(1, 12)]

    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert pauses[-1] == delivery.LONGEST_PAUSE_S
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("failures", [1, 7, 500, 100_000])
def test_chance_shortens_a_pause_by_half_at_most(failures: int) -> None:
    whole = delivery.pause_s(failures, 1.0)

    assert delivery.pause_s(failures, 0.0) == whole / 2
    assert whole / 2 < delivery.pause_s(failures, 0.3) < whole
