"""The Native DICOM Model (PS3.19 A.1): DICOM JSON Model objects as XML, and back.

    NativeDicomModel   DicomAttribute*
    DicomAttribute     Value* | PersonName* | Item* | BulkData | InlineBinary

Both models hold the same, so one is made of the other. A private element is named without
its block, ``gggg00ee``, beside its private creator. What XML 1.0 cannot hold, control
characters, becomes U+FFFD. What is read may come from anybody: a document type, and with
it every entity, is refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from xml.parsers import expat

from pydicom.datadict import keyword_for_tag

from pacs.encoding import BULK_VRS, KNOWN_VRS
from storage.base.errors import Malformed

Json = dict[str, Any]

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_DEPTH: Final = 32
"""Of sequences in sequences."""
MAX_ELEMENTS: Final = 1_000_000
GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_UNFIT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BINARY: Final = frozenset(vr.decode("ascii") for vr in BULK_VRS)
_ESCAPED: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
)
_CREATORS: Final = range(0x10, 0x100)
_FIRST_OWNED: Final = 0x1000


# Writing


def encode(dataset: Mapping[str, Any]) -> bytes:
    """Return the XML document of one DICOM JSON Model object."""
    body = "".join(_attributes(dataset))
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    opened = f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
    return f"{head}{opened}{body}</NativeDicomModel>".encode()


def _attributes(dataset: Mapping[str, Any]) -> Iterator[str]:
    creators = _creators(dataset)
    for name, attribute in dataset.items():
        yield f"<DicomAttribute{_named(name, attribute['vr'], creators)}>"
        yield from _content(attribute)
        yield "</DicomAttribute>"


def _creators(dataset: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the private creators by group and block, as ``gggg`` and two digits."""
    found = {}
    for name, attribute in dataset.items():
        tag = int(name, 16)
        if tag >> 16 & 1 and tag & 0xFFFF in _CREATORS:
            values = [value for value in attribute.get("Value", ()) if isinstance(value, str)]
            if values:
                found[name[:4] + name[6:]] = values[0]
    return found


def _named(name: str, vr: str, creators: Mapping[str, str]) -> str:
    tag = int(name, 16)
    if tag >> 16 & 1:
        creator = creators.get(name[:6]) if tag & 0xFFFF >= _FIRST_OWNED else None
        if creator is not None:
            return f' tag="{name[:4]}00{name[6:]}" vr="{vr}" privateCreator="{_text(creator)}"'
        return f' tag="{name}" vr="{vr}"'
    keyword = keyword_for_tag(tag)
    said = f' keyword="{keyword}"' if keyword else ""
    return f' tag="{name}" vr="{vr}"{said}'


def _content(attribute: Mapping[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in attribute:
        yield f'<BulkData uri="{_text(attribute["BulkDataURI"])}"/>'
    elif "InlineBinary" in attribute:
        yield f"<InlineBinary>{attribute['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(attribute.get("Value", ()), 1):
        if attribute["vr"] == "SQ":
            yield f'<Item number="{number}">'
            yield from _attributes(value or {})
            yield "</Item>"
        elif isinstance(value, dict):
            yield f'<PersonName number="{number}">'
            yield from _person_name(value)
            yield "</PersonName>"
        elif value is not None:
            yield f'<Value number="{number}">{_text(value)}</Value>'


def _person_name(value: Mapping[str, str]) -> Iterator[str]:
    for group in GROUPS:
        if text := value.get(group):
            yield f"<{group}>"
            # a sixth component is against PS3.5 6.2.1.1; it stays in the fifth
            for name, part in zip(COMPONENTS, text.split("^", len(COMPONENTS) - 1), strict=False):
                if part:
                    yield f"<{name}>{_text(part)}</{name}>"
            yield f"</{group}>"


def _text(value: object) -> str:
    return _UNFIT.sub("\ufffd", str(value)).translate(_ESCAPED)


# Reading

# PS3.19 A.1.5: what may stand in what
_CHILDREN: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"NativeDicomModel"}),
    "NativeDicomModel": frozenset({"DicomAttribute"}),
    "Item": frozenset({"DicomAttribute"}),
    "DicomAttribute": frozenset({"Value", "PersonName", "Item", "BulkData", "InlineBinary"}),
    "PersonName": frozenset(GROUPS),
    **dict.fromkeys(GROUPS, frozenset(COMPONENTS)),
}


