"""FHIR R4 under ``/fhir``: read, search by GET and POST, and the versions of reports."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from ris.listing import reports as report_listing
from ris.listing import subscriptions
from storage.access.tokens import PERMITTED, Action
from storage.audit import journal
from storage.audit.model import Entry
from storage.audit.model import Kind as Written
from storage.base.errors import Malformed, NotFound, NotSupported
from storage.db.engine import Session, transaction
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.fhir import audits, capability, hooks, reports
from viewer_api.fhir.bundles import Searcher
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.kinds import PARAMS, REPORT, TYPES, Type
from viewer_api.fhir.naming import Naming
from viewer_api.fhir.outcomes import MEDIA_TYPE, ROOT
from viewer_api.fhir.parameters import Asked, Reader
from viewer_api.problems import TooLarge, UnsupportedMediaType

router = APIRouter(prefix=ROOT, tags=["FHIR"])

MAX_FORM: Final = 1 << 16
FORM: Final = "application/x-www-form-urlencoded"
JSON_TYPES: Final = frozenset({"json", "application/json", MEDIA_TYPE, "text/json", "*/*"})
Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9\-.]{1,64}$")]
VersionId = Annotated[str, Path(pattern=r"^[0-9]{1,9}$")]


def context_of(request: Request) -> Context:
    """Return what rendering needs to know of a request."""
    parts = deps.parts(request)
    root = deps.root_url(request)
    caller = deps.caller_of(request)
    return Context(
        base=root + ROOT,
        dicomweb=root + deps.DICOMWEB,
        reports=root + "/api/v1/reports",
        naming=Naming(parts.settings.fhir_naming_root),
        zone=parts.settings.zone,
        full=Action.SEE_ORDERS in PERMITTED[caller.role],
    )


def searcher_of(request: Request, session: Session) -> Searcher:
    """Return who answers the searches of a request."""
    who = deps.caller_of(request), deps.address_of(request)
    return Searcher(session, *who, context_of(request))


def reader_of(request: Request) -> Reader:
    """Return who reads the parameters of a request."""
    settings = deps.parts(request).settings
    lenient = "handling=lenient" in request.headers.get("prefer", "")
    naming = Naming(settings.fhir_naming_root)
    return Reader(PARAMS, settings.zone, naming.kind, lenient=lenient)


@router.get("/metadata", dependencies=[Depends(deps.may(None))])
def show_capabilities(request: Request) -> Response:
    """Return what this server can."""
    require_json(request)
    return answer(request, capability.statement(deps.root_url(request) + ROOT))


def require_json(request: Request) -> None:
    """Raise `NotSupported` when the client takes no JSON."""
    wanted = request.query_params.get("_format", "")
    kinds = [wanted] if wanted else request.headers.get("accept", "*/*").split(",")
    bare = {one.partition(";")[0].strip().lower() for one in kinds}
    if not bare & {*JSON_TYPES, "application/*", ""}:
        raise NotSupported(f"{MEDIA_TYPE} is what there is")


def answer(
    request: Request, resource: Json, *, changed: str = "", version: str = "", status: int = 200
) -> Response:
    """Return a resource, or 304 when the client has it (FHIR R4 3.1.0.5, conditional read)."""
    indent = 2 if request.query_params.get("_pretty") == "true" else None
    body = json.dumps(resource, ensure_ascii=False, indent=indent).encode()
    tag = version or hashlib.sha256(body).hexdigest()[:16]
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "private, no-cache"}
    moment = datetime.fromisoformat(changed) if changed else None
    if moment is not None:
        headers["Last-Modified"] = format_datetime(moment.astimezone(UTC), usegmt=True)
    if request.method == "GET" and _has_it(request, tag, moment):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, f"{MEDIA_TYPE}; charset=utf-8")


def _has_it(request: Request, tag: str, moment: datetime | None) -> bool:
    """Compare what the client has (RFC 9110 13.2.2: the tag goes before the date)."""
    given = request.headers.get("if-none-match")
    if given is not None:
        tags = {one.strip().removeprefix("W/").strip('"') for one in given.split(",")}
        return tag in tags or "*" in tags
    since = request.headers.get("if-modified-since")
    if since is None or moment is None:
        return False
    try:
        known = parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False
    if known.tzinfo is None:
        known = known.replace(tzinfo=UTC)
    return moment.replace(microsecond=0) <= known


def show(request: Request, resource: Json) -> Response:
    """Return a resource with what its meta says of it."""
    meta = resource.get("meta", {})
    found = {"changed": meta.get("lastUpdated", ""), "version": meta.get("versionId", "")}
    return answer(request, resource, **found)


def _reading(kind: Type) -> Callable[..., Response]:
    def read(request: Request, session: Transaction, id: Id) -> Response:  # noqa: A002 - as FHIR has it
        require_json(request)
        return show(request, searcher_of(request, session).read(kind, id))

    return read


def _searching(kind: Type) -> Callable[..., Response]:
    def search(request: Request, session: Transaction) -> Response:
        require_json(request)
        asked = reader_of(request).read(kind.name, request.query_params.multi_items())
        return answer(request, searcher_of(request, session).search(kind, asked))

    return search


def _posting(kind: Type) -> "Callable[..., object]":
    async def search(request: Request) -> Response:
        require_json(request)
        pairs = [*request.query_params.multi_items(), *await form_of(request)]
        asked = reader_of(request).read(kind.name, pairs)
        return await run_in_threadpool(_searched, request, kind, asked)

    return search


def _searched(request: Request, kind: Type, asked: Asked) -> Response:
    with transaction(deps.parts(request).engine) as session:
        return answer(request, searcher_of(request, session).search(kind, asked))


async def form_of(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form.

    Raises
    ------
    UnsupportedMediaType
        It is no form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            raise TooLarge(f"a form of more than {MAX_FORM} bytes")
    if body and kind != FORM:
        raise UnsupportedMediaType(f"send {FORM}")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError as error:
        raise Malformed("the form cannot be read") from error


for _kind in TYPES.values():
    _guard = [Depends(deps.may(_kind.action))]
    router.add_api_route(
        f"/{_kind.name}",
        _searching(_kind),
        methods=["GET"],
        dependencies=_guard,
        name=f"search {_kind.name}",
        description=f"Search {_kind.name}: {', '.join(_kind.params)}.",
    )
    router.add_api_route(
        f"/{_kind.name}/_search",
        _posting(_kind),
        methods=["POST"],
        dependencies=_guard,
        name=f"search {_kind.name} by POST",
        description=f"Search {_kind.name} by the fields of a form.",
    )
    router.add_api_route(
        f"/{_kind.name}/{{id}}",
        _reading(_kind),
        methods=["GET"],
        dependencies=_guard,
        name=f"read {_kind.name}",
        description=f"Return one {_kind.name}.",
    )


_READS: Final = [Depends(deps.may(Action.READ_REPORTS))]


@router.get(f"/{REPORT}/{{id}}/_history", dependencies=_READS)
def list_versions(request: Request, session: Transaction, id: Id) -> Response:  # noqa: A002
    """List the issued versions of a report, newest first."""
    require_json(request)
    searcher = searcher_of(request, session)
    context = searcher.context
    found = [reports.render(one, context) for one in report_listing.versions(session, id)][::-1]
    if not found:
        raise NotFound("nothing was issued of such a report")
    for one in found:
        searcher.tell(one)
    entries = [
        {
            "fullUrl": f"{context.base}/{REPORT}/{id}",
            "resource": one,
            "request": {"method": "PUT", "url": f"{REPORT}/{id}"},
            "response": {
                "status": "200",
                "etag": f'W/"{one["meta"]["versionId"]}"',
                "lastModified": one["meta"]["lastUpdated"],
            },
        }
        for one in found
    ]
    bundle = {"resourceType": "Bundle", "type": "history", "total": len(found), "entry": entries}
    return answer(request, bundle)


@router.get(f"/{REPORT}/{{id}}/_history/{{version}}", dependencies=_READS)
def read_version(
    request: Request,
    session: Transaction,
    id: Id,  # noqa: A002 - as FHIR has it
    version: VersionId,
) -> Response:
    """Return one issued version of a report: it never changes, unless the report is retracted."""
    require_json(request)
    found = report_listing.version(session, id, int(version))
    if found is None:
        raise NotFound("no such version was issued")
    searcher = searcher_of(request, session)
    shown = reports.render(found, searcher.context)
    searcher.tell(shown)
    # a client that still has the text of what was retracted since is not told to keep it
    return answer(request, shown) if found.hidden else show(request, shown)


# Subscriptions

_MANAGES: Final = [Depends(deps.may(Action.MANAGE))]
MAX_BODY: Final = 1 << 16


@router.post(f"/{hooks.KIND}", dependencies=_MANAGES)
async def subscribe(request: Request) -> Response:
    """Make a Subscription over rest-hook."""
    body = await _body(request)
    return await run_in_threadpool(_subscribed, request, body, "")


@router.put(f"/{hooks.KIND}/{{id}}", dependencies=_MANAGES)
async def change_subscription(request: Request, id: Id) -> Response:  # noqa: A002
    """Change a Subscription; with status `off` nothing is told any more."""
    body = await _body(request)
    return await run_in_threadpool(_subscribed, request, body, id)


@router.delete(f"/{hooks.KIND}/{{id}}", dependencies=_MANAGES, status_code=204)
def unsubscribe(request: Request, session: Transaction, id: Id) -> Response:  # noqa: A002
    """Forget a Subscription."""
    subscriptions.remove(session, id)
    _note(request, session, {"subscription": id, "done": "removed"})
    return Response(status_code=204)


def _subscribed(request: Request, body: bytes, uid: str) -> Response:
    parts, caller = deps.parts(request), deps.caller_of(request)
    hosts = parts.settings.fhir_hook_hosts.split()
    with transaction(parts.engine) as session:
        before = subscriptions.get(session, uid) if uid else None
        wish = hooks.read(body, reader_of(request), hosts, before)
        who = caller.user or caller.prefix, str(caller.role)
        made = subscriptions.put(session, wish, *who, uid=uid)
        _note(request, session, {"subscription": made.uid, "done": "put"})
    shown = hooks.render(made, None)
    answered = answer(request, shown, status=200 if uid else 201)
    answered.headers["Location"] = f"{context_of(request).base}/{hooks.KIND}/{made.uid}"
    return answered


def _note(request: Request, session: Session, details: Json) -> None:
    caller = deps.caller_of(request)
    who = audits.who(caller, deps.address_of(request))
    journal.append(session, Entry(kind=Written.REGISTRY, **who, details=details))


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise TooLarge(f"more than {MAX_BODY} bytes")
    return body
