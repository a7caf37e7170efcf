"""``lienthong job``: work that waits, above all reports that wait for their signature."""

from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from storage.db.engine import transaction
from storage.jobs import queue

app = typer.Typer(no_args_is_help=True)
JobId = Annotated[int, typer.Argument(metavar="ID", help="As `list` shows it.")]


@app.command("list")
def list_open(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, oldest first.")] = 100,
    config: Config = None,
) -> None:
    """List what is not done: waiting, or parked for a person, and why."""
    with opened(config) as node, transaction(node.engine) as session:
        found = queue.list_open(session, limit)
    shown = table("id", "work", "state", "attempts", "due", "reason")
    for one in found:
        shown.add_row(
            str(one.id),
            one.name,
            one.state,
            str(one.attempts),
            f"{one.due_at:%Y-%m-%d %H:%M:%S}",
            one.reason,
        )
    out.print(shown)


@app.command()
def retry(job_id: JobId, config: Config = None) -> None:
    """Have it tried again now."""
    with opened(config) as node, transaction(node.engine) as session:
        queue.retry(session, job_id)


@app.command()
def discard(job_id: JobId, config: Config = None) -> None:
    """Take it from the queue without doing it."""
    with opened(config) as node, transaction(node.engine) as session:
        queue.discard(session, job_id)
