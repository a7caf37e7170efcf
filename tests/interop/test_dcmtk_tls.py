"""DCMTK's modalities inside TLS, against the whole listener."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from storage.base.tls import ServerTls, TlsFiles
from storage.spool import Spool
from tests.fixtures.certificates import Authority, Signed
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.server import listening
from tests.fixtures.serving import Serving, free_port
from tests.fixtures.spooled import spooled

pytestmark = [pytest.mark.interop, needs_dcmtk]


@pytest.fixture
def tls_port(spool: Spool, server_certificate: Signed, authority: Authority) -> Iterator[int]:
    """A port that takes only who has a certificate of our authority."""
    files = TlsFiles(server_certificate.certificate, server_certificate.key, authority.certificate)
    with listening(spool, tls=ServerTls(files)) as listener:
        assert listener.tls_port is not None
        yield listener.tls_port


@pytest.fixture(scope="module")
def modality(authority: Authority) -> Signed:
    return authority.sign("modality")


def shown(by: Signed, trusted: Authority) -> tuple[object, ...]:
    return "+tls", by.key, by.certificate, "+cf", trusted.certificate


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_echo_in_every_profile_that_is_not_retired(
    tls_port: int, modality: Signed, authority: Authority, profile: str
) -> None:
    answer = dcmtk("echoscu", tls_port, *shown(modality, authority), profile)

    assert answer.returncode == 0, answer.stderr


def test_objects_are_stored(
    tls_port: int, modality: Signed, authority: Authority, spool: Spool, tmp_path: Path
) -> None:
    sent = [ct_slice() for _ in range(3)]
    for number, dataset in enumerate(sent):
        (tmp_path / f"{number}.dcm").write_bytes(part10_file(dataset))

    answer = dcmtk(
        "storescu", tls_port, *shown(modality, authority), *sorted(tmp_path.glob("*.dcm"))
    )

    assert answer.returncode == 0, answer.stderr
    kept = [dcmread(record.path) for record in spooled(spool, 10)]
    assert [one.SOPInstanceUID for one in kept] == [one.SOPInstanceUID for one in sent]
    assert kept == sent


def test_stranger_and_modality_without_tls_are_refused(
    tls_port: int, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other", "Other CA").sign("modality")

    assert dcmtk("echoscu", tls_port, *shown(stranger, authority)).returncode
    assert dcmtk("echoscu", tls_port).returncode


def test_server_that_shows_a_certificate_of_somebody_else_is_left(
    tls_port: int, modality: Signed, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "Other CA")

    assert dcmtk("echoscu", tls_port, *shown(modality, other)).returncode


def test_whole_server_serves_tls_to_others_and_the_plain_port_to_itself(
    tmp_path: Path, server_certificate: Signed, authority: Authority, modality: Signed
) -> None:
    port = free_port()
    server = Serving(
        tmp_path,
        {
            "LIENTHONG_DICOM_TLS_CERTIFICATE": str(server_certificate.certificate),
            "LIENTHONG_DICOM_TLS_KEY": str(server_certificate.key),
            "LIENTHONG_DICOM_TLS_CLIENT_CA": str(authority.certificate),
            "LIENTHONG_DICOM_TLS_PORT": str(port),
            "LIENTHONG_DICOM_TLS_ONLY": "true",
            "LIENTHONG_BIND": "0.0.0.0",  # noqa: S104 - the rule under test
        },
    )
    server.start()
    try:
        answer = dcmtk("echoscu", port, *shown(modality, authority))
        examined = server.run("doctor")
    finally:
        server.stop()

    assert answer.returncode == 0, answer.stderr
    assert examined.returncode == 0, examined.stdout
    assert "its certificate expires in 89 days" in examined.stdout
    assert f'"address": "127.0.0.1", "port": {server.dicom_port}' in server.log.read_text()


def test_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    settings = {"LIENTHONG_DICOM_TLS_CERTIFICATE": str(tmp_path / "nothing.pem")}

    stopped = Serving(tmp_path, settings).run("serve")

    assert stopped.returncode == 1
    assert "nothing.pem: No such file" in stopped.stderr
