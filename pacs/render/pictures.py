"""Frames to pictures: modality → VOI → presentation, colour models, sizes, file formats.

    stored value ─ rescale or modality LUT ─ window or VOI LUT ─ inverse ─ 8 bits

Everything up to 16 bits goes through one table of all stored values, made once for a look.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from pacs.render import options
from pacs.render.looks import Bytes, Look, Table
from pacs.render.options import Options, Viewport, Window
from storage.base.errors import Malformed, NotSupported

FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
MAX_PIXELS: Final = 64 << 20
_COLOUR: Final = 3
_KEPT_TABLES: Final = 64
_LINEAR_8: Final = 255.0
_COLOUR_CELLS: Final[Mapping[int, np.dtype[np.unsignedinteger[Any]]]] = {
    8: np.dtype("u1"),
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
}

_Floats = npt.NDArray[np.floating[Any]]


def picture(look: Look, pixels: bytes, photometric: str, options: Options) -> Image.Image:
    """Return the picture of one native frame.

    Parameters
    ----------
    pixels
        Little endian, as the Image Pixel module of `look` lays them out.
    photometric
        Photometric Interpretation of `pixels`; decoding may have changed it.

    Raises
    ------
    Malformed
        There are fewer pixels than the object tells of.
    NotSupported
        The pixels are of a kind that is not drawn.
    """
    image = look.image
    if image.rows * image.columns > MAX_PIXELS:
        raise NotSupported(f"a picture of more than {MAX_PIXELS} pixels")
    if image.samples == _COLOUR:
        drawn = _colour(look, pixels, photometric)
    elif image.samples != 1:
        raise NotSupported(f"{image.samples} samples per pixel")
    elif look.palette is not None:
        drawn = _from_palette(look, _stored(look, pixels))
    elif look.tint is not None:
        drawn = Image.fromarray(_tinted(look, pixels))
    else:
        drawn = Image.fromarray(_grey(look, pixels, options.window))
    return shown(drawn, options.viewport)


def encode(drawn: Image.Image, media_type: str, quality: int) -> bytes:
    """Return the picture as a file of `media_type`, one of `FORMATS`."""
    target = io.BytesIO()
    kind = FORMATS[media_type]
    if kind == "PNG":
        drawn.save(target, kind, compress_level=3)
    else:
        drawn.save(target, kind, quality=quality)
    return target.getvalue()


# Grey


def _grey(look: Look, pixels: bytes, window: Window | None) -> Bytes:
    image = look.image
    if image.bits_allocated <= 16:  # noqa: PLR2004 - what a table is made for
        codes = _codes(look, pixels)
        chosen = window or look.window
        if chosen is None and look.voi is None:
            chosen = full_window(look, (pixels,))
        return np.take(_table(look, chosen), codes)
    return _presented(_wide_levels(look, pixels, window or look.window), look)


def _wide_levels(look: Look, pixels: bytes, window: Window | None) -> _Floats:
    """Return the levels of cells of 32 or 64 bits."""
    values = _wide(look, pixels) * look.slope + look.intercept
    chosen = window or _spanning(values[np.isfinite(values)])
    if look.floating and chosen.function == "LINEAR":
        # C.11.2.1.2.1 counts whole values, which there are none of here
        chosen = replace(chosen, function="LINEAR_EXACT")
    return _windowed(values, chosen)


def _codes(look: Look, pixels: bytes) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return the cells of a frame as they lie there, ``(rows, columns)``."""
    image = look.image
    count = image.rows * image.columns
    if image.bits_allocated == 1:
        cells = np.frombuffer(pixels, np.uint8)
        bits = np.unpackbits(cells, bitorder="little")[:count]
        return _shaped(bits, look)
    kind = np.uint8 if image.bits_allocated == 8 else np.dtype("<u2")  # noqa: PLR2004
    if len(pixels) < count * np.dtype(kind).itemsize:
        raise Malformed(f"a frame of {len(pixels)} bytes, too few for {count} pixels")
    return _shaped(np.frombuffer(pixels, kind, count), look)


def _shaped(cells: npt.NDArray[Any], look: Look) -> npt.NDArray[Any]:
    if cells.size < look.image.rows * look.image.columns:
        raise Malformed("a frame with fewer pixels than the object tells of")
    return cells.reshape(look.image.rows, look.image.columns)


def _stored(look: Look, pixels: bytes) -> npt.NDArray[np.int64]:
    """Return the stored values of a frame."""
    return np.take(_values(look), _codes(look, pixels))


