"""Waveforms as a picture on graph paper (PS3.3 C.10.9, A.34).

    twelve leads of 8 s or more    three rows of four leads, 2.5 s each, and lead II below
    anything else                  a row for each channel, all of the time it has

An ECG stands at 25 mm/s and 10 mm/mV, which the paper shows; curves in other units fill
their row. The picture is drawn larger and reduced, so that thin lines are smooth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pacs.render.fonts import sans
from pacs.render.trees import Tree
from storage.base.errors import Malformed, NotSupported

MAX_CHANNELS: Final = 64
MAX_SAMPLES: Final = 4 << 20
"""Of one channel."""
MAX_DRAWN_S: Final = 30.0
"""Of a waveform that is longer, the beginning is drawn."""

MM: Final = 4
"""Pixels of the finished picture."""
_FINE: Final = 2
"""How much larger it is drawn."""
_MM_S: Final = 25
_MM_MV: Final = 10
_MARGIN_MM: Final = 5
_HEAD_MM: Final = 14
_ROW_MM: Final = 30
_NARROW_MM: Final = 14
_MANY_ROWS: Final = 8
_LEADS: Final = ("I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6")
_STRIP: Final = "II"
_COLUMNS: Final = 4
_COLUMN_S: Final = 2.5
_STANDARD_S: Final = 8.0

_PAPER: Final = (255, 252, 250)
_THIN: Final = (248, 220, 216)
_THICK: Final = (236, 176, 168)
_INK: Final = (20, 20, 30)

# PS3.3 C.10.9.1.5, Waveform Sample Interpretation
_CELLS: Final[Mapping[str, str]] = {
    "SB": "<i1",
    "UB": "<u1",
    "SS": "<i2",
    "US": "<u2",
    "SL": "<i4",
    "UL": "<u4",
    "SV": "<i8",
    "UV": "<u8",
}
# UCUM codes of what is drawn as voltage, and how many millivolts they are
_MILLIVOLTS: Final[Mapping[str, float]] = {"uV": 1e-3, "mV": 1.0, "V": 1e3, "nV": 1e-6}

_Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as it is recorded."""

    name: str
    sensitivity: float
    """Units for one step of the samples, correction included."""
    baseline: float
    unit: str
    """UCUM code."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """One multiplex group: channels that were sampled together."""

    channels: tuple[Channel, ...]
    samples: int
    """Of each channel."""
    frequency_hz: float
    interpretation: str
    padding: int | None
    notes: tuple[str, ...]
    """What the object says of the curve: measurements and statements."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.samples / self.frequency_hz


def is_waveform(sop_class_uid: str) -> bool:
    """Return whether a SOP Class holds waveforms (PS3.4 B.5)."""
    start = "1.2.840.10008.5.1.4.1.1.9."
    return sop_class_uid.startswith(start) and not sop_class_uid.startswith(f"{start}100.")


def read(tree: Tree) -> tuple[Waveform, bytes]:
    """Return the longest group of an object and its samples.

    Raises
    ------
    NotSupported
        It has none, or one of a kind or size that is not drawn.
    Malformed
        There are fewer samples than it tells of.
    """
    groups = [one for one in tree.items("WaveformSequence") if one.number("SamplingFrequency")]
    if not groups:
        raise NotSupported("no waveform to draw")
    group = max(groups, key=_seconds)
    found = Waveform(
        channels=tuple(map(_channel, group.items("ChannelDefinitionSequence"))),
        samples=int(group.number("NumberOfWaveformSamples") or 0),
        frequency_hz=group.number("SamplingFrequency") or 1.0,
        interpretation=group.text("WaveformSampleInterpretation"),
        padding=_padding(group),
        notes=tuple(_notes(tree)),
    )
    _require_drawable(found)
    content = group.binary("WaveformData")
    wanted = found.samples * len(found.channels) * np.dtype(_CELLS[found.interpretation]).itemsize
    if len(content) < wanted:
        raise Malformed(f"waveform data of {len(content)} bytes, {wanted} are told")
    return found, content[:wanted]


def _seconds(group: Tree) -> float:
    frequency = group.number("SamplingFrequency") or 1.0
    return (group.number("NumberOfWaveformSamples") or 0.0) / frequency


def _require_drawable(found: Waveform) -> None:
    if found.interpretation not in _CELLS:
        raise NotSupported(f"waveform samples of the kind {found.interpretation or 'unknown'}")
    if not 1 <= len(found.channels) <= MAX_CHANNELS:
        raise NotSupported(f"a waveform of {len(found.channels)} channels")
    if not 1 < found.samples <= MAX_SAMPLES or not 0 < found.frequency_hz < 1e7:  # noqa: PLR2004
        raise NotSupported(f"a waveform of {found.samples} samples")


