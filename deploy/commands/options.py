"""Options and openings that several commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from deploy.node import Node, prepare
from storage.base import logs, settings
from storage.base.settings import Settings

out: Final = Console()
err: Final = Console(stderr=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="LIENTHONG_CONFIG", help="A TOML file of settings."),
]


def load(config: Path | None) -> Settings:
    """Read the settings for a command; its log goes to standard error, warnings only."""
    given = settings.load(config)
    logs.configure("WARNING", "text", "cli")
    return given


@contextmanager
def opened(config: Path | None) -> Iterator[Node]:
    """Open the node's parts for one command, with the newest schema."""
    given = load(config)
    with prepare(given), Node.of(given) as node:
        yield node
