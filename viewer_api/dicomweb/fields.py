"""Attributes of instances that the index does not keep, for ``includefield`` (PS3.18 8.3.4.3).

They are taken from the metadata of the instances, with whole sequences or what of them is
asked for. At most so many instances of one answer are read; the others go without.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from storage.archive import attributes, custom
from storage.archive.model import Level, Match
from storage.base.errors import NotFound
from viewer_api.deps import Parts
from viewer_api.dicomweb import metadata
from viewer_api.dicomweb.parameters import ALL
from viewer_api.places import Series

MOST: Final = 1_000
"""Instances whose metadata are read for one answer."""
DENSE: Final = 20
"""One object has the metadata of a series; it is read if one in so many of them is wanted."""

Json = dict[str, Any]
Path = tuple[int, ...]


def wanted(names: frozenset[str]) -> tuple[Path, ...] | None:
    """Return the paths to take from metadata, () for none, None for everything."""
    if ALL in names:
        return None
    known = attributes.visible(Level.IMAGE)
    return tuple(custom.path_of(name) for name in sorted(names) if name not in known)


def complete(
    parts: Parts,
    url: str,
    answers: Sequence[Json],
    matches: Sequence[Match],
    paths: tuple[Path, ...] | None,
) -> bool:
    """Add to each of `answers` what its metadata have at `paths`; tell whether all were read."""
    groups: dict[tuple[str, str], dict[str, Json]] = {}
    for answer, match in zip(answers[:MOST], matches[:MOST], strict=True):
        uids = match["StudyInstanceUID"], match["SeriesInstanceUID"]
        groups.setdefault(uids, {})[match["SOPInstanceUID"]] = answer
    for (study, series_uid), rows in groups.items():
        try:
            series = parts.places.of_series(study, series_uid)
        except NotFound:
            continue  # it was taken out of the archive meanwhile
        for uid, found in _objects(parts, series, url, rows):
            if uid in rows:
                _add(rows[uid], found, paths)
    return len(answers) <= MOST


def _objects(
    parts: Parts, series: Series, url: str, rows: Mapping[str, Json]
) -> Iterator[tuple[str, Json]]:
    if series.metadata and len(rows) * DENSE >= len(series.entries):
        told = metadata.decoded(parts, [series], url)
        uids = (entry.stored.sop_instance_uid for entry in series.entries)
        yield from zip(uids, told, strict=True)
        return
    for uid in rows:
        entry = series.by_uid.get(uid)
        if entry is not None:
            yield from zip([uid], metadata.decoded(parts, [Series([entry])], url), strict=True)


def _add(answer: Json, found: Json, paths: tuple[Path, ...] | None) -> None:
    if paths is None:
        told = found
    else:
        told = {}
        for path in paths:
            _merge(told, _picked(found, path))
    for name, attribute in told.items():
        answer.setdefault(name, attribute)  # what the index knows may be corrected


def _picked(dataset: Json, path: Path) -> Json:
    """Return a dataset with what stands at `path` alone."""
    tag, rest = path[0], path[1:]
    picked: Json = {}
    for name in _names(dataset, tag):
        attribute = dataset[name]
        if rest and attribute["vr"] == "SQ":
            items = [_picked(item, rest) for item in attribute.get("Value", ())]
            attribute = {"vr": "SQ", **({"Value": items} if any(items) else {})}
        picked[name] = attribute
    return picked


def _names(dataset: Json, tag: int) -> Iterator[str]:
    """Yield under which names an element is here, a private one with its creator."""
    if not custom.is_private(tag):
        if (name := f"{tag:08X}") in dataset:
            yield name
        return
    group, number = f"{tag >> 16:04X}", f"{tag & 0xFF:02X}"
    for name in dataset:
        creator = f"{group}00{name[4:6]}"
        if name.startswith(group) and name.endswith(number) and creator in dataset:
            yield creator
            yield name


def _merge(told: Json, more: Json) -> None:
    """Add what was picked; items of the same sequence become one."""
    for name, attribute in more.items():
        held = told.get(name)
        if held is None or attribute["vr"] != "SQ":
            told[name] = attribute
            continue
        for ours, theirs in zip(held.get("Value", ()), attribute.get("Value", ()), strict=False):
            _merge(ours, theirs)
