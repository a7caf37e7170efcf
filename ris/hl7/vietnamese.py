"""Vietnamese text in the encodings from before Unicode, and which one a text is in.

    Windows-1258   base letter, then a combining tone          (the codec of Python)
    TCVN3 (ABC)    one byte a letter; capitals by another font, so small letters for capitals
    VNI-Win        base letter, then a mark, both of Latin-1
    VISCII 1.1     one byte a letter, six of them control characters (RFC 1456)

A text that was UTF-8, was taken for cp1252 and written again (``NGUYá»„N``) is repaired when it
comes out as valid Vietnamese.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Final

_TCVN3_CODES: Final = (
    "B8B5B6B7B9A8BEBBBCBDC6A9CAC7C8C9CBAED0CCCECFD1AAD5D2D3D4D6DDD7D8DCDEE3DFE1E2E4ABE8E5E6E7E9"
    "ACEDEAEBECEEF3EFF1F2F4ADF8F5F6F7F9FDFAFBFCFEA1A2A7A3A4A5A6"
)
_TCVN3_LETTERS: Final = "áàảãạăắằẳẵặâấầẩẫậđéèẻẽẹêếềểễệíìỉĩịóòỏõọôốồổỗộơớờởỡợúùủũụưứừửữựýỳỷỹỵĂÂĐÊÔƠƯ"
TCVN3_TABLE: Final[Mapping[int, str]] = dict(
    zip(bytes.fromhex(_TCVN3_CODES), _TCVN3_LETTERS, strict=True)
)
# RFC 1456: the six letters among the control characters, then 80 to FF
VISCII_TABLE: Final[Mapping[int, str]] = dict(
    zip(bytes.fromhex("02050614191E"), "ẲẴẪỶỸỴ", strict=True)
) | {
    0x80 + at: letter
    for at, letter in enumerate(
        "ẠẮẰẶẤẦẨẬẼẸẾỀỂỄỆỐỒỔỖỘỢỚỜỞỊỎỌỈỦŨỤỲÕắằặấầẩậẽẹếềểễệốồổỗỠƠộờởịỰỨỪỬơớƯ"
        "ÀÁÂÃẢĂẳẵÈÉÊẺÌÍĨỳĐứÒÓÔạỷừửÙÚỹỵÝỡưàáâãảăữẫèéêẻìíĩỉđựòóôõỏọụùúũủýợỮ"
    )
}
_ACUTE, _GRAVE, _HOOK, _TILDE, _DOT = "\u0301", "\u0300", "\u0309", "\u0303", "\u0323"
# VNI: the mark behind a letter, and what it makes of it
_VNI_TONES: Final = {"ù": _ACUTE, "ø": _GRAVE, "û": _HOOK, "õ": _TILDE, "ï": _DOT}
_VNI_BREVE: Final = {"é": _ACUTE, "è": _GRAVE, "ú": _HOOK, "ü": _TILDE, "ë": _DOT, "ê": ""}
_VNI_HAT: Final = {"á": _ACUTE, "à": _GRAVE, "å": _HOOK, "ã": _TILDE, "ä": _DOT, "â": ""}
_VNI_ALONE: Final = {"ñ": "đ", "ô": "ơ", "ö": "ư", "æ": "ỉ", "ó": "ĩ", "ò": "ị", "î": "ỵ"}


def _vni() -> dict[str, str]:
    pairs = {base + mark: base + tone for base in "aeouy" for mark, tone in _VNI_TONES.items()}
    pairs |= {"ô" + mark: "ơ" + tone for mark, tone in _VNI_TONES.items()}
    pairs |= {"ö" + mark: "ư" + tone for mark, tone in _VNI_TONES.items()}
    pairs |= {"a" + mark: "ă" + tone for mark, tone in _VNI_BREVE.items()}
    hats = product("aeo", _VNI_HAT.items())
    pairs |= {base + mark: base + "\u0302" + tone for base, (mark, tone) in hats}
    small = {
        wire: unicodedata.normalize("NFC", text) for wire, text in (pairs | _VNI_ALONE).items()
    }
    capital = {wire.upper(): text.upper() for wire, text in small.items()}
    mixed = {wire[0].upper() + wire[1:]: text.upper() for wire, text in small.items()}
    return small | mixed | capital


VNI_TABLE: Final[Mapping[str, str]] = _vni()
_VNI_WIRE: Final = re.compile("|".join(sorted(map(re.escape, VNI_TABLE), key=len, reverse=True)))


def cp1252(octets: bytes) -> str:
    """Decode as browsers do (WHATWG): the five undefined bytes pass through."""
    return octets.decode("cp1252", "surrogateescape").translate(_PASSED)


_UNDEFINED: Final = (0x81, 0x8D, 0x8F, 0x90, 0x9D)
_PASSED: Final = {0xDC00 + octet: octet for octet in _UNDEFINED}


def cp1258(octets: bytes) -> str:
    """Decode Windows-1258; its undefined bytes pass through."""
    text = octets.decode("cp1258", "surrogateescape")
    passed = {0xDC00 + octet: octet for octet in range(0x80, 0x100)}
    return unicodedata.normalize("NFC", text.translate(passed))


def tcvn3(octets: bytes) -> str:
    """Decode TCVN3; a word whose plain letters are all capitals becomes capital as a whole."""
    text = "".join(TCVN3_TABLE.get(octet, chr(octet)) for octet in octets)
    return re.sub(r"\w+", _as_capitals, text)


def vni(octets: bytes) -> str:
    """Decode VNI-Win."""
    return _VNI_WIRE.sub(lambda found: VNI_TABLE[found[0]], cp1252(octets))


def viscii(octets: bytes) -> str:
    """Decode VISCII 1.1."""
    return "".join(VISCII_TABLE.get(octet, chr(octet)) for octet in octets)


CODECS: Final[Mapping[str, Callable[[bytes], str]]] = {
    "windows-1258": cp1258,
    "TCVN3": tcvn3,
    "VNI": vni,
    "VISCII": viscii,
}


def guess(octets: bytes, names: Sequence[str] = tuple(CODECS)) -> str:
    """Return the name of the encoding in which `octets` read most like Vietnamese, '' for none."""
    scores = [(likeness(CODECS[name](octets)), -at, name) for at, name in enumerate(names)]
    best, _, name = max(scores)
    return name if best > _ENOUGH else ""


_ENOUGH: Final = 0.5
_WORD: Final = re.compile(r"[^\W\d_]+")
# A Vietnamese syllable without its tone: onset, vowels, coda.
_SYLLABLE: Final = re.compile(
    "(?:ngh|ng|nh|ch|gh|gi|kh|ph|qu|th|tr|[bcdđghklmnpqrstvx])?"
    "(?:iêu|yêu|oai|oay|oao|oeo|uôi|uây|uyê|uya|ươi|ươu|uêu|uyu|"
    "ai|ao|au|ay|âu|ây|eo|êu|ia|iê|iu|oa|oă|oe|oi|oo|ôi|ơi|ua|uâ|uê|ui|uô|uơ|uy|ưa|ưi|ươ|ưu|yê|"
    "[aăâeêioôơuưy])"
    "(?:ch|ng|nh|[cmnpt])?"
)
_TONES: Final = str.maketrans(dict.fromkeys((_ACUTE, _GRAVE, _HOOK, _TILDE, _DOT), ""))


def likeness(text: str) -> float:
    """Return which part of the words with other letters than ASCII could be Vietnamese."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    strange = sum(not one.isascii() and not one.isalpha() for one in text)
    if not words:
        return 0.0
    return sum(map(is_syllable, words)) / (len(words) + strange)


