"""Who signs, as the settings of the node say."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.sign.timestamps.aiohttp_client import HTTPTimeStamper

from ris.reports.signing.csc import CscProvider
from ris.reports.signing.local import LocalSigner
from ris.reports.signing.model import Signer
from ris.reports.signing.remote import RemoteSigner
from storage.base.errors import Malformed
from storage.base.settings import Settings


def signer_of(settings: Settings) -> Signer:
    """Return the signer: the provider at ``signing_url``, or this server when there is none.

    Raises
    ------
    Malformed
        The file of authorities cannot be read.
    """
    if not settings.signing_url:
        return LocalSigner(settings.secrets_dir)
    token = settings.signing_token.get_secret_value()
    provider = CscProvider(settings.signing_url, token, settings.signing_name)
    stamps = HTTPTimeStamper(settings.timestamp_url) if settings.timestamp_url else None
    return RemoteSigner(provider, _authorities(settings), stamps)


def _authorities(settings: Settings) -> tuple[bytes, ...]:
    if settings.signing_ca is None:
        return ()
    try:
        found = x509.load_pem_x509_certificates(settings.signing_ca.read_bytes())
    except (OSError, ValueError) as error:
        raise Malformed(f"LIENTHONG_SIGNING_CA: {settings.signing_ca} cannot be read") from error
    return tuple(one.public_bytes(Encoding.DER) for one in found)
