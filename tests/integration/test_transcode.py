"""Transcoding with real decoder processes over objects that nobody here wrote."""

import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from pacs import contexts, frames, header, part10, transcode
from pacs.decoding import Decoders
from storage.base.errors import Malformed
from tests.fixtures.dicom_files import SHARED_SET, SharedFile

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's opinion of odd files

# One or more of each codec, of grey and colour, signed and not, one frame and many.
AS_PYDICOM = [
    "pydicom/SC_rgb_dcmtk_+eb+cr.dcm",
    "pydicom/SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "pydicom/SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "pydicom/SC_rgb_small_odd_jpeg.dcm",
    "pydicom/SC_jpeg_no_color_transform.dcm",
    "pydicom/SC_rgb_jpeg_lossy_gdcm.dcm",
    "pydicom/examples_ybr_color.dcm",
    "pylibjpeg-data/JPEGExtended_3s_1f_u_08_08.dcm",
    "cornerstone3D/TestPattern_JPEG-Baseline_YBR422.dcm",
    "pydicom/MR_small_jpeg_ls_lossless.dcm",
    "pydicom/JPEGLSNearLossless_16.dcm",
    "pydicom/SC_rgb_jls_lossy_line.dcm",
    "cornerstone3D/TestPattern_JPEG-LS-Lossless.dcm",
    "pydicom-data/emri_small_jpeg_ls_lossless.dcm",
    "pydicom/JPEG2000.dcm",
    "pydicom/J2K_pixelrep_mismatch.dcm",
    "pydicom/693_J2KI.dcm",
    "pydicom/GDCMJ2K_TextGBR.dcm",
    "pydicom/examples_jpeg2k.dcm",
    "pydicom-data/emri_small_jpeg_2k_lossless.dcm",
    "pydicom-data/HTJ2KLossless_08_RGB.dcm",
    "pydicom-data/HTJ2K_08_RGB.dcm",
    "pydicom/MR_small_RLE.dcm",
    "pydicom/SC_rgb_rle_2frame.dcm",
    "pydicom/SC_rgb_rle_16bit_2frame.dcm",
    "pydicom/SC_rgb_rle_32bit_2frame.dcm",
    "pydicom/rtdose_rle.dcm",
]

# The same picture in every lossless transfer syntax.
SIBLINGS = [
    "CTImage.dcm_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm",
    "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm",
    "CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm",
    "CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm",
    "CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
    "CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
    "CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm",
    "CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm",
]

# 12 bits and progressive: nobody decodes them here but we, so DCMTK is asked.
AS_DCMTK = [
    "pydicom/JPGExtended.dcm",
    "pylibjpeg-data/RG2_JPLY.dcm",
    "cornerstone3D/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
    "cornerstone3D/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm",
    "cornerstone3D/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm",
]


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    pool = Decoders(processes=2)
    yield pool
    pool.close()


def parts(path: Path) -> tuple[bytes, str]:
    content = path.read_bytes()
    head = part10.split(content)
    return content[head.length :], head.transfer_syntax_uid


def read(dataset: bytes, transfer_syntax: str) -> Dataset:
    return dcmread(BytesIO(part10.head("1.2.3", "1.2.3", transfer_syntax) + dataset))


def decoded(path: Path, decoders: Decoders) -> Dataset:
    dataset, source = parts(path)
    return read(transcode.transcode(dataset, source, EXPLICIT, decoders), EXPLICIT)


@pytest.mark.usefixtures("shared_set")
@pytest.mark.parametrize("name", AS_PYDICOM)
def test_pixels_are_decoded_as_pydicom_decodes_them(decoders, name):
    expected = dcmread(SHARED_SET / name)

    found = decoded(SHARED_SET / name, decoders)

    assert np.array_equal(found.pixel_array, expected.pixel_array)
    assert found.pixel_array.dtype == expected.pixel_array.dtype
    for keyword in ("PatientID", "SOPInstanceUID", "NumberOfFrames", "BitsStored", "Rows"):
        assert found.get(keyword) == expected.get(keyword)


@pytest.mark.usefixtures("shared_set")
@pytest.mark.parametrize("name", SIBLINGS)
def test_lossless_siblings_are_the_same_picture(decoders, name):
    original = dcmread(SHARED_SET / "cornerstone3D" / "CTImage.dcm")

    found = decoded(SHARED_SET / "cornerstone3D" / name, decoders)

    assert np.array_equal(found.pixel_array, original.pixel_array)


def test_two_decoders_of_jpeg_lossless_agree(decoders, shared_set):
    syntaxes = {contexts.JPEG_LOSSLESS, contexts.JPEG_LOSSLESS_SV1}
    files = [file for file in shared_set if file.transfer_syntax_uid in syntaxes]

    for file in files[::9]:
        dataset, source = parts(file.path)
        found = header.scan(dataset, source)

        def piece(offset: int, length: int, dataset: bytes = dataset) -> bytes:
            return dataset[offset : offset + length]

        index = frames.locate(found, piece)
        ours = transcode.native_frame(found, index, index.count, piece, decoders)
        theirs = imagecodecs.jpeg8_decode(frames.frame_bytes(index, index.count, piece))

        assert ours == theirs.tobytes(), file.name


@pytest.mark.interop
@pytest.mark.usefixtures("shared_set")
@pytest.mark.parametrize("name", AS_DCMTK)
def test_12_bits_are_decoded_as_dcmtk_decodes_them(decoders, tmp_path, name):
    program = shutil.which("dcmdjpeg")
    if program is None:
        pytest.skip("dcmdjpeg of DCMTK is not installed: 12-bit JPEG was compared with nothing")
    reference = tmp_path / "reference.dcm"
    subprocess.run([program, SHARED_SET / name, reference], check=True, capture_output=True)

    found = decoded(SHARED_SET / name, decoders)

    assert np.array_equal(found.pixel_array, dcmread(reference).pixel_array)


def _comparable(dataset: Dataset, other: Dataset) -> dict[int, object]:
    """Values by tag without what the encoding decides: group lengths, private VRs, pixel words."""
    return {
        int(element.tag): element.value
        for element in dataset
        if element.tag.element != 0
        and not element.is_private
        and element.VR not in {"OB", "OW", "OF", "OD", "UN", "SQ"}
        and other.get(element.tag) is not None
        and other[element.tag].VR == element.VR
    }


@pytest.mark.parametrize("target", contexts.NATIVE_TARGETS)
def test_native_objects_keep_their_values_and_pixels(shared_set, target):
    native = [file for file in shared_set if file.transfer_syntax_uid in contexts.NATIVE]
    compared = 0

    for file in native[::11]:
        try:
            dataset, source = parts(file.path)
            written = transcode.transcode(dataset, source, target)
        except Malformed:
            continue
        expected, found = read(dataset, source), read(written, target)
        assert _comparable(found, expected) == _comparable(expected, found), file.name
        tags = [{e.tag for e in one if e.tag.element} for one in (found, expected)]
        assert tags[0] == tags[1], file.name
        if "PixelData" in expected and file.facts["pixels"] == "decoded":
            assert np.array_equal(found.pixel_array, expected.pixel_array), file.name
        _check_round_trip(file, dataset, source, target)
        compared += 1

    assert compared > 30


def _check_round_trip(file: SharedFile, dataset: bytes, source: str, target: str) -> None:
    """Every byte of every value survives, private ones and binary ones too."""
    if contexts.IMPLICIT_VR_LITTLE_ENDIAN in (source, target):
        return  # VRs are lost on this way
    straight = dataset if source == EXPLICIT else transcode.transcode(dataset, source, EXPLICIT)
    there = transcode.transcode(straight, EXPLICIT, target)
    back = transcode.transcode(there, target, contexts.IMPLICIT_VR_LITTLE_ENDIAN)
    expected = transcode.transcode(straight, EXPLICIT, contexts.IMPLICIT_VR_LITTLE_ENDIAN)
    assert back == expected, file.name
