"""What a device signs to say who it is: a JSON Web Token (RFC 7515, RFC 7523 2.2), ES256 or EdDSA.

``iss`` and ``sub`` are the device, ``aud`` the token endpoint, ``exp`` at most five minutes away,
``jti`` is used once.
"""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from storage.base.errors import Malformed, NotPermitted

LONGEST: Final = 4096
LIFE: Final = timedelta(minutes=5)
SKEW: Final = timedelta(minutes=1)
"""How far two clocks may differ; a device whose clock is wrong asks for the server's time first."""
PARTS: Final = 3
_WIDTH: Final = 32
"""Bytes of each of the two numbers of an ES256 signature (RFC 7518 3.4)."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Claims:
    """What an assertion says."""

    device: str
    audience: tuple[str, ...]
    ends_at: datetime
    digest: bytes
    """SHA-256 of device and ``jti``: an assertion is taken once."""


def public_key(pem: str) -> PublicKey:
    """Read the public key of a device: P-256 or Ed25519.

    Raises
    ------
    Malformed
        It is none of these, or not PEM.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed("not a public key in PEM") from error
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise Malformed("a device's key is of P-256 or Ed25519")


def pem_of(key: PublicKey) -> str:
    """Return a public key as it is kept and shown."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def device_of(assertion: str) -> str:
    """Return who an assertion says that it is from, before anything is checked."""
    _, claims, _ = _parts(assertion)
    device = claims.get("iss")
    return device if isinstance(device, str) else ""


def verify(assertion: str, pem: str, now: datetime) -> Claims:
    """Return what an assertion says, once its signature and its times hold.

    Raises
    ------
    NotPermitted
        They do not.
    """
    header, claims, signature = _parts(assertion)
    signed = assertion.rpartition(".")[0].encode()
    _check_signature(public_key(pem), header.get("alg"), signature, signed)
    device = claims.get("iss")
    if device != claims.get("sub") or not isinstance(device, str):
        raise NotPermitted("the assertion lacks iss or sub")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        raise NotPermitted("the assertion lacks jti")
    ends_at = _instant(claims.get("exp"))
    if not now - SKEW < ends_at <= now + LIFE + SKEW:
        raise NotPermitted("the assertion is over, or too long")
    digest = hashlib.sha256(f"{device}\n{jti}".encode("utf-8", "surrogatepass")).digest()
    return Claims(device, _audience(claims.get("aud")), ends_at, digest)


def make(key: PrivateKey, device: str, audience: str, now: datetime) -> str:
    """Return an assertion of a device, signed with its key."""
    ends = int((now + LIFE).timestamp())
    claims = {
        "iss": device,
        "sub": device,
        "aud": audience,
        "exp": ends,
        "jti": secrets.token_urlsafe(16),
    }
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
    header = {"alg": "ES256" if elliptic else "EdDSA", "typ": "JWT"}
    signed = ".".join(_encoded(json.dumps(one).encode()) for one in (header, claims))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = b"".join(number.to_bytes(_WIDTH) for number in numbers)
    else:
        signature = key.sign(signed.encode())
    return f"{signed}.{_encoded(signature)}"


def _check_signature(key: PublicKey, algorithm: object, signature: bytes, signed: bytes) -> None:
    elliptic = isinstance(key, ec.EllipticCurvePublicKey)
    if algorithm != ("ES256" if elliptic else "EdDSA"):  # the key says how it signs
        raise NotPermitted("the assertion is signed in a way that its key does not sign")
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            numbers = (int.from_bytes(one) for one in (signature[:_WIDTH], signature[_WIDTH:]))
            key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, signed)
    except InvalidSignature as error:
        raise NotPermitted("the signature of the assertion does not hold") from error


def _parts(assertion: str) -> tuple[Mapping[str, Any], Mapping[str, Any], bytes]:
    pieces = assertion.split(".")
    if len(assertion) > LONGEST or len(pieces) != PARTS:
        raise NotPermitted("not a JSON Web Token")
    try:
        header, claims = (json.loads(_decoded(piece)) for piece in pieces[:2])
        signature = _decoded(pieces[2])
    except (ValueError, binascii.Error, RecursionError) as error:
        raise NotPermitted("not a JSON Web Token") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise NotPermitted("not a JSON Web Token")
    return header, claims, signature


def _instant(seconds: object) -> datetime:
    try:
        return datetime.fromtimestamp(float(seconds), UTC)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise NotPermitted("the assertion lacks exp") from error


def _audience(given: object) -> tuple[str, ...]:
    many = given if isinstance(given, list) else [given]
    return tuple(one for one in many if isinstance(one, str))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
