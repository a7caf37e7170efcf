"""Where a node is reached, by people and from its own machine."""

from storage.base.settings import Settings


def pages_url(settings: Settings) -> str:
    """Return the root of the pages as people reach it."""
    return settings.public_url or local_url(settings)


def local_url(settings: Settings) -> str:
    """Return the root of the HTTP interface as this machine reaches it."""
    host = reachable(settings.bind)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def reachable(bind: str) -> str:
    """Return the address under which this machine reaches what is bound to `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound
