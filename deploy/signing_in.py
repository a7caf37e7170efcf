"""The one-time links by which people set their first password."""

from deploy.addresses import pages_url
from storage.access import codes, users
from storage.base.settings import Settings
from storage.db import open_database
from storage.db.engine import create, transaction


def first_link(settings: Settings) -> str:
    """Return a link for the first admin while nobody has a password, '' afterwards."""
    with open_database(settings) as url:
        engine = create(url, pool_size=1)
        try:
            with transaction(engine) as session:
                user = users.first_admin(session)
                return link(settings, codes.issue_link(session, user)) if user else ""
        finally:
            engine.dispose()


def link(settings: Settings, code: str) -> str:
    """Return the link that a person opens."""
    return f"{pages_url(settings)}/welcome/{code}"
