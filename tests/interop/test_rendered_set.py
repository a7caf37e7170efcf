"""Every kind of image of the shared set drawn, and compared with pydicom's own pipeline."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from pacs import contexts, decoding, frames, header, part10, transcode
from pacs.decoding import Decoders
from pacs.render import looks, pictures
from pacs.render.looks import Look
from pacs.render.options import Options
from storage.base.errors import ImagingError
from tests.fixtures.dicom_files import SharedFile

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MAX_BYTES = 3_000_000
_REWRITTEN = (contexts.EXPLICIT_VR_BIG_ENDIAN, contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    pool = decoding.Decoders()
    yield pool
    pool.close()


def drawn(path: Path, decoders: Decoders) -> tuple[np.ndarray, Look]:
    """Return the picture of the first frame and how it was seen."""
    content = path.read_bytes()
    head = part10.split(content)
    dataset, syntax = content[head.length :], head.transfer_syntax_uid
    if syntax in _REWRITTEN:
        native = contexts.EXPLICIT_VR_LITTLE_ENDIAN
        dataset, syntax = transcode.transcode(dataset, syntax, native), native

    def read(offset: int, length: int) -> bytes:
        return dataset[offset : offset + length]

    found = header.scan(dataset, syntax)
    look = looks.look_of(found, frames.image_pixel(found))
    frame = frames.frame_bytes(frames.locate(found, read), 1, read)
    photometric = look.image.photometric_interpretation
    if contexts.is_encapsulated(syntax):
        decoded = decoders.decode(frame, syntax, look.image)
        frame, photometric = decoded.pixels, decoded.photometric_interpretation
        look = replace(look, image=replace(look.image, planar_configuration=0))
    made = pictures.picture(look, frame, photometric, Options())
    return np.asarray(made).astype(float), look


def expected(path: Path, look: Look) -> np.ndarray | None:
    """Return what pydicom draws, None where it draws nothing or takes another window."""
    dataset = dcmread(path, force=True)
    if "SharedFunctionalGroupsSequence" in dataset:
        return None
    pixels = pixel_array(dataset, index=0)
    if look.image.samples == 3:
        return pixels >> (look.image.bits_stored - 8)
    if look.palette is not None:
        colours = apply_color_lut(pixels, dataset)
        return colours >> 8 if colours.dtype == np.uint16 else colours
    values = apply_modality_lut(pixels, dataset)
    if look.window is None and look.voi is None:
        low, high = look.padding or (1, 0)
        counted = values[(pixels < low) | (pixels > high)]
        low, high = (counted if counted.size else values).min(), counted.max(initial=0)
        shown = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    elif look.window is None:
        shown = apply_voi_lut(values, dataset) / ((1 << look.voi.bits) - 1)
    else:
        low, high = _range(look)
        shown = (apply_voi_lut(values, dataset) - low) / (high - low)
    return 255 - shown * 255 if look.inverse else shown * 255


def _range(look: Look) -> tuple[float, float]:
    """Return between which values pydicom puts a window."""
    if look.modality is not None:
        return 0, (1 << look.modality.bits) - 1
    bits = look.image.bits_stored
    half = 1 << (bits - 1)
    low, high = (-half, half - 1) if look.image.pixel_representation else (0, (1 << bits) - 1)
    return low * look.slope + look.intercept, high * look.slope + look.intercept


def kind(look: Look) -> tuple[object, ...]:
    return (replace(look.image, rows=0, columns=0), look.window, look.inverse, look.slope)


def test_pictures_are_those_of_pydicom(shared_set: list[SharedFile], decoders: Decoders) -> None:
    compared: dict[tuple[object, ...], str] = {}
    others, refused = [], 0
    for file in shared_set:
        if file.path.stat().st_size > MAX_BYTES:
            continue
        try:
            ours, look = drawn(file.path, decoders)
        except ImagingError:
            refused += 1
            continue
        if kind(look) in compared:
            continue
        compared[kind(look)] = file.name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = expected(file.path, look)
        except (RuntimeError, AttributeError, ValueError, NotImplementedError):
            continue  # pydicom has no decoder for it here
        if theirs is not None and np.abs(ours - theirs).max() > 1.01:
            others.append(file.name)

    print(f"{len(compared)} kinds of image compared, {refused} files are no image")
    assert others == []
    assert len(compared) > 100
