import hashlib

import pytest

from storage.base.errors import Malformed
from storage.objects.keys import (
    check_key,
    check_prefix,
    instance_key,
    is_key,
    metadata_key,
    quarantine_key,
)

DATASET = hashlib.sha256(b"dataset").hexdigest()


def test_instance_key_is_the_same_for_the_same_object_only() -> None:
    keys = {
        instance_key(study, syntax, dataset)
        for study in ("1.2", "1.3", "../../etc/passwd")
        for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
        for dataset in (DATASET, DATASET[::-1])
    }

    assert len(keys) == 12
    assert all(map(is_key, keys))
    assert instance_key("1.2", "1.2.840.10008.1.2", DATASET) in keys


def test_objects_of_a_study_lie_together() -> None:
    first, second = (instance_key("1.2", syntax, DATASET) for syntax in ("1", "2"))

    assert first.rpartition("/")[0] == second.rpartition("/")[0]


def test_quarantined_receptions_of_the_same_bytes_are_kept_apart() -> None:
    first, second = quarantine_key(DATASET, "one.dcm"), quarantine_key(DATASET, "../two\0")

    assert first != second
    assert is_key(first)
    assert is_key(second)


def test_metadata_of_a_series_lies_with_its_study_and_is_told_apart() -> None:
    instance = instance_key("1.2.3", "1.2.840.10008.1.2", DATASET)

    folder, _, name = metadata_key("1.2.3", DATASET).rpartition("/")

    assert folder == instance.rpartition("/")[0]
    assert len(name) < len(instance.rpartition("/")[2])
    assert DATASET.startswith(name)


@pytest.mark.parametrize("text", ["", "/", "ab/", "ab/../cd", "AB", "ab\n", "tmp"])
def test_what_is_no_key_is_malformed_and_named(text: str) -> None:
    with pytest.raises(Malformed) as raised:
        check_key(text)

    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("text", ["", "a", "ab/", "ab/c"])
def test_what_begins_a_key_passes(text: str) -> None:
    check_prefix(text)
