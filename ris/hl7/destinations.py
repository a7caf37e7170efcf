"""The systems that are told, and how each of them wants it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from ris.hl7 import charsets
from ris.hl7.ack import OUR_NAME
from ris.hl7.tables import DestinationRow
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Session

VERSIONS: Final = ("2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7")
MESSAGES: Final = ("ORM", "OMG")
NEWS: Final = ("orders", "reports")
TEXTS: Final = ("TX", "FT", "HTML")
LINKS: Final = ("RP", "TX", "ST")
WITHDRAWN: Final = ("W", "D")
PERSON_IDS: Final = ("code", "licence")
PARTS: Final = (
    "text",
    "technique",
    "comparison",
    "findings",
    "measurements",
    "impression",
    "recommendation",
    "addenda",
    "study",
    "pdf",
    "pdf_link",
    "viewer",
)
"""What an ORU may have an OBX for."""
LEASE_S: Final = 45.0
"""How long a node has a lane at most, beside the wait for one answer: others wait so long for a
node that died."""
_PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a destination wants its messages; the fields are the names of its options."""

    version: str = "2.4"
    message: str = "ORM"
    """``ORM``: ORM^O01; ``OMG``: OMG^O19, from version 2.5 on."""
    application: str = ""
    """MSH-5."""
    facility: str = ""
    """MSH-6."""
    our_application: str = OUR_NAME
    our_facility: str = ""
    charset: str = "UNICODE UTF-8"
    """As in MSH-18."""
    country: str = ""
    """MSH-17."""
    processing_id: str = "P"
    plain_names: bool = False
    """The whole name of a person in the first component."""
    study_uid: bool = False
    """Say the Study Instance UID in ZDS."""
    senders: tuple[str, ...] = ()
    """Only orders of these senders; empty: of all."""
    statuses: tuple[str, ...] = ()
    """Only these values of ORC-5; empty: all."""
    echo: bool = False
    """Also what the message of an order's own sender did to it (an order was scheduled, cancelled);
    else only what happened here."""
    tells: tuple[str, ...] = ("orders",)
    """What it is told of: ``orders``, ``reports``."""
    results: tuple[str, ...] = ()
    """Only these values of OBR-25; empty: all."""
    result_parts: tuple[str, ...] = ("findings", "impression", "study", "pdf", "viewer")
    """The OBX of a report, in this order; of `PARTS`."""
    result_text: str = "TX"
    """``TX``: a line each repetition; ``FT``: ``\\.br\\``; ``HTML``: HTML in base64 in TX."""
    result_codes: Mapping[str, str] = field(default_factory=dict)
    """Part → OBX-3 as it shall stand there; ``{modality}`` is filled in."""
    result_markers: Mapping[str, str] = field(
        default_factory=lambda: {"findings": "MO_TA:", "impression": "KET_LUAN:"}
    )
    """Section → what stands before it in the part ``text``."""
    link_type: str = "RP"
    """OBX-2 of links."""
    viewer_url: str = ""
    """With ``{study} {accession} {placer} {patient} {report} {version}``; '' no link."""
    pdf_url: str = ""
    study_in_obx4: bool = False
    """The Study Instance UID in OBX-4."""
    person_id: str = "code"
    """Who reads is numbered by ``code`` or ``licence``."""
    withdrawn: str = "W"
    """OBX-11 of a retracted report: ``W`` wrong, ``D`` to be deleted."""
    pdf_wait_s: float = 60.0
    """A signed report waits so long for its paper, if that is wanted; then it comes later."""
    tls: bool = False
    tls_ca: str = ""
    """PEM file of the authority of its certificate; '' those of the system."""
    tls_name: str = ""
    """The name in its certificate, where it is not the host."""
    answer_s: float = 30.0
    """How long it may take to answer."""
    reject_tries: int = 1
    """So often a message is tried that it answers with AR; then it is parked."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One system that is told."""

    name: str
    host: str
    port: int
    style: Style = Style()
    paused: bool = False
    failures: int = 0
    """Failed tries in a row."""
    closed_until: datetime | None = None
    """Nothing is tried before."""


def style_of(options: Mapping[str, Any]) -> Style:
    """Return the style that `options` make of the usual one.

    Raises
    ------
    Malformed
        There is no such option, or its value is none.
    """
    known = {one.name: one.type for one in fields(Style)}
    usual = Style()
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise Malformed(f"there is no option {name!r}; there are {', '.join(sorted(known))}")
        values[name] = _read(name, value, getattr(usual, name))
    style = replace(usual, **values)
    _check(style)
    return style


def add(session: Session, destination: Destination, options: Mapping[str, Any]) -> None:
    """Register a destination, or change the one of that name.

    Raises
    ------
    Malformed
        An option, the name, the host or the port is none.
    """
    style_of(options)
    if not destination.name.strip() or not destination.host.strip():
        raise Malformed("a destination has a name and a host")
    if not 0 < destination.port <= _PORT_MAX:
        raise Malformed(f"{destination.port} is no port")
    known = {"host": destination.host, "port": destination.port, "options": dict(options)}
    statement = insert(DestinationRow).values(
        name=destination.name,
        created_at=utc_now(),
        paused=destination.paused,
        failures=0,
        leased_by="",
        **known,
    )
    renewed = {**known, "failures": 0, "closed_until": None}
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=renewed))


