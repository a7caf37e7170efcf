"""Which rejection note decides about an object."""

from itertools import permutations, product

import pytest

from storage.archive.rejection_rules import NOTE, SHOWN, Title, hidden_as, strongest

EXPIRED, QUALITY, SAFETY, WRONG_ENTRY = Title


def test_stronger_title_decides_whatever_the_order() -> None:
    for some in permutations(Title):
        for count in range(1, len(some) + 1):
            assert strongest(some[:count]) == max(some[:count], key=[*Title].index)


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        (WRONG_ENTRY, SAFETY),
        (WRONG_ENTRY, QUALITY),
        (SAFETY, QUALITY),
        (QUALITY, EXPIRED),
    ],
    ids=str,
)
def test_titles_override_each_other_as_iocm_has_it(stronger: Title, weaker: Title) -> None:
    assert strongest([weaker, stronger, weaker]) is stronger


def test_nothing_is_decided_without_a_note() -> None:
    assert strongest([]) is None
    assert hidden_as([], is_note=False) == SHOWN


@pytest.mark.parametrize(("title", "is_note"), [*product(Title, (True, False))], ids=str)
def test_rejected_object_is_hidden_by_its_title(title: Title, *, is_note: bool) -> None:
    assert hidden_as([title], is_note=is_note) == title


def test_note_is_hidden_though_nobody_rejects_it() -> None:
    assert hidden_as([], is_note=True) == NOTE


def test_every_title_has_the_meaning_of_the_standard() -> None:
    assert {title: title.meaning for title in Title} == {
        "113001": "Rejected for Quality Reasons",
        "113037": "Rejected for Patient Safety Reasons",
        "113038": "Incorrect Modality Worklist Entry",
        "113039": "Data Retention Policy Expired",
    }
