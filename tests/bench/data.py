"""Synthetic objects of the sizes that are measured; noise that does not compress."""

import random
from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(folder: Path, instances: int, rows: int, columns: int, seed: int = 1) -> Path:
    """Write a CT series of `instances` slices, ``(rows, columns) uint16``; return `folder`."""
    folder.mkdir(parents=True)
    noise = random.Random(seed)
    study, series = generate_uid(), generate_uid()
    for number in range(1, instances + 1):
        _slice(study, series, number, (rows, columns), noise).save_as(
            folder / f"{number:05}.dcm", enforce_file_format=True
        )
    return folder


def write_like(folder: Path, models: Sequence[Path], instances: int) -> Path:
    """Write one series of `instances` slices that repeat real ones under UIDs of their own."""
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    slices = [dcmread(path) for path in models]
    for number in range(1, instances + 1):
        slice_ = slices[number % len(slices)]
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
        slice_.PatientID, slice_.InstanceNumber = "BENCH", number
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.save_as(folder / f"{number:05}.dcm")
    return folder


def write_studies(folder: Path, studies: int) -> Path:
    """Write `studies` studies of one tiny instance each, on ten days, half of them MR."""
    folder.mkdir(parents=True)
    noise = random.Random(studies)
    for number in range(1, studies + 1):
        instance = _slice(generate_uid(), generate_uid(), 1, (8, 8), noise)
        instance.StudyDate = f"202607{1 + number % 10:02}"
        instance.Modality = "MR" if number % 2 else "CT"
        instance.PatientName = f"NGUYEN^VAN^{number:04}"
        instance.AccessionNumber = f"A{number:06}"
        instance.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)
    return folder


def _slice(
    study: str, series: str, number: int, shape: tuple[int, int], noise: random.Random
) -> Dataset:
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SpecificCharacterSet = "ISO_IR 192"
    slice_.SOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = generate_uid()
    slice_.StudyDate, slice_.StudyTime = "20260701", "101500"
    slice_.AccessionNumber = "BENCH1"
    slice_.Modality = "CT"
    slice_.PatientName, slice_.PatientID = "NGUYỄN^VĂN AN", "BENCH"
    slice_.PatientBirthDate, slice_.PatientSex = "19700101", "M"
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
    slice_.StudyID, slice_.SeriesNumber, slice_.InstanceNumber = "1", 1, number
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.Rows, slice_.Columns = shape
    slice_.BitsAllocated = slice_.BitsStored = 16
    slice_.HighBit, slice_.PixelRepresentation = 15, 0
    slice_.PixelData = noise.randbytes(shape[0] * shape[1] * 2)
    return slice_
