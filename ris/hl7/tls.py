"""TLS for both ends of an HL7 connection: TLS 1.2 and 1.3 (BCP 195, ITI-19)."""

import ssl
from pathlib import Path
from typing import Final

from storage.base.errors import Malformed

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(
    certificate: Path, key: Path, client_authority: Path | None = None
) -> ssl.SSLContext:
    """Return what the listener presents; with `client_authority` it asks for a certificate too.

    Raises
    ------
    Malformed
        A file cannot be read or is not what it should be.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise Malformed(f"LIENTHONG_HL7_TLS_CERTIFICATE or _KEY: {error}") from error
    if client_authority is not None:
        try:
            context.load_verify_locations(client_authority)
        except (OSError, ValueError) as error:
            raise Malformed(f"LIENTHONG_HL7_TLS_CLIENT_CA: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: Path | None = None) -> ssl.SSLContext:
    """Return how a destination is checked: by `authority`, or by those of the system.

    Raises
    ------
    Malformed
        The file of the authority cannot be read.
    """
    try:
        return _hardened(ssl.create_default_context(cafile=str(authority) if authority else None))
    except (OSError, ValueError) as error:
        raise Malformed(f"certificate authority {authority}: {error}") from error


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context
