"""What a client may ask of a picture (PS3.18 8.3.5)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage.base.errors import Malformed

MAX_SIDE: Final = 8192
DEFAULT_QUALITY: Final = 90
BEST_QUALITY: Final = 100
KEYWORDS: Final = ("patient", "technique")
"""Of the parameter annotation."""
_SIZE_ONLY: Final = 2
_LARGEST: Final = 1e9
_FUNCTIONS: Final[Mapping[str, str]] = {
    "linear": "LINEAR",
    "linear-exact": "LINEAR_EXACT",
    "sigmoid": "SIGMOID",
}


class Outside(Malformed):
    """What is asked for lies outside of the image: a fault of the request, not of the object."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window of grey levels (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"
    """VOI LUT Function: LINEAR, LINEAR_EXACT or SIGMOID."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """How large the picture may be, and which part of the image it shows (PS3.18 8.3.5.1.3)."""

    width: int
    height: int
    region: tuple[float, float, float, float] | None = None
    """(left, top, width, height) in pixels of the image; None: all of it."""
    flip_horizontal: bool = False
    flip_vertical: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """One rendering."""

    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY
    annotation: tuple[str, ...] = ()
    """Which of `KEYWORDS` are written on the picture."""
    language: str = "vi"
    """Of the words around a report: vi or en."""


def read(parameters: Mapping[str, str]) -> Options:
    """Read the query parameters ``window``, ``viewport``, ``quality`` and ``annotation``.

    Others are not ours.

    Raises
    ------
    Malformed
        One of them is not what PS3.18 8.3.5 has; the text names it.
    """
    return Options(
        _window(parameters["window"]) if parameters.get("window") else None,
        _viewport(parameters["viewport"]) if parameters.get("viewport") else None,
        _quality(parameters["quality"]) if parameters.get("quality") else DEFAULT_QUALITY,
        _annotation(parameters.get("annotation", "")),
    )


def _window(text: str) -> Window:
    parts = text.split(",")
    if len(parts) not in {2, 3}:
        raise Malformed("window: center,width,function is expected")
    function = _FUNCTIONS.get(parts[2].strip().lower() if len(parts) > _SIZE_ONLY else "linear")
    if function is None:
        raise Malformed(f"window: the function is one of {', '.join(_FUNCTIONS)}")
    center, width = (_number("window", part) for part in parts[:2])
    if (width < 1 and function == "LINEAR") or width <= 0:
        raise Malformed("window: the width is too small")
    return Window(center, width, function)


def _viewport(text: str) -> Viewport:
    parts = text.split(",")
    if len(parts) not in {_SIZE_ONLY, 6}:
        raise Malformed("viewport: vw,vh or vw,vh,sx,sy,sw,sh is expected")
    width, height = (int(_number("viewport", part)) for part in parts[:2])
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise Malformed(f"viewport: sides of 1 to {MAX_SIDE} pixels are drawn")
    if len(parts) == _SIZE_ONLY:
        return Viewport(width, height)
    left, top, across, down = (_number("viewport", part or "0") for part in parts[2:])
    if left < 0 or top < 0:
        raise Malformed("viewport: sx and sy are not negative")
    region = (left, top, abs(across), abs(down))
    return Viewport(width, height, region, across < 0, down < 0)


def box(region: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a region in whole pixels, at least one each way."""
    left, top, width, height = region
    x, y = int(left), int(top)
    return x, y, max(x + 1, int(left + width)), max(y + 1, int(top + height))


def cut(region: tuple[float, float, float, float]) -> tuple[int, int]:
    """Return width and height of a region in whole pixels."""
    left, top, right, bottom = box(region)
    return right - left, bottom - top


def require_inside(viewport: Viewport | None, columns: int, rows: int) -> None:
    """Refuse a region that has nothing of a picture of that size.

    Raises
    ------
    Outside
        The picture ends before it begins.
    """
    if viewport is None or viewport.region is None:
        return
    left, top, _, _ = viewport.region
    if left >= columns or top >= rows:
        raise Outside("viewport: the region lies outside of the image")


def _quality(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= BEST_QUALITY):
        raise Malformed("quality: a number from 1 to 100 is expected")
    return int(text)


def _annotation(text: str) -> tuple[str, ...]:
    asked = [keyword.strip().lower() for keyword in text.split(",") if keyword.strip()]
    if not set(asked) <= set(KEYWORDS):
        raise Malformed(f"annotation: {' and '.join(KEYWORDS)} are written")
    return tuple(sorted(set(asked)))


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise Malformed(f"{name}: {text[:20]!r} is no number") from None
    if not math.isfinite(number) or abs(number) > _LARGEST:
        raise Malformed(f"{name}: {text[:20]!r} is no number that can be used")
    return number
