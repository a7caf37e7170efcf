"""How the server is asked. A line may break within an answer: what has arrived is handed over."""

import gzip
import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from storage.base.errors import Malformed, PeerUnavailable

TIMEOUT_S: Final = 60.0
CHUNK: Final = 8 << 10
MOST: Final = 64 << 20
PROBLEM: Final = "application/problem+json"

Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes = b""

    @property
    def is_refusal(self) -> bool:
        """Whether the server itself says no: whatever else is on the way says it otherwise."""
        told = self.headers.get("content-type", "")
        return (
            HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR
            and told.startswith(PROBLEM)
        )

    def json(self) -> Any:  # noqa: ANN401
        """Return the body.

        Raises
        ------
        PeerUnavailable
            It is no JSON: something on the way answered instead of the server.
        """
        try:
            content = self.body
            if self.headers.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            return json.loads(content)
        except (ValueError, OSError, EOFError) as error:
            raise PeerUnavailable("the answer is no JSON") from error


class Wire(Protocol):
    """The line to the server."""

    def ask(self, ask: Ask, sink: Sink | None = None) -> Answer:
        """Return the answer; the pieces of a body of 200 or 206 go to `sink`, if there is one.

        Raises
        ------
        PeerUnavailable
            The line broke; the pieces that had arrived went to `sink`.
        """
        ...


class HttpWire:
    """HTTP or HTTPS; one connection for one request, for lines that are seldom there."""

    def __init__(self, url: str, authorities: str = "") -> None:
        """Ask the server at `url`; `authorities` is a PEM file of whom to believe, '' the usual."""
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Malformed("the address of the server begins with https:// or http://")
        self._host, self._port, self._secure = parts.hostname, parts.port, parts.scheme == "https"
        self._prefix = parts.path
        self._tls = ssl.create_default_context(cafile=authorities or None) if self._secure else None

    def ask(self, ask: Ask, sink: Sink | None = None) -> Answer:
        """Ask once."""
        connection = self._connection()
        try:
            headers = {"Accept-Encoding": "gzip" if sink is None else "identity", **ask.headers}
            connection.request(ask.method, self._prefix + ask.path, ask.body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            body = b""
            while piece := answer.read(CHUNK):
                if sink is not None and answer.status in {200, 206}:
                    sink(piece)
                elif len(body) + len(piece) > MOST:
                    raise PeerUnavailable("the answer is too long")
                else:
                    body += piece
            return Answer(status=answer.status, headers=told, body=body)
        except (OSError, http.client.HTTPException) as error:
            raise PeerUnavailable(f"the line broke: {type(error).__name__}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=self._tls
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
