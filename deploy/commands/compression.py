"""``lienthong compression``: what lossless compression would save."""

from collections import Counter, defaultdict
from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from pacs import compression, contexts
from pacs.compression import Trial
from storage.archive import instances
from storage.base.errors import Malformed, NotFound
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)


@app.command()
def estimate(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Study Instance UIDs.")],
    to: Annotated[str, typer.Option("--to", help="htj2k or jpeg-ls.")] = "htj2k",
    config: Config = None,
) -> None:
    """Compress the objects of some studies, compare every frame, and throw the result away."""
    target = compression.TARGETS.get(to)
    if target is None:
        raise Malformed(f"--to is one of {', '.join(compression.TARGETS)}")
    trials: dict[str, list[Trial]] = defaultdict(list)
    reasons: Counter[str] = Counter()
    with opened(config) as node:
        for study in studies:
            with transaction(node.engine) as session:
                found = instances.locate(session, {"StudyInstanceUID": study})
            if not found:
                raise NotFound(f"no study {study}")
            for stored in found:
                trial = compression.try_one(node.store, stored, target)
                trials[stored.sop_class_uid].append(trial)
                if trial.reason:
                    reasons[trial.reason] += 1
    _show(trials, reasons)


def _show(trials: dict[str, list[Trial]], reasons: Counter[str]) -> None:
    shown = table(
        "SOP Class", "objects", "compressed", "bytes", "bytes after", "saved", "same bytes"
    )
    everything = [trial for group in trials.values() for trial in group]
    for name, group in (
        *((contexts.name_of(uid), trials[uid]) for uid in sorted(trials)),
        ("all", everything),
    ):
        before, after = (
            sum(one) for one in zip(*((t.before, t.after) for t in group), strict=True)
        )
        done = [trial for trial in group if not trial.reason]
        shown.add_row(
            name,
            str(len(group)),
            str(len(done)),
            str(before),
            str(after),
            f"{1 - after / max(1, before):.0%}",
            str(sum(trial.same_bytes for trial in done)),
        )
    out.print(shown)
    for reason, count in reasons.most_common():
        out.print(f"left as it is: {count}, {reason}")
