"""Sign in and out, the first password by a one-time link, another password, the language.

A password is looked at outside any transaction: it takes a while on purpose. So what was
read before is compared again in the transaction that opens the session.
"""

import logging
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from storage.access import codes, guesses, passwords, sessions, users
from storage.access.guesses import TooOften
from storage.access.passwords import WeakPassword
from storage.access.sessions import Audience
from storage.access.users import User
from storage.base.errors import NotPermitted
from storage.db.engine import transaction
from viewer_api import addresses, cookies, deps, pages, texts
from viewer_api.deps import Transaction
from viewer_api.forms import Form

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)

RULES: Final = {"shortest": passwords.SHORTEST, "longest": passwords.LONGEST}
SESSION: Final = cookies.NAMES[Audience.PAGES]


@router.get("/login")
def ask(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the URL
    """Show the form."""
    return _form(request, pages.own_path(next))


@router.post("/login")
def sign_in(request: Request, form: Form) -> Response:
    """Begin a session, or say that name or password is wrong."""
    deps.require_own_page(request)
    name, path = form.get("name", ""), pages.own_path(form.get("next", "/"))
    try:
        user = _recognised(request, name, form.get("password", ""))
    except TooOften as error:
        page = _form(request, path, name, "sign_in_wait", 429, seconds=error.wait_s)
        page.headers["Retry-After"] = str(error.wait_s)
        return page
    if user is None:
        return _form(request, path, name, "sign_in_wrong", 403)
    return _signed_in(request, user, path)


@router.post("/logout")
def sign_out(request: Request) -> Response:
    """End the session, and the viewer's with it."""
    deps.require_own_page(request)
    root = deps.root_url(request)
    with transaction(deps.parts(request).engine) as session:
        sessions.end(session, cookies.read(request.headers, SESSION, root))
    deps.parts(request).callers.forget()
    answer = pages.redirect(root, "/login")
    cookies.remove(answer, SESSION, root)
    return answer


@router.get("/language/{tag}")
def choose_language(request: Request, tag: str, next: str = "/") -> Response:  # noqa: A002
    """Remember the language of the pages in this browser."""
    root = deps.root_url(request)
    answer = pages.redirect(root, pages.own_path(next))
    cookies.write(answer, cookies.LANGUAGE, texts.language(tag), root, keep_s=pages.YEAR_S)
    return answer


@router.get("/welcome/{code}")
def welcome(request: Request, session: Transaction, code: str) -> Response:
    """Show the form for the first password; the link stays good until it is sent."""
    try:
        user = codes.owner_of_link(session, code)
    except NotPermitted:
        return pages.render(request, deps.root_url(request), "link_void.html", 403)
    return _first(request, user)


@router.post("/welcome/{code}")
def set_first(request: Request, code: str, form: Form) -> Response:
    """Set the password, use the link up and begin a session."""
    deps.require_own_page(request)
    engine = deps.parts(request).engine
    try:
        with transaction(engine) as session:
            user = codes.owner_of_link(session, code)
        fault = _set(request, user, form)
    except NotPermitted:
        return pages.render(request, deps.root_url(request), "link_void.html", 403)
    return _first(request, user, fault) if fault else _signed_in(request, user, "/")


@router.get("/password", dependencies=[Depends(deps.may(None, page=True))])
def ask_password(request: Request) -> Response:
    """Show the form for another password."""
    return _change(request)


@router.post("/password", dependencies=[Depends(deps.may(None, page=True))])
def set_password(request: Request, form: Form) -> Response:
    """Set another password; every other session of the user ends."""
    name = deps.caller_of(request).user
    try:
        user = _recognised(request, name, form.get("current", ""))
    except TooOften as error:
        return _change(request, "sign_in_wait", 429, seconds=error.wait_s)
    if user is None:
        return _change(request, "password_current_wrong", 403)
    fault = _set(request, user, form)
    return _change(request, fault, 400) if fault else _signed_in(request, user, "/")


def _recognised(request: Request, name: str, password: str) -> User | None:
    """Return the user of that name and password.

    Raises
    ------
    TooOften
        Too many guesses were made; this one is not looked at.
    """
    engine = deps.parts(request).engine
    address = addresses.client(deps.address_of(request), request.headers)
    with transaction(engine) as session:
        guesses.admit(session, name, address)
        found = users.credentials(session, name)
    user, kept = found or (None, None)
    if not passwords.matches(password, kept) or user is None or kept is None:
        log.warning("sign_in_refused", extra={"peer": address})
        return None
    with transaction(engine) as session:
        if users.credentials(session, name) != found:
            return None
        guesses.forgive(session, name, address)
        if passwords.outdated(kept):
            users.refresh_hash(session, user, password)
    return user


def _set(request: Request, user: User, form: Mapping[str, str]) -> str:
    """Set the new password of the form and return '', or the text of what is wrong with it."""
    if form.get("new", "") != form.get("again", ""):
        return "password_differs"
    try:
        with transaction(deps.parts(request).engine) as session:
            users.set_password(session, user, form.get("new", ""))
    except WeakPassword as error:
        return f"password_{error.fault}"
    deps.parts(request).callers.forget()
    return ""


def _signed_in(request: Request, user: User, path: str) -> Response:
    root = deps.root_url(request)
    with transaction(deps.parts(request).engine) as session:
        secret = sessions.begin(session, user)
    log.info("signed_in", extra={"token_prefix": f"user:{user.name}"})
    answer = pages.redirect(root, path)
    cookies.write(answer, SESSION, secret, root)
    return answer


def _form(
    request: Request, path: str, name: str = "", fault: str = "", status: int = 200, **said: object
) -> Response:
    shown = {"next": path, "name": name[:64], "fault": fault, "said": said}
    origin = deps.viewer_origin(request)
    root = deps.root_url(request)
    return pages.render(request, root, "sign_in.html", status, sends_to=origin, **shown)


def _first(request: Request, user: User, fault: str = "") -> Response:
    status = 400 if fault else 200
    root = deps.root_url(request)
    shown = {"user": user, "fault": fault, "said": RULES}
    return pages.render(request, root, "welcome.html", status, **shown)


def _change(request: Request, fault: str = "", status: int = 200, **said: object) -> Response:
    root = deps.root_url(request)
    shown = {"name": deps.caller_of(request).user, "fault": fault, "said": RULES | said}
    return pages.render(request, root, "password.html", status, **shown)
