"""``lienthong peer``: the DICOM application entities that we know."""

from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from pacs import scu
from storage.access import peers
from storage.access.peers import Peer, TextProfile
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

AETitle = Annotated[str, typer.Argument(metavar="AE_TITLE", help="The peer's AE title.")]


@app.command()
def add(
    ae_title: AETitle,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its host name or address.")],
    port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="Its DICOM port.")],
    description: Annotated[str, typer.Option(help="What it is, for people.")] = "",
    text_profile: Annotated[
        TextProfile, typer.Option(help="The letters that it can show.")
    ] = TextProfile.UTF8,
    text_length: Annotated[
        int | None, typer.Option(min=8, max=64, help="Longest name or description it can show.")
    ] = None,
    *,
    every_station: Annotated[
        bool,
        typer.Option("--every-station", help="Its worklist has the steps of every station."),
    ] = False,
    config: Config = None,
) -> None:
    """Register a peer, or change the one of that AE title."""
    peer = Peer(ae_title, host, port, description, text_profile, text_length, every_station)
    with opened(config) as node, transaction(node.engine) as session:
        peers.add(session, peer)


@app.command("list")
def list_peers(config: Config = None) -> None:
    """List the registered peers."""
    with opened(config) as node, transaction(node.engine) as session:
        known = peers.list_all(session)
    shown = table("AE title", "host", "port", "texts", "description")
    for peer in known:
        shown.add_row(peer.ae_title, peer.host, str(peer.port), peer.text_profile, peer.description)
    out.print(shown)


@app.command()
def remove(ae_title: AETitle, config: Config = None) -> None:
    """Forget a peer."""
    with opened(config) as node, transaction(node.engine) as session:
        peers.remove(session, ae_title)


@app.command()
def echo(ae_title: AETitle, config: Config = None) -> None:
    """Send a C-ECHO to a registered peer (PS3.4 Annex A)."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            peer = peers.get(session, ae_title)
        scu.echo(peer.host, peer.port, peer.ae_title, node.settings.ae_title)
    out.print(f"{peer.ae_title} at {peer.host}:{peer.port} answers")
