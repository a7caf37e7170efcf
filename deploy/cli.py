"""The one command line, ``lienthong``. Exit codes: 0 ok, 1 refused or failed, 2 usage."""

import sys
from importlib.metadata import version
from typing import Annotated, Final

import typer

from deploy.commands.later import Later, group
from storage.base.errors import ImagingError

COMMANDS: Final = {
    "serve": Later("serving:serve", "Run the whole server until Ctrl-C or SIGTERM."),
    "migrate": Later("serving:migrate", "Bring the database schema up to date."),
    "doctor": Later("diagnosis:examine", "Try every part of this node and every known peer."),
    "import": Later(
        "transfer:import_folder", "Take every DICOM file of a folder into the archive."
    ),
    "export": Later("transfer:export", "Write studies with a DICOMDIR into a folder."),
    "send": Later("transfer:send", "Send DICOM files to a peer by C-STORE."),
    "peer": Later("peers:app", "The DICOM application entities that we know."),
    "token": Later("tokens:app", "Bearer tokens for HTTP."),
    "station": Later("stations:app", "Health stations, their devices and people."),
    "station-client": Later("station_client:app", "A health station's own encrypted copy."),
    "user": Later("users:app", "People who sign in, with a password."),
    "viewer": Later("viewer:app", "The image viewer (OHIF) for browsers."),
    "quarantine": Later("holding:app", "Objects that were received and kept aside."),
    "rejection": Later("rejections:app", "Objects that nobody is shown, and why."),
    "commitment": Later("commitments:app", "Storage commitments that are not reported yet."),
    "compression": Later("compression:app", "Lossless compression of what lies in the archive."),
    "job": Later("jobs:app", "Work that waits, or that only a person can free."),
    "hl7": Later("hl7:app", "HL7 messages: what came, what waits to be sent."),
    "patient": Later("patients:app", "Patients: merges, and their undoing."),
    "worklist": Later("worklist:app", "The worklists of consoles."),
    "attribute": Later("indexing:app", "Attributes that are indexed besides the usual ones."),
    "audit": Later("auditing:app", "The journal of who saw what."),
    "reindex": Later("indexing:reindex", "Read what was stored before attributes were added."),
}

app = typer.Typer(
    cls=group(COMMANDS),
    help="Lienthong: a hospital's imaging archive, and its bridge to the HIS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
        from deploy.commands.options import err, printable  # noqa: PLC0415 - seldom needed

        err.print(printable(f"lienthong: {error}"), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
