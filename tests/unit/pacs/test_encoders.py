import numpy as np
import pytest

from pacs import codecs, contexts, encoders, targets
from pacs.decoding import Request
from pacs.frames import ImagePixel
from storage.base.errors import NotSupported

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
CHANCE = np.random.default_rng(20260401)


def smooth(kind: str, bits: int, shape: tuple[int, ...] = (37, 53)) -> np.ndarray:
    """Return something like an image that uses all `bits`, signed if `kind` is."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 7.0) + np.cos(columns / 9.0) + CHANCE.normal(0, 0.05, rows.shape)
    low = -(1 << (bits - 1)) if np.dtype(kind).kind == "i" else 0
    unit = (waves - waves.min()) / np.ptp(waves)
    pixels = np.rint(unit * ((1 << bits) - 1) + low).astype(kind)
    return np.stack([pixels, pixels[::-1], pixels[:, ::-1]], 2) if len(shape) == 3 else pixels


def image(
    pixels: np.ndarray, bits_stored: int = 0, photometric: str = "", **values: object
) -> ImagePixel:
    bits = 8 * pixels.dtype.itemsize
    colour = pixels.ndim == 3
    facts = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples": 3 if colour else 1,
        "bits_allocated": bits,
        "bits_stored": bits_stored or bits,
        "pixel_representation": int(pixels.dtype.kind == "i"),
        "planar_configuration": 0,
        "photometric_interpretation": photometric or ("RGB" if colour else "MONOCHROME2"),
        "number_of_frames": 1,
    }
    return ImagePixel(**(facts | values))


def recode(pixels: np.ndarray, told: ImagePixel, target: str) -> tuple[bytes, str]:
    return codecs.recode(pixels.tobytes(), Request(EXPLICIT, told, target))


def precision(codestream: bytes) -> int:
    """Return the precision in the header of JPEG, JPEG-LS (SOF) or JPEG 2000 (SIZ)."""
    siz = codestream.find(b"\xff\x4f\xff\x51")
    if siz == 0:
        return (codestream[42] & 0x7F) + 1
    at = 2
    while codestream[at + 1] not in {0xC0, 0xC3, 0xF7}:
        at += 2 + int.from_bytes(codestream[at + 2 : at + 4])
    return codestream[at + 4]


KINDS = {
    "8 bits": (smooth("u1", 8), 8),
    "12 of 16 bits": (smooth("<u2", 12), 12),
    "16 bits": (smooth("<u2", 16), 16),
    "signed 12 of 16 bits": (smooth("<i2", 12), 12),
    "signed 16 bits": (smooth("<i2", 16), 16),
    "signed 8 bits": (smooth("i1", 8), 8),
    "colour": (smooth("u1", 8, (37, 53, 3)), 8),
    "colour of 16 bits": (smooth("<u2", 16, (37, 53, 3)), 16),
    "one pixel": (np.array([[77]], "u1"), 8),
    "a row": (smooth("<u2", 12, (1, 300)), 12),
    "noise": (CHANCE.integers(0, 65536, (64, 64), "<u2"), 16),
    "colours of a few pixels": (CHANCE.integers(0, 256, (3, 3, 3), "u1"), 8),
}


@pytest.mark.parametrize("target", contexts.LOSSLESS_TARGETS, ids=contexts.name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_lossless_targets_give_back_every_cell(kind, target):
    pixels, bits = KINDS[kind]
    told = image(pixels, bits)

    coded, photometric = recode(pixels, told, target)

    shown = image(pixels, bits, photometric)
    assert codecs.decode(coded, Request(target, shown))[0] == pixels.tobytes()


WITH_PRECISION = [
    contexts.HTJ2K_LOSSLESS,
    contexts.JPEG_2000_LOSSLESS,
    contexts.JPEG_LS_LOSSLESS,
    contexts.JPEG_LOSSLESS_SV1,
]


@pytest.mark.parametrize("target", WITH_PRECISION, ids=contexts.name_of)
def test_the_precision_is_that_of_bits_stored(target):
    pixels = smooth("<u2", 12)

    coded, _ = recode(pixels, image(pixels, 12), target)

    assert precision(coded) == 12


@pytest.mark.parametrize("target", WITH_PRECISION, ids=contexts.name_of)
def test_cells_that_use_more_bits_than_are_stored_keep_them(target):
    pixels = smooth("<u2", 12)
    pixels[3, 3] |= 0x8000  # an overlay of old

    coded, _ = recode(pixels, image(pixels, 12), target)

    assert precision(coded) == 16
    assert codecs.decode(coded, Request(target, image(pixels, 12)))[0] == pixels.tobytes()


@pytest.mark.parametrize("target", WITH_PRECISION, ids=contexts.name_of)
def test_a_sign_that_was_not_extended_is_extended(target):
    signed = smooth("<i2", 12)
    short = (signed & 0x0FFF).astype("<i2")

    coded, _ = recode(short, image(short, 12), target)

    assert codecs.decode(coded, Request(target, image(signed, 12)))[0] == signed.tobytes()


def test_rle_keeps_every_bit_of_a_cell():
    short = (smooth("<i2", 12) & 0x0FFF).astype("<i2")

    coded, _ = recode(short, image(short, 12), contexts.RLE_LOSSLESS)

    found, _ = codecs.decode(coded, Request(contexts.RLE_LOSSLESS, image(short, 12)))
    assert found == short.tobytes()


@pytest.mark.parametrize(
    ("target", "photometric", "told"),
    [
        (contexts.HTJ2K_LOSSLESS, "RGB", "YBR_RCT"),
        (contexts.JPEG_2000_LOSSLESS, "RGB", "YBR_RCT"),
        (contexts.JPEG_2000_LOSSLESS, "YBR_FULL", "YBR_FULL"),
        (contexts.HTJ2K_LOSSLESS, "YBR_FULL", "YBR_FULL"),
        (contexts.JPEG_LS_LOSSLESS, "RGB", "RGB"),
        (contexts.JPEG_LOSSLESS_SV1, "YBR_FULL", "YBR_FULL"),
        (contexts.RLE_LOSSLESS, "YBR_FULL", "YBR_FULL"),
        (contexts.JPEG_BASELINE, "RGB", "YBR_FULL_422"),
        (contexts.JPEG_BASELINE, "YBR_FULL", "YBR_FULL_422"),
    ],
)
def test_colours_are_called_what_they_are_in_the_codestream(target, photometric, told):
    pixels = KINDS["colour"][0]

    _, found = recode(pixels, image(pixels, photometric=photometric), target)

    assert found == told


def test_colours_by_plane_and_shared_colours_become_colours_by_pixel():
    pixels = KINDS["colour"][0]
    planes = pixels.transpose(2, 0, 1)
    pairs = smooth("u1", 8, (6, 2 * 4)).reshape(6, 8)  # Y1 Y2 Cb Cr for 4 pixels of each row
    halved = image(np.zeros((6, 4, 3), "u1"), photometric="YBR_FULL_422")

    by_plane, _ = codecs.recode(
        planes.tobytes(),
        Request(EXPLICIT, image(pixels, planar_configuration=1), contexts.JPEG_LS_LOSSLESS),
    )
    shared, told = codecs.recode(
        pairs.tobytes(), Request(EXPLICIT, halved, contexts.JPEG_LS_LOSSLESS)
    )

    found, _ = codecs.decode(by_plane, Request(contexts.JPEG_LS_LOSSLESS, image(pixels)))
    assert found == pixels.tobytes()
    assert told == "YBR_FULL"
    full, _ = codecs.decode(shared, Request(contexts.JPEG_LS_LOSSLESS, halved))
    assert full[:6] == bytes([pairs[0, 0], *pairs[0, 2:4], pairs[0, 1], *pairs[0, 2:4]])


@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_baseline_stays_near_the_original(colour):
    pixels = smooth("u1", 8, (64, 64, 3) if colour else (64, 64))

    coded, told = recode(pixels, image(pixels), contexts.JPEG_BASELINE)

    shown = image(pixels, photometric=told)
    found, _ = codecs.decode(coded, Request(contexts.JPEG_BASELINE, shown))
    error = np.abs(np.frombuffer(found, "u1").astype(int) - pixels.ravel())
    assert error.mean() < 3


@pytest.mark.parametrize(
    ("target", "values", "reason"),
    [
        (contexts.JPEG_BASELINE, {"bits_allocated": 16}, "8 bits"),
        (contexts.JPEG_BASELINE, {"pixel_representation": 1}, "unsigned"),
        (contexts.JPEG_BASELINE, {"photometric_interpretation": "PALETTE COLOR"}, "palette"),
        (contexts.JPEG_LS_LOSSLESS, {"bits_allocated": 1}, "single bits"),
        (contexts.HTJ2K_LOSSLESS, {"bits_allocated": 32}, "16 bits, not of 32"),
        (contexts.JPEG_2000_LOSSLESS, {"samples": 4}, "4 samples"),
        (contexts.RLE_LOSSLESS, {"samples": 3, "bits_allocated": 64}, "15 bytes"),
        (contexts.JPEG_XL_LOSSLESS, {}, "not written"),
    ],
)
def test_what_a_target_cannot_hold_is_named(target, values, reason):
    told = image(np.zeros((4, 4), "u1"), **values)

    with pytest.raises(NotSupported, match=reason):
        encoders.encode(np.zeros((4, 4), "u1"), target, told)


def test_single_bits_go_where_cells_are_not_looked_at():
    packed = np.array([0x55, 0x2A], "u1")
    told = image(np.zeros((3, 5), "u1"), bits_allocated=1, bits_stored=1)

    for target in (contexts.DEFLATED_IMAGE_FRAME, contexts.ENCAPSULATED_UNCOMPRESSED):
        coded, _ = codecs.recode(packed.tobytes(), Request(EXPLICIT, told, target))
        assert codecs.decode(coded, Request(target, told))[0] == packed.tobytes()


def test_every_target_has_an_encoder_and_knows_its_limits():
    told = image(np.zeros((4, 4), "u1"))

    for target in (*contexts.LOSSLESS_TARGETS, contexts.JPEG_BASELINE):
        assert targets.obstacle(target, told) == ""
        assert encoders.encode(np.zeros((4, 4), "u1"), target, told)[0]


def test_htj2k_is_in_rpcl_order_with_a_small_lowest_resolution():
    """PS3.5 A.4.4: progression order RPCL, a TLM marker, no side over 64 at the end."""
    pixels = smooth("<u2", 12, (300, 200))

    coded, _ = recode(pixels, image(pixels, 12), contexts.HTJ2K_LOSSLESS_RPCL)

    cod = coded.find(b"\xff\x52")
    assert coded[cod + 5] == 2
    assert 300 >> coded[cod + 9] <= 64
    assert b"\xff\x55" in coded[: coded.find(b"\xff\x90")]
