import struct
import zlib

import imagecodecs
import numpy as np
import pytest

from pacs import codecs, contexts, decoders
from pacs.decoding import Request
from pacs.frames import ImagePixel
from storage.base.errors import Malformed, NotSupported


def image(pixels: np.ndarray, photometric: str = "", **values: int) -> ImagePixel:
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = 8 * pixels.dtype.itemsize
    facts = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples": samples,
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": int(pixels.dtype.kind == "i"),
        "planar_configuration": 0,
        "number_of_frames": 1,
    }
    default = "RGB" if samples == 3 else "MONOCHROME2"
    return ImagePixel(photometric_interpretation=photometric or default, **(facts | values))


def decode(frame: bytes, uid: str, told: ImagePixel) -> tuple[bytes, str]:
    return codecs.decode(frame, Request(uid, told))


CHANCE = np.random.default_rng(20260301)
GREY_8 = CHANCE.integers(0, 256, (12, 17), dtype="u1")
GREY_12 = CHANCE.integers(0, 4096, (12, 17), dtype="<u2")
GREY_16 = CHANCE.integers(0, 65536, (12, 17), dtype="<u2")
SIGNED_16 = CHANCE.integers(-32768, 32768, (12, 17), dtype="<i2")
COLOUR = CHANCE.integers(0, 256, (12, 17, 3), dtype="u1")
SMOOTH = np.add.outer(np.arange(32), np.arange(40)).astype("u1")
SMOOTH_COLOUR = np.stack([SMOOTH, SMOOTH[::-1], SMOOTH // 2], axis=2)


def rle(pixels: np.ndarray) -> bytes:
    """Encode in RLE with literal runs only (PS3.5 Annex G)."""
    planes = pixels.reshape(*pixels.shape[:2], -1)
    segments = []
    for sample in range(planes.shape[2]):
        cells = np.ascontiguousarray(planes[:, :, sample])
        octets = cells.view("u1").reshape(-1, cells.dtype.itemsize)
        for byte in reversed(range(octets.shape[1])):
            run = octets[:, byte].tobytes()
            parts = [run[at : at + 128] for at in range(0, len(run), 128)]
            literal = b"".join(bytes([len(part) - 1]) + part for part in parts)
            segments.append(literal + b"\0" * (len(literal) % 2))
    offsets, at = [], 64
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    header = struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(offsets)))
    return header + b"".join(segments)


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def sv1(pixels: np.ndarray) -> bytes:
    return imagecodecs.ljpeg_encode(pixels)


def lossless(predictor: int):
    return lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor)


def jpeg_2000(pixels: np.ndarray) -> bytes:
    colour = pixels.ndim == 3
    return imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat="j2k", reversible=True, mct=colour
    )


def htj2k(pixels: np.ndarray) -> bytes:
    return imagecodecs.htj2k_encode(pixels, reversible=True)


def jpeg_xl(pixels: np.ndarray) -> bytes:
    return imagecodecs.jpegxl_encode(pixels, lossless=True)


@pytest.mark.parametrize(
    ("uid", "pixels", "encode"),
    [
        (contexts.JPEG_LOSSLESS_SV1, GREY_8, sv1),
        (contexts.JPEG_LOSSLESS_SV1, GREY_16, sv1),
        (contexts.JPEG_LOSSLESS_SV1, COLOUR, lossless(1)),
        (contexts.JPEG_LOSSLESS, GREY_16, lossless(4)),
        (contexts.JPEG_LOSSLESS, COLOUR, lossless(6)),
        (contexts.JPEG_LS_LOSSLESS, GREY_8, imagecodecs.jpegls_encode),
        (contexts.JPEG_LS_LOSSLESS, GREY_16, imagecodecs.jpegls_encode),
        (contexts.JPEG_LS_LOSSLESS, COLOUR, imagecodecs.jpegls_encode),
        (contexts.JPEG_2000_LOSSLESS, GREY_16, jpeg_2000),
        (contexts.JPEG_2000_LOSSLESS, SIGNED_16, jpeg_2000),
        (contexts.JPEG_2000_LOSSLESS, COLOUR, jpeg_2000),
        (contexts.HTJ2K_LOSSLESS, GREY_16, htj2k),
        (contexts.HTJ2K_LOSSLESS_RPCL, GREY_8, htj2k),
        (contexts.JPEG_XL_LOSSLESS, GREY_16, jpeg_xl),
        (contexts.JPEG_XL_LOSSLESS, COLOUR, jpeg_xl),
        (contexts.RLE_LOSSLESS, GREY_8, rle),
        (contexts.RLE_LOSSLESS, GREY_16, rle),
        (contexts.RLE_LOSSLESS, SIGNED_16, rle),
        (contexts.RLE_LOSSLESS, COLOUR, rle),
        (contexts.DEFLATED_IMAGE_FRAME, GREY_16, lambda pixels: deflate(pixels.tobytes())),
        (contexts.DEFLATED_IMAGE_FRAME, COLOUR, lambda pixels: deflate(pixels.tobytes())),
        (contexts.ENCAPSULATED_UNCOMPRESSED, SIGNED_16, lambda pixels: pixels.tobytes()),
    ],
)
def test_lossless_codecs_give_back_every_pixel(uid, pixels, encode):
    frame, photometric = decode(bytes(encode(pixels)), uid, image(pixels))

    assert frame == pixels.tobytes()
    assert photometric == ("RGB" if pixels.ndim == 3 else "MONOCHROME2")


