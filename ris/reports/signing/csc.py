"""A provider that speaks the API of the Cloud Signature Consortium, versions 1.0.4 and 2.

    credentials/info ─▶ certificates      credentials/authorize ─▶ SAD      signatures/signHash

The root of the API names the version: ``https://…/csc/v1`` or ``…/csc/v2``. The signer agrees
at the provider (a prompt on the phone), so `authorize` may take as long as a person does.
"""

import base64
import binascii
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from storage.base.errors import Malformed, NotPermitted, PeerUnavailable

SHA256_OID: Final = "2.16.840.1.101.3.4.2.1"
SIGNER_WAITS_S: Final = 120.0
"""For the signer's agreement."""
ANSWER_S: Final = 20.0
MOST_BYTES: Final = 1 << 20
"""Of an answer."""
_OK: Final = 200
_REFUSED: Final = range(400, 500)
_TOO_MANY: Final = 429
_TIMEOUT: Final = 408


class CscProvider:
    """The service at `url`; `token` is the hospital's access token for it."""

    def __init__(self, url: str, token: str, name: str = "") -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._tls = parts.scheme == "https"
        self._path = parts.path.rstrip("/")
        self._token = token
        self._second = self._path.endswith("/v2")
        self.name = name or self._host

    def certificates(self, credential: str) -> list[bytes]:
        """Return the certificate chain of a credential, the signer's own first."""
        answer = self._ask(
            "credentials/info", {"credentialID": credential, "certificates": "chain"}
        )
        try:
            key, certificates = answer["key"], answer["cert"]["certificates"]
            if key.get("status", "enabled") != "enabled":
                raise NotPermitted("the provider has disabled this credential")
            return [base64.b64decode(one, validate=True) for one in certificates]
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise Malformed("the provider's answer has no certificates") from error

    def sign(self, credential: str, digest: bytes, algorithm: str) -> bytes:
        """Have the signer agree, then return the signature over a SHA-256 digest."""
        hashes = [base64.b64encode(digest).decode()]
        hashed: dict[str, object] = {"hashes": hashes, "hashAlgorithmOID": SHA256_OID}
        if not self._second:
            hashed = {"hash": hashes}
        asked = {"credentialID": credential, "numSignatures": 1, **hashed}
        agreed = self._ask("credentials/authorize", asked, SIGNER_WAITS_S)
        if not isinstance(sad := agreed.get("SAD"), str):
            raise Malformed("the provider's answer has no SAD")
        order = {"credentialID": credential, "SAD": sad, "signAlgo": algorithm, **hashed}
        if not self._second:
            order["hashAlgo"] = SHA256_OID
        answer = self._ask("signatures/signHash", order, SIGNER_WAITS_S)
        try:
            [signature] = answer["signatures"]
            return base64.b64decode(signature, validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed("the provider's answer has no signature") from error

    def _ask(
        self, method: str, asked: Mapping[str, object], timeout_s: float = ANSWER_S
    ) -> Mapping[str, Any]:
        connection = self._connection(timeout_s)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        try:
            connection.request("POST", f"{self._path}/{method}", json.dumps(asked), headers)
            answer = connection.getresponse()
            content = answer.read(MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise PeerUnavailable(f"{self.name} does not answer {method}") from error
        finally:
            connection.close()
        return self._read(method, answer.status, content)

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout_s, context=context
        )

    def _read(self, method: str, status: int, content: bytes) -> Mapping[str, Any]:
        if status in _REFUSED and status not in {_TIMEOUT, _TOO_MANY}:
            raise NotPermitted(f"{self.name} refuses {method}: {status} {_reason(content)}".strip())
        if status != _OK:
            raise PeerUnavailable(f"{self.name} answers {method} with {status}")
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise Malformed(f"{self.name} answers {method} with what is no JSON") from error
        if not isinstance(answer, dict):
            raise Malformed(f"{self.name} answers {method} with what is no object")
        return answer


def _reason(content: bytes) -> str:
    """Return the error code of an answer (CSC API 10.1); its description may quote anything."""
    try:
        code = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and code.replace("_", "").isalnum() else ""