def remove(session: Session, name: str) -> None:
    """Forget a destination; what waits for it stays, and goes on when it is registered again.

    Raises
    ------
    NotFound
        There is none of that name.
    """
    gone = delete(DestinationRow).where(DestinationRow.name == name)
    _one(session.scalar(gone.returning(DestinationRow.name)), name)


def pause(session: Session, name: str, *, paused: bool) -> None:
    """Send nothing to a destination until it is taken up again; that tries it at once."""
    changed = (
        update(DestinationRow)
        .where(DestinationRow.name == name)
        .values(paused=paused, failures=0, closed_until=None)
        .returning(DestinationRow.name)
    )
    _one(session.scalar(changed), name)


def get(session: Session, name: str) -> Destination:
    """Return one destination; raise `NotFound` when there is none of that name."""
    row = session.get(DestinationRow, name)
    if row is None:
        raise NotFound(f"no destination is called {name!r}")
    return _destination(row)


def list_all(session: Session) -> list[Destination]:
    """Return every destination by name."""
    return [
        _destination(row)
        for row in session.scalars(select(DestinationRow).order_by(DestinationRow.name))
    ]


def lease(session: Session, name: str, holder: str, now: datetime) -> Destination | None:
    """Take the lane to a destination for a while, so that nobody else sends there.

    None when somebody else has it, when it is paused, or when there is none of that name.
    """
    row = session.scalar(
        select(DestinationRow)
        .where(DestinationRow.name == name, DestinationRow.paused.is_(False))
        .with_for_update()
    )
    if row is None:
        return None
    taken = row.leased_by not in ("", holder)
    if taken and row.leased_until is not None and row.leased_until > now:
        return None
    destination = _destination(row)
    row.leased_by = holder
    row.leased_until = now + timedelta(seconds=LEASE_S + destination.style.answer_s)
    return destination


def release(session: Session, name: str, holder: str) -> None:
    """Let others send to a destination."""
    session.execute(
        update(DestinationRow)
        .where(DestinationRow.name == name, DestinationRow.leased_by == holder)
        .values(leased_by="", leased_until=None)
    )


def note(session: Session, name: str, failures: int, closed_until: datetime | None) -> None:
    """Note how a destination behaved."""
    session.execute(
        update(DestinationRow)
        .where(DestinationRow.name == name)
        .values(failures=failures, closed_until=closed_until)
    )


def _read(name: str, value: Any, usual: object) -> Any:  # noqa: ANN401 - what TOML or JSON hold
    if isinstance(usual, Mapping):
        return _table(name, value, usual)
    if isinstance(usual, tuple):
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return tuple(str(part) for part in value)
    if isinstance(usual, bool):
        if isinstance(value, bool):
            return value
        if str(value).lower() in {"true", "yes", "1", "false", "no", "0"}:
            return str(value).lower() in {"true", "yes", "1"}
        raise Malformed(f"option {name}: true or false is wanted")
    kind: Callable[[Any], Any] = type(usual)
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise Malformed(f"option {name}: {type(usual).__name__} is wanted") from error


def _table(name: str, value: Any, usual: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        raise Malformed(f"option {name}: a table of texts is wanted")
    return {**usual, **{str(key): str(one) for key, one in value.items()}}


def _check(style: Style) -> None:
    faults = [
        (style.version not in VERSIONS, f"version: one of {', '.join(VERSIONS)} is wanted"),
        (style.message not in MESSAGES, f"message: one of {', '.join(MESSAGES)} is wanted"),
        (style.message == "OMG" and style.version < "2.5", "message: OMG came with version 2.5"),
        (not charsets.codec_of(style.charset), "charset: a value of MSH-18 is wanted"),
        (not 0 < style.answer_s <= 600, "answer_s: more than 0, at most 600"),  # noqa: PLR2004
        (style.reject_tries < 1, "reject_tries: at least 1"),
        (not 0 <= style.pdf_wait_s <= 86_400, "pdf_wait_s: at most a day"),  # noqa: PLR2004
        *_unknown(style),
        (
            bool(style.tls_ca) and not Path(style.tls_ca).is_file(),
            f"tls_ca: there is no file {style.tls_ca}",
        ),
    ]
    for wrong, said in faults:
        if wrong:
            raise Malformed(f"option {said}")


def _unknown(style: Style) -> Iterator[tuple[bool, str]]:
    """Yield whether each option of reports is none of its values."""
    for name, known in (
        ("tells", NEWS),
        ("result_parts", PARTS),
        ("result_codes", PARTS),
        ("result_markers", PARTS),
        ("result_text", TEXTS),
        ("link_type", LINKS),
        ("withdrawn", WITHDRAWN),
        ("person_id", PERSON_IDS),
    ):
        given = getattr(style, name)
        values = [given] if isinstance(given, str) else [*given]
        yield not {*values} <= {*known}, f"{name}: of {', '.join(known)}"


def _one(found: str | None, name: str) -> None:
    if found is None:
        raise NotFound(f"no destination is called {name!r}")


def _destination(row: DestinationRow) -> Destination:
    return Destination(
        row.name,
        row.host,
        row.port,
        style_of(row.options),
        row.paused,
        row.failures,
        row.closed_until,
    )
