"""Which pixels each encapsulated transfer syntax can hold, as it is written here (PS3.5 8.2)."""

from collections.abc import Mapping
from typing import Final

from pacs import contexts
from pacs.frames import ImagePixel

_BYTE: Final = 8
_COLOURS: Final = 3
_MAX_SEGMENTS: Final = 15
"""Of RLE: bytes of a pixel (PS3.5 G.5)."""
_MAX_JPEG_SIDE: Final = 65500
_PLAIN: Final = frozenset({contexts.ENCAPSULATED_UNCOMPRESSED, contexts.DEFLATED_IMAGE_FRAME})
OF_CELLS: Final = _PLAIN | {contexts.RLE_LOSSLESS}
"""They hold whole cells, bits that are not stored too; the others hold stored values."""
FLOAT_BITS: Final = frozenset({32, 64})
"""Bits Allocated that Float Pixel Data has, which is never encapsulated."""
_MOST_BITS: Final[Mapping[str, int]] = {
    contexts.JPEG_LOSSLESS: 16,
    contexts.JPEG_LOSSLESS_SV1: 16,
    contexts.JPEG_LS_LOSSLESS: 16,
    contexts.JPEG_2000_LOSSLESS: 16,
    contexts.JPEG_2000: 16,
    contexts.HTJ2K_LOSSLESS: 16,
    contexts.HTJ2K_LOSSLESS_RPCL: 16,
    contexts.HTJ2K: 16,
    contexts.RLE_LOSSLESS: 64,
}
"""Bits Allocated."""


def obstacle(target: str, image: ImagePixel) -> str:
    """Return why no frame of `image` can be written in the transfer syntax `target`, or ''.

    What it lets pass can still fail: a codec may find cells that it cannot hold.
    """
    if target in _PLAIN:
        return ""
    if image.bits_allocated == 1:
        return "it holds no single bits"
    if image.samples not in {1, _COLOURS}:
        return f"it is not written with {image.samples} samples per pixel"
    if target == contexts.JPEG_BASELINE:
        return _no_baseline(image)
    return _too_many_bits(target, image)


def _too_many_bits(target: str, image: ImagePixel) -> str:
    most = _MOST_BITS.get(target)
    if most is None:
        return "it is not written here"
    if image.bits_allocated > most:
        return f"it holds cells of {most} bits, not of {image.bits_allocated}"
    segments = image.samples * image.bits_allocated // _BYTE
    if target == contexts.RLE_LOSSLESS and segments > _MAX_SEGMENTS:
        return f"it holds {_MAX_SEGMENTS} bytes of a pixel, not {segments}"
    return ""


def _no_baseline(image: ImagePixel) -> str:
    if image.bits_allocated != _BYTE or image.pixel_representation == 1:
        return "it holds unsigned samples of 8 bits"
    if image.photometric_interpretation == "PALETTE COLOR":
        return "a lossy index into a palette means nothing"
    if max(image.rows, image.columns) > _MAX_JPEG_SIDE:
        return f"a side of more than {_MAX_JPEG_SIDE} pixels"
    return ""
