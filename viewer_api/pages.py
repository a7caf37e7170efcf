"""Pages for people: templates, their language, their headers, and how our errors read there.

The pages are whole without JavaScript and load nothing from anywhere else. This is the
only door to Jinja.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import jinja2
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from storage.access.tokens import Caller
from storage.base.errors import ImagingError
from viewer_api import cookies, problems, texts
from viewer_api.problems import Unauthenticated
from viewer_api.texts import Language

FOLDER: Final = Path(__file__).parent
ASSETS: Final = FOLDER / "static"
MAX_NEXT: Final = 2000
YEAR_S: Final = 365 * 24 * 3600

# Other programs than browsers ask here; they get problem documents.
_FOR_PROGRAMS: Final = ("/dicom-web", "/api", "/fhir", "/stations", "/health", "/metrics")

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class SignInFirst(Unauthenticated):
    """A person who has not signed in opened a page that needs it."""


def language_of(request: Request, root: str) -> Language:
    """Return the language that this browser chose, Vietnamese when it chose none."""
    return texts.language(cookies.read(request.headers, cookies.LANGUAGE, root))


def render(
    request: Request, root: str, template: str, status: int = 200, **values: object
) -> HTMLResponse:
    """Return a page; `root` is the root of its origin as the browser sees it.

    A value `sends_to` names another origin where forms of the page may end up; `home` says
    where the pages are if this one is on another origin, which has nothing to sign out of, or
    is for somebody with nothing to sign in for; `language` is said where the address tells it.
    """
    language = texts.language(str(values.pop("language", "")) or language_of(request, root))
    base = urlsplit(root).path
    caller: Caller | None = request.scope["state"].get("caller")
    sends_to = str(values.pop("sends_to", ""))
    home = str(values.pop("home", ""))
    page = _templates.get_template(template).render(
        base=base,
        abroad=bool(home),
        home=home or f"{base}/",
        say=partial(texts.say, language),
        day=partial(texts.day, language),
        language=language,
        languages=texts.NAMES,
        caller=caller,
        here=quote(_here(request)),
        style=f"{base}/static/{asset_name('style.css')}",
        icon=f"{base}/static/{asset_name('icon.svg')}",
        **values,
    )
    return HTMLResponse(page, status, headers=_headers(language, sends_to))


def redirect(root: str, path: str) -> Response:
    """Return the answer that leads to `path` of our own origin (See Other)."""
    return RedirectResponse(urlsplit(root).path + path, HTTPStatus.SEE_OTHER)


def own_path(text: str) -> str:
    """Return `text` if it is a path and query of our own origin, else ``/``."""
    plain = text.isascii() and text.isprintable() and len(text) <= MAX_NEXT
    own = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if plain and own else "/"


@cache
def asset_name(name: str) -> str:
    """Return the name of an asset with a piece of its hash, so that it may be kept for ever."""
    digest = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()
    stem, _, ending = name.rpartition(".")
    return f"{stem}-{digest[:12]}.{ending}"


def register(
    app: FastAPI, root_of: Callable[[Headers, Scope], str], home_of: Callable[[Request], str]
) -> None:
    """Answer the errors of `app` with a page where a person asked.

    `root_of` tells the root of the app's origin as the sender of a request sees it, and
    `home_of` where the pages are if that is another one, else ''.
    """

    async def on_error(request: Request, error: Exception) -> Response:
        root = root_of(request.headers, request.scope)
        return _on_error(request, error, root, home_of(request))

    app.add_exception_handler(ImagingError, on_error)
    app.add_exception_handler(HTTPException, on_error)


def _on_error(request: Request, error: Exception, root: str, home: str) -> Response:
    if isinstance(error, SignInFirst):
        back = quote(_here(request), safe="") if request.method == "GET" else ""
        return redirect(root, f"/login?next={back}" if back else "/login")
    answer = problems.answer_to(error)
    if answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = problems.permitted(request)
    if not _is_for_a_person(request.url.path, request.headers):
        return answer
    page = error_page(request, root, answer.status_code, home)
    for name in ("retry-after", "allow"):
        if name in answer.headers:
            page.headers[name] = answer.headers[name]
    return page


def error_page(request: Request, root: str, status: int, home: str = "") -> HTMLResponse:
    """Return what a person reads instead of a problem document."""
    told = f"error_{status}"
    key = told if told in texts.TEXTS[Language.VI] else "error_other"
    return render(request, root, "error.html", status, key=key, home=home)


def _is_for_a_person(path: str, headers: Headers) -> bool:
    return "text/html" in headers.get("accept", "") and not path.startswith(_FOR_PROGRAMS)


def _here(request: Request) -> str:
    """Return path and query of the request, to come back to; ``/`` when it was a form."""
    if request.method != "GET":
        return "/"
    query = request.url.query
    return own_path(f"{quote(request.url.path)}?{query}" if query else quote(request.url.path))


def _headers(language: Language, sends_to: str) -> Mapping[str, str]:
    # "no-referrer" would make browsers send "Origin: null" with our own forms
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {sends_to}"
    )
    return {
        "Content-Security-Policy": policy.strip(),
        "Referrer-Policy": "same-origin",
        "Content-Language": language,
        "Vary": "Cookie",
    }
