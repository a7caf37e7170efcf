"""``lienthong station-client``: a health station's own copy, also without a line."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from deploy.commands.options import out, printable, table
from deploy.station_client import client as clients
from deploy.station_client.client import Client, Credentials, DeviceKey, Issued
from deploy.station_client.vault import Vault
from deploy.station_client.wire import HttpWire
from storage.access import assertions
from storage.access.assertions import PrivateKey
from storage.base.errors import ImagingError, Malformed, NotFound

app = typer.Typer(no_args_is_help=True)

SETTINGS: Final = "station.json"
KEY: Final = "device.pem"
VAULT_KEY: Final = "vault.key"
COPY: Final = "copy.db"
PASSPHRASE: Final = "LIENTHONG_STATION_PASSPHRASE"  # noqa: S105 - the name of a variable

Folder = Annotated[
    Path, typer.Option("--folder", help="Where the copy is.", envvar="LIENTHONG_STATION_FOLDER")
]
Uid = Annotated[str, typer.Argument(metavar="ID", help="As `find` shows it, or how it begins.")]
Person = Annotated[str, typer.Option(help="Who does it.")]
HERE: Final = Path("station")


@app.command()
def init(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the hospital's server.")],
    folder: Folder = HERE,
    authorities: Annotated[str, typer.Option(help="PEM file of whom to believe.")] = "",
) -> None:
    """Begin a copy: make the device's key and print its public half for the hospital."""
    if (folder / SETTINGS).exists():
        raise Malformed(f"{folder}: there is a copy already")
    HttpWire(url)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(folder / KEY, pem)
    if not os.environ.get(PASSPHRASE):
        _write(folder / VAULT_KEY, secrets.token_hex(32).encode())
    settings = {"url": url, "authorities": authorities, "device": "", "token": ""}
    _write(folder / SETTINGS, json.dumps(settings).encode())
    print(assertions.pem_of(key.public_key()), end="")  # noqa: T201 - for the hospital


@app.command()
def register(
    device: Annotated[str, typer.Argument(metavar="ID", help="As the hospital gave it.")] = "",
    token: Annotated[
        str, typer.Option(envvar="LIENTHONG_STATION_TOKEN", help="An issued token instead.")
    ] = "",
    folder: Folder = HERE,
) -> None:
    """Note what the hospital calls this device."""
    settings = _settings(folder) | {"device": device, "token": token}
    _write(folder / SETTINGS, json.dumps(settings).encode())


@app.command()
def sync(
    folder: Folder = HERE,
    every: Annotated[int, typer.Option(min=0, help="Seconds; 0: once.")] = 0,
) -> None:
    """Send what waits, and fetch what is new, as far as the line lets it."""
    client = _client(folder)
    while True:
        try:
            done = client.sync()
        except ImagingError as error:
            if not every:
                raise
            out.print(printable(f"not now: {error}"))  # a full disk, a station that is shut out
            time.sleep(every)
            continue
        if done.wiped:
            out.print("the hospital had every copy deleted")
        out.print(
            f"{done.changes} changes, {done.deleted} deleted, {done.texts} texts, "
            f"{done.papers} papers, {done.sent} sent{'' if done.whole else '; the line broke'}"
        )
        if not every:
            raise typer.Exit(0 if done.whole or done.wiped else 1)
        time.sleep(every)


@app.command()
def find(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="With accents or without.")] = "",
    folder: Folder = HERE,
) -> None:
    """List the reports that are here; without a line too."""
    shown = table("id", "patient", "born", "examination", "state", "critical", "paper")
    for one in _client(folder).find(text):
        patient = one.item.get("patient") or {}
        shown.add_row(
            one.id[:12],
            str(patient.get("name", "")),
            str(patient.get("birth_date", "")),
            str(one.item.get("title", "")),
            str(one.item.get("status_name", "")) if one.state == "released" else one.state,
            str(one.item.get("critical", "")),
            "yes" if one.paper_sha256 else "",
        )
    out.print(shown)


@app.command()
def show(uid: Uid, folder: Folder = HERE, person: Person = "") -> None:
    """Print the text of a report; the hospital learns that it was read."""
    client = _client(folder)
    text = clients.require_text(client.get(uid))
    for name in ("title", "findings", "conclusion", "recommendation"):
        if text.get(name):
            out.print(f"{text.get('labels', {}).get(name, name)}: {text[name]}")
    client.note(uid, "read", person)


@app.command("pdf")
def paper(
    uid: Uid,
    target: Annotated[
        Path | None, typer.Option("--out", help="Where to; in the copy's folder if not said.")
    ] = None,
    folder: Folder = HERE,
    person: Person = "",
    *,
    printed: Annotated[
        bool, typer.Option("--printed", help="It is to be printed: the hospital learns it.")
    ] = False,
) -> None:
    """Write the signed paper to a file, to be opened or printed, and print its path."""
    client = _client(folder)
    content = client.paper(uid)
    path = target or folder / f"{client.get(uid).id[:12]}.pdf"
    _write(path, content)
    client.note(uid, "printed" if printed else "read", person)
    print(path)  # noqa: T201 - for scripts


@app.command()
def refer(
    referral: Annotated[Path, typer.Argument(metavar="FILE", help="JSON of the referral.")],
    folder: Folder = HERE,
) -> None:
    """Refer a patient: sent at once or when the line is there, and once only."""
    try:
        content = json.loads(referral.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Malformed(f"{referral}: not a file of JSON") from error
    print(_client(folder).refer(content))  # noqa: T201 - for scripts


@app.command()
def outbox(folder: Folder = HERE) -> None:
    """List what waits to be sent, and what the hospital refused."""
    shown = table("key", "what", "refused")
    for one in _client(folder).vault.outbox():
        shown.add_row(one.key, one.path.removeprefix(clients.API), one.refused)
    out.print(shown)


def _client(folder: Path) -> Client:
    settings = _settings(folder)
    vault = Vault(folder / COPY, _secret(folder))
    wire = HttpWire(settings["url"], settings["authorities"])
    return Client(vault, wire, _credentials(folder, settings))


def _credentials(folder: Path, settings: dict[str, Any]) -> Credentials:
    if settings["token"]:
        return Issued(settings["token"])
    if not settings["device"]:
        raise NotFound("the hospital has not registered this device: station-client register ID")
    return DeviceKey(settings["device"], _private_key(folder / KEY), settings["url"])


def _private_key(path: Path) -> PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise Malformed(f"{path}: not the key of a device")
    return key


def _secret(folder: Path) -> str | bytes:
    if passphrase := os.environ.get(PASSPHRASE):
        return passphrase
    return clients.read_key((folder / VAULT_KEY).read_text("ascii"))


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NotFound(f"{folder}: there is no copy; begin one with `init`") from error
    return dict(found)


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    part.replace(path)
