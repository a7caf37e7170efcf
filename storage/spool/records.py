"""What the name of a file in the spool says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from xxhash import xxh3_128

from storage.base.files import Buffer
from storage.spool.packs import OPEN

_NAME: Final = re.compile(r"(\d{20})-[0-9a-f]{32}-([0-9a-f]{32})-(\d+)\.dcm")
_PACK_NAME: Final = re.compile(r"(\d{20})-[0-9a-f]{32}-(\d+)-(\d+)\.pack")


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One received object that is durable in the spool."""

    path: Path
    name: str
    """Names this reception, wherever in the spool the file lies."""
    received_at: datetime
    checksum: str
    """Of the dataset, as `checksum_of` makes it; '' of a pack."""
    dataset_size: int
    """Of a pack: of all datasets together."""
    objects: int = 1
    packed: bool = False
    """The file is a pack: `storage.spool.packs.members` finds its objects."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for ingest; `bytes` counts datasets."""

    count: int
    bytes: int
    oldest: datetime | None


def checksum_of(buffer: Buffer) -> str:
    """Return what tells whether bytes are still those that were received (XXH3-128, hex)."""
    return xxh3_128(buffer).hexdigest()


def is_sealed(name: str) -> bool:
    """Whether a file of that name waits for ingest."""
    return bool(_NAME.fullmatch(name) or _PACK_NAME.fullmatch(name))


def record_of(path: Path, name: str) -> SpoolRecord | None:
    """Return the record that the file at `path` is by its `name`; None when it is none."""
    if match := _PACK_NAME.fullmatch(name):
        received_at, count = _instant(int(match[1])), int(match[2])
        return SpoolRecord(path, name, received_at, "", int(match[3]), count, packed=True)
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return SpoolRecord(path, name, _instant(int(match[1])), match[2], int(match[3]))


def backlog_of(names: Sequence[str]) -> Backlog:
    """Count what waits in a folder of these names; an open pack counts as one object."""
    alone = [match for name in names if (match := _NAME.fullmatch(name))]
    packs = [match for name in names if (match := _PACK_NAME.fullmatch(name))]
    oldest_ns = min((int(match[1]) for match in alone + packs), default=None)
    still_open = sum(name.endswith(OPEN) for name in names)
    return Backlog(
        count=len(alone) + sum(int(match[2]) for match in packs) + still_open,
        bytes=sum(int(match[3]) for match in alone + packs),
        oldest=None if oldest_ns is None else _instant(oldest_ns),
    )


def _instant(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1_000_000_000, UTC)
