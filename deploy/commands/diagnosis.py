"""``lienthong doctor``: what answers, what does not, and what to do."""

from typing import Final

import typer
from rich.text import Text

from deploy import doctor
from deploy.commands.options import Config, load, out, require_folder, table
from deploy.node import Node
from storage.base.errors import ImagingError

GOOD: Final = Text("ok", "green")
BAD: Final = Text("no", "red")
LOOK: Final = Text("look", "yellow")


def examine(config: Config = None) -> None:
    """Try every part of this node and every registered peer."""
    given = load(config)
    require_folder(given)
    shown = table("part", "", "what it says", "what to do")
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
        mark = GOOD if one.well else BAD if one.urgent else LOOK
        shown.add_row(one.subject, mark, one.said, "" if one.well else one.advice)
    out.print(shown)
    if not all(one.well or not one.urgent for one in findings):
        raise typer.Exit(1)
