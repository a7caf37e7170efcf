"""Native frames to codestreams (PS3.5 8.2, Annex G and H): called where codecs may fail.

    cell      what lies in memory: Bits Allocated
    precision how many bits of it the codestream has: Bits Stored, unless some cell has
              more (overlays and padding values of old), then Bits Allocated

JPEG-LS and JPEG lossless know no sign, so signed cells go through them as they lie, with
all their bits: nobody has to know where a sign would have to be extended.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import imagecodecs
import jpeg_ls
import numpy as np
import rle.utils

from pacs import contexts, targets
from pacs.frames import ImagePixel
from storage.base.errors import NotSupported

DEFAULT_QUALITY: Final = 90
"""Of lossy JPEG, 1 to 100."""

_BYTE: Final = 8
_COLOURS: Final = 3
_LOWEST_SIDE: Final = 64
"""Of the lowest resolution of HTJ2K (PS3.5 A.4.4: the RPCL transfer syntax)."""
_SIZ: Final = b"\xff\x4f\xff\x51"
_COMPONENTS: Final = 42
"""Where the components' precision stands after the start of SIZ (ISO 15444-1 A.5.1)."""

Pixels = np.ndarray[Any, np.dtype[Any]]
"""(rows, columns) or (rows, columns, samples) of Bits Allocated, signed as the header says"""
_Encoder = Callable[[Pixels, ImagePixel], bytes]


def encode(
    pixels: Pixels, target: str, image: ImagePixel, quality: int = DEFAULT_QUALITY
) -> tuple[bytes, str]:
    """Return the codestream of a frame and its Photometric Interpretation.

    Parameters
    ----------
    image
        Of the pixels as they are given: colour by pixel, in the model that it names.
    quality
        Of lossy JPEG, 1 to 100.

    Raises
    ------
    NotSupported
        `target` cannot hold them.
    """
    if reason := targets.obstacle(target, image):
        raise NotSupported(f"{contexts.name_of(target)}: {reason}")
    photometric = image.photometric_interpretation
    if target == contexts.JPEG_BASELINE:
        return _baseline(pixels, image, quality)
    if target in _TRANSFORMING and photometric == "RGB":
        photometric = "YBR_RCT"
    return _ENCODERS[target](pixels, image), photometric


def _precision(pixels: Pixels, image: ImagePixel) -> int:
    """Return how many bits hold every cell: those stored, or all."""
    bits = image.bits_stored
    if bits >= image.bits_allocated or pixels.size == 0:
        return image.bits_allocated
    low, high = int(pixels.min()), int(pixels.max())
    if image.pixel_representation == 1:
        fits = -(1 << (bits - 1)) <= low and high < 1 << (bits - 1)
    else:
        fits = high < 1 << bits
    return bits if fits else image.bits_allocated


def _unsigned(pixels: Pixels, image: ImagePixel) -> tuple[Pixels, int]:
    """Return cells without a sign and their precision, for codecs that know none."""
    if image.pixel_representation == 1:
        return pixels.view(f"u{pixels.dtype.itemsize}"), image.bits_allocated
    return pixels, _precision(pixels, image)


def _rle(pixels: Pixels, image: ImagePixel) -> bytes:
    return bytes(
        rle.utils.encode_pixel_data(
            pixels.tobytes(),
            byteorder="<",
            rows=image.rows,
            columns=image.columns,
            samples_per_pixel=image.samples,
            bits_allocated=image.bits_allocated,
        )
    )


def _jpeg_lossless(pixels: Pixels, image: ImagePixel) -> bytes:
    """Encode process 14 with selection value 1 (PS3.5 A.4.1, 8.2.1)."""
    cells, precision = _unsigned(pixels, image)
    space = "RGB" if image.samples == _COLOURS else None
    coded = imagecodecs.jpeg8_encode(
        cells,
        lossless=True,
        predictor=1,
        bitspersample=max(precision, 2),
        colorspace=space,
        outcolorspace=space,
    )
    return bytes(coded)