def _channel(item: Tree) -> Channel:
    source = item.item("ChannelSourceSequence")
    name = item.text("ChannelLabel") or source.text("CodeMeaning") or source.text("CodeValue")
    sensitivity = item.number("ChannelSensitivity")
    correction = item.number("ChannelSensitivityCorrectionFactor")
    return Channel(
        name=_lead(name),
        sensitivity=(sensitivity or 1.0) * (correction or 1.0),
        baseline=item.number("ChannelBaseline") or 0.0,
        unit=item.item("ChannelSensitivityUnitsSequence").text("CodeValue"),
    )


def _lead(name: str) -> str:
    """Return the lead that a name speaks of, as it stands on paper: ``Lead aVR`` is ``aVR``."""
    words = name.replace("(", " ").replace(")", " ").replace("Lead", " ").split()
    known = {lead.lower(): lead for lead in _LEADS}
    return next((known[word.lower()] for word in words if word.lower() in known), name)


def _padding(group: Tree) -> int | None:
    raw = group.binary("WaveformPaddingValue")
    kind = _CELLS.get(group.text("WaveformSampleInterpretation"))
    if kind is None or len(raw) < np.dtype(kind).itemsize:
        return None
    return int(np.frombuffer(raw, kind, 1)[0])


def _notes(tree: Tree) -> Sequence[str]:
    """Return measurements and statements about the whole curve (PS3.3 C.10.10)."""
    found = []
    for note in tree.items("WaveformAnnotationSequence"):
        name = note.item("ConceptNameCodeSequence").text("CodeMeaning")
        number = note.text("NumericValue")
        unit = note.item("MeasurementUnitsCodeSequence").text("CodeValue")
        text = note.text("UnformattedTextValue")
        if number and name:
            found.append(f"{name} {number} {unit}".strip())
        elif text:
            found.append(text)
    return list(dict.fromkeys(found))


# --- drawn


def picture(found: Waveform, content: bytes) -> Image.Image:
    """Return the waveform on paper."""
    curves = _curves(found, content)
    order = {channel.name: at for at, channel in enumerate(found.channels)}
    if found.seconds >= _STANDARD_S and set(_LEADS) <= set(order):
        sheet = _standard(found, curves, order)
    else:
        sheet = _stacked(found, curves)
    return sheet.finished()


def _curves(found: Waveform, content: bytes) -> Sequence[_Curve]:
    """Return each channel in its unit, in millivolts if that is one; gaps are NaN."""
    cells = np.frombuffer(content, _CELLS[found.interpretation]).reshape(found.samples, -1)
    curves = []
    for at, channel in enumerate(found.channels):
        samples = cells[:, at].astype(np.float64)
        if found.padding is not None:
            samples[cells[:, at] == found.padding] = math.nan
        scale = _MILLIVOLTS.get(channel.unit, 1.0)
        curves.append((samples * channel.sensitivity + channel.baseline) * scale)
    return curves


