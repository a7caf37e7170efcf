"""Every setting of one node, read once at the start of a process.

Sources, the first that names a setting wins: environment variables
``LIENTHONG_<NAME>``, then the TOML file given by ``--config``, then the default.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from storage.base.errors import Malformed

Port = Annotated[int, Field(ge=1, le=65535)]
GIBIBYTE = 1 << 30
AE_TITLE_MAX = 16


def _ae_title(text: str) -> str:
    """PS3.5 6.2, VR AE: at most 16 characters, no backslash, no control characters."""
    title = text.strip(" ")
    if (
        not 0 < len(title) <= AE_TITLE_MAX
        or not title.isascii()
        or not title.isprintable()
        or "\\" in title
    ):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without a backslash")
    return title


AETitle = Annotated[str, AfterValidator(_ae_title)]


class UnknownPeers(StrEnum):
    """What to do with a calling AE title that nobody registered."""

    LOOPBACK = "loopback"
    ACCEPT = "accept"
    REJECT = "reject"


class Settings(BaseSettings):
    """One node's settings; a wrong one stops the start with its name and the reason."""

    model_config = SettingsConfigDict(env_prefix="LIENTHONG_", extra="forbid", frozen=True)

    data_dir: Path = Path("data")
    database_url: SecretStr = SecretStr("")
    """Empty: the embedded PostgreSQL in ``data_dir/postgres``."""
    objects_url: SecretStr = SecretStr("")
    """Empty: the folder ``data_dir/objects``; else ``s3://KEY:SECRET@host:port/bucket?secure=…``."""
    bind: str = "127.0.0.1"

    ae_title: AETitle = "LIENTHONG"
    check_called_ae_title: bool = False
    """Reject an association that calls another AE title than ours (PS3.8 Table 9-21)."""
    dicom_port: Port = 11112
    unknown_peers: UnknownPeers = UnknownPeers.LOOPBACK
    max_associations: Annotated[int, Field(ge=1)] = 512
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 32
    max_object_bytes: Annotated[int, Field(ge=1 << 20)] = 2 * GIBIBYTE
    max_find_results: Annotated[int, Field(ge=1)] = 10_000

    http_port: Port = 8080
    public_url: str = ""
    """Root of the URLs in answers when a proxy hides it, e.g. ``https://pacs.example.vn``."""

    spool_reserve_bytes: Annotated[int, Field(ge=0)] = 256 << 20
    """Receiving stops with A700 before the disk has less than this free."""
    settle_s: Annotated[float, Field(ge=0)] = 600.0
    """How long a received object is kept in the spool after an S3 store took it."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"

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
    if config is not None and not config.is_file():
        raise Malformed(f"--config {config}: no such file")
    try:
        source = type("_Settings", (Settings,), {"model_config": {"toml_file": config}})
        return Settings.model_validate(source().model_dump()) if config else Settings()
    except ValidationError as error:
        raise Malformed(_explain(error)) from error
    except ValueError as error:  # the file is not TOML
        raise Malformed(f"--config {config}: {error}") from error


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"LIENTHONG_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )
