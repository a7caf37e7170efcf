"""``lienthong commitment``: storage commitments that were asked for and not reported yet."""

from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from storage.archive import commitments
from storage.base.clock import utc_now
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_open(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 100,
    config: Config = None,
) -> None:
    """List what waits for its report, and what nobody took for days (parked)."""
    with opened(config) as node, transaction(node.engine) as session:
        found = commitments.list_open(session, limit=limit)
    shown = table("id", "requested", "peer", "instances", "attempts", "state", "transaction")
    for one in found:
        shown.add_row(
            str(one.id),
            f"{one.requested_at:%Y-%m-%d %H:%M:%S}",
            one.calling_ae_title,
            str(len(one.references)),
            str(one.attempts),
            one.state,
            one.transaction_uid,
        )
    out.print(shown)


@app.command()
def retry(
    commitment_id: Annotated[int, typer.Argument(metavar="ID", help="As `list` shows it.")],
    config: Config = None,
) -> None:
    """Read the instances again and report at once."""
    with opened(config) as node, transaction(node.engine) as session:
        commitments.retry(session, commitment_id, utc_now())
