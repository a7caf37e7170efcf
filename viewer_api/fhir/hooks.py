"""Subscription (FHIR R4 2.46) over rest-hook: reading it, and telling who subscribed.

Only hosts that the operator named are ever called (`fhir_hook_hosts`), no redirection is followed,
and nothing is sent of patients unless the subscriber asks for it (`channel.payload`).
"""

import http.client
import json
import re
import ssl
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from ris.listing.subscriptions import ACTIVE, OFF, Subscription, Wish
from storage.base.errors import Malformed, NotPermitted, PeerUnavailable
from viewer_api.fhir import datatypes
from viewer_api.fhir.datatypes import Json
from viewer_api.fhir.outcomes import MEDIA_TYPE
from viewer_api.fhir.parameters import Asked, Reader

KIND: Final = "Subscription"
REST_HOOK: Final = "rest-hook"
NOTIFIED: Final = ("Patient", "ServiceRequest", "ImagingStudy", "DiagnosticReport")
"""Types of which changes are told."""
STATUSES: Final = ("requested", ACTIVE, "error", OFF)
HIDDEN: Final = "***"
"""In place of the value of a header."""
MAX_HEADERS: Final = 10
TIMEOUT_S: Final = 10.0
_HEADER: Final = re.compile(r"([A-Za-z0-9\-]{1,64}): ?([\x20-\x7e]{0,1000})")
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "upgrade"}
)
_SUCCESS: Final = range(200, 300)


def read(body: bytes, reader: Reader, hosts: Collection[str], before: Subscription | None) -> Wish:
    """Read a Subscription that somebody wants to have.

    `before` is what it takes the place of: a header whose value is hidden stays as it was.

    Raises
    ------
    Malformed
        It is no Subscription, or one that cannot be served.
    NotPermitted
        Its endpoint is on a host that the operator has not named.
    """
    given = _valid(body)
    channel = given["channel"]
    if given["status"] not in STATUSES:
        raise Malformed(f"status: one of {', '.join(STATUSES)}")
    if channel["type"] != REST_HOOK:
        raise Malformed("channel.type: rest-hook is what there is")
    payload = channel.get("payload", "")
    if payload not in {"", MEDIA_TYPE, "application/json"}:
        raise Malformed(f"channel.payload: {MEDIA_TYPE}, or none")
    kind, _, query = given["criteria"].partition("?")
    criteria_of(kind, query, reader)
    ends = given.get("end")
    return Wish(
        kind=kind,
        criteria=query,
        reason=given["reason"],
        endpoint=_endpoint(channel.get("endpoint", ""), hosts),
        payload=payload,
        headers=_headers(channel.get("header", ()), before),
        ends_at=datetime.fromisoformat(ends) if ends else None,
        status=OFF if given["status"] == OFF else ACTIVE,
    )


def criteria_of(kind: str, query: str, reader: Reader) -> Asked:
    """Return the search that a criteria is.

    Raises
    ------
    Malformed
        It is none, or of something of which no changes are told.
    """
    if kind not in NOTIFIED:
        raise Malformed(f"criteria: of {', '.join(NOTIFIED)}")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
    except ValueError as error:
        raise Malformed("criteria: not a query") from error
    return reader.read(kind, pairs)


def _valid(body: bytes) -> Json:
    """Check a resource by the published definitions.

    Loaded when somebody subscribes: 40 MB and 0.3 s that no other request pays for.
    """
    from fhir.resources.R4B.subscription import Subscription as Model  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        given = json.loads(body)
        if not isinstance(given, dict) or given.get("resourceType") != KIND:
            raise Malformed(f"a {KIND} as {MEDIA_TYPE} is wanted")
        Model.model_validate(given)
    except ValidationError as error:
        where = sorted({".".join(map(str, one["loc"])) for one in error.errors()})
        raise Malformed(f"not a valid {KIND}: {', '.join(where)[:500]}") from error
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error
    made: Json = json.loads(Model.model_validate(given).model_dump_json())
    return made


def _endpoint(url: str, hosts: Collection[str]) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Malformed("channel.endpoint: not a URL") from error
    plain = parts.scheme in {"http", "https"} and parts.hostname and not parts.username
    if not plain or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise Malformed("channel.endpoint: an http or https URL without user and fragment")
    require_host(parts.hostname or "", port, hosts)
    return url.rstrip("/")


def require_host(host: str, port: int | None, hosts: Collection[str]) -> None:
    """Raise `NotPermitted` unless the operator named the host, or that port of it."""
    named = {host.lower()} | ({f"{host.lower()}:{port}"} if port else set())
    if not named & {one.lower() for one in hosts}:
        raise NotPermitted("channel.endpoint: no host of LIENTHONG_FHIR_HOOK_HOSTS")


def _headers(given: Collection[str], before: Subscription | None) -> tuple[str, ...]:
    held = {one.partition(":")[0].lower(): one for one in (before.headers if before else ())}
    made = []
    if len(given) > MAX_HEADERS:
        raise Malformed(f"channel.header: at most {MAX_HEADERS}")
    for one in given:
        match = _HEADER.fullmatch(one)
        if match is None or match[1].lower() in _OURS:
            raise Malformed("channel.header: Name: value, none that the connection itself has")
        kept = held.get(match[1].lower()) if match[2] == HIDDEN else None
        made.append(kept or f"{match[1]}: {match[2]}")
    return tuple(made)


def render(one: Subscription, _context: object) -> Json:
    """Return the resource; the values of headers are shown to nobody."""
    headers = [f"{text.partition(':')[0]}: {HIDDEN}" for text in one.headers]
    return datatypes.full(
        resourceType=KIND,
        id=one.uid,
        meta={"lastUpdated": datatypes.instant(one.changed_at)},
        status=one.status,
        reason=one.reason,
        criteria=f"{one.kind}?{one.criteria}" if one.criteria else one.kind,
        error=one.error,
        end=datatypes.instant(one.ends_at) if one.ends_at else None,
        channel=datatypes.full(
            type=REST_HOOK, endpoint=one.endpoint, payload=one.payload, header=headers
        ),
    )


def send(one: Subscription, hosts: Collection[str], resource: Mapping[str, Any] | None) -> None:
    """Tell a subscriber: with the resource by PUT, without by an empty POST.

    Raises
    ------
    PeerUnavailable
        It did not answer, or not with success.
    NotPermitted
        Its host is none that the operator names now.
    """
    parts = urlsplit(one.endpoint)
    require_host(parts.hostname or "", parts.port, hosts)
    path = parts.path + (f"?{parts.query}" if parts.query and resource is None else "")
    headers = {
        name: value.strip() for name, _, value in (text.partition(":") for text in one.headers)
    }
    body = b""
    if resource is not None:
        path = f"{path}/{resource['resourceType']}/{resource['id']}"
        body = json.dumps(resource, ensure_ascii=False).encode()
        headers["Content-Type"] = MEDIA_TYPE
    connection = _connection(parts.scheme, parts.hostname or "", parts.port)
    try:
        connection.request("PUT" if resource is not None else "POST", path or "/", body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise PeerUnavailable(f"{type(error).__name__}") from error
    finally:
        connection.close()
    if status not in _SUCCESS:
        raise PeerUnavailable(f"HTTP {status}")


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
