"""The type in which texts are drawn: DejaVu Sans, cut down to Latin, Greek and Cyrillic letters.

With all letters of Vietnamese. Licence: `LICENSE-DejaVu.txt` beside it.
"""

import io
from functools import lru_cache
from importlib.resources import files

from PIL import ImageFont


@lru_cache(maxsize=32)
def sans(size: int) -> ImageFont.FreeTypeFont:
    """Return the font at `size` pixels."""
    content = io.BytesIO((files(__name__) / "DejaVuSans.ttf").read_bytes())
    return ImageFont.truetype(content, size, layout_engine=ImageFont.Layout.BASIC)
