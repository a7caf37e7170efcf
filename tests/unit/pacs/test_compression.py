import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from pacs import compression, contexts, transcode
from storage.archive.model import StoredInstance
from storage.objects.directory import DirectoryStore
from tests.fixtures.dicom_files import ct_slice, encode, set_pixels

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
SMOOTH = np.add.outer(np.arange(200), np.arange(300)).astype("<u2")


def smooth() -> Dataset:
    dataset = ct_slice()
    set_pixels(dataset, SMOOTH)
    return dataset


def stored(
    store: DirectoryStore, folder: Path, content: bytes, syntax: str = EXPLICIT
) -> StoredInstance:
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / "file"
    path.write_bytes(content)
    key = f"aa/{sha256}"
    store.put_files([(key, path)])
    uids = ("1.2.3", "1.2.4", "1.2.5", "1.2.840.10008.5.1.4.1.1.2")
    return StoredInstance(*uids, syntax, 1, key, 0, len(content), sha256)


@pytest.mark.parametrize("target", compression.TARGETS.values(), ids=compression.TARGETS)
def test_savings_are_those_of_the_compressed_object(tmp_path, target):
    store, content = DirectoryStore(tmp_path / "objects"), encode(smooth())

    trial = compression.try_one(store, stored(store, tmp_path, content), target)

    assert trial.before == len(content)
    assert trial.after == len(transcode.transcode(content, EXPLICIT, target))
    assert trial.after < len(content) / 4
    assert trial.same_bytes
    assert trial.reason == ""


def test_a_dataset_that_is_encoded_otherwise_does_not_come_back_byte_for_byte(tmp_path):
    dataset = smooth()
    dataset.ReferencedStudySequence = [Dataset()]  # written with a length by pydicom
    store = DirectoryStore(tmp_path / "objects")

    trial = compression.try_one(
        store, stored(store, tmp_path, encode(dataset)), contexts.HTJ2K_LOSSLESS
    )

    assert trial.after < trial.before
    assert not trial.same_bytes


def test_what_stays_as_it_is_says_why(tmp_path):
    store = DirectoryStore(tmp_path / "objects")
    report, noise = ct_slice(), ct_slice()
    del report.PixelData
    set_pixels(noise, np.random.default_rng(1).integers(0, 65536, (64, 64), "<u2"))
    coded = transcode.transcode(encode(smooth()), EXPLICIT, contexts.RLE_LOSSLESS)

    reasons = [
        compression.try_one(store, stored(store, tmp_path, content, syntax), target).reason
        for content, syntax, target in (
            (encode(report), EXPLICIT, contexts.HTJ2K_LOSSLESS),
            (encode(noise), EXPLICIT, contexts.JPEG_LS_LOSSLESS),
            (coded, contexts.RLE_LOSSLESS, contexts.HTJ2K_LOSSLESS),
        )
    ]

    assert reasons == ["it has no pixel data", "it would not be smaller", "compressed already"]
