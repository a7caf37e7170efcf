from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian

from pacs import frames, header
from pacs.render import looks, pictures
from pacs.render.looks import Look, Table
from pacs.render.options import Options, Viewport, Window
from storage.base.errors import Malformed, NotSupported
from tests.fixtures.dicom_files import ct_slice, encode

SIDE = 32


def image(values: np.ndarray, **attributes: Any) -> Dataset:
    """Return a grey image of `values` with `attributes`."""
    dataset = ct_slice()
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.update(attributes)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def look(dataset: Dataset) -> Look:
    found = header.scan(encode(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian)
    return looks.look_of(found, frames.image_pixel(found))


def drawn(dataset: Dataset, options: Options | None = None) -> np.ndarray:
    photometric = dataset.PhotometricInterpretation
    made = pictures.picture(look(dataset), dataset.PixelData, photometric, options or Options())
    return np.asarray(made)


def table(first: int, entries: list[int], bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


RAMP = np.arange(SIDE * SIDE, dtype="<u2").reshape(SIDE, SIDE)
SIGNED = (RAMP.astype("<i2") - 512).astype("<i2")


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("values", [RAMP, SIGNED], ids=["unsigned", "signed"])
def test_a_window_is_what_pydicom_makes_of_it(values, function):
    dataset = image(
        values,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=300,
        WindowWidth=500,
        VOILUTFunction=function,
    )
    raw = apply_modality_lut(values, dataset)
    windowed = apply_voi_lut(raw, dataset)
    low, high = (-32768, 32767) if values is SIGNED else (0, 65535)
    low, high = low * 2 - 100, high * 2 - 100

    expected = (windowed - low) / (high - low) * 255

    assert np.abs(drawn(dataset) - expected).max() <= 1


def test_monochrome1_and_an_inverse_presentation_are_white_where_values_are_low():
    plain = drawn(image(RAMP, WindowCenter=500, WindowWidth=400))

    for attributes in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
    ):
        inverse = drawn(image(RAMP, WindowCenter=500, WindowWidth=400, **attributes))
        assert (inverse == 255 - plain).all()


def test_without_a_window_all_values_but_padding_span_the_greys():
    values = RAMP.copy()
    values[0, :] = 65535

    shown = drawn(image(values, PixelPaddingValue=65535))

    assert shown[1:].min() == 0
    assert shown[-1, -1] == 255


def test_an_image_of_one_value_is_drawn():
    assert drawn(image(np.full((4, 4), 7, "<u2"))).shape == (4, 4)


def test_bits_above_the_stored_ones_do_not_count():
    values = (RAMP & 0xFFF) | 0xF000
    dataset = image(values, BitsStored=12, HighBit=11, WindowCenter=512, WindowWidth=1024)
    clean = image(RAMP & 0xFFF, BitsStored=12, HighBit=11, WindowCenter=512, WindowWidth=1024)

    assert (drawn(dataset) == drawn(clean)).all()


def test_the_asked_window_goes_before_that_of_the_object():
    dataset = image(RAMP, WindowCenter=1, WindowWidth=2)

    asked = drawn(dataset, Options(Window(512, 1024)))

    assert (asked == drawn(image(RAMP, WindowCenter=512, WindowWidth=1024))).all()


def test_a_modality_lut_and_a_voi_lut_are_looked_up():
    values = np.array([[0, 1, 2, 9]], "<u2")
    dataset = image(
        values,
        ModalityLUTSequence=[table(1, [10, 11, 12], 16)],
        VOILUTSequence=[table(10, [0, 128, 255], 8)],
    )

    assert drawn(dataset).tolist() == [[0, 0, 128, 255]]


def test_eight_bits_and_one_bit():
    eight = image(np.array([[0, 255]], np.uint8), WindowCenter=128, WindowWidth=256)
    one = image(
        np.array([[0b10110000]], np.uint8), Rows=1, Columns=8, BitsAllocated=1, BitsStored=1
    )
    one.HighBit = 0
    one.PixelData = bytes([0b10110000, 0])

    assert drawn(eight).tolist() == [[0, 255]]
    assert drawn(one).tolist() == [[0, 0, 0, 0, 255, 255, 0, 255]]


def test_wide_cells_are_drawn():
    values = np.arange(16, dtype="<u4").reshape(4, 4) * 1_000_000

    assert drawn(image(values)).ravel()[[0, -1]].tolist() == [0, 255]


COLOURS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def colour(samples: np.ndarray, photometric: str, planar: int = 0) -> Dataset:
    dataset = image(np.zeros((4, 6), np.uint8))
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = photometric, planar
    dataset.PixelData = samples.tobytes()
    return dataset


def test_colours_by_pixel_and_by_plane():
    by_plane = np.ascontiguousarray(COLOURS.transpose(2, 0, 1))

    assert (drawn(colour(COLOURS, "RGB")) == COLOURS).all()
    assert (drawn(colour(by_plane, "RGB", planar=1)) == COLOURS).all()


def test_ybr_becomes_rgb():
    expected = np.asarray(Image.fromarray(COLOURS, "YCbCr").convert("RGB"))

    assert (drawn(colour(COLOURS, "YBR_FULL")) == expected).all()


def test_native_ybr_full_422_shares_its_colours():
    pairs = np.array([[10, 200, 90, 140]] * 12, np.uint8)
    whole = np.array([[[10, 90, 140], [200, 90, 140]] * 3] * 4, np.uint8)
    expected = np.asarray(Image.fromarray(whole, "YCbCr").convert("RGB"))

    assert (drawn(colour(pairs, "YBR_FULL_422")) == expected).all()


def palette(descriptor: list[int], **data: list[int]) -> Dataset:
    dataset = image(np.array([[0, 1, 2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", descriptor)
        for keyword, words in data.items():
            content = np.array(words, "<u2").tobytes()
            dataset.add_new(f"{keyword}{name}PaletteColorLookupTableData", "OW", content)
    return dataset


def test_a_palette_is_looked_up():
    dataset = palette([3, 1, 16], **{"": [0, 0x8000, 0xFFFF]})

    assert drawn(dataset)[0].tolist() == [[v] * 3 for v in (0, 0, 127, 255)]


@pytest.mark.parametrize("kind", ["<u1", "<u2", "<i2", "<u4"])
@pytest.mark.parametrize("count", [2, 5, 256, 1000])
def test_the_colours_of_a_state_stand_for_all_levels(kind, count):
    values = (np.arange(64).reshape(8, 8) - (32 if kind == "<i2" else 0)).astype(kind)
    window = Window(float(values.min()) + 31.5, 63.0, "LINEAR_EXACT")
    entries = np.random.default_rng(count).integers(0, 1 << 16, (3, count))
    entries[:, 0] = 65535
    red, green, blue = (Table(0, tuple(one.tolist()), 16) for one in entries)
    seen = replace(look(image(values)), window=window, tint=(red, green, blue))

    made = pictures.picture(seen, values.tobytes(), "MONOCHROME2", Options())

    places = np.rint((values.astype(float) - values.min()) / 63 * (count - 1)).astype(int)
    assert made.mode == "RGB"
    assert (np.asarray(made) == (entries[:, places] // 257).transpose(1, 2, 0)).all()


def test_a_segmented_palette_is_expanded():
    segments = [0, 1, 0, 1, 3, 0xFFFF]  # one value, then a ramp over three
    dataset = palette([4, 0, 16], Segmented=segments)

    assert drawn(dataset)[0].tolist() == [[v] * 3 for v in (0, 85, 170, 255)]


@pytest.mark.parametrize(
    "segments",
    [[0, 1, 0], [2, 1, 0, 0], [7, 1, 1, 1], [1, 3, 9], [0, 60000, 1], []],
    ids=["too few", "repeats itself", "unknown", "a ramp from nowhere", "cut off", "empty"],
)
def test_a_palette_that_tells_nothing_is_malformed(segments):
    with pytest.raises(Malformed):
        look(palette([4, 0, 16], Segmented=segments))


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        (Viewport(64, 64), (64, 32)),
        (Viewport(10, 100), (10, 5)),
        (Viewport(32, 16, (0, 0, 16, 16)), (16, 16)),
        (Viewport(1, 1), (1, 1)),
    ],
)
def test_the_picture_fits_the_viewport_and_keeps_its_proportions(viewport, size):
    dataset = image(RAMP[:16], WindowCenter=256, WindowWidth=512)

    assert drawn(dataset, Options(viewport=viewport)).shape[::-1] == size


def test_a_region_is_cropped_and_flipped():
    dataset = image(RAMP, WindowCenter=512, WindowWidth=1024)
    whole = drawn(dataset)
    both = Viewport(4, 4, (8, 4, 4, 4), flip_horizontal=True, flip_vertical=True)

    shown = drawn(dataset, Options(viewport=both))

    assert (shown == whole[4:8, 8:12][::-1, ::-1]).all()


def test_a_region_outside_is_malformed():
    with pytest.raises(Malformed, match="region"):
        drawn(image(RAMP), Options(viewport=Viewport(4, 4, (100, 0, 4, 4))))


def test_too_few_pixels_are_malformed():
    dataset = image(RAMP)
    dataset.PixelData = dataset.PixelData[:-2]

    with pytest.raises(Malformed, match="too few"):
        drawn(dataset)


def test_a_huge_image_is_not_drawn():
    dataset = image(RAMP, Rows=60000, Columns=60000)

    with pytest.raises(NotSupported, match="pixels"):
        drawn(dataset)


@pytest.mark.parametrize(
    ("media_type", "start"),
    [("image/jpeg", b"\xff\xd8\xff"), ("image/png", b"\x89PNG"), ("image/webp", b"RIFF")],
)
def test_the_file_is_what_it_is_called(media_type, start):
    made = pictures.picture(look(image(RAMP)), RAMP.tobytes(), "MONOCHROME2", Options())

    assert pictures.encode(made, media_type, 90).startswith(start)
