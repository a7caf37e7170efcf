from collections.abc import Iterator
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets

from pacs import contexts, frames, header, part10, transcode
from pacs.decoding import Decoders
from storage.base.errors import Malformed, NotSupported
from tests.fixtures import dicom_files

IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
BIG = contexts.EXPLICIT_VR_BIG_ENDIAN
DEFLATED = contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
NATIVE = [IMPLICIT, EXPLICIT, BIG, DEFLATED]
J2K = contexts.JPEG_2000_LOSSLESS


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    pool = Decoders(processes=2)
    yield pool
    pool.close()


def read(dataset: bytes, transfer_syntax: str) -> Dataset:
    head = part10.head("1.2.3", "1.2.3", transfer_syntax)
    return dcmread(BytesIO(head + dataset))


def rich() -> Dataset:
    """Return an object with every VR that changes between encodings, on two levels."""
    item = Dataset()
    item.SmallestImagePixelValue = 5
    item.ReferencedFrameNumber = [1, 2, 3]
    item.FrameIncrementPointer = 0x00181063
    item.RecommendedDisplayFrameRateInFloat = 2.5
    item.RealWorldValueSlope = 0.1
    dataset = dicom_files.ct_slice(
        RealWorldValueMappingSequence=[item, Dataset()],
        ReferencedStudySequence=[],
        PatientComments="",
        TextValue="dài" * 20_000,
        SelectorSVValue=-(1 << 60),
        SimpleFrameList=[1, 70_000],
    )
    block = dataset.private_block(0x0009, "ACME", create=True)
    block.add_new(0x01, "UN", b"\x01\x02\x03\x04")
    block.add_new(0x02, "FL", 1.5)
    block.add_new(0x03, "LO", "riêng")
    return dataset


@pytest.mark.parametrize("source", NATIVE)
@pytest.mark.parametrize("target", NATIVE)
def test_values_are_the_same_in_every_native_transfer_syntax(source, target):
    dataset = rich()
    content = dicom_files.encode(dataset, source)

    written = transcode.transcode(content, source, target)

    found = read(written, target)
    assert np.array_equal(found.pixel_array, read(content, source).pixel_array)
    private = [0x00091001, 0x00091002, 0x00091003] if IMPLICIT in (source, target) else []
    for tag in [*private, "PixelData"]:
        if tag in found:
            del found[tag]
        del dataset[tag]
    assert found == dataset


@pytest.mark.parametrize("other", [IMPLICIT, BIG, DEFLATED])
def test_there_and_back_again_is_the_same_dataset(other):
    content = transcode.transcode(dicom_files.encode(rich(), DEFLATED), DEFLATED, EXPLICIT)

    there = transcode.transcode(content, EXPLICIT, other)
    back = transcode.transcode(there, other, EXPLICIT)

    if other == IMPLICIT:  # in which the VR of private elements is lost: they come back as UN
        found, expected = read(back, EXPLICIT), read(content, EXPLICIT)
        for dataset in (found, expected):
            for tag in (0x00091002, 0x00091003):
                del dataset[tag]
        assert found == expected
    else:
        assert back == content


def test_an_unknown_private_value_is_not_swapped():
    """PS3.5 6.2.2: UN is little endian whatever the transfer syntax."""
    content = dicom_files.encode(rich(), EXPLICIT)

    written = transcode.transcode(content, EXPLICIT, BIG)

    assert read(written, BIG)[0x00091001].value == b"\x01\x02\x03\x04"


@pytest.mark.parametrize("bits", [1, 8, 16, 32, 64])
@pytest.mark.parametrize("source", [IMPLICIT, EXPLICIT, BIG])
def test_pixel_cells_are_right_in_big_endian_and_back(bits, source):
    dataset = dicom_files.ct_slice()
    pixels = np.arange(15, dtype=f"<u{max(bits, 8) // 8}").reshape(3, 5) % 2
    dicom_files.set_pixels(dataset, pixels)
    if bits == 1:
        dataset.BitsAllocated = dataset.BitsStored = 1
        dataset.HighBit = 0
        dataset.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    content = dicom_files.encode(dataset, EXPLICIT)
    content = transcode.transcode(content, EXPLICIT, source)

    written = transcode.transcode(content, source, BIG)
    back = transcode.transcode(written, BIG, IMPLICIT)

    assert np.array_equal(read(written, BIG).pixel_array, pixels)
    assert read(back, IMPLICIT).PixelData == dataset.PixelData


