"""What codestreams of real encoders tell, and what broken ones are called."""

import imagecodecs
import numpy as np
import pytest

from pacs import codestreams, contexts
from pacs.codestreams import Told
from storage.base.errors import ImagingError, Malformed, NotSupported
from tests.fixtures.films import mp4

GREY = np.arange(40 * 24, dtype=np.uint8).reshape(24, 40)
DEEP = np.arange(40 * 24, dtype=np.uint16).reshape(24, 40)
LOSSLESS = imagecodecs.ljpeg_encode(DEEP, bitspersample=16)
SIXTH_PREDICTOR, FIRST_PREDICTOR = (
    b"\xff\xda\x00\x08\x01\x00\x00" + predictor for predictor in (b"\6", b"\1")
)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


def told(content: bytes, media_type: str) -> Told | None:
    return codestreams.read(
        media_type, len(content), lambda start, length: content[start : start + length]
    )


@pytest.mark.parametrize(
    ("content", "media_type", "syntax", "samples", "bits", "photometric"),
    [
        (
            imagecodecs.jpeg8_encode(GREY, level=80),
            "image/jpeg",
            contexts.JPEG_BASELINE,
            1,
            8,
            "MONOCHROME2",
        ),
        (
            imagecodecs.jpeg8_encode(COLOUR, level=80, subsampling="420"),
            "image/jpeg",
            contexts.JPEG_BASELINE,
            3,
            8,
            "YBR_FULL_422",
        ),
        (
            imagecodecs.jpeg8_encode(COLOUR, level=80, subsampling="444"),
            "image/jpeg",
            contexts.JPEG_BASELINE,
            3,
            8,
            "YBR_FULL",
        ),
        (
            imagecodecs.jpeg8_encode(COLOUR, level=80, outcolorspace="rgb"),
            "image/jpeg",
            contexts.JPEG_BASELINE,
            3,
            8,
            "RGB",
        ),
        (
            LOSSLESS,
            "image/jpeg",
            contexts.JPEG_LOSSLESS,
            1,
            16,
            "MONOCHROME2",
        ),
        (
            LOSSLESS.replace(SIXTH_PREDICTOR, FIRST_PREDICTOR),
            "image/jpeg",
            contexts.JPEG_LOSSLESS_SV1,
            1,
            16,
            "MONOCHROME2",
        ),
        (
            imagecodecs.jpegls_encode(GREY),
            "image/jls",
            contexts.JPEG_LS_LOSSLESS,
            1,
            8,
            "MONOCHROME2",
        ),
        (
            imagecodecs.jpegls_encode(COLOUR, level=3),
            "image/jls",
            contexts.JPEG_LS_NEAR_LOSSLESS,
            3,
            8,
            "RGB",
        ),
        (
            imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", reversible=True),
            "image/jp2",
            contexts.JPEG_2000_LOSSLESS,
            1,
            16,
            "MONOCHROME2",
        ),
        (
            imagecodecs.jpeg2k_encode(COLOUR, codecformat="jp2", level=20, reversible=False),
            "image/jp2",
            contexts.JPEG_2000,
            3,
            8,
            "YBR_ICT",
        ),
        (
            imagecodecs.htj2k_encode(GREY),
            "image/jphc",
            contexts.HTJ2K_LOSSLESS_RPCL,
            1,
            8,
            "MONOCHROME2",
        ),
    ],
    ids=range(11),
)
def test_pictures_tell_their_shape_and_process(
    content: bytes, media_type: str, syntax: str, samples: int, bits: int, photometric: str
) -> None:
    found = told(content, media_type)

    assert found is not None
    assert contexts.name_of(found.transfer_syntax_uid) == contexts.name_of(syntax)
    assert (found.rows, found.columns) == (24, 40)
    assert (found.samples, found.bits) == (samples, bits)
    assert found.photometric_interpretation == photometric
    assert content[found.start : found.start + 2] in {b"\xff\xd8", b"\xff\x4f"}


@pytest.mark.parametrize(
    ("facts", "syntax", "bits"),
    [
        ({}, "1.2.840.10008.1.2.4.102", 8),
        ({"level": 42}, "1.2.840.10008.1.2.4.104", 8),
        ({"codec": b"hvc1", "profile": 1, "level": 120}, "1.2.840.10008.1.2.4.107", 8),
        ({"codec": b"hev1", "profile": 2, "level": 153}, "1.2.840.10008.1.2.4.108", 10),
    ],
)
def test_films_tell_their_shape_and_profile(facts: dict, syntax: str, bits: int) -> None:
    found = told(mp4(**facts), "video/mp4")

    assert found == Told(syntax, 480, 640, 3, bits, "YBR_PARTIAL_420", 0, 50, 40.0)


def test_film_of_another_profile_is_not_supported() -> None:
    for facts in ({"level": 52}, {"profile": 244}, {"codec": b"vp09"}):
        with pytest.raises(NotSupported):
            told(mp4(**facts), "video/mp4")


def test_other_media_types_are_not_read() -> None:
    assert told(b"anything", "application/pdf") is None


@pytest.mark.parametrize(
    "media_type", ["image/jpeg", "image/jls", "image/jp2", "image/jphc", "video/mp4"]
)
def test_cut_or_mixed_up_content_is_our_error(media_type: str) -> None:
    whole = {
        "image/jpeg": imagecodecs.jpeg8_encode(COLOUR),
        "image/jls": imagecodecs.jpegls_encode(GREY),
        "image/jp2": imagecodecs.jpeg2k_encode(GREY, codecformat="jp2"),
        "image/jphc": imagecodecs.htj2k_encode(GREY),
        "video/mp4": mp4(),
    }
    for kind, content in whole.items():
        for end in (*range(60), *range(60, len(content), 7)):
            try:
                told(content[:end], media_type)
            except ImagingError:
                continue
            assert (
                kind == media_type
                or {kind, media_type} <= {"image/jp2", "image/jphc"}
                or ({kind, media_type} <= {"image/jpeg", "image/jls"})
            )
    with pytest.raises(Malformed):
        told(b"", media_type)
