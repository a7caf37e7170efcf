"""The root of the URLs in our answers, behind any proxy (RFC 7239, PS3.18 8.2)."""

import re
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

FORWARDING: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers by which a proxy shows itself."""

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._\-]{1,253})(:[0-9]{1,5})?")
_ADDRESS: Final = re.compile(r"[0-9A-Za-z._:\[\]\-]{1,64}")
_PORT: Final = re.compile(r":[0-9]+$")
_USUAL_PORTS: Final = {"http": ":80", "https": ":443"}
_PREFIX: Final = re.compile(r"(/[0-9A-Za-z._~\-]{1,64}){1,8}")
_PAIR: Final = re.compile(r'\s*([a-z]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))\s*', re.IGNORECASE)
_LOCAL_HOSTS: Final = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?")
_LOCAL_PEERS: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


def root_url(
    headers: Headers, scheme: str, public_url: str, listener: tuple[str, int] | None = None
) -> str:
    """Return scheme, host and path prefix without a final slash.

    `public_url` wins; else what the nearest client-side proxy says in Forwarded or
    X-Forwarded-Proto, -Host, -Prefix; else the Host header. What is no plain
    scheme, host or path is passed over. `listener` is the address that the client
    reached: one that names just that and forgets the port, as some do, gets it back.
    """
    if public_url:
        return public_url.rstrip("/")
    forwarded = _forwarded(headers.get("forwarded", ""))
    proto = forwarded.get("proto") or _first(headers, "x-forwarded-proto")
    host = forwarded.get("host") or _first(headers, "x-forwarded-host")
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    if proto.lower() not in {"http", "https"}:
        proto = scheme
    if not _AUTHORITY.fullmatch(host):
        host = headers.get("host", "")
    if not _AUTHORITY.fullmatch(host):
        host = "localhost"
    if listener is not None and host.strip("[]") == listener[0]:
        host = f"{host}:{listener[1]}"
    if not _PREFIX.fullmatch(prefix):
        prefix = ""
    return f"{proto.lower()}://{host}{prefix}"


def viewer_url(root: str, given: str, port: int) -> str:
    """Return the root of the viewer's origin for who sees the pages at `root`."""
    return given or _with_port(root, port)


def pages_url(viewer_root: str, public_url: str, port: int) -> str:
    """Return the root of the pages for who sees the viewer at `viewer_root`."""
    return public_url or _with_port(viewer_root, port)


def origin(url: str) -> str:
    """Return scheme, host and port of `url` as browsers write an origin (RFC 6454 6.2)."""
    parts = urlsplit(url.lower())
    host, usual = parts.netloc, _USUAL_PORTS.get(parts.scheme, "")
    return f"{parts.scheme}://{host.removesuffix(usual) if usual else host}"


def client(peer: str, headers: Headers) -> str:
    """Return the address that the nearest proxy was called from, else that of `peer`.

    Whoever reaches us without a proxy can write what he likes there.
    """
    last = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    told = _forwarded(headers.get("forwarded", "").rpartition(",")[2]).get("for") or last
    return told if _ADDRESS.fullmatch(told) else peer


def _with_port(root: str, port: int) -> str:
    parts = urlsplit(root)
    host = parts.netloc if parts.netloc.endswith("]") else _PORT.sub("", parts.netloc)
    return f"{parts.scheme}://{host}:{port}"


def is_local(peer: str, headers: Headers) -> bool:
    """Whether a request was made on this machine and came through no proxy.

    The Host must be a local name too: a web page elsewhere can make a browser here
    connect to us, but not under such a name.
    """
    return (
        peer in _LOCAL_PEERS
        and not any(name in headers for name in FORWARDING)
        and _LOCAL_HOSTS.fullmatch(headers.get("host", "").lower()) is not None
    )


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()


def _forwarded(text: str) -> dict[str, str]:
    """Read the first element of a Forwarded header: the proxy that the client spoke to."""
    pairs = (_PAIR.fullmatch(pair) for pair in text.partition(",")[0].split(";"))
    return {pair[1].lower(): pair[2] or pair[3] or "" for pair in pairs if pair}