def is_syllable(word: str) -> bool:
    """Return whether a word could be Vietnamese by its letters and their case."""
    if not (word.islower() or word.isupper() or word.istitle()):
        return False
    parts = unicodedata.normalize("NFD", word.lower())
    toneless = unicodedata.normalize("NFC", parts.translate(_TONES))
    tones = sum(one in (_ACUTE, _GRAVE, _HOOK, _TILDE, _DOT) for one in parts)
    return tones <= 1 and _SYLLABLE.fullmatch(toneless) is not None


def repaired(text: str) -> str:
    """Return `text` with its double encoding undone, where that gives Vietnamese; else as it is."""
    if not _DOUBLE.search(text):
        return text
    return _MAYBE_DOUBLE.sub(_undone, text)


# the lead bytes of UTF-8 for Vietnamese letters, read as cp1252, and what may follow them
_DOUBLE: Final = re.compile("[ÃÄÆ]|á[ºB»]")
_MAYBE_DOUBLE: Final = re.compile(r"[^\s^|~\\&]+")
_CP1252: Final[Mapping[str, int]] = {cp1252(bytes([octet])): octet for octet in range(256)}
# 90 alone of the bytes that cp1252 lacks makes a Vietnamese letter behind C4
_LETTERS: Final = frozenset(TCVN3_TABLE.values()) | frozenset(VISCII_TABLE.values())
_LOST_D: Final = "Ä\ufffd"


def _undone(found: re.Match[str]) -> str:
    word = found[0]
    octets = [_CP1252.get(one) for one in word.replace(_LOST_D, "Ä\x90")]
    try:
        text = bytes(octet for octet in octets if octet is not None).decode()
    except UnicodeDecodeError:
        return word
    strange = {one for one in text if not one.isascii()} - _LETTERS
    if None in octets or text == word or strange:
        return word
    return unicodedata.normalize("NFC", text)


def _as_capitals(found: re.Match[str]) -> str:
    plain = [one for one in found[0] if one.isascii() and one.isalpha()]
    capital = plain and all(one.isupper() for one in plain)
    return found[0].upper() if capital and len(plain) > 1 else found[0]
