"""``lienthong hl7``: the messages that came, those that wait, who sends and who is told."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.commands.options import Config, opened, out, printable, table
from deploy.node import Node
from ris import service
from ris.hl7 import ack, building, conversation, destinations, ledger, outgoing, profile, repair
from ris.hl7 import senders as sender_rows
from ris.hl7.destinations import Destination, Style
from ris.hl7.ledger import Entry, Search
from ris.hl7.outgoing import Wanted
from ris.hl7.senders import Sender
from storage.base.errors import Conflict, Malformed, NotFound
from storage.db.engine import transaction

app = typer.Typer(no_args_is_help=True)
sender_app = typer.Typer(help="The systems that send to us.", no_args_is_help=True)
destination_app = typer.Typer(help="The systems that are told.", no_args_is_help=True)
app.add_typer(sender_app, name="sender")
app.add_typer(destination_app, name="destination")

MessageId = Annotated[int, typer.Argument(metavar="ID", help="As `hl7 list` shows it.")]
OutgoingId = Annotated[int, typer.Argument(metavar="ID", help="As `hl7 outgoing` shows it.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A file with a message; - is stdin.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")]
Before = Annotated[int | None, typer.Option(help="Only those with a lower ID: the next page.")]
Since = Annotated[datetime | None, typer.Option(help="Received from then on, UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Received before then, UTC.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One value; may be given several times."),
]


@app.command("list")
def list_messages(  # noqa: PLR0913 - each is an option of the command
    *,
    state: Annotated[ledger.State | None, typer.Option(help="Only those.")] = None,
    patient: Annotated[str, typer.Option(help="Patient ID.")] = "",
    order: Annotated[str, typer.Option(help="Placer or filler order number.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    sender: Annotated[str, typer.Option(help="As `hl7 sender list` names it.")] = "",
    control_id: Annotated[str, typer.Option(help="MSH-10.")] = "",
    kind: Annotated[str, typer.Option(help="As ORM^O01.")] = "",
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    before: Before = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts, a line each.")] = False,
    config: Config = None,
) -> None:
    """List the messages that came, newest first."""
    wanted = Search(
        patient_id=patient,
        order_number=order,
        accession_number=accession,
        sender=sender,
        control_id=control_id,
        kind=kind,
        state=state,
        since=_utc(since),
        until=_utc(until),
    )
    with opened(config) as node, transaction(node.engine) as session:
        found = ledger.search(session, wanted, limit, before)
    if as_json:
        for one in found:
            print(json.dumps(_told(one), ensure_ascii=False))  # noqa: T201 - for scripts
        return
    shown = table("id", "received", "state", "answer", "kind", "sender", "control id", "reason")
    for one in found:
        shown.add_row(
            str(one.id),
            f"{one.received_at:%Y-%m-%d %H:%M:%S}",
            one.state,
            one.answer_code,
            printable(one.kind),
            printable(one.sender),
            printable(one.control_id),
            printable(one.reason),
        )
    out.print(shown)


@app.command()
def show(
    message_id: MessageId,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they came, alone.")] = False,
    config: Config = None,
) -> None:
    """Show a message, what it was answered and what became of it."""
    with opened(config) as node, transaction(node.engine) as session:
        entry = ledger.get(session, message_id)
    if raw:
        sys.stdout.buffer.write(entry.raw)
        return
    for name, value in _told(entry).items():
        out.print(f"{name}: {printable(str(value))}", soft_wrap=True)
    for heading, octets in (("message", entry.raw), ("answer", entry.answer)):
        out.print(f"--- {heading}")
        for line in _lines(octets or b""):
            out.print(printable(line), soft_wrap=True)


@app.command()
def replay(
    message_id: MessageId,
    file: Annotated[
        Path | None, typer.Option(help="A corrected copy to apply in its place; - is stdin.")
    ] = None,
    *,
    edit: Annotated[bool, typer.Option("--edit", help="Correct it in $EDITOR first.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it would become.")
    ] = False,
    config: Config = None,
) -> None:
    """Apply a message that failed once more, or a corrected copy of it."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            entry = ledger.get(session, message_id)
        corrected = _read(file) if file else _edited(entry) if edit else None
        if dry_run:
            _preview(node, corrected or entry.raw, entry.peer, "")
            return
        receiving = service.repairing(node.settings, node.engine)
        if corrected is None:
            done = repair.replay(node.engine, receiving, message_id)
        else:
            done = repair.correct(node.engine, receiving, message_id, corrected)
    if done.state is not ledger.State.APPLIED:
        raise Conflict(f"message {done.id} is {done.state}: {done.reason}")
    out.print(f"message {done.id} is applied: {printable(done.outcome)}")


@app.command("dry-run")
def dry_run(
    file: File,
    profile_name: Annotated[
        str, typer.Option("--profile", help="Read it by this profile, not by its sender's.")
    ] = "",
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Say too what the standard has against it.")
    ] = False,
    config: Config = None,
) -> None:
    """Show what a message would become; nothing of it is done or kept."""
    octets = _read(file)
    with opened(config) as node:
        _preview(node, octets, "", profile_name)
    for fault in building.faults(octets) if strict else ():
        out.print(f"standard: {printable(fault)}", soft_wrap=True)


