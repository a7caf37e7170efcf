"""Every setting of one node, read once at the start of a process.

Sources, the first that names a setting wins: environment variables
``LIENTHONG_<NAME>``, then the TOML file given by ``--config``, then the default.
"""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from storage.base import values
from storage.base.errors import Malformed
from storage.base.tls import TlsFiles

PREFIX: Final = "LIENTHONG_"
GIBIBYTE: Final = 1 << 30

# Names that are no settings of this tree, or not yet: never taken for a typing error.
_ELSEWHERE: Final = frozenset({"config"})
_TESTS: Final = "test_"
_ORIGIN: Final = re.compile(r"https?://[0-9A-Za-z.\-\[\]:]{1,260}")
_HOST: Final = re.compile(r"[0-9A-Za-z.\-\[\]:]{1,260}")
_NAMING_ROOT: Final = re.compile(r"(?:https?://|urn:)[0-9A-Za-z.\-_~:/]{1,200}")
_LIKENESS: Final = 0.7
"""How much of a known name an unknown one has to share to be taken for a typing error."""


def _ae_title(text: str) -> str:
    try:
        return values.ae_title(text)
    except Malformed as error:
        raise ValueError(str(error)) from error  # the kind that pydantic collects


def _host(text: str) -> str:
    host = text.strip()
    if not host or not host.isprintable() or any(map(str.isspace, host)):
        raise ValueError("a host name or an IP address is wanted")
    return host


def _key(secret: SecretStr) -> SecretStr:
    given = secret.get_secret_value()
    if given and not re.fullmatch("[0-9A-Fa-f]{64}", given):
        raise ValueError("a key has 64 hexadecimal digits")
    return secret


def _root_url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return text.rstrip("/")


