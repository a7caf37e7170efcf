"""A picture as a presentation state has it seen (PS3.4 N.2, PS3.3 C.7.6.11, C.10.4 to C.10.6).

    grey levels ─ shutter ─ displayed area ─ size ─ rotation ─ flip ─ overlays and graphics

Graphics are drawn in the size of the finished picture and keep their place in the image;
texts stay upright.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from pacs.render import pictures
from pacs.render.fonts import sans
from pacs.render.looks import Look
from pacs.render.options import Options, Viewport

MAX_SIDE: Final = 8192
"""Pixels of the finished picture."""
_LARGEST: Final = 1e6
_FARTHEST: Final = 16384
"""Pixels from the image that a displayed area may reach."""
_LINES: Final = 40
"""Of text without a box that fit above each other."""
_MIN_TEXT: Final = 8
_MAX_TEXT: Final = 96
_LEADING: Final = 1.2
_FILL: Final = 90
"""Of 255: how much of a filled graphic hides what is below (which PS3.3 C.10.5 leaves open)."""
_QUARTER: Final = 90

Colour = tuple[int, int, int]
Point = tuple[float, float]
"""(x, y): pixels from the upper left corner of the image, or parts of the displayed area."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of single bits on the image (PS3.3 C.9.2)."""

    rows: int
    columns: int
    top: int
    left: int
    """Pixels of the image from its upper left one, from 0."""
    bits: bytes
    """The first pixel in the lowest bit."""
    ink: Colour
    order: int = 0


@dataclass(frozen=True, slots=True)
class Shutter:
    """What of the image is hidden (PS3.3 C.7.6.11, C.7.6.15)."""

    ink: Colour
    rectangle: tuple[int, int, int, int] | None = None
    """(left, top, right, bottom) of what is seen, in pixels from 0, ends not inside."""
    circle: tuple[float, float, float] | None = None
    """(x, y, radius)"""
    polygon: tuple[Point, ...] = ()
    plane: Plane | None = None
    """What is hidden by it."""