@app.command()
def send(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="An MLLP port.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="One message each.")],
    *,
    tls: Annotated[bool, typer.Option("--tls", help="In TLS.")] = False,
    ca: Annotated[str, typer.Option("--ca", help="PEM file of its authority.")] = "",
) -> None:
    """Send messages to an HL7 listener, as they are, and show the answers; 1 unless all are AA."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise Malformed(f"{address!r} is not HOST:PORT")
    style = Style(tls=tls, tls_ca=ca)
    line = conversation.Conversation(Destination("", host.strip("[]"), int(port), style))
    try:
        codes = [_send_one(line, path) for path in files]
    finally:
        line.close()
    if not all(code in {"AA", "CA"} for code in codes):
        raise typer.Exit(1)


@app.command("outgoing")
def list_outgoing(  # noqa: PLR0913 - each is an option of the command
    *,
    state: Annotated[outgoing.State | None, typer.Option(help="Only those.")] = None,
    destination: Annotated[str, typer.Option(help="Only those to it.")] = "",
    patient: Annotated[str, typer.Option(help="Patient ID.")] = "",
    order: Annotated[str, typer.Option(help="Placer or filler order number.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    limit: Limit = 100,
    before: Before = None,
    config: Config = None,
) -> None:
    """List the messages that we send, newest first."""
    wanted = Wanted(
        destination=destination,
        state=state,
        patient_id=patient,
        order_number=order,
        accession_number=accession,
    )
    with opened(config) as node, transaction(node.engine) as session:
        found = outgoing.search(session, wanted, limit, before)
    shown = table("id", "made", "to", "state", "tries", "kind", "control id", "reason")
    for one in found:
        shown.add_row(
            str(one.id),
            f"{one.created_at:%Y-%m-%d %H:%M:%S}",
            one.destination,
            one.state,
            str(one.attempts),
            one.kind,
            one.control_id,
            printable(one.reason),
        )
    out.print(shown)


@app.command()
def resend(message_id: OutgoingId, config: Config = None) -> None:
    """Send one of our messages again: one that was refused, or that got lost on the other side."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            outgoing.resend(session, message_id)
        service.outbox_bell(node.settings).ring()


