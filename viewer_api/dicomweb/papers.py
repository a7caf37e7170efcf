"""Instances without frames as something to read: reports, documents, waveforms."""

from typing import Final

from pacs import drawing, retrieve
from pacs.drawing import Paper, Sheet
from pacs.render import documents, trees, waveforms
from pacs.render.documents import Link
from pacs.render.options import Options
from pacs.render.trees import Tree
from pacs.series_metadata import Entry
from storage.base import values
from storage.base.errors import NotSupported
from viewer_api import deps
from viewer_api.deps import Parts

MAX_BYTES: Final = 256 << 20


def _read(parts: Parts, entry: Entry) -> Tree:
    stored = entry.stored
    if stored.dataset_size > MAX_BYTES:
        raise NotSupported(f"a document of more than {MAX_BYTES} bytes")
    dataset = retrieve.outgoing(parts.store, stored, entry.checksum)
    return trees.read(dataset, stored.transfer_syntax_uid)


def waveform(parts: Parts, entry: Entry, asked: Options, media_type: str) -> bytes:
    """Return the picture of a waveform.

    Raises
    ------
    NotSupported
        It cannot be drawn.
    Malformed
        The object is broken.
    """
    found, samples = waveforms.read(_read(parts, entry))
    return drawing.draw_waveform(Sheet(found, asked, media_type), samples)


def report(parts: Parts, entry: Entry, asked: Options, media_type: str) -> bytes:
    """Return a structured report as one of `documents.FORMATS`; errors as `waveform`."""
    found = documents.read(_read(parts, entry), asked.language)
    if media_type == documents.TEXT:
        return documents.to_text(found)
    return documents.to_html(found, _linking(entry.stored.study_instance_uid))


def encapsulated(parts: Parts, entry: Entry) -> bytes:
    """Return an encapsulated document without its padding (PS3.3 C.24.2); errors as `waveform`."""
    tree = _read(parts, entry)
    content = tree.binary("EncapsulatedDocument")
    if not content:
        raise NotSupported("no document in it")
    told = int(tree.number("EncapsulatedDocumentLength") or 0)
    if len(content) - told in {0, 1}:
        return content[:told]
    return content.removesuffix(b"\0") if len(content) % 2 == 0 else content


def page_of_report(parts: Parts, entry: Entry, asked: Options, media_type: str) -> bytes:
    """Return the beginning of a structured report as a picture; errors as `waveform`."""
    text = report(parts, entry, asked, documents.TEXT)
    return drawing.draw_paper(Paper(pdf=False, options=asked, media_type=media_type), text)


def page_of_pdf(parts: Parts, entry: Entry, asked: Options, media_type: str) -> bytes:
    """Return the first page of an encapsulated PDF as a picture; errors as `waveform`."""
    return drawing.draw_paper(
        Paper(pdf=True, options=asked, media_type=media_type), encapsulated(parts, entry)
    )


def _linking(study: str) -> Link:
    """Return how a report names an instance of its study, so that a browser finds it."""

    def link(series: str, instance: str) -> str:
        if not (values.is_uid(series) and values.is_uid(instance)):
            return ""
        path = f"studies/{study}/series/{series}/instances/{instance}/rendered"
        return f"{deps.DICOMWEB}/{path}"

    return link