def test_values_too_long_for_their_vr_become_unknown():
    dataset = dicom_files.ct_slice()
    del dataset.StudyDescription
    long = b"\x08\x00\x30\x10" + (70_000).to_bytes(4, "little") + b"x" * 70_000
    content = long + dicom_files.encode(dataset, IMPLICIT)

    written = transcode.transcode(content, IMPLICIT, EXPLICIT)

    assert header.scan(written, EXPLICIT).elements[0x00081030][0] == b"UN"
    assert header.scan(written, EXPLICIT).text("StudyDescription") == "x" * 70_000


def test_group_lengths_are_left_out():
    content = b"\x08\x00\x00\x00UL\x04\x00\x99\x00\x00\x00"
    content += dicom_files.encode(dicom_files.ct_slice())

    written = transcode.transcode(content, EXPLICIT, IMPLICIT)

    assert 0x00080000 not in header.scan(written, IMPLICIT).elements


def _compressed(frames_: np.ndarray, **values: object) -> bytes:
    dataset = dicom_files.multi_frame()
    samples = 3 if frames_.ndim == 4 else 1
    dicom_files.set_pixels(dataset, frames_, samples)
    dataset.NumberOfFrames = len(frames_)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    encoded = [
        imagecodecs.jpeg2k_encode(one, level=0, codecformat="j2k", reversible=True, mct=samples > 1)
        for one in frames_
    ]
    return dicom_files.encode(dicom_files.encapsulated(dataset, encoded), J2K)


@pytest.mark.parametrize("target", NATIVE)
def test_every_frame_is_decoded(decoders, target):
    pixels = np.arange(5 * 9 * 7, dtype="<u2").reshape(5, 9, 7)

    written = transcode.transcode(_compressed(pixels), J2K, target, decoders)

    found = read(written, target)
    assert np.array_equal(found.pixel_array, pixels)
    assert found.NumberOfFrames == 5
    assert not header.scan(written, target).pixel_data.encapsulated


def test_the_image_pixel_module_tells_what_was_decoded(decoders):
    pixels = np.arange(180, dtype="u1").reshape(2, 5, 6, 3)
    content = _compressed(pixels, PhotometricInterpretation="YBR_RCT", PlanarConfiguration=1)

    found = read(transcode.transcode(content, J2K, EXPLICIT, decoders), EXPLICIT)

    assert found.PhotometricInterpretation == "RGB"
    assert found.PlanarConfiguration == 0
    assert "LossyImageCompression" not in found
    assert found.PixelData == pixels.tobytes()


def test_tables_of_fragments_go_with_the_fragments(decoders):
    pixels = np.zeros((1, 4, 4), "<u2")
    content = _compressed(pixels)
    table = b"\xe0\x7f\x01\x00OV\x00\x00\x08\x00\x00\x00" + bytes(8)
    at = content.index(b"\xe0\x7f\x10\x00")

    written = transcode.transcode(content[:at] + table + content[at:], J2K, EXPLICIT, decoders)

    assert list(header.scan(written, EXPLICIT).elements)[-1] == 0x7FE00010


def test_what_was_lossy_says_so(decoders):
    dataset = dicom_files.multi_frame()
    grey = np.full((8, 8), 77, "u1")
    dicom_files.set_pixels(dataset, grey)
    dataset.NumberOfFrames = 1
    dicom_files.encapsulated(dataset, [imagecodecs.jpeg8_encode(grey, 95)])
    content = dicom_files.encode(dataset, contexts.JPEG_BASELINE)

    written = transcode.transcode(content, contexts.JPEG_BASELINE, EXPLICIT, decoders)

    assert read(written, EXPLICIT).LossyImageCompression == "01"


