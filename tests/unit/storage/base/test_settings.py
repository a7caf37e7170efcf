import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from storage.base.errors import Malformed
from storage.base.settings import Settings, UnknownPeers, load


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LIENTHONG_"):
            monkeypatch.delenv(name)


def file(folder: Path, text: str) -> Path:
    path = folder / "lienthong.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_one_box_on_its_own() -> None:
    settings = load()

    assert settings.bind == "127.0.0.1"
    assert settings.unknown_peers is UnknownPeers.LOOPBACK
    assert settings.database_url.get_secret_value() == ""
    assert settings.data_dir == Path.cwd() / "data"
    assert settings.spool_dir == settings.data_dir / "spool"


def test_environment_wins_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIENTHONG_DICOM_PORT", "104")
    config = file(tmp_path, 'dicom_port = 105\nhttp_port = 8079\nae_title = "PACS "\n')

    settings = load(config)

    assert type(settings) is Settings
    assert (settings.dicom_port, settings.http_port, settings.ae_title) == (104, 8079, "PACS")
    assert settings.max_associations == 512


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIENTHONG_DICOM_PORT", "")

    assert load().dicom_port == 11112


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("LIENTHONG_LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("LIENTHONG_LOG_FORMAT", "TEXT", "log_format", "text"),
        ("LIENTHONG_UNKNOWN_PEERS", "Reject", "unknown_peers", UnknownPeers.REJECT),
        ("LIENTHONG_PUBLIC_URL", "https://pacs.example.vn/", "public_url",
         "https://pacs.example.vn"),
        ("LIENTHONG_DATA_DIR", "/srv/dữ liệu", "data_dir", Path("/srv/dữ liệu")),
        ("LIENTHONG_VIEWER_URL", "https://viewer.example.vn/", "viewer_url",
         "https://viewer.example.vn"),
        ("LIENTHONG_CORS_ORIGINS", " https://a.vn,http://[::1]:3000", "cors_origins",
         "https://a.vn http://[::1]:3000"),
        ("LIENTHONG_TIME_ZONE", " Asia/Bangkok ", "zone", ZoneInfo("Asia/Bangkok")),
    ],
)  # fmt: skip
def test_harmless_ways_of_writing_are_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, read: object
) -> None:
    monkeypatch.setenv(name, value)

    assert getattr(load(), field) == read


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("LIENTHONG_DICOM_PORT", "0", "greater than or equal to 1"),
        ("LIENTHONG_DICOM_PORT", "dicom", "integer"),
        ("LIENTHONG_DICOM_PORT", "70000", "less than or equal to 65535"),
        ("LIENTHONG_AE_TITLE", "A" * 17, "not an AE title"),
        ("LIENTHONG_CORS_ORIGINS", "https://a.vn/path", "is no origin"),
        ("LIENTHONG_UNKNOWN_PEERS", "maybe", "'loopback', 'accept' or 'reject'"),
        ("LIENTHONG_BIND", "two words", "host name"),
        ("LIENTHONG_TIME_ZONE", "Hanoi", "Asia/Ho_Chi_Minh"),
        ("LIENTHONG_TIME_ZONE", "../etc/passwd", "no such time zone"),
        ("LIENTHONG_PUBLIC_URL", "pacs.example.vn", "https://"),
        ("LIENTHONG_SETTLE_S", "-1", "greater than or equal to 0"),
    ],
)
def test_wrong_value_stops_the_start_with_name_and_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(Malformed) as refused:
        load()

    assert str(refused.value).startswith(f"{name}: ")
    assert reason in str(refused.value)


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIENTHONG_DICOM_PORT", "x")
    monkeypatch.setenv("LIENTHONG_BIND", " ")

    with pytest.raises(Malformed, match=r"LIENTHONG_BIND: .*; LIENTHONG_DICOM_PORT: "):
        load()


def test_two_services_cannot_have_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIENTHONG_DICOM_PORT", "8080")

    with pytest.raises(Malformed, match="dicom_port and http_port are both 8080"):
        load()
    monkeypatch.setenv("LIENTHONG_DICOM_PORT", "8081")
    with pytest.raises(Malformed, match="dicom_port and viewer_port are both 8081"):
        load()
    monkeypatch.setenv("LIENTHONG_VIEWER_PORT", "0")
    assert load().viewer_port == 0


@pytest.mark.parametrize("wire", ["dicom", "hl7"])
@pytest.mark.parametrize("name", ["KEY", "CLIENT_CA", "ONLY"])
def test_tls_without_a_certificate_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, wire: str, name: str
) -> None:
    monkeypatch.setenv(f"LIENTHONG_{wire.upper()}_TLS_{name}", "1")

    with pytest.raises(Malformed, match=f"no TLS without {wire}_tls_certificate"):
        load()


def test_port_without_tls_is_for_this_machine_when_the_others_have_to_use_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIENTHONG_BIND", "192.0.2.1")
    monkeypatch.setenv("LIENTHONG_DICOM_TLS_CERTIFICATE", "/etc/ssl/archive.pem")
    assert (load().dicom_bind, load().dicom_tls_port) == ("192.0.2.1", 2762)

    monkeypatch.setenv("LIENTHONG_DICOM_TLS_ONLY", "true")
    assert load().dicom_bind == "127.0.0.1"

    monkeypatch.setenv("LIENTHONG_DICOM_TLS_PORT", "8080")
    with pytest.raises(Malformed, match="http_port and dicom_tls_port are both 8080"):
        load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LIENTHONG_DICOM_PROT", "LIENTHONG_DICOM_PORT"),
        ("LIENTHONG_DATABASEURL", "LIENTHONG_DATABASE_URL"),
        ("LIENTHONG_UNKOWN_PEER", "LIENTHONG_UNKNOWN_PEERS"),
        ("LIENTHONG_DATADIR", "LIENTHONG_DATA_DIR"),
    ],
)
def test_typing_error_in_a_variable_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(Malformed, match=f"{name} is no setting; {meant} is meant"):
        load()


@pytest.mark.parametrize(
    "name",
    [
        "LIENTHONG_HL7_PORT",
        "LIENTHONG_VIEWER_PORT",
        "LIENTHONG_CONFIG",
        "LIENTHONG_TEST_DATABASE_URL",
        "LIENTHONG_LIFELINE_FD",
        "LIENTHONG_VERSION",
    ],
)
def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")

    load()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dicom_prot = 1", "LIENTHONG_DICOM_PROT: no such setting; LIENTHONG_DICOM_PORT is meant"),
        ("colour = 1", "LIENTHONG_COLOUR: no such setting"),
        ("dicom_port = 'x'", "LIENTHONG_DICOM_PORT: "),
        ("dicom_port = ", "lienthong.toml: "),
    ],
)
def test_fault_in_the_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        load(file(tmp_path, text))


def test_file_that_is_not_text_or_not_there_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "lienthong.toml"
    binary.write_bytes(b"\xff\xfe")

    for path in (binary, tmp_path / "none.toml", tmp_path):
        with pytest.raises(Malformed, match=f"--config {path}: "):
            load(path)


def test_secrets_are_not_shown_when_a_setting_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIENTHONG_DATABASE_URL", "postgresql://u:hush@h/d")
    monkeypatch.setenv("LIENTHONG_DICOM_PORT", "x")

    with pytest.raises(Malformed) as refused:
        load()

    assert "hush" not in str(refused.value)
    assert "hush" not in repr(Settings(dicom_port=1))
