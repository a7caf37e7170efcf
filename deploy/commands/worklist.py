"""``lienthong worklist``: why an order is not on the worklist of a console."""

from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, printable
from ris import explain
from ris.explain import Language
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)


@app.callback()
def options() -> None:
    """Keep `explain` a command of its own, though it is the only one."""


@app.command("explain")
def explain_order(
    order: Annotated[str, typer.Option(help="Accession number, or placer or filler order number.")],
    ae: Annotated[str, typer.Option(help="AE title of the console.")],
    lang: Annotated[Language, typer.Option(help="Of the sentences.")] = Language.VI,
    config: Config = None,
) -> None:
    """Ask the console's last query again and name what keeps the order off its list."""
    with opened(config) as node, transaction(node.engine) as session:
        found = explain.explain(session, order, ae, node.settings.zone)
    for finding in found.findings:
        out.print(printable(explain.tell(finding, lang)), soft_wrap=True)
