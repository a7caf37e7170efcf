"""``POST /stations/v1/token``: a device, and a named person at it, get a short token.

OAuth 2 client credentials (RFC 6749 4.4) with a signed assertion (RFC 7523 2.2); beside it the
person's name, password and one-time password.
"""

import logging
from dataclasses import dataclass, field
from typing import Annotated, Final
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from storage.access import guesses, station_sessions, station_users
from storage.access.guesses import TooOften
from storage.access.sealing import seal_of
from storage.access.station_sessions import LIFE, NotAdmitted
from storage.access.station_users import Claim, Person
from storage.access.stations import Station
from storage.audit import journal
from storage.audit.model import Entry, Kind, Outcome
from storage.base.clock import utc_now
from storage.base.errors import NotPermitted
from storage.db.engine import Session, transaction
from viewer_api import deps, problems
from viewer_api.forms import MEDIA_TYPE, Form
from viewer_api.problems import Unauthenticated
from viewer_api.stations import views

log = logging.getLogger(__name__)

router = APIRouter(prefix="/stations/v1", tags=["health stations"])

PATH: Final = "/stations/v1/token"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token (RFC 6749 5.1), and whose it is."""

    access_token: str
    expires_in: int
    """Seconds."""
    station: str
    device: str
    user: str
    role: str
    server_time: str
    token_type: str


_VIEW: Final = TypeAdapter(TokenView)
_SHORT: Final = Field(default="", max_length=256)


class TokenRequest(BaseModel):
    """The form: the device's assertion and, for a person, name and both passwords."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    grant_type: Annotated[str, Field(max_length=256)]
    client_assertion_type: Annotated[str, Field(max_length=256)]
    client_assertion: Annotated[str, Field(max_length=4096)]
    username: str = _SHORT
    password: str = _SHORT
    otp: str = _SHORT


@dataclass(slots=True)
class _Claimed:
    """Who says to call, as far as it is known."""

    address: str
    actor: str
    request_id: str = field(default_factory=lambda: uuid4().hex)
    device: str = ""
    station: str = ""

    def entry(self, why: str = "") -> Entry:
        """Return what is written of it; `why` it was refused."""
        return Entry(
            kind=Kind.SIGN_IN,
            outcome=Outcome.REFUSED if why else Outcome.SUCCESS,
            details={"why": why} if why else {},
            actor=self.actor,
            device=self.device,
            station=self.station,
            address=self.address,
            request_id=self.request_id,
        )


@router.post(
    "/token",
    response_model=TokenView,
    responses={401: {"description": "The assertion or the passwords do not hold."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": TokenRequest.model_json_schema()}},
        }
    },
)
def get_token(request: Request, fields: Form) -> Response:
    """Return a token of 15 minutes for the device that signed the assertion.

    With `username`, `password` and `otp` it is that of a person at the device, who may look
    patients up, refer them and break the glass.
    """
    form = _read(fields)
    asked = form.grant_type, form.client_assertion_type
    if asked != ("client_credentials", ASSERTION_TYPE):
        return problems.problem(
            400,
            "UnsupportedGrantType",
            f"grant_type is client_credentials, client_assertion_type is {ASSERTION_TYPE}",
            members={"error": "unsupported_grant_type"},
        )
    claimed = _Claimed(deps.address_of(request), form.username[:64])
    try:
        shown = _signed_in(request, form, claimed)
    except NotPermitted as error:
        with transaction(deps.parts(request).engine) as session:
            journal.append(session, claimed.entry(str(error)[:200]))
        log.warning("station_sign_in_refused", extra={"request_id": claimed.request_id})
        if isinstance(error, NotAdmitted | TooOften):
            raise
        raise Unauthenticated(str(error)) from error
    return views.answer(request, _VIEW, shown, {"Cache-Control": "no-store"})


def _read(fields: Form) -> TokenRequest:
    try:
        return TokenRequest.model_validate(dict(fields))
    except ValidationError as error:
        raise RequestValidationError(
            [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        ) from error


def _signed_in(request: Request, form: TokenRequest, claimed: _Claimed) -> TokenView:
    """Count the guess before the password is looked at, and take it back when it was right."""
    engine, name = deps.parts(request).engine, f"station {form.username}"
    if form.username:
        with transaction(engine) as session:
            guesses.admit(session, name, claimed.address)
    with transaction(engine) as session:
        shown = _issue(request, session, form, claimed)
        journal.append(session, claimed.entry())
    if form.username:
        with transaction(engine) as session:
            guesses.forgive(session, name, claimed.address)
    return shown


def _person(request: Request, session: Session, form: TokenRequest, station: Station) -> Person:
    settings = deps.parts(request).settings
    seal = seal_of(settings.secrets_dir, settings.sealing_key.get_secret_value())
    given = Claim(name=form.username, password=form.password, otp=form.otp)
    return station_users.sign_in(session, station.id, given, seal, utc_now())


def _issue(request: Request, session: Session, form: TokenRequest, claimed: _Claimed) -> TokenView:
    now, audience = utc_now(), deps.root_url(request) + PATH
    device, station = station_sessions.claim(session, form.client_assertion, audience, now)
    claimed.device, claimed.station = device.uid, station.code
    person = _person(request, session, form, station) if form.username else None
    claimed.actor = person.name if person else device.uid
    return TokenView(
        access_token=station_sessions.issue(session, device, person, now),
        expires_in=int(LIFE.total_seconds()),
        station=station.code,
        device=device.uid,
        user=person.full_name if person else "",
        role=str(person.role) if person else "device",
        server_time=views.shown(now, deps.parts(request).settings.zone),
        token_type="Bearer",  # noqa: S106 - its type
    )
