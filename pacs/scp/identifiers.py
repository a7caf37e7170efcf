"""Identifiers of queries and retrievals, read and written (PS3.4 C.4.1.1.3, C.4.2.1.4).

Read with the character set that they declare; written with only what was asked
for, in the same character set where it has all the letters, else in UTF-8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from pydicom.datadict import keyword_for_tag

from pacs import header
from pacs.header import Header
from pacs.scp import models
from pacs.scp.encoding import Encoder
from pacs.scp.models import Levels
from pacs.scp.texts import Texts
from storage.archive import attributes
from storage.archive.model import Level, Match
from storage.base.errors import Conflict

SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058

_OURS: Final = {
    SPECIFIC_CHARACTER_SET: "SpecificCharacterSet",
    QUERY_RETRIEVE_LEVEL: "QueryRetrieveLevel",
    RETRIEVE_AE_TITLE: "RetrieveAETitle",
    INSTANCE_AVAILABILITY: "InstanceAvailability",
}
"""Attributes of the identifier itself: in every response, never matched."""
_MAX_SHORT_VALUE: Final = 0xFFFE


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute that a response has."""

    tag: int
    vr: str
    keyword: str
    """Dotted inside a sequence; '' when the standard has none for the tag."""
    items: tuple["Key", ...] = ()


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a request asks for."""

    level: Level
    texts: Mapping[str, str]
    """Keyword → value; dotted keywords for the item of a sequence."""
    keys: tuple[Key, ...]
    specific_character_set: str

    @property
    def has_unknown_keys(self) -> bool:
        """Whether attributes are asked for that no level has: private ones, other sequences."""
        known = attributes.visible(self.level)
        return any(
            not key.keyword
            or (key.vr == "SQ" and not any(name.startswith(f"{key.keyword}.") for name in known))
            for outer in self.keys
            for key in (outer, *outer.items)
        )


def read(data: bytes, transfer_syntax: str, levels: Levels, *, relational: bool) -> Identifier:
    """Read the identifier of a request over a model with these `levels`.

    Raises
    ------
    Malformed
        It is no dataset.
    Conflict
        The level is missing or not one of the model, or the unique key of a level above has not
        exactly one value although relational queries are not negotiated (PS3.4 C.4.1.2.1).
    """
    found = header.scan(data, transfer_syntax)
    name = found.text(QUERY_RETRIEVE_LEVEL)
    level = next((level for level in levels if level == name), None)
    if level is None:
        what = "is not a level of this model" if name else "is missing"
        raise Conflict(f"Query/Retrieve Level (0008,0052) {what}")
    keys, texts = keys_of(found, 1)
    if not relational:
        for upper in levels[: levels.index(level)]:
            _check_single(texts, models.UNIQUE_KEYS[upper])
    return Identifier(level, texts, keys, found.specific_character_set)


def unique_keys(identifier: Identifier, levels: Levels) -> dict[str, str]:
    """Return the unique keys down to the level of a retrieval (PS3.4 C.4.2.2.1).

    Raises
    ------
    Conflict
        The unique key of the level itself is empty, or is a wild card.
    """
    own = models.UNIQUE_KEYS[identifier.level]
    value = identifier.texts.get(own, "")
    if not value or "*" in value or "?" in value:
        raise Conflict(f"{own}: a retrieval needs one value or a list")
    upper = levels[: levels.index(identifier.level) + 1]
    wanted = {
        key: identifier.texts.get(key, "") for key in (models.UNIQUE_KEYS[level] for level in upper)
    }
    return {key: text for key, text in wanted.items() if text}


def _check_single(texts: Mapping[str, str], keyword: str) -> None:
    value = texts.get(keyword, "")
    if not value or any(character in value for character in "\\*?"):
        raise Conflict(f"{keyword}: exactly one value is required above the query level")


def keys_of(found: Header, depth: int, path: str = "") -> tuple[tuple[Key, ...], dict[str, str]]:
    """Return the keys of an identifier, sequences down to `depth`, and their texts by keyword."""
    keys: list[Key] = []
    texts: dict[str, str] = {}
    for tag in sorted(found.elements):
        if tag & 0xFFFF == 0:  # group length, retired
            continue
        name = keyword_for_tag(tag)
        keyword = f"{path}.{name}" if path and name else name
        vr = found.vr(tag)[:2]
        items: tuple[Key, ...] = ()
        if vr == "SQ":
            item = found.first_item(tag)
            if item is not None and depth:
                items, inner = keys_of(item, depth - 1, keyword)
                texts.update(inner)
        elif keyword and tag not in _OURS:
            texts[keyword] = found.text(tag)
        keys.append(Key(tag, vr, keyword, items))
    return tuple(keys), texts


class Answers:
    """Writes the matches of one query as response identifiers (PS3.4 C.4.1.1.3.2)."""

    def __init__(
        self, identifier: Identifier, transfer_syntax: str, ae_title: str, texts: Texts
    ) -> None:
        self._encoder = Encoder(transfer_syntax)
        self._texts = texts
        self._fixed = {
            "QueryRetrieveLevel": identifier.level.value,
            "RetrieveAETitle": ae_title,
            "InstanceAvailability": "ONLINE",
        }
        known = attributes.visible(identifier.level)
        keys = {key.tag: _complete(key, known) for key in identifier.keys}
        for tag, keyword in _OURS.items():
            keys[tag] = Key(tag, "AE" if tag == RETRIEVE_AE_TITLE else "CS", keyword)
        self._keys = tuple(keys[tag] for tag in sorted(keys))

    def write(self, match: Match) -> bytes:
        """Return the response identifier of one match."""
        values = {**(match if self._texts.plain else self._shaped(match)), **self._fixed}
        texts = [text for key in self._keys for text in _texts(key, values)]
        charset = self._texts.charset(texts)
        values["SpecificCharacterSet"] = charset
        return b"".join(
            self._element(key, values, charset)
            for key in self._keys
            if charset or key.tag != SPECIFIC_CHARACTER_SET
        )

    def _shaped(self, match: Match) -> dict[str, object]:
        """Return the texts that are asked for as the peer can show them, the rest as it is."""
        shaped: dict[str, object] = dict(match)
        for key in self._keys:
            for one in key.items or (key,):
                value = match.get(one.keyword)
                shape = partial(self._texts.shape, one.keyword, one.vr)
                if isinstance(value, tuple):
                    shaped[one.keyword] = tuple(shape(str(member)) for member in value)
                elif isinstance(value, str):
                    shaped[one.keyword] = shape(value)
        return shaped

    def _element(self, key: Key, values: Mapping[str, object], charset: str) -> bytes:
        if key.vr != "SQ":
            return self._encoder.element(key.tag, key.vr, values.get(key.keyword, ""), charset)
        columns = [_members(values.get(inner.keyword, "")) for inner in key.items]
        items = [
            b"".join(
                self._encoder.element(
                    inner.tag, inner.vr, column[row] if row < len(column) else "", charset
                )
                for inner, column in zip(key.items, columns, strict=True)
            )
            for row in range(max(map(len, columns), default=0))
        ]
        return self._encoder.sequence(key.tag, items)


def _complete(key: Key, known: Mapping[str, attributes.Attribute]) -> Key:
    """Give an empty sequence all the item attributes that we have."""
    if key.vr != "SQ" or key.items:
        return key
    items = tuple(
        Key(attribute.tag, attribute.vr, keyword)
        for keyword, attribute in sorted(known.items(), key=lambda pair: pair[1].tag)
        if keyword.startswith(f"{key.keyword}.")
    )
    return Key(key.tag, key.vr, key.keyword, items)


def _texts(key: Key, values: Mapping[str, object]) -> tuple[str, ...]:
    inner = key.items or (key,)
    return tuple(text for one in inner for text in _members(values.get(one.keyword, "")))


def _members(value: object) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(map(str, value))
    return (str(value),) if value not in ("", None) else ()


def failed_list(uids: list[str], transfer_syntax: str) -> bytes:
    """Return the identifier that names failed sub-operations (PS3.4 C.4.2.1.4.2).

    As many as one element can hold (64 KiB): the others are counted, not named.
    """
    encoder = Encoder(transfer_syntax)
    text = "\\".join(uids)
    if len(text) > _MAX_SHORT_VALUE:
        text = text[:_MAX_SHORT_VALUE].rpartition("\\")[0]
    return encoder.element(FAILED_SOP_INSTANCE_UID_LIST, "UI", text, "")
