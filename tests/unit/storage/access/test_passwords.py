import time
import unicodedata

import argon2
import pytest

from storage.access import passwords
from storage.access.passwords import Fault, WeakPassword

GOOD = "mưa rào tháng sáu"


@pytest.fixture(scope="module")
def kept() -> str:
    return passwords.hashed(GOOD)


def test_what_is_kept_is_argon2id_and_not_the_password(kept: str) -> None:
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert GOOD not in kept
    assert kept != passwords.hashed(GOOD)  # another salt


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_same_letters_of_another_keyboard_match(kept: str, form: str) -> None:
    assert passwords.matches(unicodedata.normalize(form, GOOD), kept)


@pytest.mark.parametrize(
    "guess", ["", GOOD.upper(), GOOD + " ", "mua rao thang sau", "x" * 10**6, "\ud800", "a\0b"]
)
def test_anything_else_does_not(kept: str, guess: str) -> None:
    assert not passwords.matches(guess, kept)


@pytest.mark.parametrize("broken", ["", "$argon2id$", "plain text"])
def test_what_is_no_hash_matches_nothing(broken: str) -> None:
    assert not passwords.matches("", broken)


def test_nobody_is_told_from_somebody_by_the_time_it_takes(kept: str) -> None:
    def least_s(of: str | None) -> float:
        durations = []
        for _ in range(3):
            started = time.perf_counter()
            assert not passwords.matches("a guess", of)
            durations.append(time.perf_counter() - started)
        return min(durations)

    assert least_s(None) > least_s(kept) / 3


def test_empty_password_of_nobody_does_not_match() -> None:
    assert not passwords.matches("", None)


def test_hash_of_other_parameters_is_outdated(kept: str) -> None:
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)

    assert passwords.matches(GOOD, cheap)
    assert passwords.outdated(cheap)
    assert not passwords.outdated(kept)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("", Fault.SHORT),
        ("sáu tháng", Fault.SHORT),
        ("e\u0301" * 9, Fault.SHORT),  # nine letters, however they are written
        ("ab cd " * 43, Fault.LONG),
        ("aaaabbbbccccdddd", Fault.SIMPLE),
        ("xin chào Bs.Nam 1990", Fault.NAME),
        ("MatKhau123", Fault.COMMON),
        ("1234567890", Fault.COMMON),
    ],
)
def test_easy_password_is_refused_with_its_fault(password: str, fault: Fault) -> None:
    with pytest.raises(WeakPassword) as refused:
        passwords.check(password, "bs.nam")

    assert refused.value.fault is fault


@pytest.mark.parametrize("password", [GOOD, "x7#kq-92Lw", "ab cd " * 42])
def test_others_are_taken_whatever_they_are_made_of(password: str) -> None:
    passwords.check(password, "bs.nam")
