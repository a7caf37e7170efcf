"""One station's copy, brought up to date as far as the line lets it.

    outbox ─▶ feed, page by page, each with its cursor in one change ─▶ texts ─▶ papers ─▶ receipts

Whatever breaks, the next time goes on where this one stopped: nothing is fetched twice, nothing is
sent twice, and what the server takes back is deleted before anything else is shown.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

from deploy.station_client.vault import Copy, Vault
from deploy.station_client.wire import Answer, Ask, Wire
from storage.access import assertions
from storage.access.assertions import PrivateKey
from storage.base import names
from storage.base.errors import Conflict, Malformed, NotFound, NotPermitted, PeerUnavailable

API: Final = "/stations/v1"
PAGE: Final = 100
DAY_S: Final = 86_400
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LATER: Final = frozenset({408, 429})
"""Refusals that say nothing of the request itself: the next one may be taken."""


MOST_UNSERVED: Final = 3
"""Reports in a row that the server does not hand out now: then it is not tried with the rest."""


class _Unserved(PeerUnavailable):
    """The server does not hand out this one report now; others it may."""


class Credentials(Protocol):
    """How the station says who it is."""

    def token(self, wire: Wire, *, anew: bool = False) -> str:
        """Return a token; `anew`: the one before was not taken."""
        ...


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that an administrator issued."""

    secret: str

    def token(self, wire: Wire, *, anew: bool = False) -> str:  # noqa: ARG002 - of the protocol
        """Return it."""
        if anew:
            raise NotPermitted("the server does not take the token any more")
        return self.secret


class DeviceKey:
    """The key of this device; its clock may be wrong by years, for the server's is asked."""

    def __init__(self, device: str, key: PrivateKey, audience: str) -> None:
        self._device, self._key, self._audience = device, key, audience.rstrip("/")
        self._held = ""

    def token(self, wire: Wire, *, anew: bool = False) -> str:
        """Return the token at hand, or sign in."""
        if not self._held or anew:
            now = datetime.fromtimestamp(float(_time_of(wire)), UTC)
            target = f"{self._audience}{API}/token"
            made = assertions.make(self._key, self._device, target, now)
            self._held = self._sign_in(wire, made)
        return self._held

    def _sign_in(self, wire: Wire, assertion: str) -> str:
        form = f"grant_type=client_credentials&client_assertion_type={ASSERTION}"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = f"{form}&client_assertion={assertion}".encode()
        answer = wire.ask(Ask(method="POST", path=f"{API}/token", headers=headers, body=body))
        if answer.status in _LATER or (answer.status != HTTPStatus.OK and not answer.is_refusal):
            raise PeerUnavailable(f"the server says HTTP {answer.status}")
        if answer.status != HTTPStatus.OK:
            raise NotPermitted(f"the server does not let this device in: HTTP {answer.status}")
        return str(answer.json()["access_token"])


@dataclass(slots=True)
class Done:
    """What one synchronisation did."""

    changes: int = 0
    deleted: int = 0
    texts: int = 0
    papers: int = 0
    sent: int = 0
    wiped: bool = False
    whole: bool = False
    """Everything is here now."""


