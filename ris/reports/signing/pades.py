"""PAdES baseline signatures (ETSI EN 319 142-1) put into a PDF, and what is kept of them."""

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

from asn1crypto.cms import SignerInfo
from asn1crypto.x509 import Certificate
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import fields, signers
from pyhanko.sign.general import SigningError
from pyhanko.sign.timestamps import TimeStamper
from pyhanko.sign.timestamps.common_utils import TimestampRequestError
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.errors import PathError, ValidationError

from ris.reports.signing.model import Evidence, Request, Signed
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotPermitted, PeerUnavailable

DIGEST: Final = "sha256"
FIELD: Final = "Signature1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a signature is made with, beside the key."""

    method: str
    qualified: bool
    location: str = ""
    timestamper: TimeStamper | None = None
    trust: ValidationContext | None = None
    """With it the certificate is checked at signing and the evidence of that goes into the file."""


def put(request: Request, signer: signers.Signer, means: Means) -> Signed:
    """Return the PDF with the signature of `signer`.

    Raises
    ------
    NotPermitted
        The certificate is not valid now, or does not lead to a trusted authority.
    PeerUnavailable
        The time-stamping authority does not answer.
    Malformed
        The file is no PDF that can be signed.
    """
    now = utc_now()
    certificate = signer.signing_cert
    if certificate is None:
        raise NotPermitted("a signer without a certificate")
    _require_valid(certificate, now)
    whole = means.trust is not None and means.timestamper is not None
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm=DIGEST,
        name=request.signer.name,
        reason=request.reason,
        location=means.location or None,
        subfilter=fields.SigSeedSubFilter.PADES,
        embed_validation_info=means.trust is not None,
        validation_context=means.trust,
        use_pades_lta=whole,
    )
    output = BytesIO()
    try:
        writer = IncrementalPdfFileWriter(BytesIO(request.pdf))
        made = signers.PdfSigner(metadata, signer, timestamper=means.timestamper)
        made.sign_pdf(writer, output=output)
    except TimestampRequestError as error:
        raise PeerUnavailable("the time-stamping authority does not answer") from error
    except (PathError, ValidationError, SigningError) as error:
        raise NotPermitted(f"the certificate cannot be used: {type(error).__name__}") from error
    except PdfError as error:
        raise Malformed("the file is no PDF that can be signed") from error
    pdf = output.getvalue()
    return Signed(pdf, _evidence(pdf, certificate, means, now))


def _require_valid(certificate: Certificate, now: datetime) -> None:
    validity = certificate["tbs_certificate"]["validity"]
    if not validity["not_before"].native <= now <= validity["not_after"].native:
        raise NotPermitted("the signer's certificate is not valid now")


def _time_stamp(signer_info: SignerInfo) -> datetime | None:
    """Return what the time stamp over the signature says (RFC 3161, ETSI EN 319 122-1)."""
    for attribute in signer_info["unsigned_attrs"]:
        if attribute["type"].native == "signature_time_stamp_token":
            token = attribute["values"][0]["content"]["encap_content_info"]["content"].parsed
            stamped_at: datetime = token["gen_time"].native
            return stamped_at
    return None


def _evidence(pdf: bytes, certificate: Certificate, means: Means, now: datetime) -> Evidence:
    signature = PdfFileReader(BytesIO(pdf)).embedded_signatures[0]
    stamped_at = _time_stamp(signature.signer_info)
    level = "B-B" if stamped_at is None else "B-LTA" if means.trust else "B-T"
    mechanism = signature.signer_info["signature_algorithm"].signature_algo
    return Evidence(
        method=means.method,
        qualified=means.qualified,
        level=level,
        algorithm=f"{DIGEST} {mechanism}",
        subject=certificate.subject.human_friendly,
        issuer=certificate.issuer.human_friendly,
        serial_number=f"{certificate.serial_number:x}",
        certificate=certificate.dump(),
        signed_at=now,
        time_stamped_at=stamped_at,
    )
