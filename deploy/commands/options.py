"""Options and openings that several commands share."""

import os
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
from storage.base.errors import NotFound
from storage.base.settings import Settings

# Much of what is shown was written by peers: it is text, no markup and no emoji.
# Wide when it goes to a file or a pipe, so that a line stays a line.
out: Final = Console(
    width=None if sys.stdout.isatty() else 240, markup=False, emoji=False, highlight=False
)
err: Final = Console(stderr=True, markup=False, emoji=False, highlight=False)


def table(*headings: str) -> Table:
    """Return a table that folds long values: a UID cut short is of no use to anybody."""
    made = Table()
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def printable(text: str) -> str:
    """Return `text` with everything that a terminal would act on, or cannot show, written out."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="LIENTHONG_CONFIG", help="A TOML file of settings."),
]


def load(config: Path | None) -> Settings:
    """Read the settings for a command; its log goes to standard error, warnings only."""
    given = settings.load(config)
    logs.configure("WARNING", "text", "cli")
    return given


def load_for_data(config: Path | None) -> Settings:
    """Read the settings for a command that writes into the data folder."""
    given = load(config)
    if config is None and "LIENTHONG_DATA_DIR" not in os.environ:
        require_folder(given)  # else every folder that a command is tried in gets an empty archive
    return given


@contextmanager
def opened(config: Path | None) -> Iterator[Node]:
    """Open the node's parts for one command, with the newest schema."""
    given = load_for_data(config)
    with prepare(given), Node.of(given) as node:
        yield node


def require_folder(given: Settings) -> None:
    """Raise `NotFound` unless the data folder is there."""
    if not given.data_dir.is_dir():
        raise NotFound(
            f"{given.data_dir}: no server has its data here; name its folder in "
            "LIENTHONG_DATA_DIR, or begin one with `lienthong migrate`"
        )
