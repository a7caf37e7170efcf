from tests.bench.section import Turn, interleaved

ARCHIVES = ("ours", "rival", "floor")
TURNS = [Turn(case, archive, dict) for archive in ARCHIVES for case in ("store", "find")]


def test_every_turn_is_taken_once_in_a_round() -> None:
    assert sorted(map(id, interleaved(TURNS, 1))) == sorted(map(id, TURNS))


def test_the_archives_do_the_same_work_one_after_the_other() -> None:
    assert [turn.case for turn in interleaved(TURNS, 1)] == ["store"] * 3 + ["find"] * 3


def test_nobody_is_first_in_every_round() -> None:
    first = {next(interleaved(TURNS, number)).archive for number in range(20)}

    assert first == set(ARCHIVES)
