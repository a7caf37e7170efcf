"""Options and openings that several commands share."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from deploy.node import Node, prepare
from storage.base import logs, settings
from storage.base.settings import Settings

# wide when it goes to a file or a pipe, so that a line stays a line
out: Final = Console(width=None if sys.stdout.isatty() else 240)
err: Final = Console(stderr=True)


def table(*headings: str) -> Table:
    """Return a table that folds long values: a UID cut short is of no use to anybody."""
    made = Table()
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


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
