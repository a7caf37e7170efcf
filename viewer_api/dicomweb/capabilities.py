"""Retrieve Capabilities (PS3.18 8.9, Annex H): what the service does, as a WADL document.

It is made of the routes, so it tells what is there. What a transaction takes and gives stands
in a table, by the module that answers it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from pacs.render import documents
from storage.access.tokens import Action
from storage.base.errors import NotSupported
from viewer_api import deps, media
from viewer_api.dicomweb import archive, frames, representations
from viewer_api.media import Offer

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.QUERY))]
)

WADL: Final = "application/vnd.sun.wadl+xml"
OFFERS: Final = (Offer(WADL), Offer("application/xml"), Offer("text/xml"))
NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"
_PARTS: Final = f'{media.MULTIPART_RELATED}; type="%s"'


@dataclass(frozen=True, slots=True)
class Told:
    """What the transactions of a module take in their query string and give, the default first."""

    parameters: Sequence[str] = ()
    given: Sequence[str] = ()


_SEARCH: Final = ("fuzzymatching", "includefield", "limit", "offset")
_MODELS: Final = (media.DICOM_JSON, _PARTS % media.DICOM_XML, media.JSON)
_BULK: Final = (
    _PARTS % media.OCTET_STREAM,
    media.OCTET_STREAM,
    *(_PARTS % one for one in frames.DEFAULTS),
)
_RENDERED: Final = (
    *representations.STILLS,
    *representations.FILMS,
    *documents.FORMATS,
    representations.XML,
)
TOLD: Final[Mapping[str, Told]] = {
    "archive": Told(("media",), (archive.ZIP,)),
    "bulkdata": Told(given=_BULK),
    "frames": Told(given=_BULK),
    "metadata": Told(given=_MODELS),
    "rendered": Told(("annotation", "quality", "viewport", "window"), _RENDERED),
    "retrieving": Told(given=(_PARTS % media.DICOM, media.DICOM, archive.ZIP)),
    "search": Told((*_SEARCH, "after"), _MODELS),
    "storing": Told(given=(media.DICOM_JSON, media.DICOM_XML)),
    "subscribing": Told(("deletionlock", "filter")),
    "workitems": Told(("transaction-uid", "workitem", *_SEARCH), _MODELS),
}
"""By the last name of a module of this package."""


@dataclass(slots=True)
class _Resource:
    """One step of the paths."""

    routes: list[APIRoute] = field(default_factory=list)
    children: dict[str, "_Resource"] = field(default_factory=dict)


@router.options("")
@router.options("/")
def retrieve_capabilities(request: Request) -> Response:
    """Retrieve the capabilities of the service."""
    chosen = media.choose(media.accepted(request), OFFERS)
    if chosen is None:
        raise NotSupported(f"capabilities are served as {WADL}")
    root = _tree(one for one in request.app.router.routes if isinstance(one, APIRoute))
    body = "".join(_written(root))
    document = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<application xmlns="{NAMESPACE}">'
        f'<resources base="{escape(deps.dicomweb_url(request))}/">{body}</resources></application>'
    )
    return Response(document, 200, {"Vary": "Accept"}, chosen.media_type)


def _tree(routes: Iterable[APIRoute]) -> _Resource:
    root, before = _Resource(), f"{deps.DICOMWEB}/"
    for route in routes:
        path = route.path.removeprefix(before).replace(":path}", "}")
        if not route.path.startswith(before) or not path:
            continue
        at = root
        for step in path.split("/"):
            at = at.children.setdefault(step, _Resource())
        at.routes.append(route)
    return root


def _written(resource: _Resource) -> Iterator[str]:
    for route in resource.routes:
        for method in sorted(route.methods or ()):
            yield from _method(method, route)
    for step, child in resource.children.items():
        yield f'<resource path="{escape(step)}">'
        if step.startswith("{"):
            name = escape(step.strip("{}"))
            yield f'<param name="{name}" style="template" required="true"/>'
        yield from _written(child)
        yield "</resource>"


def _method(method: str, route: APIRoute) -> Iterator[str]:
    told = TOLD.get(route.endpoint.__module__.rpartition(".")[2], Told())
    name = "".join(word.capitalize() for word in route.name.split("_"))
    text = (route.endpoint.__doc__ or "").partition("\n")[0]
    yield f'<method name="{method}" id="{name}"><doc>{escape(text)}</doc><request>'
    for parameter in told.parameters:
        yield f'<param name="{parameter}" style="query"/>'
    if told.given:
        yield f'<param name="Accept" style="header" default="{escape(told.given[0])}">'
        for media_type in told.given:
            yield f'<option value="{escape(media_type)}"/>'
        yield "</param>"
    yield "</request><response>"
    for media_type in told.given:
        yield f'<representation mediaType="{escape(media_type)}"/>'
    yield "</response></method>"
