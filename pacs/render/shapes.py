"""The points of each type of graphic (PS3.3 C.10.5.1.2), from those by which it is told."""

import math
from collections.abc import Sequence
from typing import Final

from pacs.render.showing import Point
from storage.base.errors import Malformed

MAX_POINTS: Final = 200_000
_ROUND: Final = 96
"""Points of a circle or ellipse."""
_CURVED: Final = 8
"""Points between two that are interpolated."""
_PAIR: Final = 2


def _point(points: Sequence[Point]) -> Sequence[Point]:
    return points[:1]


def _polyline(points: Sequence[Point]) -> Sequence[Point]:
    return points if len(points) > 1 else (*points, *points)


def _circle(points: Sequence[Point]) -> Sequence[Point]:
    """Return the circle with its centre and a point on it."""
    if len(points) < _PAIR:
        raise Malformed("(0070,0022): a circle of less than two points")
    (x, y), edge = points[:2]
    radius = math.dist((x, y), edge)
    return _around(x, y, (radius, 0.0), (0.0, radius))


def _ellipse(points: Sequence[Point]) -> Sequence[Point]:
    """Return the ellipse with the ends of its long, then of its short axis."""
    if len(points) < 2 * _PAIR:
        raise Malformed("(0070,0022): an ellipse of less than four points")
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points[:4]
    return _around(
        (ax + bx) / 2,
        (ay + by) / 2,
        ((bx - ax) / 2, (by - ay) / 2),
        ((dx - cx) / 2, (dy - cy) / 2),
    )


def _around(x: float, y: float, long: Point, short: Point) -> Sequence[Point]:
    turns = (2 * math.pi * step / _ROUND for step in range(_ROUND + 1))
    return [
        (
            x + long[0] * math.cos(turn) + short[0] * math.sin(turn),
            y + long[1] * math.cos(turn) + short[1] * math.sin(turn),
        )
        for turn in turns
    ]


def _interpolated(points: Sequence[Point]) -> Sequence[Point]:
    """Return a smooth curve through the points (which one, PS3.3 C.10.5.1.2 leaves open)."""
    if len(points) <= _PAIR or len(points) * _CURVED > MAX_POINTS:
        return _polyline(points)
    closed = points[0] == points[-1]
    before = points[-2] if closed else points[0]
    after = points[1] if closed else points[-1]
    known = [before, *points, after]
    curve = [points[0]]
    for at in range(1, len(known) - 2):
        a, b, c, d = known[at - 1 : at + 3]
        for step in range(1, _CURVED + 1):
            t = step / _CURVED
            curve.append((_between(a[0], b[0], c[0], d[0], t), _between(a[1], b[1], c[1], d[1], t)))
    return curve


def _between(a: float, b: float, c: float, d: float, t: float) -> float:
    """Return the Catmull-Rom spline between `b` and `c`."""
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )


SHAPES: Final = {
    "POINT": _point,
    "POLYLINE": _polyline,
    "INTERPOLATED": _interpolated,
    "CIRCLE": _circle,
    "ELLIPSE": _ellipse,
}
"""By Graphic Type (0070,0023)."""
