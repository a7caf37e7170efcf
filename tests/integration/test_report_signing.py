"""Signatures on papers, judged by poppler and by a validator, with a provider on a real socket."""

import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from asn1crypto.x509 import Certificate
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import DocumentSecurityStore, validate_pdf_signature
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature

from ris.reports.paper.layout import render
from ris.reports.signing.csc import CscProvider
from ris.reports.signing.local import FILE, LocalSigner
from ris.reports.signing.model import Request, Signed
from ris.reports.signing.remote import RemoteSigner
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotPermitted, PeerUnavailable, StoreUnavailable
from tests.fixtures import programs
from tests.fixtures.csc_server import TOKEN, SigningService, signing_service
from tests.fixtures.papers import paper
from tests.fixtures.reports import HEAD

PDF = render(paper())
REQUEST = Request(PDF, HEAD, "key-1", "Duyệt kết quả")


@pytest.fixture(scope="module")
def service() -> Iterator[SigningService]:
    with signing_service() as running:
        running.enrol("key-1", "Đỗ Văn Ường")
        running.enrol("key-ec", "Trần Thị Ỷ", "ec")
        running.enrol("key-old", "Hết Hạn", days=-1)
        yield running


@pytest.fixture
def provider(service: SigningService) -> CscProvider:
    service.asked.clear()
    service.refuses.clear()
    return CscProvider(service.url(), TOKEN, "Test CSC")


def embedded(signed: Signed) -> EmbeddedPdfSignature:
    return PdfFileReader(BytesIO(signed.pdf)).embedded_signatures[0]


