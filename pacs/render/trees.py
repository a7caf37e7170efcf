"""A dataset as a tree to read from: the DICOM JSON Model (PS3.18 Annex F) by keyword."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pacs import dicom_json
from pacs.encoding import swapped
from pacs.header import tag_of
from storage.base.errors import NotFound

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """The encoded dataset that a tree was made of, for its large binary values."""

    dataset: bytes
    transfer_syntax_uid: str

    def value(self, path: str) -> bytes:
        """Return the little endian bytes of the binary value at `path`."""
        found = dicom_json.bulk_data(self.dataset, self.transfer_syntax_uid, path)
        pieces = (self.dataset[start : start + length] for start, length in found.pieces)
        return swapped(b"".join(pieces), found.word_bytes)


@dataclass(frozen=True, slots=True)
class Tree:
    """A dataset or an item; what is absent is empty and never an error."""

    attributes: Json
    source: Source

    def _element(self, keyword: str) -> Json:
        found: Json = self.attributes.get(f"{tag_of(keyword):08X}", {})
        return found

    def values(self, keyword: str) -> Sequence[Any]:
        """Return the values of an attribute."""
        found: Sequence[Any] = self._element(keyword).get("Value") or ()
        return found

    def text(self, keyword: str) -> str:
        r"""Return a value as text; several values are joined by a backslash."""
        return "\\".join(map(_text, self.values(keyword)))

    def number(self, keyword: str) -> float | None:
        """Return the first value as a number, None when there is none."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def numbers(self, keyword: str) -> Sequence[float]:
        """Return the values that are numbers."""
        return [float(one) for one in self.values(keyword) if isinstance(one, int | float)]

    def items(self, keyword: str) -> Sequence["Tree"]:
        """Return the items of a sequence."""
        return [Tree(one, self.source) for one in self.values(keyword) if isinstance(one, dict)]

    def item(self, keyword: str) -> "Tree":
        """Return the first item of a sequence, an empty one when there is none."""
        found = self.items(keyword)
        return found[0] if found else Tree({}, self.source)

    def binary(self, keyword: str) -> bytes:
        """Return a binary value, little endian."""
        element = self._element(keyword)
        if inline := element.get("InlineBinary"):
            return base64.b64decode(inline)
        try:
            return self.source.value(element["BulkDataURI"]) if "BulkDataURI" in element else b""
        except NotFound:
            return b""


def read(dataset: bytes, transfer_syntax_uid: str) -> Tree:
    """Return the tree of a dataset.

    Raises
    ------
    Malformed
        The encoding is broken.
    """
    tree = dicom_json.dataset_json(dataset, transfer_syntax_uid, lambda path: path)
    return Tree(tree, Source(dataset, transfer_syntax_uid))


def _text(value: object) -> str:
    if isinstance(value, dict):  # a person's name
        return next((str(group) for group in value.values()), "")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