def test_frames_of_single_bits_follow_each_other_without_a_gap(decoders):
    bits = np.random.default_rng(3).integers(0, 2, (4, 3, 5), dtype="u1")
    dataset = dicom_files.multi_frame(BitsAllocated=1, BitsStored=1, HighBit=0, Rows=3, Columns=5)
    dataset.NumberOfFrames = 4
    packed = [np.packbits(one.ravel(), bitorder="little").tobytes() for one in bits]
    content = dicom_files.encode(
        dicom_files.encapsulated(dataset, packed), contexts.ENCAPSULATED_UNCOMPRESSED
    )

    written = transcode.transcode(content, contexts.ENCAPSULATED_UNCOMPRESSED, EXPLICIT, decoders)

    assert np.array_equal(read(written, EXPLICIT).pixel_array, bits)


def test_an_icon_that_is_encapsulated_is_left_out(decoders):
    icon = dicom_files.encapsulated(Dataset(), [b"icon"])
    del icon.PixelData
    content = _compressed(np.zeros((1, 4, 4), "<u2"))
    fragments = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
    fragments += b"\xfe\xff\x00\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    sequence = b"\x88\x00\x00\x02SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence += fragments + b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    at = content.index(b"\xe0\x7f\x10\x00")

    written = transcode.transcode(content[:at] + sequence + content[at:], J2K, EXPLICIT, decoders)

    assert 0x00880200 not in header.scan(written, EXPLICIT).elements
    elsewhere = sequence.replace(b"\x88\x00\x00\x02", b"\x89\x00\x00\x02", 1)
    with pytest.raises(NotSupported, match=r"\(7FE0,0010\) is encapsulated"):
        transcode.transcode(content[:at] + elsewhere + content[at:], J2K, EXPLICIT, decoders)


@pytest.mark.parametrize("target", contexts.LOSSLESS_TARGETS, ids=contexts.name_of)
@pytest.mark.parametrize("source", [EXPLICIT, IMPLICIT, BIG, DEFLATED, J2K], ids=contexts.name_of)
def test_objects_are_written_encapsulated_and_read_back_the_same(decoders, source, target):
    pixels = np.arange(3 * 9 * 7, dtype="<u2").reshape(3, 9, 7)
    if source == J2K:
        content = _compressed(pixels)
    else:
        dataset = rich()
        dicom_files.set_pixels(dataset, pixels)
        dataset.NumberOfFrames = 3
        content = transcode.transcode(dicom_files.encode(dataset), EXPLICIT, source)

    written = transcode.transcode(content, source, target, decoders)
    back = transcode.transcode(written, target, EXPLICIT, decoders)

    found = header.scan(written, target)
    assert source == target or found.pixel_data.encapsulated
    assert len(found.pixel_data.fragments) == 3
    assert found.text("SOPInstanceUID") == header.scan(back, EXPLICIT).text("SOPInstanceUID")
    assert "LossyImageCompression" not in read(back, EXPLICIT)
    assert np.array_equal(read(back, EXPLICIT).pixel_array, pixels)
    native = transcode.transcode(content, source, DEFLATED, decoders)
    assert read(back, EXPLICIT) == read(native, DEFLATED)


@pytest.mark.parametrize("target", [contexts.JPEG_LS_LOSSLESS, contexts.RLE_LOSSLESS])
def test_pydicom_finds_every_frame_by_the_offset_table(decoders, target):
    pixels = np.arange(4 * 33 * 5, dtype="<u2").reshape(4, 33, 5)
    dataset = dicom_files.multi_frame()
    dicom_files.set_pixels(dataset, pixels)
    dataset.NumberOfFrames = 4
    content = dicom_files.encode(dataset)

    written = transcode.transcode(content, EXPLICIT, target, decoders)

    found = read(written, target)
    assert parse_basic_offsets(found.PixelData)[0] == 0
    assert len(parse_basic_offsets(found.PixelData)) == 4
    assert np.array_equal(found.pixel_array, pixels)


def test_a_lossy_copy_is_another_instance_and_says_of_which(decoders):
    dataset = dicom_files.multi_frame()
    dicom_files.set_pixels(dataset, np.add.outer(np.arange(64), np.arange(64)).astype("u1"))
    del dataset.NumberOfFrames
    dataset.SourceImageSequence = [Dataset()]
    content = dicom_files.encode(dataset)

    written = transcode.transcode(content, EXPLICIT, contexts.JPEG_BASELINE, decoders)

    found = read(written, contexts.JPEG_BASELINE)
    uid = transcode.derived_uid(dataset.SOPInstanceUID, contexts.JPEG_BASELINE)
    assert found.SOPInstanceUID == uid != dataset.SOPInstanceUID
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    [source] = found.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert source.ReferencedSOPClassUID == dataset.SOPClassUID
    assert found.ImageType == ["DERIVED", *dataset.ImageType[1:]]
    assert found.LossyImageCompression == "01"
    assert found.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(found.LossyImageCompressionRatio) > 1
    near = np.abs(found.pixel_array.astype(int) - np.add.outer(np.arange(64), np.arange(64)))
    assert near.max() <= 4


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PixelData": None}, "no pixel data"),
        ({"PixelData": None, "FloatPixelData": bytes(4 * 256), "BitsAllocated": 32}, "float"),
    ],
)
def test_what_has_no_cells_is_not_encapsulated(decoders, values, reason):
    dataset = dicom_files.ct_slice()
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    content = dicom_files.encode(dataset)

    for target in contexts.LOSSLESS_TARGETS:
        with pytest.raises(NotSupported, match=reason):
            transcode.transcode(content, EXPLICIT, target, decoders)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (EXPLICIT, contexts.JPEG_XL_LOSSLESS),
        ("1.2.840.10008.1.2.4.102", EXPLICIT),
        ("1.2.840.113619.5.2", EXPLICIT),
        (EXPLICIT, contexts.JPEG_BASELINE),
    ],
)
def test_a_way_that_does_not_exist_is_named(source, target):
    content = dicom_files.encode(dicom_files.ct_slice())

    with pytest.raises(NotSupported) as raised:
        transcode.transcode(content, source, target)

    assert contexts.name_of(source) in str(raised.value)
    assert contexts.name_of(target) in str(raised.value)


def test_the_same_transfer_syntax_is_the_same_bytes():
    assert transcode.transcode(b"whatever it is", J2K, J2K) == b"whatever it is"


def test_pixels_that_are_not_encapsulated_as_they_should_be_are_malformed():
    content = dicom_files.encode(dicom_files.ct_slice())

    with pytest.raises(Malformed, match="not encapsulated"):
        transcode.transcode(content, J2K, EXPLICIT)


def test_an_object_without_pixels_needs_no_codec():
    dataset = dicom_files.ct_slice()
    del dataset.PixelData
    content = dicom_files.encode(dataset, J2K)

    assert read(transcode.transcode(content, J2K, IMPLICIT), IMPLICIT) == dataset


def test_frames_that_would_be_too_much_together_are_not_decoded():
    dataset = dicom_files.multi_frame(NumberOfFrames=30_000, Rows=60_000, Columns=60_000)
    content = dicom_files.encode(dicom_files.encapsulated(dataset, [b"x"]), J2K)

    with pytest.raises(NotSupported, match="larger than"):
        transcode.transcode(content, J2K, EXPLICIT)


@pytest.mark.parametrize("source", [*NATIVE[:3], J2K])
@pytest.mark.parametrize("bits", [8, 16])
def test_single_frames_are_given_little_endian(decoders, source, bits):
    pixels = np.arange(3 * 5 * 7, dtype=f"<u{bits // 8}").reshape(3, 5, 7)
    content = _compressed(pixels)
    if source != J2K:
        content = transcode.transcode(content, J2K, source, decoders)
    if source == BIG and bits == 8:  # other writers use OW, whose words are swapped
        at = content.index(b"\x7f\xe0\x00\x10OB")
        words = np.frombuffer(content[at + 12 :], "<u2").byteswap().tobytes()
        content = content[: at + 4] + b"OW" + content[at + 6 : at + 12] + words
    found = header.scan(content, source)

    def piece(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    index = frames.locate(found, piece)
    given = [transcode.native_frame(found, index, n, piece, decoders) for n in (1, 2, 3)]

    assert given == [frame.tobytes() for frame in pixels]
