"""The key images of a report as pictures for its paper."""

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from pacs import contexts, drawing, frames, header, retrieve, transcode
from pacs.drawing import Drawing
from pacs.render import groups, looks
from pacs.render.options import Options, Viewport
from ris.reports.key_images import KeyImage
from ris.reports.paper.model import Picture
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotFound, NotSupported
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

MOST: Final = 12
"""Pictures on one paper."""
SIDE: Final = 720
"""Pixels of a picture at most."""
QUALITY: Final = 75
MAX_BYTES: Final = 256 << 20
"""Of an object that a picture is drawn of."""
_JPEG: Final = "image/jpeg"
_LITTLE: Final = frozenset({contexts.EXPLICIT_VR_LITTLE_ENDIAN, contexts.IMPLICIT_VR_LITTLE_ENDIAN})


def pictures(
    store: ObjectStore, chosen: Sequence[tuple[KeyImage, StoredInstance]]
) -> Iterator[Picture]:
    """Yield a picture of each image that can be drawn, in the order of the reader.

    Raises
    ------
    Unavailable
        The store or the drawing processes do not answer.
    """
    for image, stored in chosen[:MOST]:
        try:
            yield Picture(draw(store, stored, image.frame), image.label)
        except (Malformed, NotFound, NotSupported) as error:
            facts = {"sop_instance_uid": stored.sop_instance_uid, "reason": str(error)}
            log.warning("key_image_not_drawn", extra=facts)


def draw(store: ObjectStore, stored: StoredInstance, number: int) -> bytes:
    """Return frame `number` of an object as a JPEG.

    Raises
    ------
    NotFound
        There is no such frame.
    NotSupported, Malformed
        It cannot be drawn, or is too large.
    """
    if stored.dataset_size > MAX_BYTES:
        raise NotSupported(f"an object of more than {MAX_BYTES} bytes")
    dataset, syntax = retrieve.read_dataset(store, stored), stored.transfer_syntax_uid
    if not contexts.is_encapsulated(syntax):
        if syntax not in _LITTLE:
            dataset = transcode.transcode(dataset, syntax, contexts.EXPLICIT_VR_LITTLE_ENDIAN)
            syntax = contexts.EXPLICIT_VR_LITTLE_ENDIAN
    elif contexts.is_video(syntax):
        raise NotSupported(f"frames in {contexts.name_of(syntax)} are not drawn")

    def read(offset: int, length: int) -> bytes:
        return dataset[offset : offset + length]

    found = header.scan(dataset, syntax)
    coded = frames.frame_bytes(frames.locate(found, read), number, read)
    end = header.pixel_data_at(dataset, syntax)
    seen = groups.looks_of(found, dataset[:end], looks.look_of(found, frames.image_pixel(found)))
    order = Drawing(
        syntax if contexts.is_encapsulated(syntax) else contexts.EXPLICIT_VR_LITTLE_ENDIAN,
        [seen.of_frame(number)],
        [0],
        [len(coded)],
        Options(viewport=Viewport(SIDE, SIDE), quality=QUALITY),
        _JPEG,
    )
    return drawing.draw(order, [coded])
