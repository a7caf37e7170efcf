"""Objects that are made here, in memory, and put like those that were received."""

import os
from pathlib import Path

from storage.base.errors import StoreUnavailable
from storage.base.files import Buffer, make_folder, open_part, sweep_parts, write_all
from storage.objects.store import ObjectStore


def put_pieces(store: ObjectStore, folder: Path, key: str, *pieces: Buffer) -> None:
    """Put an object, by a file in `folder` that is gone afterwards.

    Raises
    ------
    StoreUnavailable
        The file cannot be written, or the store does not answer.
    """
    try:
        make_folder(folder)
        sweep_parts(folder)
        part, path = open_part(str(folder))
        try:
            for piece in pieces:
                write_all(part, piece)
            os.fdatasync(part)
            store.put_files([(key, Path(path))])
        finally:
            Path(path).unlink(missing_ok=True)
            os.close(part)
    except OSError as error:
        raise StoreUnavailable(f"{folder}: {error.strerror}") from error