def _jpeg_ls(pixels: Pixels, image: ImagePixel) -> bytes:
    cells, precision = _unsigned(pixels, image)
    if precision == image.bits_allocated:
        return bytes(imagecodecs.jpegls_encode(cells))
    planes = {"planar_configuration": 0} if image.samples == _COLOURS else {}
    return bytes(
        jpeg_ls.encode_pixel_data(
            cells.tobytes(),
            lossy_error=0,
            rows=image.rows,
            columns=image.columns,
            samples_per_pixel=image.samples,
            bits_stored=max(precision, 2),
            **planes,
        )
    )


def _jpeg_2000(pixels: Pixels, image: ImagePixel) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels,
            level=0,
            codecformat="J2K",
            reversible=True,
            mct=image.photometric_interpretation == "RGB",
            bitspersample=_precision(pixels, image),
            resolutions=_halvings(image) + 1,
            numthreads=1,
        )
    )


def _htj2k(pixels: Pixels, image: ImagePixel) -> bytes:
    """Encode reversibly, in RPCL order, with markers of the lengths of tile parts.

    The codec takes whole cells as precision. Where fewer bits are stored, their level is
    shifted here as ISO 15444-1 G.1.2 has it, and SIZ is told of the precision.
    """
    precision = _precision(pixels, image)
    narrow = precision < _BYTE * pixels.dtype.itemsize
    signed = image.pixel_representation == 1
    cells = pixels
    if narrow and not signed:
        level = 1 << (precision - 1)
        cells = (pixels.astype(np.int64) - level).astype(f"i{pixels.dtype.itemsize}")
    coded = bytearray(
        imagecodecs.htj2k_encode(
            cells,
            reversible=True,
            rgb=image.photometric_interpretation == "RGB",
            resolutions=_halvings(image),
            tlm=True,
        )
    )
    if narrow:
        start = coded.find(_SIZ) + _COMPONENTS
        for component in range(image.samples):
            coded[start + 3 * component] = precision - 1 | (0x80 if signed else 0)
    return bytes(coded)


def _halvings(image: ImagePixel) -> int:
    """Return how often a frame is halved until it fits the lowest resolution."""
    side, times = max(image.rows, image.columns), 0
    while side > _LOWEST_SIDE:
        side, times = (side + 1) // 2, times + 1
    return times


def _baseline(pixels: Pixels, image: ImagePixel, quality: int) -> tuple[bytes, str]:
    if image.samples == 1:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=quality)), (
            image.photometric_interpretation
        )
    space = "RGB" if image.photometric_interpretation == "RGB" else "YCBCR"
    coded = imagecodecs.jpeg8_encode(
        pixels, level=quality, colorspace=space, outcolorspace="YCBCR", subsampling="422"
    )
    return bytes(coded), "YBR_FULL_422"


def _deflated(pixels: Pixels, _image: ImagePixel) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(pixels.tobytes()) + deflater.flush()


def _as_it_is(pixels: Pixels, _image: ImagePixel) -> bytes:
    return pixels.tobytes()


_TRANSFORMING: Final = frozenset(
    {
        contexts.JPEG_2000_LOSSLESS,
        contexts.JPEG_2000,
        contexts.HTJ2K_LOSSLESS,
        contexts.HTJ2K_LOSSLESS_RPCL,
        contexts.HTJ2K,
    }
)
"""They write RGB with the reversible colour transform (PS3.5 8.2.4 and 8.2.14)."""
_ENCODERS: Final[Mapping[str, _Encoder]] = {
    contexts.RLE_LOSSLESS: _rle,
    contexts.JPEG_LOSSLESS: _jpeg_lossless,
    contexts.JPEG_LOSSLESS_SV1: _jpeg_lossless,
    contexts.JPEG_LS_LOSSLESS: _jpeg_ls,
    contexts.JPEG_2000_LOSSLESS: _jpeg_2000,
    contexts.JPEG_2000: _jpeg_2000,
    contexts.HTJ2K_LOSSLESS: _htj2k,
    contexts.HTJ2K_LOSSLESS_RPCL: _htj2k,
    contexts.HTJ2K: _htj2k,
    contexts.DEFLATED_IMAGE_FRAME: _deflated,
    contexts.ENCAPSULATED_UNCOMPRESSED: _as_it_is,
}
