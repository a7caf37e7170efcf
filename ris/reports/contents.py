"""The text of a report checked, written as JSON and read back."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from ris.reports.faults import Fault, Invalid
from ris.reports.model import SECTIONS, Addendum, Content, Json, Measurement
from ris.requests import Code

MOST_CHARACTERS: Final = 100_000
"""Of one section."""
MOST_ENTRIES: Final = 500
SHORT: Final = 1000
"""Characters of a name, a code, a unit, a reason."""
_KEPT: Final = "\n\t"
_SIGNED_NEED: Final = ("findings", "impression")


def clean(text: str) -> str:
    r"""Return `text` in NFC with ``\n`` as its line break and nothing at its ends.

    Other control characters go; zero-width characters stay, some scripts need them.
    """
    lines = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = "".join(
        letter for letter in lines if letter in _KEPT or unicodedata.category(letter) != "Cc"
    )
    return kept.strip()


def cleaned(content: Content) -> Content:
    """Return `content` with every text cleaned.

    Raises
    ------
    Invalid
        Something is too long, is no text or no number; each field is named.
    """
    if faults := [*_faults(content)]:
        raise Invalid(*faults)
    return Content(
        **{name: clean(getattr(content, name)) for name in SECTIONS},
        measurements=tuple(map(_clean_measurement, content.measurements)),
        diagnoses=tuple(map(_clean_code, content.diagnoses)),
        addenda=content.addenda,
    )


def require_complete(content: Content) -> None:
    """Raise `Invalid` unless there is text enough to be signed: mô tả and kết luận."""
    missing = [
        Fault("required", f"/content/{name}") for name in _SIGNED_NEED if not getattr(content, name)
    ]
    if missing:
        raise Invalid(*missing)


def check_short(text: str, pointer: str, most: int = SHORT) -> str:
    """Return a short text cleaned.

    Raises
    ------
    Invalid
        It is longer than `most` characters or is no text.
    """
    if faults := [*_text_faults(text, pointer, most)]:
        raise Invalid(*faults)
    return clean(text)


def _faults(content: Content) -> Iterator[Fault]:
    for name in SECTIONS:
        yield from _text_faults(getattr(content, name), f"/content/{name}", MOST_CHARACTERS)
    for name in ("measurements", "diagnoses"):
        if len(getattr(content, name)) > MOST_ENTRIES:
            yield Fault("too_many", f"/content/{name}", {"most": MOST_ENTRIES})
    for index, measurement in enumerate(content.measurements):
        yield from _measurement_faults(measurement, f"/content/measurements/{index}")
    for index, code in enumerate(content.diagnoses):
        yield from _code_faults(code, f"/content/diagnoses/{index}")


def _text_faults(text: str, pointer: str, most: int) -> Iterator[Fault]:
    if len(text) > most:
        yield Fault("too_long", pointer, {"most": most})
    # a lone half of a surrogate pair cannot be encoded, NUL cannot be stored
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        yield Fault("not_text", pointer)


def _measurement_faults(measurement: Measurement, pointer: str) -> Iterator[Fault]:
    if not measurement.name.strip():
        yield Fault("required", f"{pointer}/name")
    for name in ("name", "unit", "value"):
        yield from _text_faults(getattr(measurement, name), f"{pointer}/{name}", SHORT)
    try:
        finite = Decimal(measurement.value).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        yield Fault("not_a_number", f"{pointer}/value")
    if measurement.code is not None:
        yield from _code_faults(measurement.code, f"{pointer}/code")


def _code_faults(code: Code, pointer: str) -> Iterator[Fault]:
    if not code.value.strip():
        yield Fault("required", f"{pointer}/value")
    for name in ("value", "meaning", "scheme"):
        yield from _text_faults(getattr(code, name), f"{pointer}/{name}", SHORT)


def _clean_measurement(measurement: Measurement) -> Measurement:
    return replace(
        measurement,
        name=clean(measurement.name),
        value=clean(measurement.value),
        unit=clean(measurement.unit),
        code=_clean_code(measurement.code) if measurement.code else None,
    )


def _clean_code(code: Code) -> Code:
    return Code(clean(code.value), clean(code.meaning), clean(code.scheme))


def to_json(content: Content) -> Json:
    """Return `content` as it is kept."""
    kept = asdict(content)
    for addendum in kept["addenda"]:
        addendum["added_at"] = addendum["added_at"].isoformat()
    return kept


def from_json(kept: Json) -> Content:
    """Return what `to_json` has written."""
    return Content(
        **{name: kept.get(name, "") for name in SECTIONS},
        measurements=tuple(
            Measurement(**{**one, "code": Code(**one["code"]) if one.get("code") else None})
            for one in kept.get("measurements", ())
        ),
        diagnoses=tuple(Code(**one) for one in kept.get("diagnoses", ())),
        addenda=tuple(
            Addendum(one["text"], one["author"], datetime.fromisoformat(one["added_at"]))
            for one in kept.get("addenda", ())
        ),
    )


def canonical(value: Json) -> bytes:
    """Return JSON that has one form for one value: keys sorted, UTF-8, no white space."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str
    ).encode()


def digest_of(content: Content) -> str:
    """Return the SHA-256 of the text, by which two texts are the same."""
    return hashlib.sha256(canonical(to_json(content))).hexdigest()


def chained(before: str, facts: Json) -> str:
    """Return the SHA-256 over `facts` and the digest before them: one link of a chain."""
    return hashlib.sha256(before.encode() + b"\n" + canonical(facts)).hexdigest()


def chain_holds(digests: Sequence[str], facts: Sequence[Json]) -> bool:
    """Return whether every link of a chain is the one that its facts make."""
    before = ""
    for digest, fact in zip(digests, facts, strict=True):
        if chained(before, fact) != digest:
            return False
        before = digest
    return True