@lru_cache(maxsize=_KEPT_TABLES)
def _values(look: Look) -> npt.NDArray[np.int64]:
    """Return the stored value of every cell (PS3.5 8.1.1): the bits below High Bit."""
    image = look.image
    bits = min(max(image.bits_stored, 1), image.bits_allocated)
    shift = min(max(look.high_bit + 1 - bits, 0), image.bits_allocated - 1)
    cells = np.arange(1 << image.bits_allocated, dtype=np.int64)
    values = (cells >> shift) & ((1 << bits) - 1)
    if image.pixel_representation == 1:
        values = values - ((values >> (bits - 1)) << bits)
    return values


@lru_cache(maxsize=_KEPT_TABLES)
def _table(look: Look, window: Window | None) -> Bytes:
    """Return the grey level of every cell: the whole pipeline, made once."""
    return _presented(_levels(look, window), look)


def _levels(look: Look, window: Window | None) -> _Floats:
    """Return the level of every cell, 0 to 1, behind the VOI LUT."""
    values = _modality(look, _values(look))
    if window is not None:
        return _windowed(values, window)
    if look.voi is not None:
        return _looked_up(values, look.voi) / ((1 << look.voi.bits) - 1)
    return _windowed(values, _spanning(values))


def _modality(look: Look, values: npt.NDArray[Any]) -> _Floats:
    if look.modality is not None:
        return _looked_up(values, look.modality)
    return values * look.slope + look.intercept


def _looked_up(values: npt.NDArray[Any], table: Table) -> _Floats:
    entries = np.asarray(table.entries, dtype=np.float64)
    places = np.clip(np.rint(values).astype(np.int64) - table.first, 0, len(entries) - 1)
    return np.asarray(np.take(entries, places))


def _windowed(values: _Floats, window: Window) -> _Floats:
    """Return levels of 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        exponents = np.clip(-4.0 * (values - center) / width, -700.0, 700.0)
        return np.asarray(1.0 / (1.0 + np.exp(exponents)))
    if window.function == "LINEAR_EXACT":
        return np.asarray(np.clip((values - center) / width + 0.5, 0.0, 1.0))
    if width <= 1:
        return np.asarray((values > center - 0.5).astype(np.float64))
    return np.asarray(np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0.0, 1.0))


def full_window(look: Look, frames: Iterable[bytes]) -> Window | None:
    """Return the window that shows all of frames that have none, padding not counted.

    None when they have one, or are in colour: then no window is chosen for them.
    """
    if look.image.samples > 1 or look.palette or look.window or look.voi:
        return None
    ends = [end for pixels in frames for end in _ends(look, pixels)]
    return _spanning(np.asarray(ends))


def _ends(look: Look, pixels: bytes) -> tuple[float, ...]:
    """Return the lowest and the highest value of a frame."""
    if look.image.bits_allocated > 16:  # noqa: PLR2004 - what a table is made for
        wide: _Floats = _wide(look, pixels) * look.slope + look.intercept
        values = wide[np.isfinite(wide)]
    else:
        stored = np.take(_values(look), np.unique(_codes(look, pixels)))
        values = _modality(look, stored[_counted(look, stored)])
    return (float(values.min()), float(values.max())) if values.size else ()


def _counted(look: Look, stored: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which values are of the image and no padding; all, if there are none else."""
    everything = np.ones(stored.shape, dtype=np.bool_)
    if look.padding is None:
        return everything
    low, high = look.padding
    inside = (stored < low) | (stored > high)
    return inside if inside.any() else everything


def _spanning(values: _Floats) -> Window:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def _presented(levels: _Floats, look: Look) -> Bytes:
    known = np.nan_to_num(levels)
    if look.presentation is not None:  # its entries stand for all levels (PS3.3 C.11.6.1)
        table = look.presentation
        places = known * (len(table.entries) - 1) + table.first
        known = _looked_up(places, table) / ((1 << table.bits) - 1)
    shown: Bytes = np.rint(np.clip(known, 0.0, 1.0) * _LINEAR_8).astype(np.uint8)
    return np.invert(shown) if look.inverse else shown


def _wide(look: Look, pixels: bytes) -> npt.NDArray[np.float64]:
    """Return cells of 32 or 64 bits."""
    image = look.image
    sign = "i" if image.pixel_representation == 1 else "u"
    kind = np.dtype(f"<{'f' if look.floating else sign}{image.bits_allocated // 8}")
    count = image.rows * image.columns
    if len(pixels) < count * kind.itemsize:
        raise Malformed(f"a frame of {len(pixels)} bytes, too few for {count} pixels")
    return _shaped(np.frombuffer(pixels, kind, count).astype(np.float64), look)


# Colour


def _tinted(look: Look, pixels: bytes) -> Bytes:
    """Return a frame in the colours of its levels."""
    if look.image.bits_allocated <= 16:  # noqa: PLR2004 - what a table is made for
        return np.take(_tints(look), _codes(look, pixels), axis=0)
    return _coloured(look, _wide_levels(look, pixels, look.window))


