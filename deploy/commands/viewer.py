"""``lienthong viewer``: the image viewer (OHIF) for browsers."""

from pathlib import Path
from typing import Annotated

import typer

from deploy import viewer_build
from deploy.commands.options import Config, load_for_data

app = typer.Typer(no_args_is_help=True)


@app.callback()
def viewer() -> None:
    """Look after the image viewer."""


@app.command()
def install(
    package: Annotated[
        Path | None,
        typer.Option("--from", help="The package as a file, where npm cannot fetch it."),
    ] = None,
    config: Config = None,
) -> None:
    """Fetch the viewer once and print its folder; a running server takes it at once."""
    given = load_for_data(config)
    given.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    print(viewer_build.install(given.viewer_dir, package))  # noqa: T201 - for scripts
