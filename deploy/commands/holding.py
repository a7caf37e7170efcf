"""``lienthong quarantine``: objects that were received and kept aside."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, printable, table
from storage.archive import quarantine
from storage.base.errors import Conflict
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

HeldId = Annotated[int, typer.Argument(metavar="ID", help="As `quarantine list` shows it.")]


@app.command("list")
def list_held(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 100,
    config: Config = None,
) -> None:
    """List what is held, newest first, with the reason."""
    with opened(config) as node, transaction(node.engine) as session:
        held = quarantine.list_held(session, limit=limit)
    shown = table("id", "received", "reason", "detail", "from", "SOP instance")
    for one in held:
        shown.add_row(
            str(one.id),
            f"{one.received_at:%Y-%m-%d %H:%M:%S}",
            one.reason,
            printable(one.detail),
            printable(one.source_ae_title or one.wire),
            printable(one.sop_instance_uid),
        )
    out.print(shown)


@app.command()
def export(
    held_id: HeldId,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; it must not exist.")],
    config: Config = None,
) -> None:
    """Write the held object to a file, exactly as it was received."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            one = quarantine.get(session, held_id)
        try:
            with path.open("xb") as file:
                file.writelines(node.store.stream(one.object_key))
        except OSError as error:
            raise Conflict(f"{path}: {error.strerror}") from error
    out.print(printable(f"{path}: {one.reason}, {one.detail}"))


@app.command()
def discard(held_id: HeldId, config: Config = None) -> None:
    """Mark a held object as seen and not wanted; its bytes are kept."""
    with opened(config) as node, transaction(node.engine) as session:
        quarantine.mark_discarded(session, held_id)
