"""``lienthong token``: bearer tokens for HTTP."""

from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from storage.access import tokens
from storage.access.tokens import Role
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="What the bearer may do.")],
    label: Annotated[str, typer.Option(help="Who or what will use it.")] = "",
    station: Annotated[str, typer.Option(help="Code of the health station, with that role.")] = "",
    config: Config = None,
) -> None:
    """Make a token and print it, the only time it is shown."""
    with opened(config) as node, transaction(node.engine) as session:
        secret = tokens.create(session, role, label, station or None)
    print(secret)  # noqa: T201 - the secret alone, for scripts


@app.command("list")
def list_tokens(config: Config = None) -> None:
    """List the tokens, without their secrets."""
    with opened(config) as node, transaction(node.engine) as session:
        known = tokens.list_all(session)
    shown = table("id", "role", "label", "station", "created", "revoked")
    for token in known:
        shown.add_row(
            token.prefix,
            token.role,
            token.label,
            token.station or "",
            f"{token.created_at:%Y-%m-%d %H:%M}",
            f"{token.revoked_at:%Y-%m-%d %H:%M}" if token.revoked_at else "",
        )
    out.print(shown)


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it.")],
    config: Config = None,
) -> None:
    """Make a token useless from now on."""
    with opened(config) as node, transaction(node.engine) as session:
        tokens.revoke(session, prefix)
