"""Colours that presentation states name, as a screen shows them."""

from typing import Final

from pacs.render.showing import Colour
from pacs.render.trees import Tree

_MAX_SHORT: Final = 65535
_PARTS: Final = 3


def grey(p_value: float) -> Colour:
    """Return a P-value (PS3.14) as a shade of grey."""
    level = round(min(max(p_value, 0), _MAX_SHORT) * 255 / _MAX_SHORT)
    return level, level, level


def cielab(item: Tree, keyword: str) -> Colour | None:
    """Return an encoded CIELab colour (PS3.3 C.10.7.1.1) as sRGB, None when there is none."""
    encoded = item.numbers(keyword)
    if len(encoded) < _PARTS:
        return None
    lightness = encoded[0] / _MAX_SHORT * 100
    a, b = (one / _MAX_SHORT * 255 - 128 for one in encoded[1:3])
    y = (lightness + 16) / 116
    # the white of D50 (ICC.1), and from there to the primaries of sRGB (IEC 61966-2-1)
    scaled = zip((0.9642, 1.0, 0.8249), (y + a / 500, y, y - b / 200), strict=True)
    x, y, z = (white * _inverse(value) for white, value in scaled)
    red, green, blue = (
        _companded(value)
        for value in (
            3.1338561 * x - 1.6168667 * y - 0.4906146 * z,
            -0.9787684 * x + 1.9161415 * y + 0.0334540 * z,
            0.0719453 * x - 0.2289914 * y + 1.4052427 * z,
        )
    )
    return red, green, blue


def _inverse(value: float) -> float:
    bent = value > 6 / 29
    return value**3 if bent else 3 * (6 / 29) ** 2 * (value - 4 / 29)


def _companded(value: float) -> int:
    linear = min(max(value, 0.0), 1.0)
    low = linear <= 0.0031308  # noqa: PLR2004 - IEC 61966-2-1
    level = 12.92 * linear if low else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(level * 255)
