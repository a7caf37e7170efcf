import shutil
import ssl
from pathlib import Path

import pytest

from storage.base.errors import Malformed
from storage.base.tls import ServerTls, TlsFiles, server_context
from tests.fixtures.certificates import Authority, Signed, openssl


def test_context_is_that_of_bcp_195(server_certificate: Signed) -> None:
    context = server_context(TlsFiles(server_certificate.certificate, server_certificate.key))

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    older = {one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"}
    assert older
    assert all(name.startswith("ECDHE-") for name in older)
    assert all("GCM" in name or "CHACHA20" in name for name in older)
    assert context.verify_mode is ssl.CERT_NONE


def test_authority_of_clients_makes_their_certificate_compulsory(
    server_certificate: Signed, authority: Authority
) -> None:
    files = TlsFiles(server_certificate.certificate, server_certificate.key, authority.certificate)

    assert server_context(files).verify_mode is ssl.CERT_REQUIRED


def test_one_file_may_hold_certificate_and_key(server_certificate: Signed, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(server_certificate.certificate.read_text() + server_certificate.key.read_text())
    both.chmod(0o640)

    server_context(TlsFiles(both))


def test_file_that_cannot_be_used_is_named(
    server_certificate: Signed, authority: Authority, tmp_path: Path
) -> None:
    good, other = server_certificate, authority.sign("another")
    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("hello")
    text.chmod(0o600)
    weak = authority.sign("weak", bits=1024)

    for files, named in (
        (TlsFiles(nothing, good.key), "nothing.pem.*No such file"),
        (TlsFiles(good.certificate, nothing), "nothing.pem.*No such file"),
        (TlsFiles(good.certificate, text), "text.pem.*fit together"),
        (TlsFiles(good.certificate, other.key), "another.key.*fit together"),
        (TlsFiles(good.certificate, good.key, text), "text.pem"),
        (TlsFiles(good.certificate, good.key, tmp_path), str(tmp_path)),
        (TlsFiles(weak.certificate, weak.key), "weak.pem.*EE_KEY_TOO_SMALL"),
    ):
        with pytest.raises(Malformed, match=named):
            server_context(files)


def test_key_with_a_password_is_refused_and_asks_nobody(
    server_certificate: Signed, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    openssl("pkcs8", "-topk8", "-passout", "pass:x", "-in", server_certificate.key, "-out", locked)
    locked.chmod(0o600)

    with pytest.raises(Malformed, match=r"locked\.key"):
        server_context(TlsFiles(server_certificate.certificate, locked))


def test_key_that_everybody_may_read_is_refused(server_certificate: Signed, tmp_path: Path) -> None:
    key = tmp_path / "open.key"
    shutil.copy(server_certificate.key, key)
    key.chmod(0o644)

    with pytest.raises(Malformed, match="everybody may read"):
        server_context(TlsFiles(server_certificate.certificate, key))


def test_files_that_went_away_leave_the_server_as_it_is(
    server_certificate: Signed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    shutil.copy(server_certificate.certificate, files.certificate)
    shutil.copy(server_certificate.key, files.key or "")
    tls = ServerTls(files)
    before = tls.context()
    files.certificate.unlink()

    assert tls.context() is before
    assert caplog.messages == ["certificate_not_renewed"]
    assert tls.context() is before
