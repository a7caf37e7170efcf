"""``lienthong audit``: the journal of who saw what."""

from typing import Annotated

import typer

from deploy.commands.options import Config, err, opened, out
from storage.audit import chain
from storage.audit.model import Head
from storage.base.errors import Malformed
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

_DIGEST_LENGTH = 64


@app.callback()
def callback() -> None:
    """Have commands below this one, of which there may be one."""


@app.command()
def verify(
    head: Annotated[
        str, typer.Option(metavar="N:DIGEST", help="As it was printed some time ago.")
    ] = "",
    config: Config = None,
) -> None:
    """Look at every entry of the journal; print the end of its chain, to be noted elsewhere."""
    known = _head(head) if head else None
    with opened(config) as node, transaction(node.engine) as session:
        verdict = chain.verify(session, known)
    out.print(f"{verdict.head.position}:{verdict.head.digest}")
    if verdict.fault:
        err.print(f"lienthong: the audit journal is broken: {verdict.fault}")
        raise typer.Exit(1)


def _head(text: str) -> Head:
    position, _, digest = text.strip().partition(":")
    if not position.isdecimal() or len(digest) != _DIGEST_LENGTH:
        raise Malformed("--head: N:DIGEST, as `lienthong audit verify` prints it")
    return Head(int(position), digest.lower())
