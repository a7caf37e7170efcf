"""``lienthong station``: health stations, their devices and people, and whom they sent."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.options import Config, opened, out, table
from ris import orders
from ris.reports import releasing
from storage.access import devices, one_time, station_users, stations
from storage.access.sealing import seal_of
from storage.access.station_users import NewPerson, StationRole
from storage.access.stations import Facility, Kind
from storage.audit import journal
from storage.audit.model import Entry
from storage.audit.model import Kind as Did
from storage.base.errors import NotFound
from storage.db.engine import Session, transaction

app = typer.Typer(no_args_is_help=True)
device = typer.Typer(help="The devices of health stations.", no_args_is_help=True)
user = typer.Typer(help="The people of health stations.", no_args_is_help=True)
app.add_typer(device, name="device")
app.add_typer(user, name="user")

Code = Annotated[str, typer.Argument(metavar="CODE", help="The station's code.")]
Name = Annotated[str, typer.Option(help="Its name.")]
National = Annotated[str, typer.Option(help="Its national number (GLN).")]
Parent = Annotated[str, typer.Option(help="Code of the facility that it is a part of.")]
Unit = Annotated[str, typer.Option(help="Code of the commune.")]
CLI = "command line"


@app.command()
def add(
    code: Code,
    *,
    name: Name,
    kind: Annotated[Kind, typer.Option(help="What it is.")] = Kind.STATION,
    national_id: National = "",
    parent: Parent = "",
    admin_unit: Unit = "",
    config: Config = None,
) -> None:
    """Register a health station, or another facility that sends patients."""
    facility = Facility(
        code=code,
        name=name,
        kind=kind,
        national_id=national_id,
        parent_code=parent,
        admin_unit=admin_unit,
    )
    with opened(config) as node, transaction(node.engine) as session:
        stations.add(session, facility)
        _note(session, code, "added")


@app.command()
def change(
    code: Code,
    *,
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day.")],
    new_code: Annotated[str, typer.Option("--code", help="Its new code.")] = "",
    name: Name = "",
    parent: Parent = "",
    admin_unit: Unit = "",
    config: Config = None,
) -> None:
    """Have a station be called otherwise from a day on; what was released stays its own."""
    with opened(config) as node, transaction(node.engine) as session:
        before = stations.find(session, code).facility
        facility = Facility(
            code=new_code or before.code,
            name=name or before.name,
            kind=before.kind,
            national_id=before.national_id,
            parent_code=parent or before.parent_code,
            admin_unit=admin_unit or before.admin_unit,
            valid_from=since.date(),
        )
        stations.change(session, code, facility)
        _note(session, facility.code, "changed")


@app.command("list")
def list_stations(config: Config = None) -> None:
    """List the stations as they are called now."""
    with opened(config) as node, transaction(node.engine) as session:
        known = stations.list_all(session)
    shown = table("code", "name", "kind", "since", "state")
    for one in known:
        facility = one.facility
        state = "revoked" if one.revoked_at else "wiped" if one.wiped_at else ""
        since = "" if facility.valid_from == date.min else str(facility.valid_from)
        shown.add_row(one.code, facility.name, facility.kind, since, state)
    out.print(shown)


@app.command()
def revoke(code: Code, config: Config = None) -> None:
    """Let nobody of a station in any more, at once."""
    with opened(config) as node, transaction(node.engine) as session:
        stations.revoke(session, code)
        _note(session, code, "revoked")


@app.command()
def restore(code: Code, config: Config = None) -> None:
    """Let a station in again."""
    with opened(config) as node, transaction(node.engine) as session:
        stations.restore(session, code)
        _note(session, code, "restored")


@app.command()
def wipe(code: Code, config: Config = None) -> None:
    """Have a station's devices delete every copy when they next come."""
    with opened(config) as node, transaction(node.engine) as session:
        stations.wipe(session, code)
        _note(session, code, "wiped")


