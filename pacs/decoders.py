"""Codestreams to native frames (PS3.5 8.2, Annex G and H): called where codecs may fail.

What a codestream says of its size is compared with the header before it is decoded.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import imagecodecs
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from pacs import contexts
from pacs.frames import ImagePixel
from storage.base.errors import Malformed, NotSupported

_COLOURS: Final = 3
_MARKER: Final = 0xFF
_LONG_MARKER: Final = 4
# ISO 10918-1 Table B.1: SOF0 to SOF15 without DHT, JPG and DAC; ISO 14495-1: SOF55
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SIZ_BYTES: Final = 43
_BYTE: Final = 8
_TAIL: Final = 16
_RLE_RATIO: Final = 64
"""A run of 128 equal bytes takes two (PS3.5 G.3.1)."""

Pixels = np.ndarray[Any, np.dtype[Any]]


def decode(frame: bytes, uid: str, image: ImagePixel) -> tuple[bytes, str]:
    """Return the native frame, little endian and colour by pixel, and its photometric.

    Raises
    ------
    Malformed
        The codestream is cut off or shows another image than the header tells of.
    NotSupported
        No codec reads it.
    """
    decoder = _DECODERS.get(uid)
    if decoder is None:
        raise NotSupported(f"no codec for {contexts.name_of(uid)}")
    if image.bits_allocated == 1:
        return _bits(frame, uid, image), image.photometric_interpretation
    pixels, photometric = decoder(frame, uid, image)
    return _native(pixels, image), photometric


def supported() -> frozenset[str]:
    """Return the encapsulated transfer syntaxes that have a decoder here."""
    return frozenset(_DECODERS) - contexts.NATIVE


def _native(pixels: Pixels, image: ImagePixel) -> bytes:
    """Return pixels in cells of Bits Allocated, or say that they are another image."""
    shape = (image.rows, image.columns) + ((image.samples,) if image.samples > 1 else ())
    if pixels.shape != shape:
        raise Malformed(f"the frame decodes to {pixels.shape}, the header says {shape}")
    kind = "i" if pixels.dtype.kind == "i" else "u"
    cell = np.dtype(f"<{kind}{image.bits_allocated // _BYTE}")
    if pixels.dtype.itemsize > cell.itemsize:
        raise Malformed(f"the frame has {pixels.dtype.itemsize} bytes in a cell of {cell.itemsize}")
    return pixels.astype(cell, copy=False).tobytes()


def _by_pydicom(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    """Decode as pydicom does; colour of lossy JPEG becomes RGB, other colour stays as it is."""
    options: dict[str, Any] = {
        "rows": image.rows,
        "columns": image.columns,
        "samples_per_pixel": image.samples,
        "bits_allocated": image.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": image.pixel_representation,
        "photometric_interpretation": image.photometric_interpretation,
        "planar_configuration": 0,  # of the decoders, which know better than the dataset
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,
    }
    pixels, found = get_decoder(UID(uid)).as_array(
        encapsulate([frame]), index=0, raw=uid not in contexts.LOSSY_JPEG, **options
    )
    return pixels, str(found["photometric_interpretation"])


def _jpeg(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    precision = _check_jpeg(frame, image)
    of_pydicom = {contexts.JPEG_BASELINE}
    if image.bits_stored == _BYTE:
        of_pydicom.add(contexts.JPEG_EXTENDED)
    if precision == _BYTE and uid in of_pydicom:
        return _by_pydicom(frame, uid, image)
    pixels = imagecodecs.jpeg8_decode(frame)
    return pixels, "RGB" if image.samples == _COLOURS else image.photometric_interpretation


def _jpeg_lossless(frame: bytes, _uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    precision = _check_jpeg(frame, image)
    pixels = imagecodecs.ljpeg_decode(frame)
    if image.pixel_representation == 1 and precision < image.bits_allocated:
        pixels = signed(pixels, precision)
    return pixels, image.photometric_interpretation


def signed(pixels: Pixels, precision: int) -> Pixels:
    """Extend the sign of two's complement cells of `precision` bits."""
    unused = _BYTE * pixels.dtype.itemsize - precision
    cells = pixels.view(f"i{pixels.dtype.itemsize}")
    extended: Pixels = np.right_shift(np.left_shift(cells, unused), unused)
    return extended


