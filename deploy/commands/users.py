"""``lienthong user``: the people who sign in on the pages and in the viewer."""

import sys
from getpass import getpass
from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from deploy.signing_in import link
from storage.access import codes, users
from storage.access.tokens import Role
from storage.base.errors import Malformed
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What is typed to sign in.")]


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the user may do.")],
    full_name: Annotated[str, typer.Option(help="As others see it, and as reports show it.")] = "",
    config: Config = None,
) -> None:
    """Enter a user and print the one-time link to set the password with."""
    with opened(config) as node, transaction(node.engine) as session:
        code = codes.issue_link(session, users.add(session, name, role, full_name))
        made = link(node.settings, code)
    print(made)  # noqa: T201 - the link alone, for scripts


@app.command("link")
def new_link(name: Name, config: Config = None) -> None:
    """Print a one-time link to set the password with; the one before is void."""
    with opened(config) as node, transaction(node.engine) as session:
        made = link(node.settings, codes.issue_link(session, users.find(session, name)))
    print(made)  # noqa: T201 - the link alone, for scripts


@app.command("list")
def list_users(config: Config = None) -> None:
    """List the users."""
    with opened(config) as node, transaction(node.engine) as session:
        known = users.list_all(session)
    shown = table("name", "full name", "role", "password", "created", "disabled")
    for user in known:
        shown.add_row(
            user.name,
            user.full_name,
            user.role,
            "set" if user.has_password else "not set",
            f"{user.created_at:%Y-%m-%d %H:%M}",
            f"{user.disabled_at:%Y-%m-%d %H:%M}" if user.disabled_at else "",
        )
    out.print(shown)


@app.command()
def password(name: Name, config: Config = None) -> None:
    """Set a password: asked for twice, or the first line of standard input."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            user = users.find(session, name)
        given = _asked() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
        with transaction(node.engine) as session:
            users.set_password(session, user, given)


@app.command()
def role(
    name: Name,
    to: Annotated[Role, typer.Argument(metavar="ROLE")],
    config: Config = None,
) -> None:
    """Give a user another role."""
    with opened(config) as node, transaction(node.engine) as session:
        users.change_role(session, name, to)


@app.command()
def disable(name: Name, config: Config = None) -> None:
    """Let a user in no more; what the user has done stays."""
    with opened(config) as node, transaction(node.engine) as session:
        users.disable(session, name)


@app.command()
def enable(name: Name, config: Config = None) -> None:
    """Let a disabled user in again."""
    with opened(config) as node, transaction(node.engine) as session:
        users.enable(session, name)


def _asked() -> str:
    given = getpass("Password: ")
    if getpass("The same again: ") != given:
        raise Malformed("the two are not the same")
    return given
