"""Passwords: how they are kept (Argon2id, RFC 9106) and which are too easy.

The rules are those of NIST SP 800-63B 5.1.1.2: a length, no prescribed mixture of
characters, and nothing that is tried first. This is the only door to argon2.
"""

import secrets
import threading
import unicodedata
from enum import StrEnum
from functools import cache
from typing import Final

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

from storage.base.errors import Malformed

SHORTEST: Final = 10
LONGEST: Final = 256
"""Characters."""
_DIFFERENT: Final = 5
"""So many different characters at least."""
_AT_ONCE: Final = 2
"""Each takes 64 MiB and a core for some 50 ms."""

# What is tried first, beyond what the other rules refuse.
_COMMON: Final = frozenset(
    """
    0123456789 1234567890 12345678910 123456789a a123456789 1q2w3e4r5t 1qaz2wsx3edc abcdef1234
    administrator anhyeuem123 benhvien123 benhvien1234 iloveyou123 lienthong1 lienthong123
    matkhau123 matkhau1234 matkhaumoi p@ssw0rd123 passw0rd123 password12 password123 password1234
    qwerty12345 qwerty123456 qwertyuiop vietnam123 welcome123 xinchao123
    """.split()  # noqa: SIM905 - quotes around each read worse
)

_hasher: Final = argon2.PasswordHasher()  # the second set of parameters of RFC 9106 4
_turns: Final = threading.BoundedSemaphore(_AT_ONCE)


class Fault(StrEnum):
    """Why a password is not taken."""

    SHORT = "short"
    LONG = "long"
    SIMPLE = "simple"
    NAME = "name"
    COMMON = "common"


class WeakPassword(Malformed):
    """The password is too easy to guess, or too long to be one."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(_SAID[fault])
        self.fault: Final = fault


_SAID: Final = {
    Fault.SHORT: f"a password has at least {SHORTEST} characters",
    Fault.LONG: f"a password has at most {LONGEST} characters",
    Fault.SIMPLE: f"a password has at least {_DIFFERENT} different characters",
    Fault.NAME: "a password does not contain the name of its user",
    Fault.COMMON: "this password is among the first that anybody tries",
}


def check(password: str, user_name: str) -> None:
    """Raise `WeakPassword` when `password` is none for the user of that name."""
    plain = _normal(password)
    folded = plain.casefold()
    faults = {
        Fault.SHORT: len(plain) < SHORTEST,
        Fault.LONG: len(plain) > LONGEST,
        Fault.SIMPLE: len(set(plain)) < _DIFFERENT,
        Fault.NAME: user_name.casefold() in folded,
        Fault.COMMON: folded in _COMMON,
    }
    for fault, found in faults.items():
        if found:
            raise WeakPassword(fault)


def hashed(password: str) -> str:
    """Return what is kept of `password`: salt, parameters and hash in one text."""
    with _turns:
        return _hasher.hash(_normal(password))


def matches(password: str, kept: str | None) -> bool:
    """Return whether `kept` was made of `password`; without one it takes as long to say no."""
    plain = _normal(password)[: LONGEST + 1]
    with _turns:
        try:
            return _hasher.verify(kept or _nobodys(), plain) and kept is not None
        except (Argon2Error, InvalidHashError):
            return False


def outdated(kept: str) -> bool:
    """Return whether `kept` was made with other parameters than today's."""
    return _hasher.check_needs_rehash(kept)


def _normal(password: str) -> str:
    """Return one form of what different keyboards write for the same Vietnamese letters."""
    return unicodedata.normalize("NFC", password.encode(errors="replace").decode())


@cache
def _nobodys() -> str:
    """Return what no password was ever kept as; made once, since it takes long."""
    return _hasher.hash(secrets.token_hex())
