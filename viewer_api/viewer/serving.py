"""OHIF's files: free software, open to everybody; its page is for those who signed in.

A name with a hash in it is kept by browsers for ever; others are asked for again and not
sent again while they are the same. Files that are smaller gzipped were gzipped once, when
they were installed.
"""

import json
import re
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, Response

from storage.access.tokens import Action
from storage.base.errors import NotFound
from viewer_api import deps, media, pages, texts
from viewer_api.problems import Unauthenticated
from viewer_api.viewer import build, entering
from viewer_api.viewer.build import Build, File

router = APIRouter(include_in_schema=False)

LASTING: Final = f"public, max-age={pages.YEAR_S}, immutable"
CHECKED: Final = "no-cache"
CONFIG: Final = (pages.FOLDER / "viewer" / "config.js").read_text(encoding="utf-8")
OHIF_LANGUAGES: Final = {texts.Language.VI: "vi", texts.Language.EN: "en-US"}
_VALUE: Final = re.compile(r"\b(?:LANGUAGE|PAGES|ICON|TEXTS)\b")
# what OHIF's configuration calls it → what the pages do
_TEXTS: Final = {
    "session_over": "session_over",
    "sign_in_again": "sign_in_again",
    "patient": "patient",
    "mrn": "patient_id",
    "studyDateTime": "date",
    "modalities": "modality",
    "description": "description",
    "accession": "accession_number",
    "instances": "images",
}
_ETAGS: Final = {packed: f'"{build.VERSION}{packed}"' for packed in ("", build.PACKED)}
"""Of a file as it is, and gzipped: bytes of one are not to be put to bytes of the other."""

# Codecs are WebAssembly whose glue, and the readers of typed arrays, are compiled at run
# time; React writes styles. Nothing may be asked for anywhere else.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' blob: {hashes}; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; connect-src 'self' blob: data:; object-src 'self' blob:; "
    "frame-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def _build(request: Request) -> Build | None:
    """Return the installed build; looked for again until there is one."""
    state = request.app.state
    if state.build is None:
        state.build = build.find(deps.parts(request).settings.viewer_dir)
    found: Build | None = state.build
    return found


Installed = Annotated[Build | None, Depends(_build)]


@router.get("/app-config.js")
def config(request: Request) -> Response:
    """Return OHIF's configuration, in the language of this browser."""
    root = deps.root_url(request)
    language = pages.language_of(request, root)
    values = {
        "LANGUAGE": OHIF_LANGUAGES[language],
        "PAGES": f"{deps.pages_url(request)}/",
        "ICON": f"{urlsplit(root).path}/static/{pages.asset_name('icon.svg')}",
        "TEXTS": {name: texts.say(language, key) for name, key in _TEXTS.items()},
    }
    content = _VALUE.sub(lambda name: json.dumps(values[name[0]]), CONFIG)
    headers = {"Cache-Control": CHECKED, "Vary": "Cookie"}
    return Response(content, media_type=build.TYPES["js"], headers=headers)


@router.get("/signed-in")
async def signed_in(request: Request) -> Response:
    """Tell who signed in beside an open viewer to go back to it; before that, lead to the form."""
    try:
        await deps.may(Action.QUERY)(request)
    except Unauthenticated:
        return entering.ask(request)
    root, home = deps.root_url(request), deps.home(request)
    return pages.render(request, root, "signed_in.html", home=home)


@router.get("/{path:path}")
async def serve(request: Request, path: str, installed: Installed) -> Response:
    """Return a file, or the page for every path that is none."""
    if f"/{path}/".startswith(f"{deps.DICOMWEB}/"):
        raise NotFound("no such resource")
    known = installed.files.get(path) if installed else None
    if installed and known and path != build.INDEX:
        return _file(request, installed, known, LASTING if known.lasting else CHECKED)
    if "." in path.rpartition("/")[2] and path != build.INDEX:
        raise NotFound("no such file")
    return await _page(request, installed)


async def _page(request: Request, installed: Build | None) -> Response:
    try:
        await deps.may(Action.QUERY)(request)
    except Unauthenticated:
        return entering.ask(request)
    root = deps.root_url(request)
    if installed is None:
        return pages.render(request, root, "viewer_absent.html", 503, home=deps.home(request))
    return _file(request, installed, installed.index, "no-store")


def _file(request: Request, installed: Build, file: File, keep: str) -> Response:
    zipped = media.takes_gzip(request.headers.get("accept-encoding", ""))
    packed = file.packed if zipped else None
    etag = _ETAGS[build.PACKED if packed else ""]
    headers = {
        "Cache-Control": keep,
        "ETag": etag,
        # on scripts too: a worker has the policy of its own file
        "Content-Security-Policy": _POLICY.format(hashes=" ".join(installed.inline_scripts)),
        "Referrer-Policy": "same-origin",
    }
    if file.packed is not None:
        headers["Vary"] = "Accept-Encoding"
    if keep == CHECKED and media.names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    return FileResponse(packed or file.path, media_type=file.media_type, headers=headers)