def _origins(text: str) -> str:
    origins = text.replace(",", " ").split()
    wrong = [one for one in origins if one != "*" and not _ORIGIN.fullmatch(one)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no origin; https://ris.example.vn is one")
    return " ".join(origins)


def _hosts(text: str) -> str:
    hosts = text.replace(",", " ").split()
    wrong = [one for one in hosts if not _HOST.fullmatch(one)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no host; his.example.vn or 10.0.0.5:8443 is one")
    return " ".join(hosts)


def _naming_root(text: str) -> str:
    bare = text.strip().rstrip("/:")
    if not _NAMING_ROOT.fullmatch(bare):
        raise ValueError("must be a URL or a URN, as https://fhir.example.vn/sid or urn:example")
    return bare


def _upper(given: object) -> object:
    return given.upper() if isinstance(given, str) else given


def _lower(given: object) -> object:
    return given.lower() if isinstance(given, str) else given


def _time_zone(text: str) -> str:
    try:
        return ZoneInfo(text.strip()).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no such time zone; Asia/Ho_Chi_Minh is one") from error


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


File = Annotated[Path, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
AETitle = Annotated[str, AfterValidator(_ae_title)]


class UnknownPeers(StrEnum):
    """What to do with a calling AE title that nobody registered."""

    LOOPBACK = "loopback"
    ACCEPT = "accept"
    REJECT = "reject"


class Settings(BaseSettings):
    """One node's settings; a wrong one stops the start with its name and the reason."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    data_dir: Annotated[Path, AfterValidator(_absolute)] = Path("data")
    database_url: SecretStr = SecretStr("")
    """Empty: the embedded PostgreSQL in ``data_dir/postgres``."""
    objects_url: SecretStr = SecretStr("")
    """Empty: the folder ``data_dir/objects``; else ``s3://KEY:SECRET@host:port/bucket?secure=…``."""
    bind: Annotated[str, AfterValidator(_host)] = "127.0.0.1"

    ae_title: AETitle = "LIENTHONG"
    check_called_ae_title: bool = False
    """Reject an association that calls another AE title than ours (PS3.8 Table 9-21)."""
    dicom_port: Port = 11112
    dicom_tls_certificate: File | None = None
    """PEM file of our certificate and its authorities; with it the TLS port is opened."""
    dicom_tls_key: File | None = None
    """PEM file of its private key; None: it stands beside the certificate in that file."""
    dicom_tls_client_ca: File | None = None
    """PEM file of authorities; with it every TLS peer must show a certificate of theirs."""
    dicom_tls_port: Port = 2762
    """The port that PS3.15 B.12 recommends."""
    dicom_tls_only: bool = False
    """The port without TLS answers this machine only."""
    unknown_peers: Annotated[UnknownPeers, BeforeValidator(_lower)] = UnknownPeers.LOOPBACK
    dicom_processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that share the DICOM port; 0: one for each core, at most four."""
    max_associations: Annotated[int, Field(ge=1)] = 512
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 32
    max_object_bytes: Annotated[int, Field(ge=1 << 20)] = 2 * GIBIBYTE
    max_upload_bytes: Annotated[int, Field(ge=1 << 20)] = 16 * GIBIBYTE
    """Of one STOW-RS request, which may bring many objects."""
    max_find_results: Annotated[int, Field(ge=1)] = 10_000

    hl7_port: Port = 2575
    """MLLP; the port that IANA has for it."""
    hl7_tls_certificate: File | None = None
    """PEM file as `dicom_tls_certificate`; with it the TLS port for MLLP is opened."""
    hl7_tls_key: File | None = None
    hl7_tls_client_ca: File | None = None
    hl7_tls_port: Port = 2576
    hl7_tls_only: bool = False
    """The MLLP port without TLS answers this machine only."""
    hl7_processes: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes that share the MLLP port."""
    hl7_keep_days: Annotated[int, Field(ge=0)] = 400
    """How long messages that are done are kept; 0: for ever. Dead letters stay."""
    hl7_ignore_leading_zeros: bool = False
    """``0000123456`` and ``123456`` of one issuer are one patient."""
    max_hl7_message_bytes: Annotated[int, Field(ge=1 << 16)] = 32 << 20
    workitem_keep_days: Annotated[int, Field(ge=1, le=36500)] = 30
    """How long a finished workitem is kept that no deletion lock holds."""

    http_port: Port = 8080
    http_processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that share the HTTP port; 0: one for each core, at most four."""
    public_url: Annotated[str, AfterValidator(_root_url)] = ""
    """Root of the URLs in answers when a proxy hides it, e.g. ``https://pacs.example.vn``."""
    viewer_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """The viewer's own origin; 0: there is none."""
    viewer_url: Annotated[str, AfterValidator(_root_url)] = ""
    """Its root as browsers see it; empty: `viewer_port` on the host of the pages."""
    cors_origins: Annotated[str, AfterValidator(_origins)] = ""
    """Origins whose pages may call with a bearer token, parted by spaces; ``*``: all."""
    session_idle_minutes: Annotated[int, Field(ge=1, le=1440)] = 240
    """Who has not moved for so long signs in again."""

    spool_reserve_bytes: Annotated[int, Field(ge=0)] = 256 << 20
    """Receiving stops with A700 before the disk has less than this free."""
    settle_s: Annotated[float, Field(ge=0)] = 600.0
    """How long a received object is kept in the spool after an S3 store took it."""
    compression_keep_days: Annotated[float, Field(ge=0, le=36500)] = 30.0
    """How long a received object is kept after a compressed one took its place by a rule."""
    series_settle_s: Annotated[float, Field(ge=0)] = 5.0
    """How long a series must not have changed before its metadata object is made."""

    sealing_key: Annotated[SecretStr, AfterValidator(_key)] = SecretStr("")
    """64 hexadecimal digits, the same on all nodes of one database: they seal the secrets of
    one-time passwords in it. Empty: the file ``secrets/sealing.key`` of the data folder."""

    signing_url: Annotated[str, AfterValidator(_root_url)] = ""
    """Root of a signing provider's API (CSC, ``…/csc/v2``); empty: this server signs reports."""
    signing_token: SecretStr = SecretStr("")
    signing_name: str = ""
    """The provider's name as it stands on papers; empty: its host."""
    signing_ca: File | None = None
    """PEM file of authorities; with it signers' certificates are checked at signing."""
    timestamp_url: Annotated[str, AfterValidator(_root_url)] = ""
    """A time-stamping authority (RFC 3161) for signatures by the provider."""

    fhir_naming_root: Annotated[str, AfterValidator(_naming_root)] = "urn:lienthong"
    """Below it stand the systems of the hospital's numbers in FHIR: ``urn:lienthong:accession``."""

    fhir_hook_hosts: Annotated[str, AfterValidator(_hosts)] = ""
    """Hosts, each with a port if wanted, that FHIR subscriptions may call; empty: none."""

    time_zone: Annotated[str, AfterValidator(_time_zone)] = "Asia/Ho_Chi_Minh"
    """Of the hospital's wall clock; the times of orders and devices are taken for its."""

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = (
        "INFO"
    )
    log_format: Annotated[Literal["auto", "json", "text"], BeforeValidator(_lower)] = "auto"
    """`auto`: text on a terminal, else JSON."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; a dotenv file would be a second place to look."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        names = ["dicom_port", "http_port", "viewer_port", "hl7_port"]
        names += ["dicom_tls_port"] if self.dicom_tls else []
        names += ["hl7_tls_port"] if self.hl7_tls else []
        taken: dict[int, str] = {}
        for name in names:
            port = getattr(self, name)
            if port and port in taken:
                raise ValueError(f"{taken[port]} and {name} are both {port}")
            taken[port] = name
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        for wire in ("dicom", "hl7"):
            names = (f"{wire}_tls_key", f"{wire}_tls_client_ca", f"{wire}_tls_only")
            certificate = f"{wire}_tls_certificate"
            if any(getattr(self, name) for name in names) and not getattr(self, certificate):
                raise ValueError(f"there is no TLS without {certificate}")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the hospital's wall clock."""
        return ZoneInfo(self.time_zone)

    @property
    def dicom_tls(self) -> TlsFiles | None:
        """The files for the TLS port; None: there is none."""
        if self.dicom_tls_certificate is None:
            return None
        return TlsFiles(self.dicom_tls_certificate, self.dicom_tls_key, self.dicom_tls_client_ca)

    @property
    def hl7_tls(self) -> TlsFiles | None:
        """The files for the TLS port of MLLP; None: there is none."""
        if self.hl7_tls_certificate is None:
            return None
        return TlsFiles(self.hl7_tls_certificate, self.hl7_tls_key, self.hl7_tls_client_ca)

    @property
    def hl7_bind(self) -> str:
        """The address of the MLLP port without TLS."""
        return "127.0.0.1" if self.hl7_tls_only else self.bind

    @property
    def dicom_bind(self) -> str:
        """The address of the port without TLS."""
        return "127.0.0.1" if self.dicom_tls_only else self.bind

    @property
    def viewer_dir(self) -> Path:
        """Where builds of the viewer are installed."""
        return self.data_dir / "viewer"

    @property
    def spool_dir(self) -> Path:
        """Where received objects wait for ingest."""
        return self.data_dir / "spool"

    @property
    def secrets_dir(self) -> Path:
        """Where generated secrets lie, mode 0700."""
        return self.data_dir / "secrets"


def load(config: Path | None = None) -> Settings:
    """Read the environment and, if given, the TOML file `config`.

    Raises
    ------
    Malformed
        A setting is unknown or wrong; the text names each one and the reason.
    """
    if typos := list(_typos()):
        raise Malformed("; ".join(typos))
    try:
        return _read(config) if config else Settings()
    except ValidationError as error:
        raise Malformed("; ".join(_faults(error))) from error


def _read(config: Path) -> Settings:
    try:
        with config.open("rb"):  # a file that is not there would count as an empty one
            pass
        source = type("_Settings", (Settings,), {"model_config": {"toml_file": config}})
        return Settings.model_validate(source().model_dump())
    except ValidationError:
        raise
    except OSError as error:
        raise Malformed(f"--config {config}: {error.strerror}") from error
    except ValueError as error:  # it is not TOML, or not UTF-8
        raise Malformed(f"--config {config}: {error}") from error


def _typos() -> Iterator[str]:
    """Name the environment variables that almost are settings: ignoring one would mislead."""
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX):
            continue
        given = name[len(PREFIX) :].lower()
        known = given in Settings.model_fields or given in _ELSEWHERE or given.startswith(_TESTS)
        if not known and (meant := _like(given)):
            yield f"{name} is no setting; {PREFIX}{meant.upper()} is meant?"


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_input=False, include_url=False):
        name = "_".join(map(str, fault["loc"]))
        said = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            meant = _like(name)
            said = f"no such setting{f'; {PREFIX}{meant.upper()} is meant?' if meant else ''}"
        yield f"{PREFIX}{name.upper()}: {said}" if name else said


def _like(name: str) -> str:
    return next(iter(get_close_matches(name, Settings.model_fields, n=1, cutoff=_LIKENESS)), "")