@app.command()
def discard(message_id: OutgoingId, config: Config = None) -> None:
    """Never send one of our messages; those behind it in its order go on."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            outgoing.discard(session, message_id)
        service.outbox_bell(node.settings).ring()


@sender_app.command("add")
def add_sender(  # noqa: PLR0913 - each is an option of the command
    name: Annotated[str, typer.Argument(metavar="NAME", help="What we call it.")],
    *,
    profile_name: Annotated[
        str, typer.Option("--profile", help=f"One of {', '.join(profile.names())}.")
    ] = profile.GENERIC,
    application: Annotated[str, typer.Option(help="MSH-3; empty: any.")] = "",
    facility: Annotated[str, typer.Option(help="MSH-4; empty: any.")] = "",
    address: Annotated[
        list[str] | None, typer.Option(help="Network it sends from, as 10.1.0.0/16; several.")
    ] = None,
    changes: Annotated[
        Path | None, typer.Option(help="A TOML file with what differs from the profile.")
    ] = None,
    values: Set = None,
    config: Config = None,
) -> None:
    """Register a sender, or change the one of that name."""
    given = {**(profile.from_toml(_read(changes)) if changes else {}), **_pairs(values)}
    sender = Sender(name, profile_name, application, facility, address or [], given)
    with opened(config) as node, transaction(node.engine) as session:
        sender_rows.add(session, sender)


@sender_app.command("list")
def list_senders(config: Config = None) -> None:
    """List the senders."""
    with opened(config) as node, transaction(node.engine) as session:
        known = sender_rows.list_all(session)
    shown = table("name", "profile", "MSH-3", "MSH-4", "from", "changes")
    for one in known:
        changes = json.dumps(dict(one.changes), ensure_ascii=False) if one.changes else ""
        sources = " ".join(one.addresses)
        shown.add_row(one.name, one.profile, one.application, one.facility, sources, changes)
    out.print(shown)


@sender_app.command("remove")
def remove_sender(name: str, config: Config = None) -> None:
    """Forget a sender."""
    with opened(config) as node, transaction(node.engine) as session:
        sender_rows.remove(session, name)


@sender_app.command("profiles")
def list_profiles() -> None:
    """List the profiles that a sender can begin with."""
    shown = table("profile", "what it is")
    for name in profile.names():
        shown.add_row(name, profile.named(name).description)
    out.print(shown)


@destination_app.command("add")
def add_destination(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What we call it.")],
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its host name or address.")],
    port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="Its MLLP port.")],
    values: Set = None,
    config: Config = None,
) -> None:
    """Register a system that is told of orders, or change the one of that name."""
    with opened(config) as node:
        with transaction(node.engine) as session:
            destinations.add(session, Destination(name, host, port), _pairs(values))
        service.outbox_bell(node.settings).ring()


@destination_app.command("list")
def list_destinations(config: Config = None) -> None:
    """List the destinations and what waits for them."""
    with opened(config) as node, transaction(node.engine) as session:
        known = destinations.list_all(session)
        waiting = {one.destination: one for one in outgoing.backlog(session)}
    shown = table("name", "address", "version", "state", "waiting", "refused", "oldest")
    for one in known:
        backlog = waiting.get(one.name)
        state = "paused" if one.paused else f"{one.failures} failures" if one.failures else "well"
        shown.add_row(
            one.name,
            f"{one.host}:{one.port}",
            f"{one.style.message} {one.style.version}",
            state,
            str(backlog.waiting if backlog else 0),
            str(backlog.parked if backlog else 0),
            f"{backlog.oldest:%Y-%m-%d %H:%M}" if backlog and backlog.oldest else "",
        )
    out.print(shown)


@destination_app.command("remove")
def remove_destination(name: str, config: Config = None) -> None:
    """Forget a destination; what waits for it stays until it is registered again."""
    with opened(config) as node, transaction(node.engine) as session:
        destinations.remove(session, name)


@destination_app.command("pause")
def pause_destination(name: str, config: Config = None) -> None:
    """Send nothing to a destination until `resume`."""
    _pause(name, config, paused=True)


@destination_app.command("resume")
def resume_destination(name: str, config: Config = None) -> None:
    """Send to a destination again, at once."""
    _pause(name, config, paused=False)


def _pause(name: str, config: Path | None, *, paused: bool) -> None:
    with opened(config) as node:
        with transaction(node.engine) as session:
            destinations.pause(session, name, paused=paused)
        service.outbox_bell(node.settings).ring()


def _preview(node: Node, octets: bytes, peer: str, profile_name: str) -> None:
    """Show what a message would become; a fault is an error of the command."""
    given = profile.named(profile_name) if profile_name else None
    reading = service.repairing(node.settings, node.engine).read(octets, peer, given)
    decoded = reading.message.decoded
    guessed = ", guessed" if decoded.guessed else ""
    out.print(f"{printable(reading.kind)} of {reading.profile.name}, {decoded.charset}{guessed}")
    if reading.task is None:
        fault = reading.fault
        said = f"{fault.code} {fault.error} {fault.text}" if fault else "it asks for nothing"
        raise Malformed(said)
    for request in reading.task.requests:
        text = json.dumps(_plain(request), ensure_ascii=False, indent=1)
        out.print(f"{type(request).__name__} {printable_lines(text)}", soft_wrap=True)
    for note in reading.task.notes:
        out.print(f"note: {printable(note)}", soft_wrap=True)


def printable_lines(text: str) -> str:
    """Return `text` of several lines with everything else written out that acts on a terminal."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _plain(request: Any) -> Any:  # noqa: ANN401 - any of the requests
    """Return a request as JSON has it, without what is not sent."""
    if dataclasses.is_dataclass(request) and not isinstance(request, type):
        given = {one.name: getattr(request, one.name) for one in dataclasses.fields(request)}
        return {name: _plain(value) for name, value in given.items() if value not in (None, ())}
    if isinstance(request, list | tuple):
        return [_plain(one) for one in request]
    return request if isinstance(request, str | bool | int) else str(request)


def _send_one(line: conversation.Conversation, path: Path) -> str:
    answered = line.ask(_read(path))
    for text in _lines(answered):
        out.print(printable(text), soft_wrap=True)
    return ack.code_in(answered)


def _edited(entry: Entry) -> bytes:
    """Let a person correct a message, a segment a line; what is not changed is no correction."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"message-{entry.id}.hl7"
        before = entry.raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        path.write_bytes(before)
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        subprocess.run([*editor.split(), str(path)], check=False)  # noqa: S603 - the person's own
        after = path.read_bytes()
    if after == before:
        raise Conflict("nothing was changed")
    return after.replace(b"\n", b"\r")


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from error


def _pairs(given: list[str] | None) -> dict[str, Any]:
    """Return ``NAME=VALUE`` options, a value in JSON where it is one."""
    found: dict[str, Any] = {}
    for one in given or ():
        name, separator, value = one.partition("=")
        if not separator:
            raise Malformed(f"{one!r} is not NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
        if isinstance(found[name], float):
            found[name] = value  # a version, 2.4
    return found


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "received_at": entry.received_at.isoformat(timespec="milliseconds"),
        "state": entry.state,
        "answer_code": entry.answer_code,
        "kind": entry.kind,
        "sender": entry.sender,
        "wire": entry.wire,
        "peer": entry.peer,
        "control_id": entry.control_id,
        "charset": entry.charset + (" (guessed)" if entry.charset_guessed else ""),
        "reason": entry.reason,
        "outcome": entry.outcome,
        "attempts": entry.attempts,
        "repeats": entry.repeats,
        "corrects": entry.corrects,
        "keys": list(entry.keys),
    }


def _lines(octets: bytes) -> list[str]:
    text = octets.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r")
    return [line for line in text.split("\r") if line]


def _utc(given: datetime | None) -> datetime | None:
    return given.replace(tzinfo=UTC) if given else None
