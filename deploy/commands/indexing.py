"""``lienthong attribute`` and ``lienthong reindex``: what else searches find objects by."""

import sys
from typing import Annotated

import typer

from deploy import reindexing
from deploy.commands.options import Config, err, opened, out, printable, table
from deploy.locking import only_one
from storage.archive import custom
from storage.archive.model import Level
from storage.base.clock import utc_now
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A keyword, a tag such as 00091001, or a dotted path into sequences."
    ),
]
Creator = Annotated[str, typer.Option(help="Private Creator, of private attributes.")]


@app.command("add")
def add(
    name: Name,
    level: Annotated[Level, typer.Option(help="Of what it tells: STUDY, SERIES or IMAGE.")],
    vr: Annotated[str, typer.Option(help="VR, of private attributes.")] = "",
    creator: Creator = "",
    config: Config = None,
) -> None:
    """Index an attribute from now on; `lienthong reindex` does so for what is there already."""
    declared = custom.declare(name, level, vr=vr.upper(), creator=creator)
    with opened(config) as node, transaction(node.engine) as session:
        added = custom.add(session, declared, utc_now())
    out.print(printable(f"{added.name} {added.creator}".strip()))
    if not added.whole:
        err.print("run `lienthong reindex` for the instances that are there already")


@app.command("list")
def list_all(config: Config = None) -> None:
    """List the attributes that were added, with their progress."""
    with opened(config) as node, transaction(node.engine) as session:
        added = custom.list_all(session)
    shown = table("name", "private creator", "VR", "level", "added", "read")
    for one in added:
        attribute = one.custom
        done = 100 if attribute.whole else int(100 * one.read_to / one.last_instance)
        shown.add_row(
            printable(attribute.name),
            printable(attribute.creator),
            attribute.vr,
            attribute.level,
            f"{one.added_at:%Y-%m-%d %H:%M}",
            f"{done} %",
        )
    out.print(shown)


@app.command("remove")
def remove(name: Name, creator: Creator = "", config: Config = None) -> None:
    """Do not index an attribute any more; its values are deleted."""
    with opened(config) as node, transaction(node.engine) as session:
        custom.remove(session, name, creator)


def reindex(
    rest: Annotated[
        float, typer.Option(min=0, max=100, help="How long to rest, as a part of the time of work.")
    ] = reindexing.REST,
    config: Config = None,
) -> None:
    """Read what was stored before attributes were added; the server may run meanwhile."""

    def tell(done: reindexing.Progress) -> None:
        if sys.stderr.isatty():
            err.print(f"{done.read} instances read", end="\r")

    with opened(config) as node:
        taken = "another reindex runs on this data folder"
        with only_one(node.settings.data_dir / "reindex.lock", taken):
            done = reindexing.reindex(node.engine, node.store, tell, rest)
    out.print(f"{done.read} instances read, {done.left_out} could not be read")
