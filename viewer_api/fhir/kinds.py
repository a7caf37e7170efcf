"""The types of resources that are served: who may see them, how they are searched and made."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ris.listing import audits as audit_listing
from ris.listing import people, subscriptions
from ris.listing import reports as report_listing
from ris.listing import requests as request_listing
from ris.listing import studies as study_listing
from storage.access.tokens import Action
from storage.db.criteria import Criterion, Wanted
from storage.db.engine import Session
from viewer_api.fhir import audits, hooks, patients, reports, requests, studies
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.parameters import Kind, Param

Find = Callable[..., list[int]]
Count = Callable[..., int]
Load = Callable[[Session, Collection[int]], Mapping[int, Any]]

PATIENT, REQUEST, STUDY = "Patient", "ServiceRequest", "ImagingStudy"
REPORT, ENDPOINT, PROVENANCE = "DiagnosticReport", "Endpoint", "Provenance"
AUDIT: Final = "AuditEvent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """One type of resources."""

    name: str
    action: Action
    """Who may see it may do this."""
    params: Mapping[str, Param]
    references: Mapping[str, str] = field(default_factory=dict)
    """Search parameter → member that is a reference: what may be included."""
    find: Find
    count: Count
    load: Load
    render: Callable[[Any, Context], Json]
    sorts: Collection[str] = ()
    """Search parameters that it is sorted by, besides its id."""
    find_sorted: Find | None = None
    shown: Callable[[Any], bool] = bool
    """Whether what was loaded can be shown."""
    says: str = ""


_ID: Final = Param(Kind.TOKEN, says="logical id")
_UPDATED: Final = Param(Kind.DATE, says="last change")
_COMMON: Final = {"_id": _ID, "_lastUpdated": _UPDATED}
_OF_PATIENT: Final = Param(
    Kind.REFERENCE, (PATIENT,), "the patient; who was merged counts with who stands for him"
)
_BASED_ON: Final = Param(Kind.REFERENCE, (REQUEST,), "the order")


def _only(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Find the only endpoint there is."""
    del session, full
    named = [{getattr(value, "code", "") for value in one.values} for one in wanted.criteria]
    is_it = all(study_listing.ENDPOINT in codes for codes in named)
    return [1] if is_it and wanted.after is None and wanted.limit else []


