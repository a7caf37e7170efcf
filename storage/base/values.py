"""Short values of PS3.5 that more than one floor checks: UI and AE."""

import re
from functools import lru_cache
from typing import Final

from storage.base.errors import Malformed

AE_TITLE_MAX: Final = 16
UID_MAX: Final = 64
PADDING: Final = "\0 "
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@lru_cache(maxsize=4096)  # those of a study come with every instance
def is_uid(text: str) -> bool:
    """Return whether `text` is a UID as it stands (PS3.5 9.1), padding not allowed.

    Components with leading zeros, which the section forbids, are in many archives
    and harm nobody: they count as UIDs.
    """
    return len(text) <= UID_MAX and _UID.fullmatch(text) is not None


def uid(text: str) -> str:
    """Return `text` without its padding.

    Raises
    ------
    Malformed
        It is not a UID: digits and dots, 1 to 64 characters, no empty component.
    """
    bare = text.strip(PADDING)
    if not is_uid(bare):
        raise Malformed(f"{bare[: UID_MAX + 1]!r} is not a UID")
    return bare


def ae_title(text: str) -> str:
    """Return an Application Entity title without its padding (PS3.5 6.2, VR AE).

    Raises
    ------
    Malformed
        It is not 1 to 16 printable ASCII characters without a backslash.
    """
    title = text.strip(PADDING)
    fits = 0 < len(title) <= AE_TITLE_MAX and title.isascii() and title.isprintable()
    if not fits or "\\" in title:
        shown = title[: AE_TITLE_MAX + 1]
        raise Malformed(
            f"{shown!r} is not an AE title: 1 to 16 printable ASCII characters, no backslash"
        )
    return title
