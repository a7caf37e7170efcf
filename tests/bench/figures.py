"""What was measured, and the table that is made of it: medians, and ratios with their spread.

A ratio is taken inside one round, between turns that ran minutes apart at most, and only
then the median over the rounds: what slows the whole machine down for a while cancels out.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NOTHING = "–"
Measured = Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """One column: a median, or with `against` how many times better than that archive."""

    head: str
    key: str
    digits: int = 0
    against: str = ""
    less_is_better: bool = False


@dataclass
class Figures:
    """Every counted turn, by case and archive, in the order of the rounds."""

    rounds: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)

    def add(self, case: str, archive: str, measured: Measured) -> None:
        """Note what one turn gave."""
        self.rounds.setdefault((case, archive), []).append(measured)

    def of(self, case: str, archive: str) -> Sequence[Measured]:
        """Return the turns of an archive, one for each round."""
        return self.rounds.get((case, archive), ())

    def save(self, path: Path) -> None:
        """Write everything, so that a run that is cut short loses one turn at most."""
        rows = [[*names, rounds] for names, rounds in self.rounds.items()]
        path.with_suffix(".new").write_text(json.dumps(rows))
        path.with_suffix(".new").rename(path)

    @classmethod
    def load(cls, path: Path) -> "Figures":
        """Read what `save` wrote; nothing when there is no such file."""
        rows = json.loads(path.read_text()) if path.exists() else []
        return cls({(case, archive): rounds for case, archive, rounds in rows})


def table(figures: Figures, columns: Sequence[Column]) -> str:
    """Return a Markdown table with one line for each case and archive."""
    heads = ("work", "archive", *(column.head for column in columns))
    lines = [_line(heads), "|---" * len(heads) + "|"]
    archives = dict.fromkeys(archive for _, archive in figures.rounds)
    for case in dict.fromkeys(case for case, _ in figures.rounds):
        for archive in (one for one in archives if figures.of(case, one)):
            cells = (_cell(figures, case, archive, column) for column in columns)
            lines.append(_line((case, archive, *cells)))
    return "\n".join(lines)


def middle(rounds: Sequence[Measured], key: str, digits: int = 0) -> str:
    """Return the median of `key`."""
    values = [one[key] for one in rounds if key in one]
    return f"{statistics.median(values):,.{digits}f}" if values else NOTHING


def ratio(
    ours: Sequence[Measured], rival: Sequence[Measured], key: str, *, less_is_better: bool = False
) -> str:
    """Return how many times better `ours` are: median (least-most) of the rounds."""
    pairs = [
        (one[key], other[key])
        for one, other in zip(ours, rival, strict=False)
        if key in one and key in other
    ]
    if less_is_better:
        pairs = [(other, one) for one, other in pairs]
    ratios = [above / below for above, below in pairs if below]
    if not ratios:
        return NOTHING
    texts = [f"{value:.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios))]
    return f"{texts[0]} ({texts[1]}–{texts[2]})"


def _cell(figures: Figures, case: str, archive: str, column: Column) -> str:
    rounds = figures.of(case, archive)
    if not column.against:
        return middle(rounds, column.key, column.digits)
    if archive == column.against:
        return NOTHING
    rival = figures.of(case, column.against)
    return ratio(rounds, rival, column.key, less_is_better=column.less_is_better)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
