from pydicom.datadict import dictionary_VR, tag_for_keyword

from pacs.scp.worklist_keys import ATTRIBUTES, REQUIRED_KEYS


def test_every_attribute_is_one_of_the_standard() -> None:
    names = {part for keyword in ATTRIBUTES for part in keyword.split(".")}

    assert [name for name in sorted(names) if tag_for_keyword(name) is None] == []


def test_what_holds_attributes_is_a_sequence() -> None:
    holders = {keyword.rpartition(".")[0] for keyword in ATTRIBUTES} - {""}

    assert holders <= ATTRIBUTES.keys()
    assert {dictionary_VR(name.rpartition(".")[2]) for name in holders} == {"SQ"}


def test_every_sequence_says_what_its_items_hold() -> None:
    sequences = {
        keyword for keyword in ATTRIBUTES if dictionary_VR(keyword.rpartition(".")[2]) == "SQ"
    }

    assert sequences == {keyword.rpartition(".")[0] for keyword in ATTRIBUTES} - {""}


def test_required_matching_keys_are_returned() -> None:
    assert ATTRIBUTES.keys() >= REQUIRED_KEYS
    assert len(REQUIRED_KEYS) == 7
