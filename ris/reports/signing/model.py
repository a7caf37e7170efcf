"""The seam between a report and whoever signs its PDF."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ris.reports.faults import Words
from ris.reports.model import Practitioner


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be signed: the bytes of a PDF, by whom, and why."""

    pdf: bytes
    signer: Practitioner
    credential: str
    """Names the signer's key at the provider; '' where none is needed."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is kept of a signature beside the file that bears it."""

    method: str
    """``local``, or the provider's name."""
    qualified: bool
    """Made with a certificate that the provider issued to the signer, by the hospital's word."""
    level: str
    """Of ETSI EN 319 142-1: ``B-B``, ``B-T``, ``B-LTA``."""
    algorithm: str
    """Digest and signature mechanism."""
    subject: str
    issuer: str
    serial_number: str
    """Of the certificate, in hexadecimal."""
    certificate: bytes
    """In DER."""
    signed_at: datetime
    """By our clock."""
    time_stamped_at: datetime | None
    """By the clock of a time-stamping authority."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A PDF with its signature."""

    pdf: bytes
    evidence: Evidence


class Signer(Protocol):
    """Signs PDF files; `signing.local` and `signing.remote` implement it."""

    note: Words
    """What kind of signature it is, as it stands on the paper."""

    def sign(self, request: Request) -> Signed:
        """Return the PDF with a PAdES signature (ETSI EN 319 142-1).

        Raises
        ------
        Unavailable
            The key or a service that is needed does not answer: later it may.
        Rejected
            The certificate is not valid, or the provider refuses this signer.
        """
        ...


class Provider(Protocol):
    """Keeps the keys of signers and signs digests with them; `signing.csc` implements it."""

    name: str

    def certificates(self, credential: str) -> list[bytes]:
        """Return the signer's certificate and those of its authorities, in DER.

        Raises
        ------
        PeerUnavailable
            The provider does not answer.
        Rejected
            It knows no such credential, or it must not be used now.
        """
        ...

    def sign(self, credential: str, digest: bytes, algorithm: str) -> bytes:
        """Return the signature over a digest; the signer agrees on the provider's own way.

        Parameters
        ----------
        digest
            SHA-256 of the signed attributes.
        algorithm
            OID of the signature algorithm, digest included.

        Raises
        ------
        PeerUnavailable
            The provider does not answer, or the signer did not in time.
        Rejected
            The signer or the provider refuses.
        """
        ...
