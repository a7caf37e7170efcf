"""Random secrets that are handed out once; only their SHA-256 is kept.

Nobody guesses 256 random bits, so they need neither salt nor slow hash.
"""

import hashlib
import secrets
from typing import Final

BYTES: Final = 32


def new() -> str:
    """Return a secret that fits into a URL and a cookie."""
    return secrets.token_urlsafe(BYTES)


def digest(secret: str) -> bytes:
    """Return what is kept of `secret`."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