@app.command()
def configure(
    code: Code,
    hook: Annotated[str | None, typer.Option(help="URL that is told of news; '' for none.")] = None,
    look_ups: Annotated[int | None, typer.Option(min=0, help="Look-ups a day.")] = None,
    config: Config = None,
) -> None:
    """Change where a station is told of news, and how many look-ups it has."""
    with opened(config) as node, transaction(node.engine) as session:
        stations.configure(session, code, hook_url=hook, look_ups_a_day=look_ups)
        _note(session, code, "configured")


@app.command()
def refer(
    code: Code,
    accession: Annotated[str, typer.Argument(metavar="ACCESSION", help="Of the order.")],
    evidence: Annotated[str, typer.Option(help="Number of the referral's paper.")] = "",
    config: Config = None,
) -> None:
    """Say that a station has sent the patient of an order: its reports are released to it."""
    with opened(config) as node, transaction(node.engine) as session:
        station = stations.find(session, code)
        found = orders.find_by_accession(session, accession)
        if not found:
            raise NotFound(f"no order has the accession number {accession!r}")
        for order in found:
            releasing.refer(session, order.id, station.id, "person", evidence or accession)
            entry = Entry(
                kind=Did.GRANT,
                actor=CLI,
                station=station.code,
                patient_id=order.patient_id,
                basis="referral",
                evidence=evidence or accession,
            )
            journal.append(session, entry)


@device.command("add")
def add_device(
    code: Code,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which device it is.")],
    key: Annotated[Path, typer.Option(exists=True, help="PEM file of its public key.")],
    config: Config = None,
) -> None:
    """Register a device by its public key (P-256 or Ed25519) and print its id."""
    with opened(config) as node, transaction(node.engine) as session:
        made = devices.add(session, code, name, key.read_text("ascii", "replace"))
        _note(session, code, "device added", made.uid)
    print(made.uid)  # noqa: T201 - for scripts


@device.command("list")
def list_devices(code: Code, config: Config = None) -> None:
    """List the devices of a station."""
    with opened(config) as node, transaction(node.engine) as session:
        known = devices.of_station(session, stations.find(session, code).id)
    shown = table("id", "name", "used", "revoked")
    for one in known:
        shown.add_row(
            one.uid,
            one.name,
            f"{one.used_at:%Y-%m-%d %H:%M}" if one.used_at else "",
            f"{one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else "",
        )
    out.print(shown)


@device.command("revoke")
def revoke_device(
    uid: Annotated[str, typer.Argument(metavar="ID", help="As `device list` shows it.")],
    config: Config = None,
) -> None:
    """Shut a device out, at once."""
    with opened(config) as node, transaction(node.engine) as session:
        gone = devices.revoke(session, uid)
        _note(session, stations.get(session, gone.station_id).code, "device revoked", uid)


@user.command("add")
def add_user(
    code: Code,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What is typed to sign in.")],
    *,
    full_name: Annotated[str, typer.Option(help="Of the one person whose account it is.")],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True)],
    role: Annotated[StationRole, typer.Option()] = StationRole.NURSE,
    licence: Annotated[str, typer.Option(help="Number of the practice licence.")] = "",
    config: Config = None,
) -> None:
    """Enter a person of a station; print what the person's telephone reads as a QR code."""
    new = NewPerson(
        code=code, name=name, full_name=full_name, role=role, licence=licence, password=password
    )
    with opened(config) as node, transaction(node.engine) as session:
        key = node.settings.sealing_key.get_secret_value()
        seal = seal_of(node.settings.secrets_dir, key)
        person, secret = station_users.add(session, new, seal)
        _note(session, code, "user added", person.name)
    print(one_time.address(secret, person.name))  # noqa: T201 - for scripts


@user.command("disable")
def disable_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As typed to sign in.")],
    config: Config = None,
) -> None:
    """Let a person in no more, at once."""
    with opened(config) as node, transaction(node.engine) as session:
        person = station_users.disable(session, name)
        _note(session, stations.get(session, person.station_id).code, "user disabled", person.name)


def _note(session: Session, code: str, what: str, whom: str = "") -> None:
    details = {"what": what, **({"whom": whom} if whom else {})}
    journal.append(session, Entry(kind=Did.REGISTRY, actor=CLI, station=code, details=details))
