"""Grey levels and orientation of presentation states beside DCMTK's own rendering.

DCMTK's dcmp2pgm applies LUTs, rotation and flip; it leaves areas, shutters and graphics to
viewers. It cuts levels off where we round them: one level of difference is agreement.
"""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from pacs import contexts, frames, header
from pacs.render import looks, presentations, showing
from pacs.render.options import Options
from tests.fixtures import programs
from tests.fixtures.dcmtk import needs_dcmtk
from tests.fixtures.dicom_files import ct_slice, encode, part10_file, set_pixels
from tests.fixtures.presentation_states import item, presentation_state

pytestmark = [pytest.mark.interop, needs_dcmtk]

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
WINDOW = item(WindowCenter=500, WindowWidth=3000)


def table(entries: np.ndarray, first: int = 0, bits: int = 8) -> dict[str, Any]:
    return {
        "LUTDescriptor": [len(entries), first, bits],
        "LUTData": entries.astype("<u2").tobytes(),
    }


CURVE = item(**table(np.sqrt(np.arange(1024) / 1023) * 65535, bits=16), ModalityLUTType="OD")
SEEN = item(VOILUTSequence=[item(**table(np.linspace(255, 0, 4096)))])
PRINTED = item(**table((np.arange(4096) / 4095) ** 2 * 65535, bits=16))

CASES = {
    "nothing is the whole range": {},
    "rescaled": {"RescaleSlope": 2, "RescaleIntercept": -1000, "RescaleType": "HU"},
    "modality LUT": {"ModalityLUTSequence": [CURVE]},
    "window": {"SoftcopyVOILUTSequence": [WINDOW]},
    "rescaled and window": {
        "SoftcopyVOILUTSequence": [WINDOW],
        "RescaleSlope": 2,
        "RescaleIntercept": -1000,
        "RescaleType": "HU",
    },
    "VOI LUT": {"SoftcopyVOILUTSequence": [SEEN]},
    "inverse": {"SoftcopyVOILUTSequence": [WINDOW], "PresentationLUTShape": "INVERSE"},
    "presentation LUT": {
        "SoftcopyVOILUTSequence": [WINDOW],
        "PresentationLUTSequence": [PRINTED],
        "PresentationLUTShape": None,
    },
    **{
        f"rotated by {turn}, flip {flip}": {"ImageRotation": turn, "ImageHorizontalFlip": flip}
        for turn in (0, 90, 180, 270)
        for flip in ("N", "Y")
    },
}


@pytest.fixture(scope="module", params=["MONOCHROME2", "MONOCHROME1"])
def image(request: pytest.FixtureRequest) -> Dataset:
    """A picture with a window and a rescale of its own, which must not hold."""
    made = ct_slice(WindowCenter=40, WindowWidth=400, RescaleSlope=3, RescaleIntercept=-7)
    cells = np.random.default_rng(4).integers(0, 4096, (40, 64), dtype=np.uint16)
    set_pixels(made, cells)
    made.BitsStored, made.HighBit = 12, 11
    made.PhotometricInterpretation = request.param
    return made


def ours(image: Dataset, state: Dataset) -> np.ndarray:
    dataset, uid = encode(image), image.SOPInstanceUID

    def read(offset: int, length: int) -> bytes:
        return dataset[offset : offset + length]

    found = header.scan(dataset, EXPLICIT)
    frame = frames.frame_bytes(frames.locate(found, read), 1, read)
    told = presentations.read(encode(state), EXPLICIT)
    look = told.look(looks.look_of(found, frames.image_pixel(found)), uid, 1)
    photometric = look.image.photometric_interpretation
    seen = told.showing(uid, 1, {})
    return np.asarray(showing.picture(look, frame, photometric, Options(), seen)).astype(int)


def theirs(image: Dataset, state: Dataset, folder: Path) -> np.ndarray:
    paths = [folder / name for name in ("state.dcm", "image.dcm", "seen.pgm")]
    paths[0].write_bytes(part10_file(state))
    paths[1].write_bytes(part10_file(image))
    command = [programs.need("dcmp2pgm"), "-p", paths[0], paths[1], paths[2]]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return np.asarray(Image.open(paths[2])).astype(int)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_grey_levels_are_those_of_dcmtk(image, values, tmp_path):
    state = presentation_state(image, **values)
    state.PatientName = image.PatientName = "NGUYEN^VAN AN"
    for keyword in [element.keyword for element in state if element.value is None]:
        del state[keyword]

    ours_seen, theirs_seen = ours(image, state), theirs(image, state, tmp_path)

    assert ours_seen.shape == theirs_seen.shape
    assert np.abs(ours_seen - theirs_seen).max() <= 1
    assert np.ptp(theirs_seen) > 50