class Client:
    """One station's copy and its line."""

    def __init__(
        self,
        vault: Vault,
        wire: Wire,
        credentials: Credentials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.vault = vault
        self._wire = wire
        self._credentials = credentials
        self._clock = clock
        self._is_alone = True
        """The server's time was not heard in this synchronisation."""

    def sync(self) -> Done:
        """Do all that the line lets through; a line that breaks ends it without an error.

        Raises
        ------
        NotPermitted
            The server does not let this station in (any more).
        StoreUnavailable
            The copy cannot be written: the disk is full. What has arrived stays.
        """
        done, self._is_alone = Done(), True
        try:
            self._send(done)
            self._read_feed(done)
            if not done.wiped:
                whole = self._fetch(done)
                self._send(done)
                done.whole = whole
        except PeerUnavailable:
            pass
        self._expire(alone=self._is_alone)
        return done

    def find(self, text: str) -> list[Copy]:
        """Return the copies in which every word of `text` stands, with accents or without."""
        wanted = names.words(text)
        return [one for one in self.vault.copies() if _has(one, wanted)]

    def get(self, uid: str) -> Copy:
        """Return one copy; the first letters of its id are enough.

        Raises
        ------
        NotFound
            There is none.
        Conflict
            There are several.
        """
        found = [one for one in self.vault.copies() if one.id.startswith(uid)]
        if not found or not uid:
            raise NotFound(f"no report {uid!r} is here")
        if len(found) > 1:
            raise Conflict(f"several reports begin with {uid!r}")
        return found[0]

    def paper(self, uid: str) -> bytes:
        """Return the paper of a report, to be shown or printed.

        Raises
        ------
        NotFound
            It is not here (yet).
        Conflict
            Its approval was withdrawn: it must not be used.
        """
        copy = self.get(uid)
        if copy.state != "released":
            raise Conflict("the approval of this report was withdrawn: wait for the correction")
        content = self.vault.paper(copy.id)
        if content is None:
            raise NotFound("the paper of this report has not come yet")
        return content

    def note(self, uid: str, kind: str, person: str = "") -> None:
        """Have the server know that a report was read, printed or handed over."""
        copy = self.get(uid)
        self._receipt(copy.id, copy.version, kind, person=person, sha256=copy.paper_sha256)

    def refer(self, referral: Mapping[str, Any]) -> str:
        """Have a patient referred when the line is there; return the key of the request."""
        return self.vault.post(f"{API}/referrals", referral)

    def _send(self, done: Done) -> None:
        for letter in self.vault.outbox():
            if letter.refused:
                continue
            body = json.dumps(letter.body).encode()
            headers = {"Content-Type": "application/json", "Idempotency-Key": letter.key}
            answer = self._ask(Ask(method="POST", path=letter.path, headers=headers, body=body))
            if answer.status < HTTPStatus.MULTIPLE_CHOICES:
                self.vault.sent(letter.key)
                done.sent += 1
            elif answer.status in _LATER:
                continue
            elif not answer.is_refusal:
                raise PeerUnavailable(f"the server takes nothing now: HTTP {answer.status}")
            else:
                self.vault.refuse(letter.key, f"HTTP {answer.status}")

    def _read_feed(self, done: Done) -> None:
        more = True
        while more:
            cursor = self.vault.get("cursor") or ""
            page = self._json(f"{API}/changes?cursor={cursor}&limit={PAGE}")
            if (self.vault.get("cursor") or "") != cursor:
                continue  # the feed begins anew
            if page["wipe"]:
                self.vault.delete_all()
                done.wiped = True
                return
            with self.vault.change():
                if page["resync"]:
                    self.vault.doubt()
                    self.vault.put("resync", value=True)
                for item in page["items"]:
                    self._take(item, done)
                self.vault.put("cursor", page["next_cursor"])
                self.vault.put("keep_days", page["keep_days"])
                if not page["more"] and self.vault.get("resync"):
                    for uid in self.vault.doubtful():
                        self._drop(uid, 0, done)
                    self.vault.put("resync", value=False)
            done.changes += len(page["items"])
            more = page["more"]

    def _take(self, item: Mapping[str, Any], done: Done) -> None:
        if item["state"] == "deleted":
            self._drop(item["id"], item["version"], done)
        else:
            self.vault.keep(item, self._now())

    def _drop(self, uid: str, version: int, done: Done) -> None:
        if self.vault.delete(uid):
            done.deleted += 1
            if version:
                self._receipt(uid, version, "deleted")

    def _fetch(self, done: Done) -> bool:
        """Fetch texts and papers that are not here; return whether nothing was left out."""
        unserved = in_a_row = 0
        for copy in self.vault.copies():
            try:
                self._fetch_one(copy, done)
                in_a_row = 0
            except _Unserved:  # one report that is in trouble keeps no other away
                unserved, in_a_row = unserved + 1, in_a_row + 1
                if in_a_row == MOST_UNSERVED:
                    raise
        return not unserved

    def _fetch_one(self, copy: Copy, done: Done) -> None:
        if copy.text is None:
            if not self._fetch_text(copy):
                return  # it is not ours any more, or another version is
            done.texts += 1
        paper = copy.item.get("paper") if copy.state == "released" else None
        if paper and copy.paper_sha256 != paper["sha256"]:
            done.papers += self._fetch_paper(copy, paper["sha256"])

    def _fetch_text(self, copy: Copy) -> bool:
        answer = self._ask(
            Ask(method="GET", path=f"{API}/reports/{copy.id}?version={copy.version}")
        )
        if not self._is_current(copy, answer):
            return False
        self.vault.put_text(copy.id, copy.version, answer.json())
        return True

    def _fetch_paper(self, copy: Copy, sha256: str) -> bool:
        held = self.vault.part(sha256)
        start = len(held)

        def keep(piece: bytes) -> None:
            nonlocal start
            self.vault.put_part(sha256, start, piece)
            start += len(piece)

        headers = {"Range": f"bytes={start}-", "If-Range": f'"{sha256}"'} if start else {}
        path = f"{API}/reports/{copy.id}/pdf?version={copy.version}"
        if not start or hashlib.sha256(held).hexdigest() != sha256:
            answer = self._ask(Ask(method="GET", path=path, headers=headers), keep)
            if not self._is_current(copy, answer):
                return False
        content = self.vault.part(sha256)
        if hashlib.sha256(content).hexdigest() != sha256:
            self.vault.forget_part(sha256)  # another paper came meanwhile: begin anew
            raise _Unserved("the paper that came is not the one that was told")
        with self.vault.change():
            self.vault.put_paper(copy.id, sha256, content)
            self._receipt(copy.id, copy.version, "delivered", sha256=sha256)
        return True

    def _is_current(self, copy: Copy, answer: Answer) -> bool:
        """Say whether an answer is of use; what is not our own any more is deleted."""
        if answer.status in {200, 206}:
            return True
        if answer.status == HTTPStatus.NOT_FOUND and answer.is_refusal:
            with self.vault.change():
                self._drop(copy.id, copy.version, Done())
            return False
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # more has come than there is
            self.vault.forget_part(str((copy.item.get("paper") or {}).get("sha256", "")))
        if answer.status == HTTPStatus.CONFLICT:  # a newer version is behind the cursor
            return False
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Unserved(f"the server says HTTP {answer.status}")
        raise PeerUnavailable(f"the server says HTTP {answer.status}")

    def _receipt(
        self, uid: str, version: int, kind: str, *, person: str = "", sha256: str = ""
    ) -> None:
        happened = datetime.fromtimestamp(self._now(), UTC)
        body = {
            "version": version,
            "kind": kind,
            "happened_at": happened.isoformat(timespec="seconds"),
            "person": person,
            "sha256": sha256,
        }
        once = f"{kind}-{uid}-{version}" if kind in {"delivered", "deleted"} else ""
        self.vault.post(f"{API}/reports/{uid}/receipt", body, once)

    def _now(self) -> float:
        """Return the server's time, as far as we know it: our clock may be wrong by years."""
        return self._clock() + float(self.vault.get("clock_offset_s") or 0.0)

    def _heard(self, server_time: str) -> None:
        """Note the server's time.

        Who finds that the clock was set while there was no line, and that copies were taken for
        too old meanwhile, reads the feed anew.
        """
        self._is_alone, before = False, self._now()
        theirs = datetime.fromisoformat(server_time).timestamp()
        self.vault.put("clock_offset_s", theirs - self._clock())
        if self.vault.get("expired_alone"):
            self.vault.put("expired_alone", value=False)
            if abs(theirs - before) > DAY_S:
                self._begin_anew()

    def _begin_anew(self) -> None:
        with self.vault.change():
            self.vault.put("cursor", "")
            self.vault.doubt()
            self.vault.put("resync", value=True)

    def _expire(self, *, alone: bool) -> None:
        """Delete copies that are older than the server lets them be kept.

        `alone`: there was no line, so that it goes by our own clock.
        """
        keep_days = self.vault.get("keep_days")
        if keep_days is None:
            return
        oldest = self._now() - float(keep_days) * DAY_S
        with self.vault.change():
            for copy in self.vault.copies():
                if copy.arrived_at < oldest:
                    self.vault.delete(copy.id)
                    if alone:
                        self.vault.put("expired_alone", value=True)

    def _json(self, path: str) -> Any:  # noqa: ANN401
        answer = self._ask(Ask(method="GET", path=path))
        if answer.status == HTTPStatus.BAD_REQUEST and answer.is_refusal:
            self._begin_anew()
            raise PeerUnavailable("the cursor is of another server: the feed begins anew")
        if answer.status == HTTPStatus.FORBIDDEN and answer.is_refusal:
            raise NotPermitted("the server does not let this station in")
        if answer.status != HTTPStatus.OK:
            raise PeerUnavailable(f"the server says HTTP {answer.status}")
        told = answer.json()
        if not isinstance(told, dict) or "server_time" not in told:
            raise PeerUnavailable("something else than the server answers")
        self._heard(told["server_time"])
        return told

    def _ask(self, ask: Ask, sink: Callable[[bytes], None] | None = None) -> Answer:
        for anew in (False, True):
            token = self._credentials.token(self._wire, anew=anew)
            headers = {"Authorization": f"Bearer {token}", **ask.headers}
            asked = Ask(method=ask.method, path=ask.path, headers=headers, body=ask.body)
            answer = self._wire.ask(asked, sink)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                break
        return answer


def _time_of(wire: Wire) -> float:
    answer = wire.ask(Ask(method="GET", path=f"{API}/time"))
    if answer.status != HTTPStatus.OK:
        raise PeerUnavailable(f"the server says HTTP {answer.status}")
    return float(answer.json()["unix"])


def _has(copy: Copy, wanted: tuple[str, ...]) -> bool:
    there = " ".join(_texts(copy)).split()
    return all(any(one.startswith(word) for one in there) for word in wanted)


def _texts(copy: Copy) -> Iterator[str]:
    patient = copy.item.get("patient") or {}
    yield names.fold(str(patient.get("name", "")))
    yield names.fold(str(patient.get("id", "")))
    yield names.fold(str(copy.item.get("title", "")))
    yield copy.id


def require_text(copy: Copy) -> Mapping[str, Any]:
    """Return the text of a copy.

    Raises
    ------
    NotFound
        It has not come yet.
    """
    if copy.text is None:
        raise NotFound("the text of this report has not come yet")
    return copy.text


def read_key(text: str) -> bytes:
    """Return a key as its file has it, in hexadecimal.

    Raises
    ------
    Malformed
        It is none.
    """
    try:
        return bytes.fromhex(text.strip())
    except ValueError as error:
        raise Malformed("the key file holds 64 hexadecimal digits") from error
