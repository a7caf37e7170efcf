"""Send DICOM files to a peer by C-STORE, each dataset exactly as it lies in its file."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pacs import header, part10
from pacs.scu.association import Address
from pacs.scu.sender import WARNINGS, Outgoing, Sender
from storage.base.errors import ImagingError, Malformed

Failure = tuple[Path, str]
"""A file that the peer does not have, and why."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int


def send_files(
    to: Address, calling_ae_title: str, paths: Sequence[Path], progress: Callable[[], None]
) -> list[Failure]:
    """Send every file over one association where possible; return the failures.

    `progress` is called once for each file.
    """
    failed: list[Failure] = []
    files: list[_File] = []
    for path in paths:
        try:
            files.append(_read(path))
        except (ImagingError, OSError) as error:
            failed.append((path, str(error)))
            progress()
    kinds = [(file.sop_class_uid, file.transfer_syntax_uid) for file in files]
    with Sender(to, calling_ae_title, kinds) as sender:
        for file in files:
            reason = _send(sender, file)
            if reason:
                failed.append((file.path, reason))
            progress()
    return failed


def _read(path: Path) -> _File:
    with _mapped(path) as content:
        head = part10.split(content)
        sop_class, sop_instance = head.sop_class_uid, head.sop_instance_uid
        if not (sop_class and sop_instance):
            with memoryview(content) as whole, whole[head.length :] as dataset:
                found = header.scan(dataset, head.transfer_syntax_uid)
                sop_class, sop_instance = found.text("SOPClassUID"), found.text("SOPInstanceUID")
        if not (sop_class and sop_instance):
            raise Malformed("no SOP Class UID or SOP Instance UID")
        return _File(path, sop_class, sop_instance, head.transfer_syntax_uid, head.length)


def _send(sender: Sender, file: _File) -> str:
    """Send one file; return why it failed, '' when the peer has it."""
    try:
        with (
            _mapped(file.path) as content,
            memoryview(content) as whole,
            whole[file.dataset_offset :] as dataset,
        ):
            answer = sender.exchange(
                Outgoing(
                    file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax_uid, (dataset,)
                )
            )
    except (ImagingError, OSError) as error:
        return str(error)
    if not answer.status or answer.status in WARNINGS:
        return ""
    comment = f": {answer.error_comment}" if answer.error_comment else ""
    return f"the peer answers status {answer.status:04X}{comment}"


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise Malformed("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
