"""``lienthong rejection``: objects that rejection notes hide from everybody who looks."""

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from deploy.commands.options import Config, opened, out, printable, table
from pacs import rejection_notes, report_objects
from pacs.ingest import Ingest
from pacs.rejection_notes import Wanted
from storage.archive import rejections
from storage.archive.rejection_rules import Title
from storage.base.errors import Conflict, StoreUnavailable
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

NoteUid = Annotated[
    str, typer.Argument(metavar="NOTE", help="SOP Instance UID, as `rejection list` shows it.")
]
By = Annotated[str, typer.Option("--by", help="Who does it; else who is logged in here.")]


class Why(StrEnum):
    """Titles by the words of a command line."""

    QUALITY = "quality"
    SAFETY = "safety"
    WRONG_ENTRY = "wrong-entry"
    EXPIRED = "expired"


TITLES: Final = {why: Title[why.name] for why in Why}


@app.command("list")
def list_notes(
    study: Annotated[str, typer.Option("--study", help="Study Instance UID.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 100,
    config: Config = None,
) -> None:
    """List rejection notes, newest first, with how many objects each still hides."""
    with opened(config) as node, transaction(node.engine) as session:
        found = rejections.list_notes(session, study_instance_uid=study, limit=limit)
    shown = table("noted", "title", "in force", "named", "by", "from", "reason", "note", "study")
    for one in found:
        shown.add_row(
            f"{one.noted_at:%Y-%m-%d %H:%M:%S}",
            f"{one.title} {one.meaning}",
            str(one.in_force),
            str(one.named),
            printable(one.author),
            printable(one.source_ae_title),
            printable(one.fault or one.reason),
            printable(one.sop_instance_uid),
            printable(one.study_instance_uid),
        )
    out.print(shown)


@app.command()
def show(note: NoteUid, config: Config = None) -> None:
    """Show what a note names, and what became of each object."""
    with opened(config) as node, transaction(node.engine) as session:
        found = rejections.named_by(session, note)
    shown = table("SOP instance", "series", "study", "here", "hidden by", "withdrawn", "by")
    for one in found:
        shown.add_row(
            printable(one.sop_instance_uid),
            printable(one.series_instance_uid),
            printable(one.study_instance_uid),
            "yes" if one.held else "no",
            one.hidden or "-",
            f"{one.withdrawn_at:%Y-%m-%d %H:%M:%S}" if one.withdrawn_at else "",
            printable(one.withdrawn_by),
        )
    out.print(shown)


@app.command()
def reject(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")],
    why: Annotated[Why, typer.Option("--why", help="The title of the note.")],
    series: Annotated[str, typer.Option("--series", help="Only this series.")] = "",
    instance: Annotated[
        list[str] | None, typer.Option("--instance", help="Only this object; may be repeated.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="For people.")] = "",
    by: By = "",
    *,
    preview: Annotated[bool, typer.Option("--preview", help="Only tell what it hides.")] = False,
    config: Config = None,
) -> None:
    """Reject objects by a note of our own, and print its UID."""
    wanted = Wanted(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uids=instance or (),
        title=TITLES[why],
        reason=reason,
        by=by or getpass.getuser(),
    )
    with opened(config) as node:
        with transaction(node.engine) as session:
            if preview:
                would = rejection_notes.preview(session, wanted)
                out.print(f"{would.instances} objects of {would.series} series; {would.left} left")
                return
            made = rejection_notes.note_of(session, wanted, node.settings.zone)
        record = report_objects.put(node.spool, made, node.settings.ae_title)
        # at once; a worker that is quicker has done the same
        for done in Ingest(node.engine, node.store, node.spool).take([record]):
            if done.held:
                raise Conflict(f"the note is kept aside: {done.detail}")
    out.print(str(made.SOPInstanceUID))


@app.command()
def restore(note: NoteUid, by: By = "", config: Config = None) -> None:
    """Withdraw a note: what no other one rejects is shown again."""
    with opened(config) as node, transaction(node.engine) as session:
        rejection_notes.restore(session, note, by=by or getpass.getuser(), address="")


@app.command()
def export(
    note: NoteUid,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; it must not exist.")],
    instance: Annotated[
        str, typer.Option("--instance", help="An object that it names; else the note itself.")
    ] = "",
    config: Config = None,
) -> None:
    """Write a note as a DICOM file, for `lienthong send` to another archive; or what it hides."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            held = rejection_notes.held_by(session, note, instance or note)
        content = rejection_notes.file_of(node.store, held)
    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
