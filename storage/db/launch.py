"""Start a program of PostgreSQL as the account that owns its data; run as a script.

    python -I -S launch.py '{"uid": …, "gid": …, "reach": […], "detach": …}' PROGRAM ARGUMENT…

PostgreSQL refuses to run as root. As root this script becomes the account first. When
that account cannot pass the folders above the data or the binaries (a home folder
closed with 0700), it keeps the one capability to pass and read them, CAP_DAC_READ_SEARCH,
instead of anybody opening folders that are not ours. Where that was taken away from
root (as container engines do), CAP_DAC_OVERRIDE stands in. Standard library only:
the script runs without site-packages.
"""

import ctypes
import json
import os
import sys
from typing import Final

CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
REFUSED: Final = 77
"""The exit code when the account cannot be used."""

# linux/prctl.h and linux/capability.h
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_SECUREBITS: Final = 28
_NO_SETUID_FIXUP: Final = 1 << 2
"""Without it access(2), by which PostgreSQL looks at its own programs, ignores capabilities."""
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522

_Words = ctypes.c_uint32 * 6
"""Effective, permitted, inheritable, 32 bits each; then the same of the next 32 capabilities."""


def main() -> None:
    """Become the account and replace this process by the program."""
    order, program = json.loads(sys.argv[1]), sys.argv[2:]
    if order["detach"] and (child := os.fork()):
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os._exit(0)  # so that the server is nobody's child and nobody's zombie
    if order["detach"]:
        os.dup2(2, 1)
    if os.geteuid() == 0:
        _become(order["uid"], order["gid"], order["reach"])
    for path in order["reach"]:
        if not os.access(path, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            _refuse(f"user id {os.geteuid()} cannot reach {path}")
    os.execv(program[0], program)  # noqa: S606 - our own argument list, no shell


def _become(uid: int, gid: int, reach: list[str]) -> None:
    linux = sys.platform == "linux"
    if linux:
        _prctl(_PR_SET_KEEPCAPS, 1)
        # a container may forbid it: then only programs in closed folders cannot be used
        ctypes.CDLL(None).prctl(
            _PR_SET_SECUREBITS, *map(ctypes.c_ulong, (_NO_SETUID_FIXUP, 0, 0, 0))
        )
    try:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        _refuse(f"root cannot become user id {uid}: {error.strerror}")
    if linux:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _rest_capabilities()
        reached = all(os.access(path, os.X_OK, effective_ids=True) for path in reach)
        _keep_capabilities(0 if reached else _passing())


def _passing() -> int:
    """Return the bit of the least capability that passes closed folders, 0 if there is none."""
    permitted = _capabilities()[1]
    bits = (1 << capability for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE))
    return next((bit for bit in bits if permitted & bit), 0)


def _capabilities() -> ctypes.Array[ctypes.c_uint32]:
    words = _Words()
    _libc("capget", _header(), words)
    return words


def _rest_capabilities() -> None:
    """Put every capability out of effect, without giving it up."""
    held = _capabilities()
    _libc("capset", _header(), _Words(0, held[1], held[2], 0, held[4], held[5]))


def _keep_capabilities(bits: int) -> None:
    _libc("capset", _header(), _Words(bits, bits, bits, 0, 0, 0))
    if bits:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, bits.bit_length() - 1)


def _header() -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)


def _prctl(option: int, value: int, third: int = 0) -> None:
    _libc("prctl", option, *map(ctypes.c_ulong, (value, third, 0, 0)))


def _libc(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        _refuse(f"{function}: {os.strerror(ctypes.get_errno())}")


def _refuse(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


if __name__ == "__main__":
    main()
