import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from storage.access import assertions
from storage.access.assertions import PrivateKey
from storage.base.errors import Malformed, NotPermitted

NOW = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)
KEYS = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.fixture(params=KEYS)
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return KEYS[request.param]


def test_what_a_device_signs_is_read(key: PrivateKey) -> None:
    made = assertions.make(key, "d1", "https://pacs/token", NOW)

    claims = assertions.verify(made, assertions.pem_of(key.public_key()), NOW)

    assert (assertions.device_of(made), claims.device) == ("d1", "d1")
    assert claims.audience == ("https://pacs/token",)
    assert claims.ends_at == NOW + assertions.LIFE


def test_two_assertions_are_told_apart(key: PrivateKey) -> None:
    pem = assertions.pem_of(key.public_key())
    both = (assertions.make(key, "d1", "a", NOW) for _ in range(2))

    assert len({assertions.verify(one, pem, NOW).digest for one in both}) == 2


@pytest.mark.parametrize("off", [timedelta(minutes=7), -timedelta(minutes=7)])
def test_times_hold_within_minutes(key: PrivateKey, off: timedelta) -> None:
    made = assertions.make(key, "d1", "a", NOW)

    with pytest.raises(NotPermitted):
        assertions.verify(made, assertions.pem_of(key.public_key()), NOW + off)


def test_a_signature_of_another_key_does_not_hold(key: PrivateKey) -> None:
    made = assertions.make(key, "d1", "a", NOW)
    for other in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(NotPermitted):
            assertions.verify(made, assertions.pem_of(other.public_key()), NOW)


@pytest.mark.parametrize("claim", ["iss", "sub", "exp", "jti", "aud"])
def test_no_claim_can_be_changed(key: PrivateKey, claim: str) -> None:
    header, claims, signature = assertions.make(key, "d1", "a", NOW).split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    told[claim] = 0
    forged = base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()

    with pytest.raises(NotPermitted):
        assertions.verify(
            f"{header}.{forged}.{signature}", assertions.pem_of(key.public_key()), NOW
        )


@pytest.mark.parametrize(
    "algorithm", ["none", "HS256", "RS256", None, ["ES256"]], ids=["none", "HS", "RS", "no", "list"]
)
def test_the_key_says_how_it_is_signed_and_not_the_header(
    key: PrivateKey, algorithm: object
) -> None:
    _, claims, signature = assertions.make(key, "d1", "a", NOW).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()

    with pytest.raises(NotPermitted):
        assertions.verify(
            f"{header}.{claims}.{signature}", assertions.pem_of(key.public_key()), NOW
        )


@pytest.mark.parametrize(
    "text", ["", "...", "a.b.c", "é.é.é", "e30.e30", "bnVsbA.bnVsbA.", "W10.W10.", "x" * 5000]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(NotPermitted):
        assertions.device_of(text)


@pytest.mark.parametrize("kind", ["rsa", "P-384", "text"])
def test_only_two_kinds_of_keys_are_taken(kind: str) -> None:
    pem = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048).public_key(),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()).public_key(),
        "text": lambda: None,
    }[kind]()

    with pytest.raises(Malformed):
        assertions.public_key(assertions.pem_of(pem) if pem else "key")  # type: ignore[arg-type]
