"""What an object store must do; `directory` and `s3` implement it.

Objects are immutable: a key is derived from the content's hash
(`storage.objects.keys`), so putting the same key twice is the same object.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """One object: its key and its size in bytes."""

    key: str
    size: int


class ObjectStore(Protocol):
    """Immutable objects by key.

    Every method raises `StoreUnavailable` when the store cannot answer now, and
    `NotFound` when a key that must exist does not.
    """

    settles: bool
    """True when an acknowledged put may still be lost by a power cut for some minutes."""

    def put_files(self, items: Sequence[tuple[str, Path]]) -> None:
        """Store each file under its key; all are durable on return, or it raises.

        The file's bytes are durable already, as a spool record's are. It may become a second
        name of the object: it must not be changed afterwards, only unlinked. A key that exists
        with the same size is left as it is, one with another size is replaced.

        Raises
        ------
        NotFound
            A file is not there (any more).
        """
        ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes ``[offset, offset + length)``, to the end when `length` is None.

        Less, or nothing, when the object ends before. A negative number is `Malformed`.
        """
        ...

    def at_hand(self, key: str, offset: int, length: int) -> bytes | None:
        """Return the bytes ``[offset, offset + length)`` if nobody has to wait for them.

        None when they are not in this machine's memory, or not there at all: then `read`
        gets them, or says why not.
        """
        ...

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = 1 << 20
    ) -> Iterator[bytes]:
        """Yield the same bytes in pieces of at most `chunk` bytes.

        The object is open on return, so `NotFound` and the like are raised here.
        """
        ...

    def sha256(self, key: str, offset: int = 0, length: int | None = None) -> str:
        """Re-read bytes ``[offset, offset + length)`` and return their SHA-256 in hex."""
        ...

    def is_file(self, key: str, path: Path) -> bool:
        """Whether the object and the file at `path` are one, so that it needs no second reading."""
        ...

    def stat(self, key: str) -> ObjectStat:
        """Return the object's size."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Yield every object whose key starts with `prefix`, ordered by key."""
        ...

    def check(self) -> None:
        """Raise `StoreUnavailable` unless the store takes writes and answers reads now."""
        ...