@dataclass(frozen=True, slots=True)
class Area:
    """The displayed area (PS3.3 C.10.4), in pixels from 0, ends not inside."""

    left: int
    top: int
    right: int
    bottom: int
    aspect: float = 1.0
    """Height of a pixel by its width."""
    magnification: float = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One graphic object: a point, or a line through its points."""

    points: tuple[Point, ...]
    ink: Colour
    in_display: bool = False
    """Its points are parts of the displayed area, and not pixels of the image."""
    filled: bool = False
    order: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """One text object."""

    text: str
    ink: Colour
    box: tuple[Point, Point] | None = None
    box_in_display: bool = False
    anchor: Point | None = None
    anchor_in_display: bool = False
    pointing: bool = False
    """A line leads from the text to its anchor."""
    justified: str = "LEFT"
    order: int = 0


@dataclass(frozen=True, slots=True)
class Showing:
    """How a presentation state has one frame seen, but for its grey levels."""

    rotation: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    flipped: bool = False
    """Left and right are exchanged, after the rotation."""
    area: Area | None = None
    shutter: Shutter | None = None
    planes: Sequence[Plane] = field(default=())
    marks: Sequence[Mark] = field(default=())
    texts: Sequence[Text] = field(default=())


def size_of(showing: Showing, columns: int, rows: int) -> tuple[int, int]:
    """Return width and height in which an image is shown when nobody asks for a size."""
    return _View(showing, (columns, rows), None).size


def picture(
    look: Look, pixels: bytes, photometric: str, options: Options, showing: Showing | None
) -> Image.Image:
    """Return the picture of one native frame; errors as `pictures.picture`."""
    if showing is None:
        return pictures.picture(look, pixels, photometric, options)
    whole = pictures.picture(look, pixels, photometric, replace(options, viewport=None))
    return show(whole, showing, options.viewport)


def show(drawn: Image.Image, showing: Showing, viewport: Viewport | None) -> Image.Image:
    """Return a picture of the whole image as it is to be seen, in the size of `viewport`."""
    fitting = viewport if viewport is not None and viewport.region is None else None
    view = _View(showing, drawn.size, fitting)
    coloured = any(len(set(one.ink)) > 1 for one in _inks(showing))
    canvas = drawn.convert("RGB") if coloured else drawn
    if showing.shutter is not None:
        canvas = _shuttered(canvas, showing.shutter)
    canvas = view.picture(canvas)
    pen = _Pen(canvas, view)
    for thing in sorted(_drawn(showing), key=_order):
        if isinstance(thing, Plane):
            canvas.paste(_ink(canvas, thing.ink), mask=view.picture(_mask(thing, drawn.size)))
        elif isinstance(thing, Mark):
            pen.mark(thing)
        else:
            pen.text(thing)
    return canvas if fitting is not None else pictures.shown(canvas, viewport)


def _drawn(showing: Showing) -> Iterator[Plane | Mark | Text]:
    yield from showing.planes
    yield from showing.marks
    yield from showing.texts


def _inks(showing: Showing) -> Iterator[Plane | Mark | Text | Shutter]:
    yield from _drawn(showing)
    if showing.shutter is not None:
        yield showing.shutter


def _order(thing: Plane | Mark | Text) -> int:
    return thing.order


def _ink(canvas: Image.Image, ink: Colour) -> int | Colour:
    return ink[0] if canvas.mode == "L" else ink


class _View:
    """Where a pixel of the image comes to lie in the picture."""

    def __init__(self, showing: Showing, image: tuple[int, int], viewport: Viewport | None) -> None:
        columns, rows = image
        area = showing.area or Area(0, 0, columns, rows)
        # what lies far outside is empty anyway
        self._left, self._right = (
            min(max(x, -_FARTHEST), columns + _FARTHEST) for x in (area.left, area.right)
        )
        self._top, self._bottom = (
            min(max(y, -_FARTHEST), rows + _FARTHEST) for y in (area.top, area.bottom)
        )
        self._rotation, self._flipped = showing.rotation, showing.flipped
        wide, high = (self._right - self._left, self._bottom - self._top)
        across, down = (1.0, area.aspect) if area.aspect >= 1 else (1 / area.aspect, 1.0)
        width, height = wide * across * area.magnification, high * down * area.magnification
        if viewport is not None:
            turned = (height, width) if self._turned else (width, height)
            scale = min(viewport.width / turned[0], viewport.height / turned[1])
        else:
            scale = min(1.0, MAX_SIDE / max(width, height))
        limit = (pictures.MAX_PIXELS / max(1.0, width * height * scale * scale)) ** 0.5
        scale *= min(1.0, limit)
        self._size = max(1, round(width * scale)), max(1, round(height * scale))
        self._scale = self._size[0] / wide, self._size[1] / high
        self.size = self._size[::-1] if self._turned else self._size

    @property
    def _turned(self) -> bool:
        return self._rotation % (2 * _QUARTER) == _QUARTER

    def picture(self, image: Image.Image) -> Image.Image:
        """Return the displayed area of a picture of the image, in its size and place."""
        box = self._left, self._top, self._right, self._bottom
        cut = image if box == (0, 0, *image.size) else self._cut(image)
        if self._size != cut.size:
            larger = self._size[0] > cut.width
            kind = Image.Resampling.BILINEAR if larger else Image.Resampling.BOX
            cut = cut.resize(self._size, kind)
        turns = {
            _QUARTER: Image.Transpose.ROTATE_270,  # Pillow counts against the clock
            2 * _QUARTER: Image.Transpose.ROTATE_180,
            3 * _QUARTER: Image.Transpose.ROTATE_90,
        }
        if self._rotation in turns:
            cut = cut.transpose(turns[self._rotation])
        if self._flipped:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return cut.copy() if cut is image else cut

    def _cut(self, image: Image.Image) -> Image.Image:
        """Return the area; where there is no image it is black, and never larger than need be."""
        wide, high = self._right - self._left, self._bottom - self._top
        if wide * high <= pictures.MAX_PIXELS:
            return image.crop((self._left, self._top, self._right, self._bottom))
        canvas = Image.new(image.mode, self._size)
        size = (
            max(1, round(image.width * self._scale[0])),
            max(1, round(image.height * self._scale[1])),
        )
        corner = round(-self._left * self._scale[0]), round(-self._top * self._scale[1])
        canvas.paste(image.resize(size, Image.Resampling.BOX), corner)
        return canvas

    def place(self, point: Point, *, in_display: bool) -> Point:
        """Return where a point lies in the picture."""
        x, y = (min(max(one, -_LARGEST), _LARGEST) for one in point)
        if in_display:
            return x * self.size[0], y * self.size[1]
        x, y = (x - self._left) * self._scale[0], (y - self._top) * self._scale[1]
        width, height = self._size
        if self._rotation == _QUARTER:
            x, y = height - y, x
        elif self._rotation == 2 * _QUARTER:
            x, y = width - x, height - y
        elif self._rotation == 3 * _QUARTER:
            x, y = y, width - x
        if self._flipped:
            x = self.size[0] - x
        return min(max(x, -_LARGEST), _LARGEST), min(max(y, -_LARGEST), _LARGEST)


class _Pen:
    """Draws on a finished picture."""

    def __init__(self, canvas: Image.Image, view: _View) -> None:
        self._canvas, self._view = canvas, view
        self._draw = ImageDraw.Draw(canvas)
        self._width = max(1, min(canvas.size) // 400)

    def mark(self, mark: Mark) -> None:
        """Draw a graphic object."""
        points = [self._view.place(one, in_display=mark.in_display) for one in mark.points]
        ink = _ink(self._canvas, mark.ink)
        if len(points) == 1:
            self._point(points[0], ink)
            return
        if mark.filled and len(points) > 2:  # noqa: PLR2004 - less than a triangle has no inside
            mask = Image.new("L", self._canvas.size)
            ImageDraw.Draw(mask).polygon(points, fill=_FILL)
            self._canvas.paste(ink, mask=mask)
        for a, b in pairwise(points):
            self._line(a, b, ink)

    def _line(self, a: Point, b: Point, ink: int | Colour) -> None:
        self._draw.line([*a, *b], ink, self._width)

    def _point(self, at: Point, ink: int | Colour) -> None:
        arm = 4 * self._width
        self._line((at[0] - arm, at[1]), (at[0] + arm, at[1]), ink)
        self._line((at[0], at[1] - arm), (at[0], at[1] + arm), ink)

    def text(self, text: Text) -> None:
        """Write a text into its box, else beside its anchor."""
        lines = text.text.splitlines() or [""]
        anchor = None
        if text.anchor is not None:
            anchor = self._view.place(text.anchor, in_display=text.anchor_in_display)
        if text.box is not None:
            corners = [self._view.place(p, in_display=text.box_in_display) for p in text.box]
            (left, right), (top, bottom) = (sorted(ends) for ends in zip(*corners, strict=True))
            box = left, top, right, bottom
        else:
            x, y = anchor or (0.0, 0.0)
            box = x + 4 * self._width, y, x + 4 * self._width, y
        self._write(lines, box, text)
        if anchor is not None and text.pointing:
            near = min(max(anchor[0], box[0]), box[2]), min(max(anchor[1], box[1]), box[3])
            self._line(near, anchor, _ink(self._canvas, text.ink))

    def _write(
        self, lines: Sequence[str], box: tuple[float, float, float, float], text: Text
    ) -> None:
        left, top, right, bottom = box
        size = self._size(lines, right - left, bottom - top)
        ink = _ink(self._canvas, text.ink)
        places = {"CENTER": ((left + right) / 2, "ma"), "RIGHT": (right, "ra")}
        x, anchor = places.get(text.justified, (left, "la"))
        for number, line in enumerate(lines):
            y = top + number * size * _LEADING
            if -size < y < self._canvas.height and abs(x) < _FARTHEST:
                self._draw.text((x, y), line, ink, sans(size), anchor)

    def _size(self, lines: Sequence[str], width: float, height: float) -> int:
        usual = min(self._canvas.size) // _LINES
        size = int(height / len(lines) / _LEADING) if height > 0 else usual
        size = min(max(size, _MIN_TEXT), _MAX_TEXT)
        widest = max(sans(size).getlength(line) for line in lines)
        if 0 < width < widest:
            size = max(_MIN_TEXT, int(size * width / widest))
        return size


# Masks of the image


def _shuttered(canvas: Image.Image, shutter: Shutter) -> Image.Image:
    """Return the image with its ink over everything that any part of the shutter hides."""
    hidden = Image.new("L", canvas.size)
    if shutter.rectangle is not None:
        seen = Image.new("L", canvas.size, 255)
        left, top, right, bottom = shutter.rectangle
        if right > left and bottom > top:
            ImageDraw.Draw(seen).rectangle((left, top, right - 1, bottom - 1), 0)
        hidden.paste(255, mask=seen)
    if shutter.circle is not None:
        hidden.paste(255, mask=_outside_circle(canvas.size, *shutter.circle))
    if len(shutter.polygon) > 2:  # noqa: PLR2004 - less than a triangle has no inside
        seen = Image.new("L", canvas.size, 255)
        points = [tuple(min(max(v, -_LARGEST), _LARGEST) for v in one) for one in shutter.polygon]
        ImageDraw.Draw(seen).polygon(points, fill=0)
        hidden.paste(255, mask=seen)
    if shutter.plane is not None:
        hidden.paste(255, mask=_mask(shutter.plane, canvas.size))
    covered = canvas.copy()
    covered.paste(_ink(canvas, shutter.ink), mask=hidden)
    return covered


def _outside_circle(size: tuple[int, int], x: float, y: float, radius: float) -> Image.Image:
    across = (np.arange(size[0]) - x) ** 2
    down = (np.arange(size[1]) - y) ** 2
    outside = across[None, :] + down[:, None] > radius * radius
    return Image.fromarray(outside.astype(np.uint8) * 255)


def _mask(plane: Plane, size: tuple[int, int]) -> Image.Image:
    """Return a plane as a mask of the image's size; what lies outside of the image is cut off."""
    count = plane.rows * plane.columns
    bits = np.unpackbits(np.frombuffer(plane.bits, np.uint8), bitorder="little")[:count]
    mask = Image.new("L", size)
    if bits.size == count:
        cells = Image.fromarray(bits.reshape(plane.rows, plane.columns) * np.uint8(255))
        mask.paste(cells, (plane.left, plane.top))
    return mask
