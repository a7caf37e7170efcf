"""The systems that send to us."""

import json
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.hl7.common import Set, pairs, read
from deploy.commands.options import Config, opened, out, table
from ris.hl7 import profile, senders
from ris.hl7.senders import Sender
from storage.db.engine import transaction

app = typer.Typer(help="The systems that send to us.", no_args_is_help=True)


@app.command("add")
def add_sender(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What we call it.")],
    *,
    profile_name: Annotated[
        str, typer.Option("--profile", help=f"One of {', '.join(profile.names())}.")
    ] = profile.GENERIC,
    application: Annotated[str, typer.Option(help="MSH-3; empty: any.")] = "",
    facility: Annotated[str, typer.Option(help="MSH-4; empty: any.")] = "",
    address: Annotated[
        list[str] | None, typer.Option(help="Network it sends from, as 10.1.0.0/16; several.")
    ] = None,
    changes: Annotated[
        Path | None, typer.Option(help="A TOML file with what differs from the profile.")
    ] = None,
    values: Set = None,
    config: Config = None,
) -> None:
    """Register a sender, or change the one of that name."""
    given = {**(profile.from_toml(read(changes)) if changes else {}), **pairs(values)}
    sender = Sender(name, profile_name, application, facility, address or [], given)
    with opened(config) as node, transaction(node.engine) as session:
        senders.add(session, sender)


@app.command("list")
def list_senders(config: Config = None) -> None:
    """List the senders."""
    with opened(config) as node, transaction(node.engine) as session:
        known = senders.list_all(session)
    shown = table("name", "profile", "MSH-3", "MSH-4", "from", "changes")
    for one in known:
        changes = json.dumps(dict(one.changes), ensure_ascii=False) if one.changes else ""
        sources = " ".join(one.addresses)
        shown.add_row(one.name, one.profile, one.application, one.facility, sources, changes)
    out.print(shown)


@app.command("remove")
def remove_sender(name: str, config: Config = None) -> None:
    """Forget a sender."""
    with opened(config) as node, transaction(node.engine) as session:
        senders.remove(session, name)


@app.command("profiles")
def list_profiles() -> None:
    """List the profiles that a sender can begin with."""
    shown = table("profile", "what it is")
    for name in profile.names():
        shown.add_row(name, profile.named(name).description)
    out.print(shown)
