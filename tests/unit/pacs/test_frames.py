import struct
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from pacs import contexts, frames, header, part10
from storage.base.errors import Malformed, NotFound
from tests.fixtures import dicom_files

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
JPEG = contexts.JPEG_BASELINE
SOI = b"\xff\xd8\xff\xe0"


class Source:
    """A dataset that counts how often it is read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads = 0

    def __call__(self, offset: int, length: int) -> bytes:
        self.reads += 1
        assert offset >= 0
        assert offset + length <= len(self.content)
        return self.content[offset : offset + length]


def all_frames(content: bytes, transfer_syntax: str) -> list[bytes]:
    source = Source(content)
    index = frames.locate(header.scan(content, transfer_syntax), source)
    return [frames.frame_bytes(index, n, source) for n in range(1, index.count + 1)]


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i2", "<u4", "<u8"])
@pytest.mark.parametrize("count", [1, 3])
def test_native_frames_are_runs_of_bytes(dtype, count):
    dataset = dicom_files.multi_frame()
    pixels = np.arange(count * 15, dtype=dtype).reshape(count, 3, 5)
    dicom_files.set_pixels(dataset, pixels)
    dataset.NumberOfFrames = count

    found = all_frames(dicom_files.encode(dataset), EXPLICIT)

    assert found == [frame.tobytes() for frame in pixels]


def test_colour_frames_hold_all_their_samples():
    dataset = dicom_files.multi_frame()
    pixels = np.arange(2 * 4 * 4 * 3, dtype="u1").reshape(2, 4, 4, 3)
    dicom_files.set_pixels(dataset, pixels, samples=3)
    dataset.NumberOfFrames = 2

    assert all_frames(dicom_files.encode(dataset), EXPLICIT) == [f.tobytes() for f in pixels]


def test_subsampled_colour_frames_are_shorter():
    dataset = dicom_files.multi_frame(PhotometricInterpretation="YBR_FULL_422", BitsAllocated=8)
    dataset.SamplesPerPixel = 3
    dataset.NumberOfFrames = 2
    dataset.PixelData = bytes(range(256))

    found = all_frames(dicom_files.encode(dataset), EXPLICIT)

    assert found == [bytes(range(128)), bytes(range(128, 256))]


@pytest.mark.parametrize(
    ("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")]
)
def test_float_frames_are_found(keyword, dtype):
    dataset = dicom_files.multi_frame()
    del dataset.PixelData, dataset.BitsAllocated, dataset.BitsStored
    pixels = np.linspace(0, 1, 2 * 64, dtype=dtype).reshape(2, 8, 8)
    setattr(dataset, keyword, pixels.tobytes())
    dataset.NumberOfFrames = 2

    assert all_frames(dicom_files.encode(dataset), EXPLICIT) == [f.tobytes() for f in pixels]


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (8, 8), (1, 3)])
def test_frames_of_single_bits_begin_with_a_byte(rows, columns):
    count = 5
    bits = np.random.default_rng(1).integers(0, 2, (count, rows, columns), dtype="u1")
    dataset = dicom_files.multi_frame(BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, count
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset["PixelData"].VR = "OB"

    found = all_frames(dicom_files.encode(dataset), EXPLICIT)

    assert found == [np.packbits(frame.ravel(), bitorder="little").tobytes() for frame in bits]


def test_a_million_tiny_frames_cost_nothing_to_index():
    dataset = dicom_files.multi_frame(Rows=1, Columns=1, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.NumberOfFrames = 8_000_000
    dataset.PixelData = b"\x02" + bytes(999_999)
    content = dicom_files.encode(dataset)
    source = Source(content)

    index = frames.locate(header.scan(content, EXPLICIT), source)

    assert index.count == 8_000_000
    assert frames.frame_bytes(index, 2, source) == b"\x01"


FRAMES = [SOI + b"first!", SOI + b"2.", SOI + b"the third"]


def _encapsulated(
    items: list[bytes], table: bytes = b"", count: int = 3, **values: object
) -> bytes:
    """Encode `items` as fragments behind the offset table `table`."""
    dataset = dicom_files.multi_frame(NumberOfFrames=count, **values)
    del dataset.PixelData
    pixels = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
    for item in (table, *items):
        padded = item + b"\0" * (len(item) % 2)
        pixels += b"\xfe\xff\x00\xe0" + struct.pack("<I", len(padded)) + padded
    return dicom_files.encode(dataset) + pixels + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


SPLIT = [FRAMES[0][:6], FRAMES[0][6:], FRAMES[1], FRAMES[2][:4], FRAMES[2][4:8], FRAMES[2][8:]]
JOINED = [FRAMES[0], FRAMES[1], FRAMES[2] + b"\0"]


def _basic_table(*groups: list[bytes]) -> bytes:
    offsets, at = [], 0
    for group in groups:
        offsets.append(at)
        at += sum(8 + len(item) + len(item) % 2 for item in group)
    return struct.pack(f"<{len(offsets)}I", *offsets)


GROUPS = (SPLIT[:2], SPLIT[2:3], SPLIT[3:])


@pytest.mark.parametrize(
    ("content", "expected", "reads"),
    [
        (_encapsulated(FRAMES), JOINED, 0),
        (_encapsulated(FRAMES, _basic_table(*([f] for f in FRAMES))), JOINED, 0),
        (_encapsulated(SPLIT, _basic_table(*GROUPS)), JOINED, 0),
        (_encapsulated(SPLIT), JOINED, 6),
        (_encapsulated(SPLIT, struct.pack("<III", 0, 5, 9)), JOINED, 6),
        (_encapsulated(SPLIT, struct.pack("<II", 0, 32)), JOINED, 6),
        (_encapsulated(SPLIT[:2], count=1), JOINED[:1], 0),
        (
            _encapsulated(
                FRAMES,
                ExtendedOffsetTable=struct.pack("<QQQ", 0, 18, 32),
                ExtendedOffsetTableLengths=struct.pack("<QQQ", 10, 6, 13),
            ),
            FRAMES,
            0,
        ),
        (
            _encapsulated(
                FRAMES,
                ExtendedOffsetTable=struct.pack("<QQQ", 0, 18, 1 << 60),
                ExtendedOffsetTableLengths=struct.pack("<QQQ", 10, 6, 13),
            ),
            JOINED,
            0,
        ),
    ],
    ids=[
        "one fragment each",
        "basic table",
        "basic table, several fragments",
        "no table, several fragments",
        "a table that points nowhere",
        "a table of another length",
        "one frame of several fragments",
        "extended table",
        "an extended table that points outside",
    ],
)
def test_fragments_are_joined_to_their_frames(content, expected, reads):
    source = Source(content)

    index = frames.locate(header.scan(content, JPEG), source)

    assert source.reads == reads
    assert [frames.frame_bytes(index, n, source) for n in (1, 2, 3)[: index.count]] == expected


@pytest.mark.parametrize(
    ("content", "transfer_syntax"),
    [
        (_encapsulated(FRAMES[:2]), JPEG),
        (_encapsulated([b"no start of a stream"] * 4), JPEG),
        (_encapsulated([*FRAMES, FRAMES[0]]), JPEG),
        (_encapsulated(SPLIT), contexts.RLE_LOSSLESS),
        (_encapsulated([]), JPEG),
        (_encapsulated([], count=1), JPEG),
    ],
)
def test_fragments_that_cannot_be_shared_out_are_malformed(content, transfer_syntax):
    with pytest.raises(Malformed, match=r"\(7FE0,0010\)"):
        frames.locate(header.scan(content, transfer_syntax), Source(content))


def test_video_is_one_stream_whatever_its_frames():
    content = _encapsulated([b"stream", b"of it"], count=900)

    assert all_frames(content, "1.2.840.10008.1.2.4.102.1") == [b"streamof it\0"]


@pytest.mark.parametrize("number", [0, -1, 4])
def test_an_unknown_frame_is_not_found(number):
    content = dicom_files.encode(dicom_files.multi_frame(3))
    index = frames.locate(header.scan(content, EXPLICIT), Source(content))

    with pytest.raises(NotFound, match="3 frames"):
        frames.frame_bytes(index, number, Source(content))


def test_an_object_without_pixels_has_no_frames():
    dataset = dicom_files.ct_slice()
    del dataset.PixelData
    content = dicom_files.encode(dataset)

    with pytest.raises(NotFound):
        frames.locate(header.scan(content, EXPLICIT), Source(content))


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [
        ("Rows", 17, "(7FE0,0010)"),
        ("Rows", 0, "(0028,0010)"),
        ("Columns", None, "(0028,0011)"),
        ("BitsAllocated", 12, "(0028,0100)"),
        ("SamplesPerPixel", 9, "(0028,0002)"),
        ("NumberOfFrames", 2_000_000_000, "(7FE0,0010)"),
        ("NumberOfFrames", -1, "(0028,0008)"),
        ("PixelRepresentation", 2, "(0028,0103)"),
    ],
)
def test_values_that_make_no_image_are_named(keyword, value, tag):
    dataset = dicom_files.ct_slice()
    setattr(dataset, keyword, value)
    if value is None:
        delattr(dataset, keyword)
    content = dicom_files.encode(dataset)

    with pytest.raises(Malformed) as raised:
        frames.locate(header.scan(content, EXPLICIT), Source(content))

    assert tag in str(raised.value)


def test_rows_of_another_vr_do_not_make_a_larger_image():
    content = dicom_files.encode(dicom_files.ct_slice())
    rows = b"\x28\x00\x10\x00US\x02\x00\x10\x00"
    forged = content.replace(rows, b"\x28\x00\x10\x00UL\x04\x00\x00\x00\x00\x10")

    with pytest.raises(Malformed, match=r"\(0028,0010\) is 268435456"):
        frames.locate(header.scan(forged, EXPLICIT), Source(forged))


@pytest.mark.filterwarnings("ignore")
def test_encapsulated_frames_of_the_shared_set_are_those_of_pydicom(shared_set):
    compared = 0
    for file in shared_set:
        content = file.path.read_bytes()
        dataset = dcmread(BytesIO(content), force=True)
        if "PixelData" not in dataset or "fragments" not in file.facts["quirk"]:
            continue
        head = part10.split(content)
        try:
            found = all_frames(content[head.length :], head.transfer_syntax_uid)
        except Malformed:
            assert file.name.endswith("too_short.dcm")
            continue
        count = int(dataset.get("NumberOfFrames") or 1)
        assert found == list(generate_frames(dataset.PixelData, number_of_frames=count)), file.name
        compared += 1

    assert compared > 100
