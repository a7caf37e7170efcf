"""The disposable codec process: one request after another, nothing else.

    python -m pacs.codecs    requests on standard input, answers on standard output

Codecs are C libraries that read hostile bytes. They run here, under limits of memory
and processor time, without files, secrets or network use of ours, and whoever started
this process kills it at the first trouble (`pacs.decoding`).
"""

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from pacs import contexts, decoders, encoders, targets
from pacs.decoding import LENGTHS, Answer, Request
from pacs.drawing import Drawing, Paper, Rewrapping, Sheet
from pacs.frames import ImagePixel
from pacs.render import captions, films, pictures, showing, transport, waveforms
from pacs.render.looks import Look
from pacs.render.options import Window
from storage.base.errors import Malformed, NotSupported

MEMORY_BYTES: Final = 1536 << 20
"""Address space on top of what the libraries themselves take."""
CPU_S: Final = 20
DRAWING_CPU_S: Final = 50
_BYTE: Final = 8

Pixels = np.ndarray[Any, np.dtype[Any]]
_Asked = Request | Drawing | Sheet | Paper | Rewrapping


def decode(frame: bytes, request: Request) -> tuple[bytes, str]:
    """Return the native frame and its photometric interpretation; see `decoders.decode`."""
    return decoders.decode(frame, request.transfer_syntax_uid, request.image)


def recode(frame: bytes, request: Request) -> tuple[bytes, str]:
    """Return the frame in the target transfer syntax and its photometric interpretation.

    What is written without loss is decoded again and compared: a codestream that does not
    give back every cell never leaves this process.

    Raises
    ------
    Malformed
        As `decode`.
    NotSupported
        There is no codec for one of the two, or the target cannot hold the cells.
    """
    native, photometric = decode(frame, request)
    image = replace(request.image, planar_configuration=0, photometric_interpretation=photometric)
    target = request.target_transfer_syntax_uid
    cells = _cells(native, image)
    if target not in targets.OF_CELLS and image.pixel_representation == 1:
        cells = _extended(cells, image)
        native = cells.tobytes()
    try:
        coded, told = encoders.encode(cells, target, image, request.quality)
    except (RuntimeError, ValueError) as error:
        why = f"{contexts.name_of(target)}: its codec does not take the pixels"
        raise NotSupported(why) from error
    if target not in contexts.LOSSY_JPEG:
        shown = replace(image, photometric_interpretation=told)
        if decoders.decode(coded, target, shown)[0] != native:
            raise NotSupported(f"{contexts.name_of(target)}: the codec does not give back the same")
    return coded, told


def _cells(native: bytes, image: ImagePixel) -> Pixels:
    """Return a native frame as cells; single bits stay packed."""
    if image.bits_allocated == 1:
        return np.frombuffer(native, np.uint8)
    sign = "i" if image.pixel_representation == 1 else "u"
    cells = np.frombuffer(native, f"<{sign}{image.bits_allocated // _BYTE}")
    samples = (image.samples,) if image.samples > 1 else ()
    return cells.reshape(image.rows, image.columns, *samples)


def _extended(cells: Pixels, image: ImagePixel) -> Pixels:
    """Extend signs into the unused bits, unless something else stands there.

    Codecs hold values, and what decodes them takes all bits for the value.
    """
    raw, bits = cells.view(f"u{cells.dtype.itemsize}"), image.bits_stored
    if bits >= image.bits_allocated:
        return cells
    unused = raw >> bits
    filled = (1 << (image.bits_allocated - bits)) - 1
    plain = bool(np.all((unused == 0) | (unused == filled)))
    return decoders.signed(raw, bits) if plain else cells


