"""How numbers and codes of the hospital are named in FHIR: the URIs of their systems.

Below one root, of which the hospital may have its own (`fhir_naming_root`): a URL parts its names
by ``/``, a URN by ``:``. What has a name of its own in the world keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from ris.requests import Code
from storage.base.values import is_uid

URN: Final = "urn:"
OID: Final = "urn:oid:"
UID: Final = "urn:dicom:uid"
ISSUER: Final = "issuer"
PROCEDURE: Final = "code"
CODES: Final[Mapping[str, str]] = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "UCUM": "http://unitsofmeasure.org",
}
"""Coding Scheme Designator (PS3.16 8) → system."""
V2: Final = "http://terminology.hl7.org/CodeSystem/v2-"


@dataclass(frozen=True, slots=True)
class Naming:
    """The names below one root."""

    root: str

    def system(self, kind: str, of: str = "") -> str:
        """Return the system of a kind of number; `of`: who gives it out."""
        if kind == ISSUER and is_uid(of):
            return OID + of
        mark = ":" if self.root.startswith(URN) else "/"
        return mark.join([self.root, kind, *([quote(of, safe="")] if of else [])])

    def kind(self, system: str) -> str:
        """Return ``kind`` or ``kind:of`` of a system; itself when it is none that we name."""
        known = next((name for name, uri in CODES.items() if uri == system), None)
        if known is not None:
            return f"{PROCEDURE}:{known}"
        if system.startswith(OID):
            return f"{ISSUER}:{system.removeprefix(OID)}"
        mark = ":" if self.root.startswith(URN) else "/"
        if not system.startswith(self.root + mark):
            return system
        kind, _, of = system.removeprefix(self.root + mark).partition(mark)
        return f"{kind}:{unquote(of)}" if of else kind

    def code_system(self, scheme: str) -> str:
        """Return the system of a coding scheme, by its designator."""
        return CODES.get(scheme.upper(), self.system(PROCEDURE, scheme or "local"))

    def concept(self, code: Code) -> dict[str, object]:
        """Return a CodeableConcept."""
        coding = {
            "system": self.code_system(code.scheme),
            "code": code.value,
            "display": code.meaning,
        }
        given = {name: text for name, text in coding.items() if text}
        return {
            **({"coding": [given]} if code.value.strip() else {}),
            **({"text": code.meaning} if code.meaning else {}),
        }
