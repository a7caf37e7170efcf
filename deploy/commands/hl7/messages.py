"""The messages that came: to look at, to try again, to correct; and one to send by hand."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.hl7.common import Before, Limit, lines, read
from deploy.commands.options import Config, opened, out, printable, table
from deploy.node import Node
from ris import service
from ris.hl7 import ack, building, conversation, ledger, profile, repair
from ris.hl7.destinations import Destination, Style
from ris.hl7.ledger import Entry, Search
from ris.requests import Request
from storage.base.errors import Conflict, Malformed
from storage.db.engine import transaction

app = typer.Typer()

MessageId = Annotated[int, typer.Argument(metavar="ID", help="As `hl7 list` shows it.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A file with a message; - is stdin.")]
Since = Annotated[datetime | None, typer.Option(help="Received from then on, UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Received before then, UTC.")]


@app.command("list")
def list_messages(
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
        for line in lines(octets or b""):
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
        corrected = read(file) if file else _edited(entry) if edit else None
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
    octets = read(file)
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
        text = json.dumps(_plain(request), ensure_ascii=False, indent=1, default=str)
        out.print(f"{type(request).__name__} {printable_lines(text)}", soft_wrap=True)
    for note in reading.task.notes:
        out.print(f"note: {printable(note)}", soft_wrap=True)


def printable_lines(text: str) -> str:
    """Return `text` of several lines with everything else written out that acts on a terminal."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _plain(request: Request) -> dict[str, object]:
    """Return a request without what is not sent."""

    def sent(given: list[tuple[str, object]]) -> dict[str, object]:
        return {name: value for name, value in given if value is not None and value != ()}

    return dataclasses.asdict(request, dict_factory=sent)


def _send_one(line: conversation.Conversation, path: Path) -> str:
    answered = line.ask(read(path))
    for text in lines(answered):
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


def _told(entry: Entry) -> dict[str, object]:
    told = ledger.facts(entry)
    guessed = " (guessed)" if told.pop("charset_guessed") else ""
    received = entry.received_at.isoformat(timespec="milliseconds")
    return {**told, "received_at": received, "charset": entry.charset + guessed}


def _utc(given: datetime | None) -> datetime | None:
    return given.replace(tzinfo=UTC) if given else None
