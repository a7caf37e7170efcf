"""What a Key Object Selection says that is a rejection note (PS3.3 A.35.4, PS3.16 TID 2010).

The objects are those of its Current Requested Procedure Evidence Sequence, as IHE RAD TF-2
4.66 has it; the content items only draw them. A note that names none that can be rejected is
still a note, with the fault.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pacs import dicom_json
from pacs.part10 import Buffer
from storage.archive.rejection_rules import SCHEME, Named, Note, Title
from storage.base import values
from storage.base.errors import Malformed

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
MOST: Final = 100_000
"""Objects that one note rejects."""
MOST_STUDIES: Final = 500
"""Studies: each is locked while the note is recorded."""
PERSON_OBSERVER_NAME: Final = "121008"
KEY_OBJECT_DESCRIPTION: Final = "113012"

NOTHING_NAMED: Final = "the note names no objects in its evidence"
NO_UIDS: Final = "some of the evidence of the note is no UID of an object"
TOO_MANY: Final = (
    f"the note names more than {MOST} objects, or objects of more than {MOST_STUDIES} studies; "
    "it rejects none of them"
)

# PS3.6
_SOP_INSTANCE: Final = "00080018"
_CLASS_REFERENCED: Final = "00081150"
_INSTANCE_REFERENCED: Final = "00081155"
_SERIES_REFERENCED: Final = "00081115"
_INSTANCES_REFERENCED: Final = "00081199"
_STUDY: Final = "0020000D"
_SERIES: Final = "0020000E"
_CODE: Final = "00080100"
_SCHEME: Final = "00080102"
_CONCEPT: Final = "0040A043"
_PERSON: Final = "0040A123"
_TEXT: Final = "0040A160"
_EVIDENCE: Final = "0040A375"
_CONTENT: Final = "0040A730"

_Json = dict[str, Any]


def read(dataset: Buffer, transfer_syntax_uid: str) -> Note | None:
    """Return what a Key Object Selection rejects, None when its title is of no rejection.

    Raises
    ------
    Malformed
        The encoding is broken.
    """
    found = dicom_json.dataset_json(dataset, transfer_syntax_uid, lambda path: path)
    title = _title(found)
    if title is None:
        return None
    evidence = [*_evidence(found)]
    named = {
        one.sop_instance_uid: one
        for one in evidence
        if all(map(values.is_uid, (one.study_instance_uid, one.sop_instance_uid)))
        and one.sop_instance_uid != _text(found, _SOP_INSTANCE)
    }
    fault = ""
    studies = {one.study_instance_uid for one in named.values()}
    if len(named) > MOST or len(studies) > MOST_STUDIES:
        named, fault = {}, TOO_MANY
    elif not named:
        fault = NOTHING_NAMED
    elif len(named) < len({one.sop_instance_uid for one in evidence}):
        fault = NO_UIDS
    content = [*_items(found, _CONTENT)]
    return Note(
        title=title,
        named=tuple(named.values()),
        author=_content_text(content, PERSON_OBSERVER_NAME, _PERSON),
        reason=_content_text(content, KEY_OBJECT_DESCRIPTION, _TEXT),
        fault=fault,
    )


def read_if_sound(dataset: Buffer, transfer_syntax_uid: str) -> Note | None:
    """Return the same, None also of what cannot be read: it is kept, and rejects nothing."""
    try:
        return read(dataset, transfer_syntax_uid)
    except Malformed:
        return None


def _title(found: _Json) -> Title | None:
    concept = next(_items(found, _CONCEPT), {})
    try:
        title = Title(_text(concept, _CODE))
    except ValueError:
        return None
    return title if _text(concept, _SCHEME) == SCHEME else None


def _evidence(found: _Json) -> Iterator[Named]:
    for study in _items(found, _EVIDENCE):
        for series in _items(study, _SERIES_REFERENCED):
            for instance in _items(series, _INSTANCES_REFERENCED):
                yield Named(
                    _text(study, _STUDY),
                    _uid(series, _SERIES),
                    _text(instance, _INSTANCE_REFERENCED),
                    _uid(instance, _CLASS_REFERENCED),
                )


def _content_text(content: Sequence[_Json], concept: str, tag: str) -> str:
    """Return the text of the first content item of a concept, '' when there is none."""
    return next(
        (
            _text(item, tag)
            for item in content
            if _text(next(_items(item, _CONCEPT), {}), _CODE) == concept
        ),
        "",
    )


def _items(found: _Json, tag: str) -> Iterator[_Json]:
    return (item for item in _values(found, tag) if isinstance(item, dict))


def _text(found: _Json, tag: str) -> str:
    first = next(iter(_values(found, tag)), "")
    if isinstance(first, dict):  # PS3.18 F.2.2, a person name
        first = first.get("Alphabetic", "")
    return str(first or "").strip()


def _uid(found: _Json, tag: str) -> str:
    text = _text(found, tag)
    return text if values.is_uid(text) else ""


def _values(found: _Json, tag: str) -> list[Any]:
    attribute = found.get(tag)
    given = attribute.get("Value") if isinstance(attribute, dict) else None
    return given if isinstance(given, list) else []
