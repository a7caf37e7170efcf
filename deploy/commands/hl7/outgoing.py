"""The messages that we send, and the systems that are told."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.hl7.common import Before, Limit, Set, pairs
from deploy.commands.options import Config, opened, out, printable, table
from ris import service
from ris.hl7 import destinations, outgoing
from ris.hl7.destinations import Destination
from ris.hl7.outgoing import Wanted
from storage.db.engine import transaction

app = typer.Typer()
destination_app = typer.Typer(help="The systems that are told.", no_args_is_help=True)

OutgoingId = Annotated[int, typer.Argument(metavar="ID", help="As `hl7 outgoing` shows it.")]


@app.command("outgoing")
def list_outgoing(
    *,
    state: Annotated[outgoing.State | None, typer.Option(help="Only those.")] = None,
    destination: Annotated[str, typer.Option(help="Only those to it.")] = "",
    patient: Annotated[str, typer.Option(help="Patient ID.")] = "",
    order: Annotated[str, typer.Option(help="Placer or filler order number.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    limit: Limit = 100,
    before: Before = None,
    config: Config = None,
) -> None:
    """List the messages that we send, newest first."""
    wanted = Wanted(
        destination=destination,
        state=state,
        patient_id=patient,
        order_number=order,
        accession_number=accession,
    )
    with opened(config) as node, transaction(node.engine) as session:
        found = outgoing.search(session, wanted, limit, before)
    shown = table("id", "made", "to", "state", "tries", "kind", "control id", "reason")
    for one in found:
        shown.add_row(
            str(one.id),
            f"{one.created_at:%Y-%m-%d %H:%M:%S}",
            one.destination,
            one.state,
            str(one.attempts),
            one.kind,
            one.control_id,
            printable(one.reason),
        )
    out.print(shown)


@app.command()
def resend(message_id: OutgoingId, config: Config = None) -> None:
    """Send one of our messages again: one that was refused, or that got lost on the other side."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            outgoing.resend(session, message_id)
        service.outbox_bell(node.settings).ring()


@app.command()
def discard(message_id: OutgoingId, config: Config = None) -> None:
    """Never send one of our messages; those behind it in its order go on."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            outgoing.discard(session, message_id)
        service.outbox_bell(node.settings).ring()


@destination_app.command("add")
def add_destination(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What we call it.")],
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its host name or address.")],
    port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="Its MLLP port.")],
    values: Set = None,
    config: Config = None,
) -> None:
    """Register a system that is told of orders, or change the one of that name."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            destinations.add(session, Destination(name, host, port), pairs(values))
        service.outbox_bell(node.settings).ring()


@destination_app.command("list")
def list_destinations(config: Config = None) -> None:
    """List the destinations and what waits for them."""
    with opened(config) as node, transaction(node.engine) as session:
        known = destinations.list_all(session)
        waiting = {one.destination: one for one in outgoing.backlog(session)}
    shown = table("name", "address", "version", "state", "waiting", "refused", "oldest")
    for one in known:
        backlog = waiting.get(one.name)
        state = "paused" if one.paused else f"{one.failures} failures" if one.failures else "well"
        shown.add_row(
            one.name,
            f"{one.host}:{one.port}",
            f"{one.style.message} {one.style.version}",
            state,
            str(backlog.waiting if backlog else 0),
            str(backlog.parked if backlog else 0),
            f"{backlog.oldest:%Y-%m-%d %H:%M}" if backlog and backlog.oldest else "",
        )
    out.print(shown)


@destination_app.command("remove")
def remove_destination(name: str, config: Config = None) -> None:
    """Forget a destination; what waits for it stays until it is registered again."""
    with opened(config) as node, transaction(node.engine) as session:
        destinations.remove(session, name)


@destination_app.command("pause")
def pause_destination(name: str, config: Config = None) -> None:
    """Send nothing to a destination until `resume`."""
    _pause(name, config, paused=True)


@destination_app.command("resume")
def resume_destination(name: str, config: Config = None) -> None:
    """Send to a destination again, at once."""
    _pause(name, config, paused=False)


def _pause(name: str, config: Path | None, *, paused: bool) -> None:
    with opened(config) as node:
        with transaction(node.engine) as session:
            destinations.pause(session, name, paused=paused)
        service.outbox_bell(node.settings).ring()
