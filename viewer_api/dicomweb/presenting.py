"""Presentation states for rendered pictures (PS3.18 9.4.1.2.5, 10.4.1.1.3; PS3.4 N.2).

One is named by ``presentationSeriesUID`` and ``presentationUID``, or is itself what is
rendered: then the images that it refers to are given. It and its images are of one study
(PS3.3 A.33), and looked for nowhere else, so that what one patient's says never shows on
another's image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pacs import retrieve
from pacs.render import presentations
from pacs.render.options import Options
from pacs.render.presentations import Presentation
from pacs.series_metadata import Entry
from storage.base import values
from storage.base.errors import Malformed, NotFound, NotSupported
from viewer_api.cache import Recent
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents

MAX_KNOWN: Final = 32_000
"""About so many kilobytes of presentation states are remembered."""
MAX_IMAGES: Final = 1_000
"""Of which one presentation state is rendered."""
_SERIES: Final = "presentationseriesuid"
_INSTANCE: Final = "presentationuid"

_known: Final[Recent[tuple[str, int], Presentation]] = Recent(MAX_KNOWN, lambda known: known.weight)
"""By object key and offset: objects never change."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A stored presentation state."""

    presentation: Presentation
    version: str
    """Which one."""

    def require_any(self, entry: Entry) -> None:
        """Raise `Malformed` unless it refers to at least one frame of an image."""
        uid = entry.stored.sop_instance_uid
        if all(one.sop_instance_uid != uid for one in self.presentation.references):
            raise Malformed(f"{_INSTANCE}: it does not refer to this image")

    def require(self, entry: Entry, numbers: tuple[int, ...]) -> None:
        """Raise `Malformed` unless it refers to every one of the frames."""
        uid = entry.stored.sop_instance_uid
        if not all(self.presentation.refers_to(uid, number) for number in numbers):
            raise Malformed(f"{_INSTANCE}: it does not refer to this image")


def asked_for(parts: Parts, study: str, parameters: Mapping[str, str]) -> Applied | None:
    """Return the presentation state that the parameters of a query name, None for none.

    Raises
    ------
    Malformed
        One of the two is missing, or names something else.
    NotFound
        It is not in the study.
    NotSupported
        It is of a kind that is not applied.
    """
    named = {name.lower(): text for name, text in parameters.items()}
    series, instance = (named.get(name, "") for name in (_SERIES, _INSTANCE))
    if not series and not instance:
        return None
    if not series or not instance:
        raise Malformed(f"{_SERIES} and {_INSTANCE} go together")
    try:
        entry = parts.places.of_instance(study, values.uid(series), values.uid(instance))
    except NotFound:
        raise NotFound("no such presentation state in the study") from None
    if not presentations.is_presentation(entry.stored.sop_class_uid):
        raise Malformed(f"{_INSTANCE}: no presentation state")
    return of(parts, entry)


def of(parts: Parts, entry: Entry) -> Applied:
    """Return a stored presentation state; errors as `asked_for`."""
    stored = entry.stored
    place = stored.object_key, stored.dataset_offset
    found = _known.get(place)
    if found is None:
        if stored.dataset_size > presentations.MAX_BYTES:
            raise NotSupported("a presentation state that is larger than any that is applied")
        with contents.content_of(stored):
            dataset = retrieve.read_dataset(parts.store, stored, entry.checksum)
            found = presentations.read(dataset, stored.transfer_syntax_uid)
        _known.put(place, found)
    return Applied(found, str(stored.version))


def images(parts: Parts, study: str, applied: Applied) -> list[Entry]:
    """Return the images in the study that a presentation state refers to, in its order.

    Raises
    ------
    NotSupported
        None of them is there.
    """
    found = []
    for one in applied.presentation.references[:MAX_IMAGES]:
        if not (values.is_uid(one.series_instance_uid) and values.is_uid(one.sop_instance_uid)):
            continue
        try:
            uids = study, one.series_instance_uid, one.sop_instance_uid
            found.append(parts.places.of_instance(*uids))
        except NotFound:
            continue
    if not found:
        raise NotSupported("the images that the presentation state refers to are not in the study")
    return found


def require_no_window(asked: Options) -> None:
    """Raise `Malformed` when a window is asked for beside a presentation state, which has one."""
    if asked.window is not None:
        raise Malformed(f"window and {_INSTANCE} exclude each other")