class _Sheet:
    """Graph paper with 1 mm lines, and a heavier one every 5 mm."""

    def __init__(self, width_mm: float, height_mm: float) -> None:
        self._mm = MM * _FINE
        self.width_mm, self.height_mm = width_mm, height_mm
        size = round(width_mm * self._mm), round(height_mm * self._mm)
        self._image = Image.new("RGB", size, _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def ruled(self, top_mm: float, bottom_mm: float) -> None:
        """Draw the grid between two heights."""
        left, right = _MARGIN_MM, self.width_mm - _MARGIN_MM
        for heavy, colour in ((False, _THIN), (True, _THICK)):
            for at in range(round(right - left) + 1):
                if (at % 5 == 0) is heavy:
                    self._line([(left + at, top_mm), (left + at, bottom_mm)], colour)
            for at in range(round(bottom_mm - top_mm) + 1):
                if (at % 5 == 0) is heavy:
                    self._line([(left, top_mm + at), (right, top_mm + at)], colour)

    def _line(self, points_mm: Sequence[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        self._draw.line([(x * self._mm, y * self._mm) for x, y in points_mm], colour, _FINE)

    def text(self, x_mm: float, y_mm: float, text: str, size_mm: float = 3.5) -> None:
        """Write a text with its upper left corner at a place."""
        font = sans(round(size_mm * self._mm))
        self._draw.text((x_mm * self._mm, y_mm * self._mm), text, _INK, font)

    def curve(self, left_mm: float, middle_mm: float, curve: _Curve, frequency_hz: float) -> None:
        """Draw a curve in millimetres above `middle_mm`, at 25 mm/s."""
        across = (left_mm + np.arange(curve.size) * (_MM_S / frequency_hz)) * self._mm
        down = (middle_mm - curve) * self._mm
        present = np.isfinite(down)
        for run in np.split(np.arange(curve.size), np.flatnonzero(np.diff(present)) + 1):
            if run.size > 1 and present[run[0]]:
                points = np.column_stack((across[run], np.clip(down[run], -1e5, 1e5)))
                self._draw.line(points.ravel().tolist(), _INK, _FINE + 1, joint="curve")

    def finished(self) -> Image.Image:
        """Return the picture in its size."""
        width, height = self._image.size
        return self._image.resize((width // _FINE, height // _FINE), Image.Resampling.BOX)


def _standard(found: Waveform, curves: Sequence[_Curve], order: Mapping[str, int]) -> _Sheet:
    """Draw twelve leads in three rows, and the strip of one lead below."""
    rows = len(_LEADS) // _COLUMNS
    width = _COLUMNS * _COLUMN_S * _MM_S
    sheet = _sheet(found, width, [_ROW_MM] * (rows + 1), f"{_MM_S} mm/s  {_MM_MV} mm/mV")
    step = round(_COLUMN_S * found.frequency_hz)
    for at, lead in enumerate(_LEADS):
        row, column = divmod(at, _COLUMNS)
        part = curves[order[lead]][column * step : (column + 1) * step + 1]
        left = _MARGIN_MM + column * _COLUMN_S * _MM_S
        middle = _HEAD_MM + (row + 0.5) * _ROW_MM
        sheet.curve(left, middle, _levelled(part, curves[order[lead]]) * _MM_MV, found.frequency_hz)
        sheet.text(left + 1, middle - _ROW_MM * 0.42, lead)
    strip = curves[order[_STRIP]][: round(_COLUMNS * _COLUMN_S * found.frequency_hz) + 1]
    middle = _HEAD_MM + (rows + 0.5) * _ROW_MM
    sheet.curve(_MARGIN_MM, middle, _levelled(strip, strip) * _MM_MV, found.frequency_hz)
    sheet.text(_MARGIN_MM + 1, middle - _ROW_MM * 0.42, _STRIP)
    return sheet


def _stacked(found: Waveform, curves: Sequence[_Curve]) -> _Sheet:
    """Draw a row for each channel."""
    seconds = min(found.seconds, MAX_DRAWN_S)
    shown = max(2, math.ceil(seconds * found.frequency_hz))
    voltage = all(channel.unit in _MILLIVOLTS for channel in found.channels)
    row = _ROW_MM if len(curves) <= _MANY_ROWS else _NARROW_MM
    told = f"{_MM_S} mm/s  {_MM_MV} mm/mV" if voltage else f"{_MM_S} mm/s"
    sheet = _sheet(found, max(60.0, seconds * _MM_S), [row] * len(curves), told)
    for at, (channel, curve) in enumerate(zip(found.channels, curves, strict=True)):
        part = curve[:shown]
        height = _levelled(part, part)
        most = float(np.nanmax(np.abs(height), initial=0.0))
        scale = _MM_MV if voltage else 0.45 * row / max(most, 1e-12)
        middle = _HEAD_MM + (at + 0.5) * row
        sheet.curve(_MARGIN_MM, middle, height * scale, found.frequency_hz)
        name = channel.name if voltage else f"{channel.name} ({channel.unit})"
        sheet.text(_MARGIN_MM + 1, middle - 0.42 * row, name, 2.8)
    return sheet


def _sheet(found: Waveform, width_mm: float, rows_mm: Sequence[float], told: str) -> _Sheet:
    bottom = _HEAD_MM + sum(rows_mm)
    sheet = _Sheet(width_mm + 2 * _MARGIN_MM, bottom + _MARGIN_MM)
    sheet.ruled(_HEAD_MM, bottom)
    sheet.text(_MARGIN_MM, 1.5, told, 3.0)
    most = int(width_mm / 1.9)
    lines = _wrapped(found.notes, most)[:2]
    for at, line in enumerate(lines):
        sheet.text(_MARGIN_MM, 5.5 + 4 * at, line, 3.0)
    return sheet


def _wrapped(notes: Sequence[str], most: int) -> list[str]:
    """Put notes one behind the other in lines of at most `most` characters."""
    lines = [""]
    for note in notes:
        text = note[:most]
        if len(lines[-1]) + len(text) + 3 > most:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "") + text
    return lines


def _levelled(part: _Curve, whole: _Curve) -> _Curve:
    """Put the middle of a curve on the line of its row."""
    finite = whole[np.isfinite(whole)]
    return np.asarray(part - (float(np.median(finite)) if finite.size else 0.0))
