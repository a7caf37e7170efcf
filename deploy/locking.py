"""One process of a kind on one data folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.base.errors import Conflict, StoreUnavailable


@contextmanager
def only_one(path: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block, and make it if need be.

    The kernel lets go of it with the process, however that ends.

    Raises
    ------
    Conflict
        Another process holds it; the text is `otherwise`.
    StoreUnavailable
        It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"LIENTHONG_DATA_DIR {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(otherwise) from error
    try:
        yield
    finally:
        os.close(descriptor)
