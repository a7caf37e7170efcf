"""The page of results: what stands between two markers is the last run's."""

import os
import platform
import time
from pathlib import Path

PAGE = Path(__file__).parents[2] / "deploy" / "docs" / "performance.md"


def write(name: str, table: str, note: str) -> None:
    """Put the results of one section into the page, with the day and the machine."""
    text = f"Last run {time.strftime('%Y-%m-%d')} on {machine()}; {note}.\n\n{table}"
    PAGE.write_text(put(PAGE.read_text(), name, text))


def put(page: str, name: str, text: str) -> str:
    """Return `page` with `text` between the markers of `name`.

    Raises
    ------
    ValueError
        The page has no such markers, or more than one pair.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page has no pair of markers for {name}")
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def machine() -> str:
    """Say in words what the run stands on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory} GiB of memory, one virtual "
        "disk, senders and archives on the same machine"
    )