def draw(content: bytes, asked: Drawing) -> bytes:
    """Return the picture, or the film, of the frames that lie one after the other in `content`.

    Raises
    ------
    Malformed, NotSupported
        As `decode`; or pixels of a kind that is not drawn.
    """
    image = asked.looks[0].image
    if asked.transfer_syntax_uid not in contexts.NATIVE:
        image = replace(image, planar_configuration=0)
    looks = [replace(look, image=image) for look in asked.looks]
    lying = [*zip(_cut(content, asked.lengths), asked.places, strict=True)]

    def native(frame: bytes) -> tuple[bytes, str]:
        if asked.transfer_syntax_uid in contexts.NATIVE:
            return frame, image.photometric_interpretation
        return decoders.decode(frame, asked.transfer_syntax_uid, asked.looks[0].image)

    options = asked.options
    if len(lying) > 1 and options.window is None:
        options = replace(
            options, window=_common_window(looks, (native(one)[0] for one, _ in lying))
        )
    drawn = (
        captions.write(showing.picture(looks[place], *native(frame), options, seen), asked.captions)
        for (frame, place), seen in zip_longest(lying, asked.showings[: len(lying)])
    )
    if asked.durations_ms:
        return films.encode(drawn, asked.durations_ms, asked.media_type, options.quality)
    return pictures.encode(next(drawn), asked.media_type, options.quality)


def draw_sheet(content: bytes, asked: Sheet) -> bytes:
    """Return the picture of a waveform."""
    drawn = waveforms.picture(asked.waveform, content)
    shown = pictures.shown(drawn, asked.options.viewport)
    return pictures.encode(shown, asked.media_type, asked.options.quality)


def draw_paper(content: bytes, asked: Paper) -> bytes:
    """Return the picture of the first page of a document."""
    from pacs.render import pages  # noqa: PLC0415 - seldom needed, and a library of 7 MB

    viewport = asked.options.viewport
    page = pages.of_pdf(content, viewport) if asked.pdf else pages.of_text(content.decode())
    shown = pictures.shown(page, viewport)
    return pictures.encode(shown, asked.media_type, asked.options.quality)


def _cut(content: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for length in lengths:
        yield content[at : at + length]
        at += length


def _common_window(looks: Sequence[Look], frames: Iterator[bytes]) -> Window | None:
    """Return one window for a film whose frames have none, so that it does not flicker."""
    return pictures.full_window(looks[0], frames) if len(looks) == 1 else None


def write(stream: BinaryIO, told: msgspec.Struct, content: bytes) -> None:
    """Write one message."""
    text = msgspec.json.encode(told)
    stream.write(LENGTHS.pack(len(text), len(content)))
    stream.write(text)
    stream.write(content)
    stream.flush()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until their stream ends."""
    while len(start := requests.read(LENGTHS.size)) == LENGTHS.size:
        text_length, frame_length = LENGTHS.unpack(start)
        request = msgspec.json.decode(requests.read(text_length), type=_Asked)
        content = requests.read(frame_length)
        _limit_time(CPU_S if isinstance(request, Request) else DRAWING_CPU_S)
        told, made = answer(content, request)
        write(answers, told, made)


def _made(content: bytes, request: _Asked) -> tuple[bytes, str]:
    if isinstance(request, Drawing):
        return draw(content, request), ""
    if isinstance(request, Sheet):
        return draw_sheet(content, request), ""
    if isinstance(request, Paper):
        return draw_paper(content, request), ""
    if isinstance(request, Rewrapping):
        return transport.to_mp4(content, request.columns, request.rows), ""
    work = recode if request.target_transfer_syntax_uid else decode
    return work(content, request)


def answer(content: bytes, request: _Asked) -> tuple[Answer, bytes]:
    """Do what is asked; whatever happens is an answer."""
    try:
        made, photometric = _made(content, request)
    except (Malformed, NotSupported) as error:
        return Answer(fault=str(error), malformed=isinstance(error, Malformed)), b""
    except MemoryError:
        return Answer(fault="the codec needs more memory than it may have"), b""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - codecs raise what they like; Rust's panics too
        return Answer(fault=f"the codec failed: {type(error).__name__}", malformed=True), b""
    return Answer(photometric_interpretation=photometric), made


def _limit_time(more_s: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + more_s
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of ours
        pages = int(file.read().split()[0])
    space = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serve standard input and output; whatever a codec prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _limit_memory()
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
