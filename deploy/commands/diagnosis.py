"""``lienthong doctor``: what answers, what does not, and what to do."""

import typer
from rich.table import Table

from deploy import doctor
from deploy.commands.options import Config, load, out
from deploy.node import Node
from storage.base.errors import ImagingError


def examine(config: Config = None) -> None:
    """Try every part of this node and every registered peer."""
    given = load(config)
    table = Table("part", "", "what it says", "what to do")
    try:
        with Node.of(given) as node:
            findings = list(doctor.examine(node))
    except ImagingError as error:
        findings = [
            doctor.Finding(
                "database", well=False, said=str(error), advice=doctor.ADVICE["database"]
            )
        ]
    for one in findings:
        mark = "[green]ok[/green]" if one.well else "[red]no[/red]"
        table.add_row(one.subject, mark, one.said, "" if one.well else one.advice)
    out.print(table)
    if not all(one.well for one in findings):
        raise typer.Exit(1)
