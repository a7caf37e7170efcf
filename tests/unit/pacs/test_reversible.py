import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from pacs import contexts, part10, reversible
from pacs.compression import TARGETS
from pacs.decoding import Decoders
from storage.base.errors import ImagingError, Malformed, NotSupported
from tests.fixtures.dicom_files import (
    SharedFile,
    ct_slice,
    encode,
    multi_frame,
    set_pixels,
)

HTJ2K = contexts.HTJ2K_LOSSLESS
EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    decoders = Decoders(processes=1)
    yield decoders
    decoders.close()


def with_pixels(pixels: np.ndarray, samples: int = 1, **values: object) -> Dataset:
    dataset = ct_slice()
    set_pixels(dataset, pixels, samples)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def nested() -> Dataset:
    """A slice with a sequence of known length, an overlay and something behind the pixels."""
    dataset = ct_slice()
    dataset.ReferencedStudySequence = [ct_slice()]
    dataset.ReferencedStudySequence[0].pop("PixelData")
    dataset.add_new(0x60003000, "OW", bytes(32))
    dataset.DataSetTrailingPadding = bytes(10)
    return dataset


SOURCES = {
    "a slice": ct_slice(),
    "signed": with_pixels(RNG.integers(-2000, 2000, (9, 7), dtype=np.int16)),
    "12 bits": with_pixels(
        RNG.integers(0, 4096, (9, 7), dtype=np.uint16), BitsStored=12, HighBit=11
    ),
    "an odd number of bytes": with_pixels(RNG.integers(0, 256, (5, 5), dtype=np.uint8)),
    "colour": with_pixels(RNG.integers(0, 256, (8, 6, 3), dtype=np.uint8), 3),
    "many frames": multi_frame(5),
    "sequences and overlays": nested(),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("name", SOURCES)
def test_the_received_bytes_come_back(pool, name, syntax, target):
    received = encode(SOURCES[name], syntax)

    made = reversible.compress(received, syntax, target, pool)

    assert reversible.restore(made, target, pool) == received


@pytest.mark.parametrize("name", SOURCES)
def test_what_stands_around_the_pixels_stays_as_it_came(pool, name):
    received = encode(SOURCES[name])

    made = reversible.compress(received, EXPLICIT, HTJ2K, pool)

    start = received.index(b"\xe0\x7f\x10\x00")
    same = made.dataset.startswith(received[:start])
    assert same or SOURCES[name].PhotometricInterpretation == "RGB"


def test_the_object_in_the_store_is_a_dicom_file(pool, tmp_path):
    dataset = nested()
    made = reversible.compress(encode(dataset), EXPLICIT, HTJ2K, pool)
    head = part10.head(dataset.SOPClassUID, dataset.SOPInstanceUID, HTJ2K)
    path = tmp_path / "object.dcm"
    path.write_bytes(head + made.dataset + made.rest)

    found = dcmread(path)

    assert found.PatientName == dataset.PatientName
    assert found.file_meta.TransferSyntaxUID == HTJ2K
    assert found[0xFFFCFFFC].value


@pytest.mark.parametrize(
    ("dataset", "syntax"),
    [
        (ct_slice(), contexts.EXPLICIT_VR_BIG_ENDIAN),
        (with_pixels(RNG.integers(0, 9, (4, 4), dtype=np.uint32)), EXPLICIT),
        (
            with_pixels(RNG.integers(0, 9, (4, 4, 3), dtype=np.uint8), 3, PlanarConfiguration=1),
            EXPLICIT,
        ),
    ],
    ids=["big endian", "cells of 32 bits", "colours by plane"],
)
def test_what_is_left_as_it_is(pool, dataset, syntax):
    with pytest.raises(NotSupported):
        reversible.compress(encode(dataset, syntax), syntax, HTJ2K, pool)


def test_cells_that_would_come_back_otherwise_are_left_as_they_are(pool):
    cells = RNG.integers(0, 4096, (9, 7), dtype=np.uint16)
    unextended = with_pixels(cells, PixelRepresentation=1, BitsStored=12, HighBit=11)

    with pytest.raises(NotSupported, match="cannot be made again"):
        reversible.compress(encode(unextended), EXPLICIT, HTJ2K, pool)


@pytest.mark.parametrize("at", [0, 7, 8, 17, 60, 200, -30])
def test_a_rest_that_rotted_is_never_taken(pool, at):
    made = reversible.compress(encode(ct_slice()), EXPLICIT, HTJ2K, pool)
    rotten = bytearray(made.rest)
    rotten[at] ^= 0x55

    with pytest.raises((Malformed, NotSupported)):
        reversible.restore(replace(made, rest=bytes(rotten)), HTJ2K, pool)


def test_a_rest_that_was_cut_is_never_taken(pool):
    made = reversible.compress(encode(ct_slice()), EXPLICIT, HTJ2K, pool)

    for length in (0, 5, 20, len(made.rest) - 1):
        with pytest.raises(Malformed):
            reversible.restore(replace(made, rest=made.rest[:length]), HTJ2K, pool)


def test_a_rest_that_swells_is_never_taken(pool):
    made = reversible.compress(encode(ct_slice()), EXPLICIT, HTJ2K, pool)
    told = msgspec.msgpack.decode(made.rest[16:][: int.from_bytes(made.rest[12:16], "little")])
    told[4] = zlib.compress(bytes(200 << 20))
    content = msgspec.msgpack.encode(told)
    padded = content + b"\0" * (len(content) % 2)
    bomb = made.rest[:8] + struct.pack("<II", len(padded) + 4, len(content)) + padded

    with pytest.raises(Malformed, match="larger"):
        reversible.restore(replace(made, rest=bomb), HTJ2K, pool)


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_native_object_of_the_shared_set_comes_back(
    pool, shared_set: list[SharedFile], target
):
    restored, left = 0, 0
    for file in shared_set:
        content = file.path.read_bytes()
        if file.transfer_syntax_uid not in reversible.SOURCES or len(content) > 1 << 20:
            continue
        try:
            head = part10.split(content)
            received = content[head.length :]
            made = reversible.compress(received, head.transfer_syntax_uid, target, pool)
        except ImagingError:
            left += 1
            continue
        assert reversible.restore(made, target, pool) == received, file.name
        restored += 1

    assert restored > 300
    assert left < 130