def poppler(pdf: bytes, folder: Path) -> str:
    if not programs.find("pdfsig"):
        pytest.skip("LEFT OUT: poppler is not installed, no signature was judged by it")
    (folder / "signed.pdf").write_bytes(pdf)
    command = [programs.need("pdfsig"), "-nocert", str(folder / "signed.pdf")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_local_signature_covers_the_whole_file(tmp_path: Path) -> None:
    signed = LocalSigner(tmp_path / "secrets", "BỆNH VIỆN ĐA KHOA TỈNH").sign(REQUEST)

    assert signed.pdf.startswith(PDF), "what was printed stays byte for byte"
    told = poppler(signed.pdf, tmp_path)
    assert "Signature Validation: Signature is Valid." in told
    assert "Total document signed" in told
    assert "ETSI.CAdES.detached" in told
    assert "not a qualified signature" in told
    evidence = signed.evidence
    assert (evidence.method, evidence.qualified, evidence.level) == ("local", False, "B-B")
    assert "not a qualified signature" in evidence.subject
    assert utc_now() - evidence.signed_at < timedelta(minutes=1)
    own = Certificate.load(evidence.certificate)
    assert f"{own.serial_number:x}" == evidence.serial_number


def test_change_of_one_byte_breaks_the_signature(tmp_path: Path) -> None:
    signed = LocalSigner(tmp_path / "secrets").sign(REQUEST)
    changed = bytearray(signed.pdf)
    place = changed.index(b"/Creator")
    changed[place + 10] ^= 1

    assert "Digest Mismatch" in poppler(bytes(changed), tmp_path)


def test_key_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    signers = [LocalSigner(tmp_path / "secrets") for _ in range(4)]
    serials: list[str] = []
    threads = [
        threading.Thread(
            target=lambda one=one: serials.append(one.sign(REQUEST).evidence.serial_number)
        )
        for one in signers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(serials) == 4
    assert len({*serials}) == 1
    [left] = (tmp_path / "secrets").iterdir()
    assert left.name == FILE
    assert stat.S_IMODE(left.stat().st_mode) == 0o600


def test_key_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("no key")

    with pytest.raises(StoreUnavailable, match="signing key"):
        LocalSigner(tmp_path).sign(REQUEST)


@pytest.mark.parametrize("pdf", [b"", b"%PDF-1.4 and no more"], ids=["empty", "cut"])
def test_what_is_no_pdf_is_not_signed(tmp_path: Path, pdf: bytes) -> None:
    with pytest.raises(Malformed):
        LocalSigner(tmp_path).sign(Request(pdf, HEAD, "", ""))


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("credential", ["key-1", "key-ec"])
def test_provider_signs_with_the_doctors_key(
    service: SigningService, tmp_path: Path, version: str, credential: str
) -> None:
    service.asked.clear()
    provider = CscProvider(service.url(version), TOKEN, "Test CSC")

    signed = RemoteSigner(provider).sign(Request(PDF, HEAD, credential, "Duyệt kết quả"))

    assert "Signature Validation: Signature is Valid." in poppler(signed.pdf, tmp_path)
    assert embedded(signed).signer_cert.dump() == service.chains[credential][0]
    assert (signed.evidence.method, signed.evidence.qualified) == ("Test CSC", True)
    assert "Test CA" in signed.evidence.issuer
    assert [method for method, _ in service.asked] == [
        "credentials/info",
        "credentials/authorize",
        "signatures/signHash",
    ]
    sent = str(service.asked)
    assert HEAD.name not in sent, "only digests leave this server"
    agreed, signing = service.asked[1][1], service.asked[2][1]
    name = "hash" if version == "v1" else "hashes"
    assert agreed[name] == signing[name]
    assert agreed["numSignatures"] == 1


def test_time_stamp_is_kept(service: SigningService, provider: CscProvider) -> None:
    signer = RemoteSigner(provider, timestamper=service.time_stamper())

    evidence = signer.sign(REQUEST).evidence

    assert evidence.level == "B-T"
    assert evidence.time_stamped_at is not None
    assert abs(evidence.time_stamped_at - evidence.signed_at) < timedelta(minutes=1)


def test_with_trusted_authorities_the_evidence_goes_into_the_file(
    service: SigningService, provider: CscProvider
) -> None:
    root = service.chains["key-1"][1]
    signer = RemoteSigner(provider, (root,), service.time_stamper())

    signed = signer.sign(REQUEST)

    assert signed.evidence.level == "B-LTA"
    reader = PdfFileReader(BytesIO(signed.pdf))
    assert len(reader.embedded_timestamp_signatures) == 1
    offline = {
        "trust_roots": [Certificate.load(root)],
        "allow_fetching": False,
        "revocation_mode": "hard-fail",
    }
    evidence = DocumentSecurityStore.read_dss(reader).as_validation_context(offline)
    status = validate_pdf_signature(reader.embedded_regular_signatures[0], evidence)
    assert status.bottom_line, "valid by what the file brings along"


def test_revoked_certificate_is_not_used(service: SigningService, provider: CscProvider) -> None:
    certificate = service.enrol("key-lost", "Mất Khoá")
    service.authority.revoked.append(certificate.serial_number)
    signer = RemoteSigner(provider, (service.chains["key-lost"][1],), service.time_stamper())

    with pytest.raises(NotPermitted, match="certificate"):
        signer.sign(Request(PDF, HEAD, "key-lost", ""))

    assert "signatures/signHash" not in [method for method, _ in service.asked]


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        ("", "no credential of this signer"),
        ("key-unknown", "refuses credentials/info: 400 invalid_request"),
        ("key-old", "not valid now"),
    ],
    ids=["none", "unknown", "expired"],
)
def test_signer_without_a_valid_key_is_refused(
    provider: CscProvider, credential: str, reason: str
) -> None:
    with pytest.raises(NotPermitted, match=reason) as refused:
        RemoteSigner(provider).sign(Request(PDF, HEAD, credential, ""))

    assert "NGUYEN" not in str(refused.value), "what the provider says in words is not repeated"


METHODS = ["credentials/info", "credentials/authorize", "signatures/signHash"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((403, b'{"error": "access_denied"}'), NotPermitted),
        ((500, b"oops"), PeerUnavailable),
        ((503, b""), PeerUnavailable),
        ((429, b"{}"), PeerUnavailable),
        ((408, b"{}"), PeerUnavailable),
        ((200, b"<html>"), Malformed),
        ((200, b"[]"), Malformed),
        ((200, b"{}"), Malformed),
        ((200, b'{"signatures": ["!"], "SAD": 1, "cert": [], "key": {}}'), Malformed),
    ],
    ids=["403", "500", "503", "429", "408", "html", "list", "empty", "wrong"],
)
def test_what_the_provider_answers_tells_whose_move_is_next(
    service: SigningService,
    provider: CscProvider,
    method: str,
    answer: tuple[int, bytes],
    error: type[Exception],
) -> None:
    service.refuses[method] = answer

    with pytest.raises(error, match=re.escape(method) if answer[0] != 200 else None):
        RemoteSigner(provider).sign(REQUEST)


def test_provider_that_is_away_may_be_there_later() -> None:
    away = CscProvider("http://127.0.0.1:9/csc/v2", TOKEN, "Away")

    with pytest.raises(PeerUnavailable, match="Away does not answer"):
        RemoteSigner(away).sign(REQUEST)
