"""The feed of one station: what it is to have, as it is now, in the order of commits.

A cursor is a place in that order. It is the station's business alone: with another's it reads its
own feed from another place, and nothing else.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ris.releases import bases, releasing
from ris.releases.model import Basis, Release, State
from ris.reports import issued
from ris.reports.issued import Issued
from ris.stations.faults import Invalid, fault
from storage.db.engine import Session

MOST: Final = 200
_MARK: Final = 0x4C54
_FORM: Final = struct.Struct(">HQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One report at a station; `issued` is None where nothing of it is to be told."""

    release: Release
    basis: Basis
    issued: Issued | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A page of the feed."""

    items: Sequence[Item]
    after: int
    more: bool
    resync: bool
    """The cursor was one of a feed that went further than this one: it was begun anew."""


def read(session: Session, station_id: int, after: int, limit: int) -> Feed:
    """Return what came behind the place `after`."""
    resync = after > releasing.end_of_feed(session, station_id)
    start = 0 if resync else after
    found = releasing.page(session, station_id, start, limit + 1)
    shown = found[:limit]
    return Feed(
        items=items(session, shown),
        after=shown[-1].position if shown else start,
        more=len(found) > limit,
        resync=resync,
    )


def items(session: Session, releases: Sequence[Release]) -> Sequence[Item]:
    """Return releases with what is told of them."""
    used = bases.load(session, {one.basis_id for one in releases})
    told = issued.load(
        session,
        [(one.report_uid, one.revision) for one in releases if one.state is not State.DELETED],
    )
    return [
        Item(release=one, basis=used[one.basis_id], issued=told.get(one.report_uid))
        for one in releases
    ]


def cursor(after: int) -> str:
    """Return a place in the feed as stations hand it back."""
    return base64.urlsafe_b64encode(_FORM.pack(_MARK, after)).rstrip(b"=").decode()


def place(text: str) -> int:
    """Return the place that a cursor means; '' and 0 are the beginning.

    Raises
    ------
    Invalid
        It is no cursor of ours.
    """
    if text in {"", "0"}:
        return 0
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        mark, after = _FORM.unpack(packed)
    except (ValueError, binascii.Error, struct.error) as error:
        raise Invalid(fault("bad_cursor", "/cursor")) from error
    if mark != _MARK or after >= 1 << 63:
        raise Invalid(fault("bad_cursor", "/cursor"))
    return int(after)
