"""``lienthong compression``: what lossless compression would save, and rules for it."""

from collections import Counter, defaultdict
from datetime import timedelta
from typing import Annotated, Final

import typer

from deploy.commands.options import Config, opened, out, printable, table
from deploy.node import Node
from pacs import compression, contexts
from pacs.compressing import Compressing, Pace
from pacs.compression import Trial
from storage.archive import compressions, instances
from storage.archive.compressions import Kept, Rule, State, Terms
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.base.values import uid as checked_uid
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="RULE", help="Number of the rule.")]
Studies = Annotated[list[str], typer.Argument(metavar="STUDY...", help="Study Instance UIDs.")]
_NAMES: Final = {uid: name for name, uid in compression.TARGETS.items()}


@app.command()
def estimate(
    studies: Studies,
    to: Annotated[str, typer.Option("--to", help="htj2k or jpeg-ls.")] = "htj2k",
    config: Config = None,
) -> None:
    """Compress the objects of some studies, compare every frame, and throw the result away."""
    target = _target(to)
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


def _target(name: str) -> str:
    target = compression.TARGETS.get(name)
    if target is None:
        raise Malformed(f"--to is one of {', '.join(compression.TARGETS)}")
    return target


@app.command()
def add(
    *,
    to: Annotated[str, typer.Option("--to", help="htj2k or jpeg-ls.")] = "htj2k",
    modality: Annotated[str, typer.Option(help="Only of this modality.")] = "",
    source: Annotated[str, typer.Option("--from", help="Only from this AE title.")] = "",
    syntax: Annotated[str, typer.Option(help="Only in this transfer syntax (UID).")] = "",
    older_than: Annotated[int, typer.Option(min=0, help="Days since reception.")] = 0,
    config: Config = None,
) -> None:
    """Add a rule and print its number: the worker applies it to what is there and what comes."""
    if syntax:
        checked_uid(syntax)
    terms = Terms(_target(to), modality.strip().upper(), source.strip(), syntax, older_than)
    with opened(config) as node, transaction(node.engine) as session:
        out.print(str(compressions.add(session, terms, utc_now())))


@app.command("list")
def list_(config: Config = None) -> None:
    """Show the rules, how far they have got, and what they saved."""
    with opened(config) as node, transaction(node.engine) as session:
        found = compressions.rules(session)
    shown = table("rule", "state", "for", "to", "compressed", "before", "after", "saved", "left")
    for rule in found:
        shown.add_row(
            str(rule.id),
            str(rule.state),
            printable(_terms(rule)),
            _NAMES.get(rule.terms.target_transfer_syntax_uid, "?"),
            str(rule.compressed),
            str(rule.bytes_before),
            str(rule.bytes_after),
            f"{1 - rule.bytes_after / max(1, rule.bytes_before):.0%}",
            str(sum(rule.left_as_is.values())),
        )
    out.print(shown)
    for rule in found:
        for reason, count in sorted(rule.left_as_is.items(), key=lambda one: -one[1]):
            out.print(printable(f"rule {rule.id} left as it is: {count}, {reason}"))


def _terms(rule: Rule) -> str:
    terms = rule.terms
    told = (
        ("", terms.modality),
        ("from ", terms.source_ae_title),
        ("in ", contexts.name_of(terms.transfer_syntax_uid) if terms.transfer_syntax_uid else ""),
        ("older than days: ", str(terms.older_than_days) if terms.older_than_days else ""),
    )
    return ", ".join(f"{word}{value}" for word, value in told if value) or "everything"


@app.command()
def pause(rule: Number, config: Config = None) -> None:
    """Stop applying a rule, after the object that is being worked on."""
    _set_state(rule, State.PAUSED, config)


@app.command()
def resume(rule: Number, config: Config = None) -> None:
    """Go on where a rule was paused."""
    _set_state(rule, State.ACTIVE, config)


@app.command()
def remove(rule: Number, config: Config = None) -> None:
    """Remove a rule; what it compressed stays so."""
    _set_state(rule, State.REMOVED, config)


def _set_state(rule: int, state: State, config: Config) -> None:
    with opened(config) as node, transaction(node.engine) as session:
        compressions.set_state(session, rule, state)


@app.command()
def verify(studies: Studies, config: Config = None) -> None:
    """Make the received bytes again of every compressed object of some studies, and compare."""
    wrong = 0
    with opened(config) as node:
        for study in studies:
            kept = _of_study(node, study)
            faulty = [one for one in kept if not _compressing(node).is_whole(one)]
            wrong += len(faulty)
            size = sum(one.received.dataset_size for one in kept)
            now = sum(one.stored.dataset_size for one in kept)
            out.print(f"{study}: {len(kept)} compressed, {size} bytes in {now}")
            for one in faulty:
                out.print(f"  {one.stored.sop_instance_uid}: not what was received")
    if wrong:
        raise typer.Exit(1)


@app.command()
def undo(studies: Studies, config: Config = None) -> None:
    """Put the objects of some studies back as they were received, and let no rule touch them."""
    with opened(config) as node:
        for study in studies:
            kept = _of_study(node, study)
            done = sum(_compressing(node).undo(one) for one in kept)
            out.print(f"{study}: {done} of {len(kept)} are as they were received")
            if done < len(kept):
                raise typer.Exit(1)


def _of_study(node: Node, study: str) -> list[Kept]:
    with transaction(node.engine) as session:
        return compressions.of_study(session, checked_uid(study))


def _compressing(node: Node) -> Compressing:
    folder = node.settings.data_dir / "compressing-by-hand"
    return Compressing(node.engine, node.store, folder, Pace(timedelta(0)))
