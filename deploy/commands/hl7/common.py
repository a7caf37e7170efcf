"""Options and files that the commands of HL7 share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from storage.base.errors import Malformed, NotFound

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")]
Before = Annotated[int | None, typer.Option(help="Only those with a lower ID: the next page.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One value; may be given several times."),
]


def read(path: Path) -> bytes:
    """Return what a file has, or standard input when it is named ``-``."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from error


def pairs(given: list[str] | None) -> dict[str, Any]:
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


def lines(octets: bytes) -> list[str]:
    """Return the segments of a message, whatever ends them."""
    text = octets.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r")
    return [line for line in text.split("\r") if line]
