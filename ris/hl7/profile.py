"""How one sender writes its messages, as data.

Every profile begins as ``profiles/ihe-2.3.1.toml`` … and a hospital may change single values of it
for one sender (`changed`). Paths are tried in their order, the first with a value wins:

    ORC-2.1               a position
    OBR-2.2!=OBR-2.1      a position, unless another one says the same
    OBR-2.2#              a position, if what stands there has a digit
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final

from ris.hl7 import charsets
from ris.hl7.message import Position
from storage.base.errors import ImagingError, Malformed, NotFound

GENERIC: Final = "generic"


class OnError(StrEnum):
    """What a sender is told of content that a person must mend."""

    AE = "ae"
    QUEUE = "aa_and_queue"
    """AA: the sender would stop its queue for an AE; here a person looks at the dead letter."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value may stand."""

    at: Position
    unlike: Position | None = None
    number: bool = False

    @classmethod
    def of(cls, text: str) -> "Path":
        """Read ``POSITION[#][!=POSITION]``.

        Raises
        ------
        Malformed
            It is not written so.
        """
        at, _, unlike = text.partition("!=")
        other = Position.of(unlike) if unlike else None
        return cls(Position.of(at.removesuffix("#")), other, number=at.endswith("#"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one sender writes; the fields are the names in the TOML files."""

    name: str
    description: str = ""
    role: str = "placer"
    """``placer``: it orders and we schedule; ``filler``: it schedules and we obey its ids."""
    charset: str = ""
    """What it uses when MSH-18 says nothing."""
    on_error: OnError = OnError.AE
    accept_unsupported: bool = False
    """AA instead of AR for message types and events that we do nothing with."""
    ignore_unknown_results: bool = False
    """It tells of all results of the hospital: those of no order and no study that we know get AA,
    and nobody has to look at them. Else they are dead letters, replayed when the order has come."""
    enhanced: bool = False
    """Take MSH-15 and MSH-16 at their word."""
    application_ack: str = ""
    """The destination to which application acknowledgements of the enhanced mode are sent; '': they
    go back on the connection that brought the message."""
    application_ack_answered: bool = True
    """That destination answers what is itself an acknowledgement."""
    answer_orders: bool = False
    """Answer orders by ORR, ORG or ORI instead of ACK."""
    processing_ids: tuple[str, ...] = ("P",)
    """MSH-11 that is taken; empty is always."""
    issuer: str = ""
    """Of patient ids without an assigning authority."""
    strip_age: bool = False
    """The name of a child carries its age: ``LÊ VĂN BÉ 5TH``."""
    one_order_per: str = "OBR"
    without_control: str = "NW"
    """What an order without ORC-1 means; '' refuses it."""
    control: Mapping[str, str] = field(default_factory=dict)
    """Its ORC-1 → ours, where they differ."""
    paths: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    modalities: Mapping[str, str] = field(default_factory=dict)
    """Its word → DICOM's."""
    modality_of_procedure: Mapping[str, str] = field(default_factory=dict)
    """Beginning of a procedure code → modality."""
    modality_of_location: Mapping[str, str] = field(default_factory=dict)
    stations: Mapping[str, str] = field(default_factory=dict)
    """Room or service → AE title."""
    default_modality: str = ""

    def of(self, name: str) -> tuple[Path, ...]:
        """Return where the value of that name may stand."""
        return self.paths.get(name, ())


_ONE_OF: Final[Mapping[str, frozenset[str]]] = {
    "role": frozenset({"placer", "filler"}),
    "one_order_per": frozenset({"OBR", "ORC"}),
}
_PLAIN: Final = {one.name for one in fields(Profile)} - {"paths", "on_error", "processing_ids"}


def names() -> list[str]:
    """Return the profiles that the product brings."""
    folder = resources.files(__package__).joinpath("profiles")
    return sorted(
        one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")
    )


@cache
def named(name: str) -> Profile:
    """Return one of the profiles that the product brings.

    Raises
    ------
    NotFound
        There is none of that name.
    """
    if name not in names():
        raise NotFound(f"no profile is called {name!r}; there are {', '.join(names())}")
    text = resources.files(__package__).joinpath("profiles", f"{name}.toml").read_text("utf-8")
    given = tomllib.loads(text)
    base = given.pop("like", None)
    return changed(named(base) if base else Profile(name=name), {**given, "name": name})


def from_toml(octets: bytes) -> Mapping[str, Any]:
    """Return the changes that a TOML file holds.

    Raises
    ------
    Malformed
        It is not TOML in UTF-8.
    """
    try:
        return tomllib.loads(octets.decode())
    except ValueError as error:
        raise Malformed(f"not a TOML file: {error}") from error


def changed(profile: Profile, changes: Mapping[str, Any]) -> Profile:
    """Return `profile` with single values replaced; tables are merged entry by entry.

    Raises
    ------
    Malformed
        A name or a value is none of a profile.
    """
    values: dict[str, Any] = {}
    for name, value in changes.items():
        try:
            values[name] = _value(profile, name, value)
        except ImagingError as error:
            raise Malformed(f"profile {profile.name}, {name}: {error}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise Malformed(f"profile {profile.name}, {name}: not such a value") from error
    return replace(profile, **values)


def _value(profile: Profile, name: str, value: Any) -> Any:  # noqa: ANN401 - what TOML or JSON hold
    if name == "paths":
        read = {key: tuple(Path.of(one) for one in _texts(paths)) for key, paths in value.items()}
        unknown = read.keys() - profile.paths.keys()
        if profile.paths and unknown:
            raise Malformed(f"there is no {', '.join(sorted(unknown))}")
        return {**profile.paths, **read}
    if name == "on_error":
        return OnError(value)
    if name == "processing_ids":
        return tuple(_texts(value))
    if name not in _PLAIN:
        raise Malformed("there is no such value")
    present = getattr(profile, name)
    if isinstance(present, Mapping):
        return {**present, **{str(key): str(one) for key, one in value.items()}}
    _check(name, value, type(present))
    return value


def _check(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise Malformed(f"{kind.__name__} is wanted")
    if value not in _ONE_OF.get(name, {value}):
        raise Malformed(f"one of {', '.join(sorted(_ONE_OF[name]))} is wanted")
    if name == "charset" and value and not charsets.codec_of(str(value)):
        raise Malformed("a character set of MSH-18 is wanted")


def _texts(value: Any) -> Sequence[str]:  # noqa: ANN401
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise Malformed("a list of texts is wanted")
    return value
