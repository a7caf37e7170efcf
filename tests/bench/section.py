"""One part of the benchmark: which turns it has and which columns its table has."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Column, Measured


@dataclass(frozen=True)
class Turn:
    """One archive doing one kind of work once."""

    case: str
    archive: str
    measure: Callable[[], Measured]


@dataclass(frozen=True)
class Place:
    """Where a run keeps its data; on the disk that is measured."""

    scratch: Path
    """Empty, and removed at the end."""
    filled: Path
    """Archives that are filled once and used again by later runs."""


@dataclass(frozen=True)
class Section:
    """What ``python -m tests.bench.run NAME`` does."""

    name: str
    columns: Sequence[Column]
    opened: Callable[[Place], AbstractContextManager[Sequence[Turn]]]
    """Starts the archives and makes the data; the archives run while the block lasts."""


def interleaved(turns: Sequence[Turn], number: int) -> Iterator[Turn]:
    """Yield the turns case by case, the archives of each in an order of this round's own."""
    order = random.Random(number)
    for case in dict.fromkeys(turn.case for turn in turns):
        same = [turn for turn in turns if turn.case == case]
        yield from order.sample(same, len(same))
