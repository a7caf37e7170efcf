"""Secrets that lie in the database, sealed by a key that does not (AES-256-GCM, RFC 5116).

    0x01 ‖ which key, 4 bytes ‖ nonce, 12 bytes ‖ ciphertext and tag

What is sealed is bound to whose it is: moved to another row it cannot be opened. Who has a copy of
the database alone opens nothing. Nodes that share a database share the key, by its file or setting.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.base.errors import StoreUnavailable
from storage.base.files import make_folder, write_once

FILE: Final = "sealing.key"
KEY_BYTES: Final = 32
MARK: Final = b"\x01"
_NAME_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(MARK) + _NAME_BYTES


class Seal:
    """Closes and opens secrets with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.mark: Final = (
            MARK + hashlib.sha256(b"lienthong sealing\n" + key).digest()[:_NAME_BYTES]
        )
        """What everything begins with that this key has sealed."""

    def close(self, secret: bytes, whose: str) -> bytes:
        """Return a secret sealed."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self.mark + nonce + self._cipher.encrypt(nonce, secret, whose.encode())

    def open(self, sealed: bytes, whose: str) -> bytes:
        """Return the secret.

        Raises
        ------
        StoreUnavailable
            It was sealed with another key, or it is not the one of `whose`.
        """
        if not sealed.startswith(self.mark):
            raise StoreUnavailable(f"a secret was sealed with another key than {FILE}")
        rest = sealed[_HEAD_BYTES:]
        try:
            return self._cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], whose.encode())
        except InvalidTag as error:
            raise StoreUnavailable("a secret in the database was changed") from error


def seal_of(folder: Path, given: str = "") -> Seal:
    """Return the seal of a node: of the key `given` in hexadecimal, else of the one in `folder`.

    It is made when there is none.

    Raises
    ------
    StoreUnavailable
        The file cannot be made or read, or holds no key.
    """
    path = folder / FILE
    try:
        if not given and not path.exists():
            make_folder(folder)
            write_once(path, secrets.token_hex(KEY_BYTES).encode())
        key = bytes.fromhex(given or path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise StoreUnavailable(f"the key {path} cannot be used") from error
    if len(key) != KEY_BYTES:
        raise StoreUnavailable(f"the key {path} is none")
    return Seal(key)
