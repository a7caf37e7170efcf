"""``lienthong send``, ``import`` and ``export``: files to a peer, from a folder, into one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deploy import exporting, importing, sending
from deploy.commands.options import Config, err, opened, out, printable
from deploy.importing import Imported
from pacs.filesets import Profile
from pacs.scu.association import Address
from storage.access import peers
from storage.base.errors import Malformed
from storage.db.engine import Session, transaction

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH", exists=True, help="DICOM files, or folders of them.")
]


def import_folder(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="What to import."),
    ],
    config: Config = None,
) -> None:
    """Take every DICOM file below FOLDER into the archive.

    It can be stopped at any time and started again: it goes on where it was. Every file
    that is not in the archive at the end is named with the reason.
    """
    total = sum(1 for _ in importing.files_below(folder))
    counted = {"stored": 0, "duplicate": 0, "failed": 0}
    with opened(config) as node, _bar() as bar:
        task = bar.add_task("import", total=total)

        def progress(done: Imported) -> None:
            counted["failed" if done.failed else done.verdict] += 1
            bar.advance(task)

        failed = importing.import_folder(node, folder, progress)
    for one in failed:
        out.print(printable(f"{one.path}: {one.detail}"), soft_wrap=True)
    out.print(
        f"{counted['stored']} stored, {counted['duplicate']} held before, "
        f"{counted['failed']} failed of {total} files"
    )
    if failed:
        raise typer.Exit(1)


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", file_okay=False, help="A new or empty folder.")
    ],
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Study Instance UIDs.")],
    media: Annotated[
        str, typer.Option(help="DICOMDIR: as stored; STD-GEN-CD: Explicit VR Little Endian.")
    ] = "DICOMDIR",
    config: Config = None,
) -> None:
    """Write studies as a file-set for media, with a DICOMDIR, into FOLDER."""
    try:
        profile = Profile(media.strip().upper())
    except ValueError:
        raise Malformed(f"--media is one of {', '.join(filter(None, Profile))}") from None
    with opened(config) as node:
        count = exporting.export(node, studies, folder, profile)
    out.print(f"{count} files in {folder}")


def send(
    peer: Annotated[
        str, typer.Argument(metavar="PEER", help="A registered AE title, or AE_TITLE@host:port.")
    ],
    paths: Paths,
    config: Config = None,
) -> None:
    """Send DICOM files to a peer by C-STORE, each dataset as it lies in its file."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            to = _addressed(peer) if "@" in peer else _registered(session, peer)
        files = [file for path in paths for file in _files(path)]
        with _bar() as bar:
            task = bar.add_task(f"send to {to.ae_title}", total=len(files))
            failed = sending.send_files(
                to, node.settings.ae_title, files, lambda: bar.advance(task)
            )
    for path, reason in failed:
        out.print(printable(f"{path}: {reason}"), soft_wrap=True)
    out.print(f"{len(files) - len(failed)} sent, {len(failed)} failed of {len(files)} files")
    if failed:
        raise typer.Exit(1)


def _files(path: Path) -> Iterable[Path]:
    return importing.files_below(path) if path.is_dir() else [path]


def _registered(session: Session, ae_title: str) -> Address:
    peer = peers.get(session, ae_title)
    return Address(peer.ae_title, peer.host, peer.port)


def _addressed(text: str) -> Address:
    ae_title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (ae_title and host and port.isdecimal()):
        raise Malformed(f"{text}: expected AE_TITLE@host:port")
    return Address(ae_title, host, int(port))


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
    )
