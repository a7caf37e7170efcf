"""What functional groups say of how each frame is to be seen (PS3.3 C.7.6.16.2.9 and .10)."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from pacs import dicom_json
from pacs.header import Header
from pacs.render.looks import Look, Table, usable_window
from pacs.render.options import Window
from storage.base.errors import Malformed, NotFound

SHARED: Final = 0x52009229
OF_FRAMES: Final = 0x52009230
PIXEL_VALUE_TRANSFORMATION: Final = "00289145"
FRAME_VOI_LUT: Final = "00289132"

_Json = Mapping[str, Any]
_Fetch = Callable[[str], bytes]
"""From the path of a binary value to its little endian bytes."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How each frame of an object is to be seen."""

    distinct: tuple[Look, ...]
    places: tuple[int, ...] = ()
    """Of each frame in `distinct`; none when all are seen alike."""

    def of_frame(self, number: int) -> Look:
        """Return how frame `number`, counted from 1, is to be seen."""
        known = 0 < number <= len(self.places)
        return self.distinct[self.places[number - 1] if known else 0]


def looks_of(found: Header, start: bytes, base: Look) -> Looks:
    """Return `base` with what the groups by frame say instead.

    Parameters
    ----------
    start
        The dataset up to its pixel data, from which `found` was read.

    Raises
    ------
    Malformed
        A table in a group cannot be read.
    """
    if found.elements.get(OF_FRAMES, (b"", 0, 0))[2] == 0:
        return Looks((base,))
    syntax = found.transfer_syntax_uid
    tree = dicom_json.dataset_json(start, syntax, lambda path: path)

    def fetch(path: str) -> bytes:
        where = dicom_json.bulk_data(start, syntax, path)
        return b"".join(start[at : at + length] for at, length in where.pieces)

    shared = _first(tree, f"{SHARED:08X}")
    distinct: dict[Look, int] = {}
    places = []
    for group in tree.get(f"{OF_FRAMES:08X}", {}).get("Value", ()):
        look = _rescaled(base, _one(group, shared, PIXEL_VALUE_TRANSFORMATION))
        look = _seen(look, _one(group, shared, FRAME_VOI_LUT), fetch)
        places.append(distinct.setdefault(look, len(distinct)))
    return Looks(tuple(distinct) or (base,), tuple(places) if len(distinct) > 1 else ())


def _first(item: _Json, tag: str) -> _Json:
    values: Sequence[_Json] = item.get(tag, {}).get("Value") or ({},)
    return values[0]


def _one(group: _Json, shared: _Json, tag: str) -> _Json:
    """Return the item of a macro, which stands in the group of the frame or in the shared one."""
    return _first(group, tag) or _first(shared, tag)


def _rescaled(base: Look, transformation: _Json) -> Look:
    slope, intercept = _number(transformation, "00281053"), _number(transformation, "00281052")
    if slope is None and intercept is None:
        return base
    return replace(base, slope=slope or 1.0, intercept=intercept or 0.0)


def _seen(base: Look, voi: _Json, fetch: _Fetch) -> Look:
    center, width = _number(voi, "00281050"), _number(voi, "00281051")
    function = str((voi.get("00281056", {}).get("Value") or ["LINEAR"])[0])
    window = None
    if center is not None and width is not None:
        window = usable_window(Window(center, width, function))
    lut = _first(voi, "00283010")
    if window is None and not lut:
        return base
    return replace(base, window=window, voi=table(lut, fetch) if lut and not window else None)


def _number(item: _Json, tag: str) -> float | None:
    values: Sequence[Any] = item.get(tag, {}).get("Value") or (None,)
    first = values[0]
    return float(first) if isinstance(first, int | float) and math.isfinite(first) else None


def table(item: _Json, fetch: _Fetch) -> Table:
    """Return a look-up table (PS3.3 C.11.1.1).

    Raises
    ------
    Malformed
        It has no descriptor, or fewer entries than that tells of.
    """
    descriptor: Sequence[Any] = item.get("00283002", {}).get("Value") or ()
    if len(descriptor) != 3 or not all(isinstance(one, int) for one in descriptor):  # noqa: PLR2004
        raise Malformed("a look-up table without a descriptor of three values")
    count, first, bits = descriptor
    entries = _entries(item.get("00283006", {}), fetch)[: count or 65536]
    if len(entries) < (count or 65536):
        raise Malformed(f"a look-up table of {count} entries with {len(entries)}")
    return Table(first, tuple(entries), min(max(bits, 8), 16))


def _entries(element: _Json, fetch: _Fetch) -> Sequence[int]:
    if "Value" in element:
        return [one for one in element["Value"] if isinstance(one, int)]
    try:
        inline = element.get("InlineBinary")
        raw = base64.b64decode(inline) if inline else fetch(element.get("BulkDataURI", ""))
    except NotFound:
        return []
    entries: list[int] = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").tolist()
    return entries
