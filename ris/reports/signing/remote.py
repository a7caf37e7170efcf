"""A signature by the doctor's own key, which a provider keeps: only digests leave this server.

certificate ◀─ provider        signed attributes ─ SHA-256 ─▶ provider ─ the signer agrees ─▶
signature into the PDF         (PAdES is put together here)
"""

import hashlib
from typing import Final

from asn1crypto.algos import SignedDigestAlgorithm
from asn1crypto.x509 import Certificate
from pyhanko.sign import signers
from pyhanko.sign.timestamps import TimeStamper
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from ris.reports.faults import Words
from ris.reports.signing import pades
from ris.reports.signing.model import Provider, Request, Signed
from ris.reports.signing.pades import Means
from storage.base.errors import Malformed, NotPermitted, NotSupported

# algorithm of the certificate's key → OID of the signature with SHA-256 (RFC 8017, RFC 5758)
MECHANISMS: Final = {"rsa": "1.2.840.113549.1.1.11", "ec": "1.2.840.10045.4.3.2"}
_DUMMY_BYTES: Final = 512
"""As long as any signature may be; room for it is kept in the file."""


class RemoteSigner:
    """Signs by a provider.

    Parameters
    ----------
    trusted
        Certificates of authorities in DER; with them the signer's certificate is checked at
        signing, revocation included, and the evidence goes into the file.
    timestamper
        A time-stamping authority (RFC 3161).
    """

    def __init__(
        self,
        provider: Provider,
        trusted: tuple[bytes, ...] = (),
        timestamper: TimeStamper | None = None,
        location: str = "",
    ) -> None:
        self._provider = provider
        self._trusted = trusted
        self._timestamper = timestamper
        self._location = location
        self.note = Words(
            f"Digitally signed through {provider.name}", f"Đã ký số qua {provider.name}"
        )

    def sign(self, request: Request) -> Signed:
        """Return the PDF signed by `request.signer` with the key `request.credential`.

        Raises
        ------
        NotPermitted
            The signer has no credential, the certificate is not valid, or signing was refused.
        PeerUnavailable
            Provider or time-stamping authority do not answer.
        Malformed, NotSupported
            The PDF, or the provider's answer, cannot be used.
        """
        if not request.credential:
            raise NotPermitted("no credential of this signer is known")
        chain = [_certificate(one) for one in self._provider.certificates(request.credential)]
        if not chain:
            raise Malformed("the provider has sent no certificate")
        signer = _ProviderSigner(self._provider, request.credential, chain)
        means = Means(
            method=self._provider.name,
            qualified=True,
            location=self._location,
            timestamper=self._timestamper,
            trust=self._trust(chain),
        )
        return pades.put(request, signer, means)

    def _trust(self, chain: list[Certificate]) -> ValidationContext | None:
        if not self._trusted:
            return None
        return ValidationContext(
            trust_roots=[_certificate(one) for one in self._trusted],
            other_certs=chain[1:],
            allow_fetching=True,
            revocation_mode="hard-fail",
        )


class _ProviderSigner(signers.Signer):
    """Asks the provider for the one signature."""

    def __init__(self, provider: Provider, credential: str, chain: list[Certificate]) -> None:
        certificate = chain[0]
        store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
        store.register_multiple(chain)
        self._provider = provider
        self._credential = credential
        self._algorithm = _mechanism(certificate)
        super().__init__(
            signing_cert=certificate,
            cert_registry=store,
            signature_mechanism=SignedDigestAlgorithm({"algorithm": self._algorithm}),
        )

    async def async_sign_raw(
        self,
        data: bytes,
        digest_algorithm: str,
        dry_run: bool = False,  # noqa: FBT001, FBT002 - as the parent has it
    ) -> bytes:
        """Return the signature over `data`; a dry run returns as many bytes as it may have."""
        if dry_run:
            return bytes(_DUMMY_BYTES)
        if digest_algorithm != pades.DIGEST:
            raise NotSupported(f"digests of {digest_algorithm}")
        # nothing else runs in this event loop: it is made for this one signature
        digest = hashlib.sha256(data).digest()
        return self._provider.sign(self._credential, digest, self._algorithm)


def _mechanism(certificate: Certificate) -> str:
    kind = certificate.public_key.algorithm
    if kind not in MECHANISMS:
        raise NotSupported(f"certificates with keys of {kind}")
    return MECHANISMS[kind]


def _certificate(der: bytes) -> Certificate:
    try:
        certificate = Certificate.load(der, strict=True)
        certificate.public_key  # noqa: B018 - reads the inner structure
    except (ValueError, TypeError) as error:
        raise Malformed("a certificate that cannot be read") from error
    return certificate
