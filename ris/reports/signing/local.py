"""A signature by this server's own key: it shows later changes, and vouches for no person.

The key is made once and lies among the node's secrets; its certificate is signed by itself
and says what it is not.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from asn1crypto.keys import PrivateKeyInfo
from asn1crypto.x509 import Certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pyhanko.sign.signers import SimpleSigner
from pyhanko_certvalidator.registry import SimpleCertificateStore

from ris.reports.faults import Words
from ris.reports.signing import pades
from ris.reports.signing.model import Request, Signed
from ris.reports.signing.pades import Means
from storage.base.clock import utc_now
from storage.base.errors import StoreUnavailable
from storage.base.files import make_folder, sync_folder

METHOD: Final = "local"
NAME: Final = "Lienthong server key (not a qualified signature)"
BITS: Final = 3072
YEARS: Final = 10
FILE: Final = "report-signing.pem"
RENEW_BEFORE: Final = timedelta(days=30)


class LocalSigner:
    """Signs with the key in `folder`, which is made when there is none."""

    note = Words(
        "Electronic signature of the server, not a qualified digital signature",
        "Chữ ký điện tử của máy chủ, không phải chữ ký số đủ điều kiện",
    )

    def __init__(self, folder: Path, organization: str = "") -> None:
        self._folder = folder
        self._organization = organization

    def sign(self, request: Request) -> Signed:
        """Return the PDF signed by this server.

        Raises
        ------
        StoreUnavailable
            The key cannot be read or made.
        Malformed
            The file is no PDF that can be signed.
        """
        key, certificate = self._key()
        store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
        signer = SimpleSigner(certificate, key, store)
        means = Means(method=METHOD, qualified=False, location=self._organization)
        return pades.put(request, signer, means)

    def _key(self) -> tuple[PrivateKeyInfo, Certificate]:
        path = self._folder / FILE
        try:
            if not path.exists():
                self._make(path)
            found = path.read_bytes()
            certificate = x509.load_pem_x509_certificate(found)
            if certificate.not_valid_after_utc - utc_now() < RENEW_BEFORE:
                path.rename(path.with_suffix(f".{certificate.serial_number:x}.pem"))
                self._make(path)
                found = path.read_bytes()
                certificate = x509.load_pem_x509_certificate(found)
            key = serialization.load_pem_private_key(found, None)
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"the signing key {path} cannot be used") from error
        return (
            PrivateKeyInfo.load(
                key.private_bytes(
                    serialization.Encoding.DER,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            ),
            Certificate.load(certificate.public_bytes(serialization.Encoding.DER)),
        )

    def _make(self, path: Path) -> None:
        """Make key and certificate; another process that is quicker wins."""
        make_folder(self._folder)
        part = self._folder / f".{uuid4().hex}.pem"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(_pem(self._organization))
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(part)
        except FileExistsError:
            pass
        finally:
            part.unlink()
        sync_folder(self._folder)


def _pem(organization: str) -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, NAME)]
    if organization:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization[:64]))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(x509.Name(names))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNATURES_ONLY, critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


_SIGNATURES_ONLY: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
