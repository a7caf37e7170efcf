"""TLS as BCP 195 wants it (RFC 8996, RFC 9325), the profile of DICOM PS3.15 B.12.

Versions 1.2 and 1.3 only; of 1.2 the suites with forward secrecy and authenticated
encryption; no compression, no renegotiation, keys of at least 2048 bits (RSA).
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.base.errors import Malformed

log = logging.getLogger(__name__)

# RFC 9325 4.2, as OpenSSL names the suites of TLS 1.2; level 2 bars keys below 112 bits
_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
_NOBODY_ELSE: Final = 0o007
"""The mode bits of everybody who is neither the owner nor in the group."""

_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a TLS server needs, PEM files all."""

    certificate: Path
    """The server's certificate, then those of its authorities."""
    key: Path | None = None
    """Its private key, without a password; None: it stands in the file of the certificate."""
    client_ca: Path | None = None
    """Authorities of which every client must have a certificate; None: clients need none."""


class ServerTls:
    """Gives the context of new connections, made anew when a file was renewed.

    Raises
    ------
    Malformed
        A file cannot be used; the text names it and the reason.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = _stamp(files)
        self._context = server_context(files)

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; files that do not fit yet change nothing."""
        stamp = _stamp(self._files)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = server_context(self._files)
                log.info("certificate_renewed", extra={"path": str(self._files.certificate)})
            except Malformed as error:
                log.warning("certificate_not_renewed", extra={"reason": str(error)})
        return self._context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context for our side of TLS connections.

    Raises
    ------
    Malformed
        A file cannot be read or used, or everybody may read the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    # many devices close without a word; what was cut off is told by the PDUs inside
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_ciphers(_SUITES)
    key = files.key or files.certificate
    try:
        if key.stat().st_mode & _NOBODY_ELSE:
            raise Malformed(f"{key}: everybody may read this private key; chmod o-rwx it")
        context.load_cert_chain(files.certificate, key, password="")
    except OSError as error:  # ssl.SSLError among them
        raise Malformed(f"{files.certificate}, {key}: {_reason(error)}") from error
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as error:
            raise Malformed(f"{files.client_ca}: {_reason(error)}") from error
    return context


def client_context(authority: Path | None = None) -> ssl.SSLContext:
    """Return a context for TLS connections of ours, which checks the other side.

    Parameters
    ----------
    authority
        PEM file of who signed its certificate; None: the authorities of this machine.

    Raises
    ------
    Malformed
        The file cannot be read or used.
    """
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except OSError as error:
        raise Malformed(f"{authority}: {error.strerror or 'no certificate in PEM'}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate and key in PEM that fit together ({error.reason or 'PEM'})"
    return error.strerror or str(error)


def _stamp(files: TlsFiles) -> _Stamp:
    return tuple(
        (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in (files.certificate, files.key, files.client_ca)
        if path is not None and path.exists()
    )
