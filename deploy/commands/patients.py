"""``lienthong patient``: merges of patients, and their undoing by hand."""

from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, printable, table
from ris import unmerging
from ris.model import Patient
from ris.unmerging import Side
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

BY = "command line"


@app.command("merges")
def list_merges(
    number: Annotated[str, typer.Option("--patient-id", help="Any number of a patient.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    config: Config = None,
) -> None:
    """List merges, newest first: who was merged into whom, and what was undone."""
    with opened(config) as node, transaction(node.engine) as session:
        found = unmerging.journal(session, limit, number=number)
    shown = table("id", "made", "prior", "into", "sender", "message", "undone", "by")
    for one in found:
        merge = one.merge
        shown.add_row(
            str(merge.id),
            f"{merge.made_at:%Y-%m-%d %H:%M:%S}",
            _number(one.prior),
            _number(one.survivor),
            printable(merge.sender),
            str(merge.message_id or ""),
            f"{merge.undone_at:%Y-%m-%d %H:%M:%S}" if merge.undone_at else "",
            printable(merge.undone_by),
        )
    out.print(shown)


@app.command("undo-merge")
def undo_merge(
    merge_id: Annotated[int, typer.Argument(metavar="ID", help="As `patient merges` shows it.")],
    *,
    preview: Annotated[bool, typer.Option("--preview", help="Show it and do nothing.")] = False,
    config: Config = None,
) -> None:
    """Make two patients of one again, each with its own numbers, visits, orders and studies."""
    with opened(config) as node, transaction(node.engine) as session:
        brings = unmerging.preview(session, merge_id)
        if not preview:
            unmerging.undo(session, merge_id, BY)
    shown = table("patient", "numbers", "orders", "studies")
    for side in (brings.prior, brings.survivor):
        shown.add_row(*_row(side))
    out.print(shown)
    for uid in brings.later_study_instance_uids:
        out.print(f"objects came while they were one: study {printable(uid)}")
    if not preview:
        out.print(f"merge {merge_id} is undone")


def _row(side: Side) -> tuple[str, str, str, str]:
    numbers = " ".join(printable(one.value) for one in side.patient.identifiers)
    return (
        _number(side.patient),
        numbers,
        str(len(side.order_ids)),
        str(len(side.study_instance_uids)),
    )


def _number(patient: Patient) -> str:
    shown = patient.identifier
    return printable(f"{shown.value} ({shown.issuer})" if shown.issuer else shown.value)
