"""What is sealed is opened by one key, for one person, and by nothing else."""

import stat
from pathlib import Path

import pytest

from storage.access.sealing import FILE, Seal, seal_of
from storage.base.errors import StoreUnavailable

KEY = bytes(range(32))


def test_what_was_sealed_is_opened() -> None:
    seal = Seal(KEY)

    assert seal.open(seal.close(b"secret", "lan"), "lan") == b"secret"
    assert seal.close(b"secret", "lan") != seal.close(b"secret", "lan")


@pytest.mark.parametrize("at", [0, 3, 8, 20, -1])
def test_a_changed_byte_is_found(at: int) -> None:
    seal = Seal(KEY)
    sealed = bytearray(seal.close(b"secret", "lan"))
    sealed[at] ^= 1

    with pytest.raises(StoreUnavailable):
        seal.open(bytes(sealed), "lan")


def test_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    sealed = seal_of(tmp_path / "secrets").close(b"secret", "lan")

    assert seal_of(tmp_path / "secrets").open(sealed, "lan") == b"secret"
    path = tmp_path / "secrets" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == [FILE]


def test_given_key_goes_before_the_file(tmp_path: Path) -> None:
    sealed = Seal(KEY).close(b"secret", "lan")

    assert seal_of(tmp_path, KEY.hex()).open(sealed, "lan") == b"secret"
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 16])
def test_file_without_a_key_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)

    with pytest.raises(StoreUnavailable, match="key"):
        seal_of(tmp_path)
