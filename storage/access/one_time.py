"""One-time passwords that a telephone shows (RFC 6238: HMAC-SHA-1, six digits, 30 s)."""

import base64
import hmac
import secrets
import struct
from datetime import datetime
from typing import Final
from urllib.parse import quote

SECRET_BYTES: Final = 20
STEP_S: Final = 30
DIGITS: Final = 6
WINDOW: Final = 1
"""Steps that a telephone's clock may be off, to either side."""


def new_secret() -> bytes:
    """Return the secret that telephone and server share."""
    return secrets.token_bytes(SECRET_BYTES)


def step_of(now: datetime) -> int:
    """Return the number of the time step."""
    return int(now.timestamp()) // STEP_S


def password(secret: bytes, step: int) -> str:
    """Return the password of one time step (RFC 4226 5.3)."""
    digest = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 0x0F
    [number] = struct.unpack_from(">I", digest, offset)
    return f"{(number & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}d}"


def accepted(secret: bytes, given: str, now: datetime, used: int) -> int | None:
    """Return the time step that `given` is the password of; None when it is of none that is left.

    Parameters
    ----------
    used
        The step of the last password that was taken: it and those before it are not taken again.
    """
    present = step_of(now)
    for step in range(max(present - WINDOW, used + 1), present + WINDOW + 1):
        if hmac.compare_digest(password(secret, step).encode(), given.encode()):
            return step
    return None


def address(secret: bytes, account: str) -> str:
    """Return what a telephone reads as a QR code."""
    shown = base64.b32encode(secret).decode().rstrip("=")
    return f"otpauth://totp/Lienthong:{quote(account)}?secret={shown}&issuer=Lienthong"
