import pytest

from viewer_api.cache import Recent


def test_what_was_not_used_longest_goes_first() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.get("a")

    recent.put("c", 3)

    assert [recent.get(key) for key in "abc"] == [1, None, 3]


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [([3, 3, 3], "bc"), ([1, 1, 1], "abc"), ([1, 1, 7], ""), ([5, 1, 6], "c")],
)
def test_weight_is_bounded(sizes: list[int], kept: str) -> None:
    recent: Recent[str, bytes] = Recent(6, len)

    for key, size in zip("abc", sizes, strict=True):
        recent.put(key, bytes(size))

    assert "".join(key for key in "abc" if recent.get(key)) == kept


def test_new_value_replaces_the_weight_of_the_old_one() -> None:
    recent: Recent[str, bytes] = Recent(6, len)
    recent.put("b", bytes(1))

    for _ in range(10):
        recent.put("a", bytes(5))

    assert recent.get("b") == bytes(1)
