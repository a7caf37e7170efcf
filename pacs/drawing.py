"""Pictures are drawn where pixels are decoded: in processes that may die (`pacs.codecs`)."""

import atexit
from collections.abc import Sequence
from functools import cache
from typing import Final

import msgspec

from pacs.decoding import Decoders
from pacs.render.captions import Captions
from pacs.render.looks import Look
from pacs.render.options import Options
from pacs.render.showing import Showing
from pacs.render.waveforms import Waveform
from storage.base.errors import NotSupported

TIMEOUT_S: Final = 60.0
MAX_FILE_BYTES: Final = 256 << 20
"""Of a picture or film."""
MAX_CONTENT_BYTES: Final = 512 << 20
"""Of the coded frames of a film."""


class Drawing(msgspec.Struct, tag="drawing"):
    """What a codec process is asked: to draw the frames that follow."""

    transfer_syntax_uid: str
    """Of the frames; native ones are Explicit VR Little Endian, whatever the object is."""
    looks: Sequence[Look]
    places: Sequence[int]
    """Of each frame: which of the looks is its."""
    lengths: Sequence[int]
    """Of each frame: its bytes."""
    options: Options
    media_type: str
    captions: Captions = Captions()
    durations_ms: Sequence[int] = ()
    """Of each frame of a film; none for a single picture."""
    showings: Sequence[Showing] = ()
    """Of each frame, where a presentation state says how it is to be seen."""


class Sheet(msgspec.Struct, tag="sheet"):
    """What a codec process is asked: to draw the waveform whose samples follow."""

    waveform: Waveform
    options: Options
    media_type: str


class Paper(msgspec.Struct, tag="paper"):
    """What a codec process is asked: to draw the first page of the document that follows."""

    pdf: bool
    """Else plain text in UTF-8."""
    options: Options
    media_type: str


class Rewrapping(msgspec.Struct, tag="rewrapping"):
    """What a codec process is asked: to put the transport stream that follows into MP4."""

    columns: int
    rows: int


def draw(drawing: Drawing, frames: Sequence[bytes], pool: Decoders | None = None) -> bytes:
    """Return the file that was asked for.

    Raises
    ------
    Malformed
        A frame is broken.
    NotSupported
        It is of a kind that is not drawn, or takes too much memory or time.
    Unavailable
        The processes are closed.
    """
    if sum(map(len, frames)) > MAX_CONTENT_BYTES:
        raise NotSupported(f"a film of frames with more than {MAX_CONTENT_BYTES} bytes")
    request = msgspec.json.encode(drawing)
    made, _ = (pool or shared()).ask(request, frames, MAX_FILE_BYTES, "rendering")
    return made


def draw_waveform(sheet: Sheet, samples: bytes, pool: Decoders | None = None) -> bytes:
    """Return the picture that was asked for; errors as `draw`."""
    request = msgspec.json.encode(sheet)
    made, _ = (pool or shared()).ask(request, (samples,), MAX_FILE_BYTES, "rendering")
    return made


def draw_paper(paper: Paper, content: bytes, pool: Decoders | None = None) -> bytes:
    """Return the picture that was asked for; errors as `draw`."""
    request = msgspec.json.encode(paper)
    made, _ = (pool or shared()).ask(request, (content,), MAX_FILE_BYTES, "rendering")
    return made


def rewrap(stream: bytes, columns: int, rows: int, pool: Decoders | None = None) -> bytes:
    """Return the film of a transport stream in MP4; errors as `draw`."""
    request = msgspec.json.encode(Rewrapping(columns, rows))
    made, _ = (pool or shared()).ask(request, (stream,), MAX_FILE_BYTES, "the film")
    return made


@cache
def shared() -> Decoders:
    """Return the drawing processes of this process; they end before it does."""
    atexit.register(close_shared)
    return Decoders(timeout_s=TIMEOUT_S)


def close_shared() -> None:
    """End them; who asks again gets new ones."""
    atexit.unregister(close_shared)
    shared().close()
    shared.cache_clear()