def _one(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    return len(_only(session, Wanted(criteria=tuple(asked)), full=full))


def _ones(_session: Session, ids: Collection[int]) -> Mapping[int, Any]:
    return dict.fromkeys(ids, study_listing.ENDPOINT)


def _endpoint(_found: Any, context: Context) -> Json:  # noqa: ANN401 - there is one
    return studies.render_endpoint(context)


TYPES: Final[Mapping[str, Type]] = {
    one.name: one
    for one in (
        Type(
            name=PATIENT,
            action=Action.QUERY,
            params={
                **_COMMON,
                "identifier": Param(Kind.TOKEN, says="any number, those of merged patients too"),
                "name": Param(Kind.STRING, says="begins of words, accents left out"),
                "family": Param(Kind.STRING, says="family name"),
                "given": Param(Kind.STRING, says="given or middle name"),
                "birthdate": Param(Kind.DATE, says="date of birth"),
                "gender": Param(Kind.TOKEN, says="administrative gender"),
                "active": Param(Kind.TOKEN, says="false: merged into another patient"),
            },
            find=people.find,
            count=people.count,
            load=people.load,
            render=patients.render,
        ),
        Type(
            name=REQUEST,
            action=Action.SEE_ORDERS,
            params={
                **_COMMON,
                "identifier": Param(Kind.TOKEN, says="placer, filler or accession number"),
                "requisition": Param(Kind.TOKEN, says="number of the request form"),
                "patient": _OF_PATIENT,
                "subject": _OF_PATIENT,
                "status": Param(Kind.TOKEN, says="state of the order"),
                "intent": Param(Kind.TOKEN, says="order"),
                "priority": Param(Kind.TOKEN, says="priority"),
                "code": Param(Kind.TOKEN, says="code of a requested procedure"),
                "authored": Param(Kind.DATE, says="when it was ordered"),
                "occurrence": Param(Kind.DATE, says="when it is to be done"),
            },
            references={"patient": "subject", "subject": "subject"},
            find=request_listing.find,
            sorts=request_listing.SORTS,
            find_sorted=request_listing.find_sorted,
            count=request_listing.count,
            load=request_listing.load,
            render=requests.render,
        ),
        Type(
            name=STUDY,
            action=Action.QUERY,
            params={
                **_COMMON,
                "identifier": Param(Kind.TOKEN, says="Study Instance UID or accession number"),
                "patient": _OF_PATIENT,
                "subject": _OF_PATIENT,
                "basedon": _BASED_ON,
                "endpoint": Param(Kind.REFERENCE, (ENDPOINT,), "where it is fetched from"),
                "modality": Param(Kind.TOKEN, says="of any of its series"),
                "series": Param(Kind.TOKEN, says="Series Instance UID"),
                "started": Param(Kind.DATE, says="study date and time"),
                "status": Param(Kind.TOKEN, says="available"),
            },
            references={
                "patient": "subject",
                "subject": "subject",
                "basedon": "basedOn",
                "endpoint": "endpoint",
            },
            find=study_listing.find,
            sorts=study_listing.SORTS,
            find_sorted=study_listing.find_sorted,
            count=study_listing.count,
            load=study_listing.load,
            render=studies.render,
            shown=studies.has_id,
        ),
        Type(
            name=REPORT,
            action=Action.READ_REPORTS,
            params={
                **_COMMON,
                "identifier": Param(Kind.TOKEN, says="number of the report, or accession number"),
                "patient": _OF_PATIENT,
                "subject": _OF_PATIENT,
                "based-on": _BASED_ON,
                "imaging-study": Param(Kind.REFERENCE, (STUDY,), "the study that it is about"),
                "status": Param(Kind.TOKEN, says="state of what was issued last"),
                "category": Param(Kind.TOKEN, says="RAD"),
                "code": Param(Kind.TOKEN, says="code of a requested procedure"),
                "date": Param(Kind.DATE, says="date and time of the study"),
                "issued": Param(Kind.DATE, says="when the present version was issued"),
            },
            references={
                "patient": "subject",
                "subject": "subject",
                "based-on": "basedOn",
                "imaging-study": "imagingStudy",
            },
            find=report_listing.find,
            sorts=report_listing.SORTS,
            find_sorted=report_listing.find_sorted,
            count=report_listing.count,
            load=report_listing.load,
            render=reports.render,
        ),
        Type(
            name=ENDPOINT,
            action=Action.QUERY,
            params={"_id": _ID},
            find=_only,
            count=_one,
            load=_ones,
            render=_endpoint,
        ),
        Type(
            name=PROVENANCE,
            action=Action.READ_REPORTS,
            params={
                **_COMMON,
                "target": Param(Kind.REFERENCE, (REPORT,), "the report"),
                "patient": _OF_PATIENT,
                "recorded": Param(Kind.DATE, says="when it was issued"),
            },
            references={"target": "target"},
            find=report_listing.find_versions,
            count=report_listing.count_versions,
            load=report_listing.of_versions,
            render=reports.render_provenance,
        ),
        Type(
            name=AUDIT,
            action=Action.MANAGE,
            params={
                **_COMMON,
                "date": Param(Kind.DATE, says="when it was written"),
                "patient": _OF_PATIENT,
                "entity": Param(Kind.REFERENCE, (REPORT, STUDY), "report or study"),
                "type": Param(Kind.TOKEN, says="code of DICOM PS3.16 CID 400"),
                "subtype": Param(Kind.TOKEN, says="what was done, in our words"),
                "action": Param(Kind.TOKEN, says="C, R, U, D, E"),
                "outcome": Param(Kind.TOKEN, says="0, 4, 8"),
                "altid": Param(Kind.TOKEN, says="user, token or device"),
                "agent-name": Param(Kind.STRING, says="name of who did it"),
                "site": Param(Kind.TOKEN, says="health station"),
            },
            find=audit_listing.find,
            count=audit_listing.count,
            load=audit_listing.load,
            render=audits.render,
        ),
        Type(
            name=hooks.KIND,
            action=Action.MANAGE,
            params={"_id": _ID, "status": Param(Kind.TOKEN, says="active, error, off")},
            find=subscriptions.find,
            count=subscriptions.count,
            load=subscriptions.load,
            render=hooks.render,
        ),
    )
}
PARAMS: Final = {name: one.params for name, one in TYPES.items()}
