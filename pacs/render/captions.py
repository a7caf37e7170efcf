"""Texts burned into pictures when they are asked for (PS3.18 8.3.5.1.1).

patient      name, identifier, birth date and sex; study date, accession number, institution
technique    modality, series, exposure, sequence times, slice, position in the series
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from pacs.header import Header
from pacs.render.fonts import sans
from pacs.render.options import KEYWORDS
from storage.base import names

_PATIENT, _TECHNICAL = KEYWORDS
_Ink = int | tuple[int, int, int]
_MIN_SIZE: Final = 9
_LINES: Final = 34
"""That fit above each other into a picture as wide as high."""
_MAX_TEXT: Final = 64
_INK: Final[Mapping[str, tuple[_Ink, _Ink]]] = {
    "L": (255, 0),
    "RGB": ((255, 255, 255), (0, 0, 0)),
}

# keyword, and how its value is written
_TECHNIQUE: Final = (
    ("Modality", "{}"),
    ("SeriesDescription", "{}"),
    ("BodyPartExamined", "{}"),
    ("KVP", "{} kV"),
    ("XRayTubeCurrent", "{} mA"),
    ("Exposure", "{} mAs"),
    ("RepetitionTime", "TR {} ms"),
    ("EchoTime", "TE {} ms"),
    ("SliceThickness", "{} mm"),
    ("SeriesNumber", "Se {}"),
    ("InstanceNumber", "Im {}"),
)


@dataclass(frozen=True, slots=True)
class Captions:
    """Lines of text in the corners of a picture."""

    top_left: tuple[str, ...] = ()
    top_right: tuple[str, ...] = ()
    bottom_left: tuple[str, ...] = ()


def of(found: Header, keywords: Sequence[str], corrected: Mapping[str, object]) -> Captions:
    """Return what an object says of itself, as far as `keywords` ask for it.

    `corrected` has the texts, by keyword, that are known better since it was received: a
    picture with the name of somebody else on it would be believed.
    """

    def text(keyword: str) -> str:
        known = corrected.get(keyword)
        return known if isinstance(known, str) else found.text(keyword)

    patient: tuple[str, ...] = ()
    study: tuple[str, ...] = ()
    technique: tuple[str, ...] = ()
    if _PATIENT in keywords:
        name = names.in_reading_order(text("PatientName"))
        birth = " ".join(filter(None, map(text, ("PatientBirthDate", "PatientSex"))))
        patient = _lines(name, text("PatientID"), birth)
        study = _lines(*map(text, ("InstitutionName", "StudyDate", "AccessionNumber")))
    if _TECHNICAL in keywords:
        values = ((text(keyword).partition("\\")[0], form) for keyword, form in _TECHNIQUE)
        technique = _lines(*(form.format(value) for value, form in values if value))
    return Captions(patient, study, technique)


def _lines(*texts: str) -> tuple[str, ...]:
    return tuple(text[:_MAX_TEXT] for text in texts if text)


def write(picture: Image.Image, captions: Captions) -> Image.Image:
    """Return the picture with its captions, in white with a black rim."""
    if captions == Captions():
        return picture
    drawn = picture if picture.mode in _INK else picture.convert("RGB")
    ink, rim = _INK[drawn.mode]
    size = max(_MIN_SIZE, min(drawn.size) // _LINES)
    font, step, margin = sans(size), round(size * 1.25), size // 2
    draw = ImageDraw.Draw(drawn)

    def put(x: int, y: int, text: str, anchor: str) -> None:
        draw.text((x, y), text, ink, font, anchor, stroke_width=max(1, size // 10), stroke_fill=rim)

    for number, text in enumerate(captions.top_left):
        put(margin, margin + number * step, text, "la")
    for number, text in enumerate(captions.top_right):
        put(drawn.width - margin, margin + number * step, text, "ra")
    for number, text in enumerate(reversed(captions.bottom_left)):
        put(margin, drawn.height - margin - number * step, text, "ld")
    return drawn
