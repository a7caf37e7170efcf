"""What this server can (FHIR R4 2.2), made from the tables that it works by."""

from importlib.metadata import version
from typing import Final

from viewer_api.fhir.datatypes import Json
from viewer_api.fhir.kinds import TYPES, Type
from viewer_api.fhir.parameters import Param

FHIR_VERSION: Final = "4.0.1"
DATE: Final = "2026-11-26"
"""When this page was changed last."""
WRITTEN: Final = frozenset({"Subscription"})
VERSIONED: Final = frozenset({"DiagnosticReport"})
SECURITY: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"


def statement(base: str) -> Json:
    """Return the statement of the server at `base`."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "fhirVersion": FHIR_VERSION,
        "format": ["json"],
        "software": {"name": "Lienthong", "version": version("lienthong")},
        "implementation": {"description": "Lienthong FHIR R4", "url": base},
        "rest": [
            {
                "mode": "server",
                "security": {
                    "description": "Authorization: Bearer TOKEN; roles decide what is seen",
                },
                "resource": [_resource(one) for one in TYPES.values()],
            }
        ],
    }


def _resource(kind: Type) -> Json:
    codes = ["read", "search-type"]
    versioned = kind.name in VERSIONED
    codes += ["vread", "history-instance"] if versioned else []
    codes += ["create", "update", "delete"] if kind.name in WRITTEN else []
    made: Json = {
        "type": kind.name,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned" if versioned else "no-version",
        "readHistory": versioned,
        "conditionalRead": "full-support",
        "searchParam": [_param(name, one) for name, one in kind.params.items()],
    }
    if kind.references:
        made["searchInclude"] = [f"{kind.name}:{name}" for name in kind.references]
    reverse = [
        f"{other.name}:{name}"
        for other in TYPES.values()
        for name in other.references
        if kind.name in other.params[name].targets
    ]
    if reverse:
        made["searchRevInclude"] = reverse
    return made


def _param(name: str, one: Param) -> Json:
    return {"name": name, "type": str(one.kind), "documentation": one.says}