def _jpeg_ls(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    _check_jpeg(frame, image)
    return _by_pydicom(frame, uid, image)


def _jpeg_2000(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    _check_jpeg_2000(frame, image)
    return _by_pydicom(frame, uid, image)


def _rle(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    if image.frame_bytes > _RLE_RATIO * len(frame):
        raise Malformed(f"a frame of {len(frame)} bytes in RLE cannot hold {image.frame_bytes}")
    return _by_pydicom(frame, uid, image)


def _jpeg_xl(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    pixels = imagecodecs.jpegxl_decode(frame)
    became_rgb = image.samples == _COLOURS and uid != contexts.JPEG_XL_LOSSLESS
    return pixels, "RGB" if became_rgb else image.photometric_interpretation


def _bits(frame: bytes, uid: str, image: ImagePixel) -> bytes:
    """Return a frame of single bits; only two transfer syntaxes hold such frames."""
    if uid == contexts.DEFLATED_IMAGE_FRAME:
        return _whole(_inflated(frame, image), image)
    if uid in _UNCOMPRESSED:
        return _whole(frame, image)
    raise Malformed(f"(0028,0100) is 1, which {contexts.name_of(uid)} cannot hold")


def _inflated(frame: bytes, image: ImagePixel) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, image.frame_bytes + 2)
    except zlib.error as error:
        raise Malformed(f"the frame cannot be inflated: {error}") from error


def _whole(frame: bytes, image: ImagePixel) -> bytes:
    """Return a native frame without the byte that makes its length even."""
    length = image.frame_bytes
    if not length <= len(frame) <= length + 1:
        raise Malformed(f"the frame has {len(frame)} bytes, the header says {length}")
    return frame[:length]


def _deflated(frame: bytes, uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    return _as_stored(_inflated(frame, image), uid, image)


def _as_stored(frame: bytes, _uid: str, image: ImagePixel) -> tuple[Pixels, str]:
    """Take a frame that is native already."""
    shape: tuple[int, ...] = (image.rows, image.columns)
    pixels = np.frombuffer(_whole(frame, image), dtype=f"<u{image.bits_allocated // _BYTE}")
    if image.frame_bytes < image.decoded_bytes:
        return _each_its_own(pixels).reshape((*shape, image.samples)), "YBR_FULL"
    if image.samples == 1:
        return pixels.reshape(shape), image.photometric_interpretation
    if image.planar_configuration == 1:
        return (
            pixels.reshape((image.samples, *shape)).transpose(1, 2, 0),
            image.photometric_interpretation,
        )
    return pixels.reshape((*shape, image.samples)), image.photometric_interpretation


def _each_its_own(pixels: Pixels) -> Pixels:
    """Give each pixel the colour of its pair: Y1 Y2 Cb Cr (PS3.3 C.7.6.3.1.2)."""
    if pixels.size % 4:
        raise Malformed("YBR_FULL_422 with an odd number of pixels")
    pairs = pixels.reshape(-1, 4)
    both = np.empty((len(pairs), 2, _COLOURS), pixels.dtype)
    both[:, :, 0] = pairs[:, :2]
    both[:, :, 1:] = pairs[:, None, 2:]
    return both


def _check_jpeg(frame: bytes, image: ImagePixel) -> int:
    """Compare the frame header of JPEG or JPEG-LS with the dataset; return its precision."""
    at = 2
    while at + _LONG_MARKER <= len(frame) and frame[at] == _MARKER:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4])
        if marker == _MARKER:  # fill byte
            at += 1
            continue
        if marker in _FRAME_HEADERS:
            precision, rows, columns, samples = struct.unpack_from(
                ">BHHB", frame, at + _LONG_MARKER
            )
            _compare((rows, columns, samples), precision, image)
            if b"\xff\xd9" not in frame[-_TAIL:]:
                raise Malformed("the codestream is cut off: no end of image")
            return int(precision)
        at += 2 + length
    raise Malformed("no JPEG frame header in the codestream")


def _check_jpeg_2000(frame: bytes, image: ImagePixel) -> None:
    """Compare the SIZ segment (ISO 15444-1 A.5.1) with the dataset."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + _SIZ_BYTES > len(frame):
        raise Malformed("no JPEG 2000 codestream header")
    right, bottom, left, top = struct.unpack_from(">IIII", frame, at + 8)
    (samples,) = struct.unpack_from(">H", frame, at + 40)
    _compare((bottom - top, right - left, samples), (frame[at + 42] & 0x7F) + 1, image)


def _compare(found: tuple[int, int, int], precision: int, image: ImagePixel) -> None:
    told = (image.rows, image.columns, image.samples)
    if found != told:
        raise Malformed(
            f"the codestream has (rows, columns, samples) {found}, the header says {told}"
        )
    if precision > image.bits_allocated:
        raise Malformed(f"the codestream has {precision} bits, (0028,0100) {image.bits_allocated}")


_UNCOMPRESSED: Final = frozenset(
    {contexts.ENCAPSULATED_UNCOMPRESSED, contexts.EXPLICIT_VR_LITTLE_ENDIAN}
)
_DECODERS: Final[dict[str, Callable[[bytes, str, ImagePixel], tuple[Pixels, str]]]] = {
    **dict.fromkeys(contexts.LOSSY_JPEG, _jpeg),
    **dict.fromkeys((contexts.JPEG_LOSSLESS, contexts.JPEG_LOSSLESS_SV1), _jpeg_lossless),
    **dict.fromkeys((contexts.JPEG_LS_LOSSLESS, contexts.JPEG_LS_NEAR_LOSSLESS), _jpeg_ls),
    **dict.fromkeys(
        (
            contexts.JPEG_2000_LOSSLESS,
            contexts.JPEG_2000,
            contexts.HTJ2K_LOSSLESS,
            contexts.HTJ2K_LOSSLESS_RPCL,
            contexts.HTJ2K,
        ),
        _jpeg_2000,
    ),
    **dict.fromkeys(
        (contexts.JPEG_XL_LOSSLESS, contexts.JPEG_XL_RECOMPRESSION, contexts.JPEG_XL), _jpeg_xl
    ),
    contexts.RLE_LOSSLESS: _rle,
    contexts.DEFLATED_IMAGE_FRAME: _deflated,
    **dict.fromkeys(_UNCOMPRESSED, _as_stored),
}
