import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from pacs.render import trees, waveforms
from pacs.render.waveforms import MM, Waveform
from storage.base.errors import Malformed, NotSupported
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.dicom_papers import LEADS, code, ecg

EXPLICIT = "1.2.840.10008.1.2.1"


def read(recorded: Dataset) -> tuple[Waveform, bytes]:
    return waveforms.read(trees.read(encode(recorded), EXPLICIT))


def drawn(recorded: Dataset) -> np.ndarray:
    return np.asarray(waveforms.picture(*read(recorded)).convert("L"))


def group(recorded: Dataset) -> Dataset:
    return recorded.WaveformSequence[0]


def inked(picture: np.ndarray, top_mm: float, bottom_mm: float) -> np.ndarray:
    """Return where the curve is darkest between two heights: (rows, columns) from `top_mm`."""
    return np.argwhere(picture[round(top_mm * MM) : round(bottom_mm * MM)] < 90)


def unlabelled(points: np.ndarray) -> np.ndarray:
    """Leave out where the name of the lead stands."""
    return points[points[:, 1] > 20 * MM]


def test_channels_are_read_with_their_units():
    found, content = read(ecg())

    assert [channel.name for channel in found.channels] == list(LEADS)
    assert {channel.unit for channel in found.channels} == {"uV"}
    assert (found.samples, found.frequency_hz, found.seconds) == (5000, 500, 10)
    assert len(content) == 5000 * 12 * 2


def test_twelve_leads_stand_in_three_rows_and_a_strip():
    picture = Image.fromarray(drawn(ecg()))

    assert picture.size == ((250 + 10) * MM, (14 + 4 * 30 + 5) * MM)


def test_a_millivolt_is_ten_millimetres_and_a_second_is_twenty_five():
    """The strip of lead II: a spike of 1 mV each second (the paper says 25 mm/s, 10 mm/mV)."""
    picture = drawn(ecg())

    strip = unlabelled(inked(picture, 14 + 3 * 30, 14 + 4 * 30))
    base = np.median(strip[:, 0])
    peaks = strip[strip[:, 0] < base - 9 * MM]
    columns = np.unique(np.round(peaks[:, 1] / MM))
    assert abs(base - strip[:, 0].min() - 10 * MM) <= MM / 2
    assert {25.0} <= set(np.diff(columns)) <= {1.0, 24.0, 25.0, 26.0}


def test_sensitivity_correction_and_baseline_count():
    recorded = ecg()
    for channel in group(recorded).ChannelDefinitionSequence:
        channel.ChannelSensitivityCorrectionFactor = 0.5
        channel.ChannelBaseline = 300

    strip = unlabelled(inked(drawn(recorded), 14 + 3 * 30, 14 + 4 * 30))

    assert abs(np.median(strip[:, 0]) - strip[:, 0].min() - 5 * MM) <= MM / 2


def test_other_channels_have_a_row_each():
    recorded = ecg(4.0, 100.0, ("Pulse", "Flow", "Pressure"))

    height, width = drawn(recorded).shape

    assert (width, height) == ((4 * 25 + 10) * MM, (14 + 3 * 30 + 5) * MM)


def test_a_long_recording_is_drawn_from_its_beginning():
    picture = drawn(ecg(120.0, 50.0, ("Pulse",)))

    assert picture.shape[1] == (30 * 25 + 10) * MM


@pytest.mark.parametrize(
    ("kind", "cells"), [("SB", "<i1"), ("UB", "<u1"), ("US", "<u2"), ("SL", "<i4"), ("UL", "<u4")]
)
def test_every_kind_of_sample_is_drawn(kind, cells):
    recorded = ecg(4.0, 100.0, ("I", "II"))
    curve = (np.arange(400) % 100).astype(cells)
    group(recorded).WaveformSampleInterpretation = kind
    group(recorded).WaveformBitsAllocated = 8 * np.dtype(cells).itemsize
    data = np.column_stack([curve, curve]).tobytes()
    group(recorded).add_new("WaveformData", "OB" if cells[2] == "1" else "OW", data)

    assert inked(drawn(recorded), 14, 74).size


def test_padding_is_a_gap():
    recorded = ecg(4.0, 100.0, ("I",))
    samples = np.zeros(400, "<i2")
    samples[100:300] = -32768
    group(recorded).add_new("WaveformData", "OW", samples.tobytes())
    group(recorded).add_new("WaveformPaddingValue", "OW", b"\x00\x80")

    curve = inked(drawn(recorded), 20, 44)

    columns = curve[:, 1] / MM - 5
    assert not ((columns > 26) & (columns < 74)).any()
    assert (columns < 24).any()


def test_measurements_and_statements_are_written():
    recorded = ecg()
    statement, rate, repeated = Dataset(), Dataset(), Dataset()
    statement.UnformattedTextValue = "Nhịp xoang"
    for note in (rate, repeated):
        note.ConceptNameCodeSequence = [code("QRS Duration")]
        note.NumericValue, note.MeasurementUnitsCodeSequence = 75, [code("ms", "ms", "UCUM")]
    recorded.WaveformAnnotationSequence = [statement, rate, repeated]

    assert read(recorded)[0].notes == ("Nhịp xoang", "QRS Duration 75 ms")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"WaveformSampleInterpretation": "MB"}, NotSupported),
        ({"NumberOfWaveformSamples": 1}, NotSupported),
        ({"NumberOfWaveformSamples": 5001}, Malformed),
        ({"NumberOfWaveformSamples": 1 << 30}, NotSupported),
        ({"SamplingFrequency": 1e9}, NotSupported),
        ({"ChannelDefinitionSequence": []}, NotSupported),
    ],
)
def test_what_cannot_be_drawn_is_refused(values, error):
    recorded = ecg()
    for keyword, value in values.items():
        setattr(group(recorded), keyword, value)

    with pytest.raises(error):
        read(recorded)


def test_an_object_without_waveforms_is_refused():
    with pytest.raises(NotSupported, match="no waveform"):
        read(ct_slice())


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.9.1.1", True),
        ("1.2.840.10008.5.1.4.1.1.9.6.1", True),
        ("1.2.840.10008.5.1.4.1.1.9.100.1", False),
        ("1.2.840.10008.5.1.4.1.1.2", False),
    ],
)
def test_sop_classes_with_waveforms(uid, expected):
    assert waveforms.is_waveform(uid) is expected