@lru_cache(maxsize=_KEPT_TABLES)
def _tints(look: Look) -> Bytes:
    """Return the colour of every cell."""
    return _coloured(look, _levels(look, look.window))


def _coloured(look: Look, levels: _Floats) -> Bytes:
    """Return the colours of levels: the entries of the tables stand for all of 0 to 1."""
    known = np.clip(np.nan_to_num(levels), 0.0, 1.0)
    shades = [_shades(table) for table in look.tint or ()]
    places = (np.rint(known * (len(one) - 1)).astype(np.int64) for one in shades)
    return np.stack([np.take(*both) for both in zip(shades, places, strict=True)], axis=-1)


def _from_palette(look: Look, values: npt.NDArray[np.int64]) -> Image.Image:
    if look.palette is None:
        raise NotSupported("PALETTE COLOR without a palette")
    planes = []
    for table in look.palette:
        levels = _shades(table)
        planes.append(np.take(levels, np.clip(values - table.first, 0, len(levels) - 1)))
    return Image.fromarray(np.dstack(planes))


def _shades(table: Table) -> Bytes:
    """Return the entries of a table of one colour in 8 bits."""
    entries = np.asarray(table.entries, dtype=np.uint32)
    most = max(1, (1 << table.bits) - 1, int(entries.max(initial=0)))
    if table.bits == 16 and most == 65535 and int(entries.max(initial=0)) <= 255:  # noqa: PLR2004
        most = 255  # entries of 8 bits in words of 16, against the section
    return (entries * 255 // most).astype(np.uint8)


def _colour(look: Look, pixels: bytes, photometric: str) -> Image.Image:
    image = look.image
    kind = _COLOUR_CELLS.get(image.bits_allocated)
    if kind is None:
        raise NotSupported(f"colours of {image.bits_allocated} bits")
    shape = (image.rows, image.columns, _COLOUR)
    if photometric == "YBR_FULL_422" and len(pixels) < image.decoded_bytes:
        return Image.fromarray(_halved(pixels, look), "YCbCr").convert("RGB")
    count = image.rows * image.columns * _COLOUR
    if len(pixels) < count * kind.itemsize:
        raise Malformed(f"a frame of {len(pixels)} bytes, too few for {count} samples")
    samples = np.frombuffer(pixels, kind, count)
    if image.planar_configuration == 1:
        samples = samples.reshape(_COLOUR, image.rows, image.columns).transpose(1, 2, 0)
    wide = np.ascontiguousarray(samples.reshape(shape))
    colours = np.right_shift(wide, max(0, image.bits_stored - 8)).astype(np.uint8)
    if photometric in {"YBR_FULL", "YBR_FULL_422"}:
        return Image.fromarray(colours, "YCbCr").convert("RGB")
    if photometric in {"RGB", "YBR_RCT", "YBR_ICT"}:
        return Image.fromarray(colours)
    raise NotSupported(f"Photometric Interpretation {photometric}")


def _halved(pixels: bytes, look: Look) -> Bytes:
    """Return the colours of native YBR_FULL_422: Y1 Y2 Cb Cr for each two pixels of a row."""
    image = look.image
    count = image.rows * image.columns
    if image.bits_allocated != 8 or count % 2 or len(pixels) < 2 * count:  # noqa: PLR2004
        raise Malformed("native YBR_FULL_422 with a frame of an impossible length")
    pairs = np.frombuffer(pixels, np.uint8, 2 * count).reshape(-1, 4)
    both = np.empty((count // 2, 2, _COLOUR), np.uint8)
    both[:, :, 0] = pairs[:, :2]
    both[:, :, 1:] = pairs[:, None, 2:]
    return both.reshape(image.rows, image.columns, _COLOUR)


# Size


def shown(drawn: Image.Image, viewport: Viewport | None) -> Image.Image:
    """Crop, flip and scale so that the picture fits the viewport, its proportions kept."""
    if viewport is None:
        return drawn
    if viewport.region is not None:
        options.require_inside(viewport, *drawn.size)
        left, top, width, height = viewport.region
        whole = left, top, width or drawn.width - left, height or drawn.height - top
        x, y, right, bottom = options.box(whole)
        drawn = drawn.crop((x, y, min(right, drawn.width), min(bottom, drawn.height)))
    if viewport.flip_horizontal:
        drawn = drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if viewport.flip_vertical:
        drawn = drawn.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    scale = min(viewport.width / drawn.width, viewport.height / drawn.height)
    size = max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))
    if size == drawn.size:
        return drawn
    return drawn.resize(size, Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX)
