"""The one command line, ``lienthong``. Exit codes: 0 ok, 1 refused or failed, 2 usage."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from deploy.commands import (
    auditing,
    commitments,
    compression,
    diagnosis,
    hl7,
    holding,
    indexing,
    jobs,
    peers,
    serving,
    tokens,
    transfer,
    users,
    viewer,
    worklist,
)
from deploy.commands.options import err, printable
from storage.base.errors import ImagingError

app = typer.Typer(
    help="Lienthong: a hospital imaging archive over DICOM and DICOMweb.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serving.serve)
app.command("migrate")(serving.migrate)
app.command("doctor")(diagnosis.examine)
app.command("import")(transfer.import_folder)
app.command("send")(transfer.send)
app.add_typer(peers.app, name="peer")
app.add_typer(tokens.app, name="token")
app.add_typer(users.app, name="user")
app.add_typer(viewer.app, name="viewer")
app.add_typer(holding.app, name="quarantine")
app.add_typer(commitments.app, name="commitment")
app.add_typer(compression.app, name="compression")
app.add_typer(jobs.app, name="job")
app.add_typer(hl7.app, name="hl7")
app.add_typer(indexing.app, name="attribute")
app.add_typer(worklist.app, name="worklist")
app.add_typer(auditing.app, name="audit")
app.command("reindex")(indexing.reindex)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, or go on to the command."""
    if show_version:
        print(version("lienthong"))  # noqa: T201 - for scripts
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; an error of ours is one line on standard error."""
    try:
        app()
    except ImagingError as error:
        err.print(printable(f"lienthong: {error}"), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