def decode(content: bytes) -> Json:
    """Return the DICOM JSON Model object of an XML document; every value is a text.

    Raises
    ------
    Malformed
        It is not XML, or no Native DICOM Model.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    reader = _Reader()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _no_document_type
    try:
        parser.Parse(content, True)  # noqa: FBT003 - expat's own signature
    except expat.ExpatError as error:
        place = f"line {error.lineno}, column {error.offset}"
        raise Malformed(f"not XML: {expat.ErrorString(error.code)} at {place}") from error
    return reader.result()


def _no_document_type(*_facts: object) -> None:
    raise Malformed("an XML document with a document type")


class _Level:
    """The dataset or item that is being read."""

    def __init__(self) -> None:
        self.attributes: Json = {}
        self.blocks: dict[tuple[str, str], int] = {}
        """Private blocks by group and creator."""
        self.tag = ""
        self.vr = ""
        self.values: dict[int, Any] = {}

    def block_of(self, group: str, creator: str) -> int:
        """Return the block of a private creator; a creator that has none gets the next free."""
        if (group, creator) not in self.blocks:
            free = next(
                block for block in _CREATORS if f"{group}00{block:02X}" not in self.attributes
            )
            self.blocks[group, creator] = free
            self.attributes[f"{group}00{free:02X}"] = {"vr": "LO", "Value": [creator]}
        return self.blocks[group, creator]


class _Reader:
    """Takes the events of the XML parser."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._open: list[str] = []
        self._elements = 0
        self._text: list[str] = []
        self._number = 0
        self._name: dict[str, dict[str, str]] = {}
        self._root: _Level | None = None
        self._begins: Mapping[str, Callable[[Mapping[str, str]], None]] = {
            "NativeDicomModel": self._document,
            "DicomAttribute": self._attribute,
            "Item": self._item,
            "Value": self._value,
            "PersonName": self._value,
            "InlineBinary": self._value,
            "BulkData": self._bulk_data,
        }

    def result(self) -> Json:
        if self._root is None:
            raise Malformed("no Native DICOM Model")
        return dict(sorted(self._root.attributes.items()))

    def start(self, name: str, given: Mapping[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise Malformed(f"more than {MAX_ELEMENTS} XML elements")
        local = name.rpartition(" ")[2]
        parent = self._open[-1] if self._open else ""
        if local not in _CHILDREN.get(parent, ()):
            raise Malformed(f"XML element {local[:64]} in {parent or 'the document'}")
        self._open.append(local)
        self._text = []
        begin = self._begins.get(local)
        if begin is not None:
            begin(given)
        elif local in GROUPS:
            self._name[local] = {}

    def end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        self._open.pop()
        text, self._text = "".join(self._text), []
        level = self._levels[-1]
        if local == "DicomAttribute":
            self._finish(level)
        elif local == "Item":
            item = self._levels.pop()
            outer = self._levels[-1]
            outer.values[max(outer.values, default=0) + 1] = dict(sorted(item.attributes.items()))
        elif local == "Value":
            level.values[self._number] = text
        elif local == "InlineBinary":
            level.values[0] = {"InlineBinary": "".join(text.split())}
        elif local == "PersonName":
            groups = {
                group: "^".join(parts.get(name, "") for name in COMPONENTS).rstrip("^")
                for group, parts in self._name.items()
            }
            level.values[self._number] = groups
        elif local in COMPONENTS:
            self._name[self._open[-1]][local] = text

    def text(self, text: str) -> None:
        self._text.append(text)

    def _document(self, _given: Mapping[str, str]) -> None:
        self._root = _Level()
        self._levels = [self._root]

    def _value(self, given: Mapping[str, str]) -> None:
        self._number, self._name = self._numbered(given), {}

    def _bulk_data(self, given: Mapping[str, str]) -> None:
        uri = given.get("uri") or given.get("uuid", "")
        self._levels[-1].values[0] = {"BulkDataURI": uri}

    def _attribute(self, given: Mapping[str, str]) -> None:
        tag, vr = given.get("tag", ""), given.get("vr", "")
        if not _TAG.fullmatch(tag):
            raise Malformed("a DicomAttribute without a tag of eight hexadecimal digits")
        if vr.encode() not in KNOWN_VRS:
            raise Malformed(f"({tag}): the VR is missing or unknown")
        level, tag = self._levels[-1], tag.upper()
        if creator := given.get("privateCreator"):
            tag = f"{tag[:4]}{level.block_of(tag[:4], creator):02X}{tag[6:]}"
        level.tag, level.vr, level.values = tag, vr, {}

    def _item(self, given: Mapping[str, str]) -> None:
        level = self._levels[-1]
        if level.vr != "SQ":
            raise Malformed(f"({level.tag}): an item in an attribute of VR {level.vr}")
        self._numbered(given)
        if len(self._levels) > MAX_DEPTH:
            raise Malformed(f"({level.tag}): more than {MAX_DEPTH} sequences in each other")
        self._levels.append(_Level())

    def _numbered(self, given: Mapping[str, str]) -> int:
        text = given.get("number", "1")
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MAX_ELEMENTS):
            raise Malformed(f"({self._levels[-1].tag}): the number of a value is no number")
        return int(text)

    def _finish(self, level: _Level) -> None:
        made: Json = {"vr": level.vr}
        if 0 in level.values:
            made.update(level.values[0])
        elif level.values:
            last = max(level.values)
            if last > 2 * len(level.values) + 1024:
                raise Malformed(f"({level.tag}): value {last} of {len(level.values)}")
            made["Value"] = [level.values.get(number) for number in range(1, last + 1)]
        tag = int(level.tag, 16)
        if tag >> 16 & 1 and tag & 0xFFFF in _CREATORS and made.get("Value"):
            level.blocks.setdefault((level.tag[:4], str(made["Value"][0])), tag & 0xFF)
        level.attributes[level.tag] = made