def test_planar_frames_that_are_stored_as_they_are_become_colour_by_pixel():
    planar = COLOUR.transpose(2, 0, 1).tobytes()

    frame, _ = decode(
        planar, contexts.ENCAPSULATED_UNCOMPRESSED, image(COLOUR, planar_configuration=1)
    )

    assert frame == COLOUR.tobytes()


def test_signed_pixels_of_few_bits_keep_their_sign():
    signed = (GREY_12.astype("i4") - 2048).astype("<i2")
    as_12_bits = (signed.astype("i4") & 0xFFF).astype("<u2")
    frame = imagecodecs.ljpeg_encode(as_12_bits, bitspersample=12)

    found, _ = decode(frame, contexts.JPEG_LOSSLESS_SV1, image(signed, bits_stored=12))

    assert found == signed.tobytes()


@pytest.mark.parametrize("uid", [contexts.JPEG_BASELINE, contexts.JPEG_EXTENDED])
def test_lossy_colour_becomes_rgb(uid):
    frame = imagecodecs.jpeg8_encode(SMOOTH_COLOUR, 95)

    found, photometric = decode(frame, uid, image(SMOOTH_COLOUR, "YBR_FULL_422"))

    pixels = np.frombuffer(found, "u1").reshape(SMOOTH_COLOUR.shape).astype(int)
    assert photometric == "RGB"
    assert np.abs(pixels - SMOOTH_COLOUR).mean() < 3


@pytest.mark.parametrize(
    "uid",
    [contexts.JPEG_EXTENDED, contexts.JPEG_SPECTRAL_SELECTION, contexts.JPEG_FULL_PROGRESSION],
)
def test_lossy_frames_of_12_bits_are_decoded(uid):
    smooth = SMOOTH.astype("<u2") * 50
    frame = imagecodecs.jpeg8_encode(smooth, 95, bitspersample=12)

    found, photometric = decode(frame, uid, image(smooth, bits_stored=12))

    pixels = np.frombuffer(found, "<u2").reshape(smooth.shape).astype(int)
    assert photometric == "MONOCHROME2"
    assert np.abs(pixels - smooth).mean() < 40


def test_colour_that_lossless_codecs_store_as_it_is_stays_so():
    frame, photometric = decode(rle(COLOUR), contexts.RLE_LOSSLESS, image(COLOUR, "YBR_FULL"))

    assert frame == COLOUR.tobytes()
    assert photometric == "YBR_FULL"


def test_the_colour_transform_of_jpeg_2000_is_undone_and_told():
    frame, photometric = decode(
        jpeg_2000(COLOUR), contexts.JPEG_2000_LOSSLESS, image(COLOUR, "YBR_RCT")
    )

    assert frame == COLOUR.tobytes()
    assert photometric == "RGB"


def test_8_bit_codestreams_fill_the_cells_of_the_dataset():
    told = image(GREY_8.astype("<u2"), bits_stored=8)

    frame, _ = decode(imagecodecs.jpegls_encode(GREY_8), contexts.JPEG_LS_LOSSLESS, told)

    assert frame == GREY_8.astype("<u2").tobytes()


def test_frames_of_single_bits_are_taken_packed():
    told = image(GREY_8[:3, :5], bits_allocated=1, bits_stored=1)

    found, _ = decode(deflate(b"\x55\x2a"), contexts.DEFLATED_IMAGE_FRAME, told)

    assert found == b"\x55\x2a"
    with pytest.raises(Malformed, match="cannot hold"):
        decode(b"\x55\x2a", contexts.RLE_LOSSLESS, told)


ENCODED = [
    (contexts.JPEG_BASELINE, SMOOTH, imagecodecs.jpeg8_encode(SMOOTH, 90)),
    (contexts.JPEG_EXTENDED, GREY_12, imagecodecs.jpeg8_encode(GREY_12, 90, bitspersample=12)),
    (contexts.JPEG_LOSSLESS_SV1, GREY_16, sv1(GREY_16)),
    (contexts.JPEG_LS_LOSSLESS, GREY_16, imagecodecs.jpegls_encode(GREY_16)),
    (contexts.JPEG_2000_LOSSLESS, GREY_16, jpeg_2000(GREY_16)),
    (contexts.HTJ2K_LOSSLESS, GREY_16, htj2k(GREY_16)),
    (contexts.JPEG_XL_LOSSLESS, GREY_16, jpeg_xl(GREY_16)),
    (contexts.RLE_LOSSLESS, GREY_16, rle(GREY_16)),
    (contexts.DEFLATED_IMAGE_FRAME, GREY_16, deflate(GREY_16.tobytes())),
    (contexts.ENCAPSULATED_UNCOMPRESSED, GREY_16, GREY_16.tobytes()),
]
EACH = pytest.mark.parametrize(
    ("uid", "pixels", "frame"), ENCODED, ids=[contexts.name_of(uid) for uid, _, _ in ENCODED]
)


@EACH
@pytest.mark.parametrize(
    "values", [{"rows": 60000}, {"columns": 60000}, {"rows": 13, "columns": 18}, {"samples": 3}]
)
def test_a_header_that_tells_of_another_image_is_malformed(uid, pixels, frame, values):
    found = codecs.answer(frame, Request(uid, image(pixels, **values)))[0]

    assert found.malformed
    assert found.fault


@EACH
def test_truncated_frames_are_malformed(uid, pixels, frame):
    for length in (0, 1, 10, len(frame) // 2, len(frame) - 20):
        found, decoded = codecs.answer(frame[:length], Request(uid, image(pixels)))

        assert found.malformed, (length, len(frame))
        assert not decoded


@EACH
def test_mutated_frames_decode_or_are_malformed(uid, pixels, frame):
    chance = np.random.default_rng(20261126)
    for _ in range(30):
        broken = bytearray(frame)
        broken[chance.integers(len(frame))] = chance.integers(256)

        found, decoded = codecs.answer(bytes(broken), Request(uid, image(pixels)))

        assert found.malformed or len(decoded) == pixels.nbytes


def test_a_codec_that_panics_is_malformed():
    """A codec in Rust then raises what is no `Exception`."""
    segment = bytes([127, *bytes(128), 75, *bytes(76)])
    begins_too_soon = np.array((2, 64, 64 + len(segment) - 6, *[0] * 13), "<u4").tobytes()
    frame = begins_too_soon + segment + segment
    with pytest.raises(BaseException, match="out of bounds") as panic:
        decode(frame, "1.2.840.10008.1.2.5", image(GREY_16))
    assert not isinstance(panic.value, Exception)

    found, decoded = codecs.answer(frame, Request("1.2.840.10008.1.2.5", image(GREY_16)))

    assert found.malformed
    assert not decoded


def test_a_deflated_frame_is_not_inflated_beyond_its_image():
    bomb = deflate(bytes(64 << 20))

    found, _ = codecs.answer(bomb, Request(contexts.DEFLATED_IMAGE_FRAME, image(GREY_8)))

    assert found.malformed


def test_what_no_codec_reads_is_not_supported():
    with pytest.raises(NotSupported, match="MPEG2"):
        decode(b"", "1.2.840.10008.1.2.4.100", image(GREY_8))


def test_every_decodable_transfer_syntax_has_a_codec():
    assert decoders.supported() == contexts.DECODABLE
