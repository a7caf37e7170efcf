"""Which SOP classes and transfer syntaxes we take, read and offer (PS3.4 Annex B, PS3.5 Annex A).

The standard's own tables come from pydicom's UID dictionary (PS3.6 Annex A); what
the dictionary does not know yet is added here with its section.
"""

from collections.abc import Sequence
from typing import Final

from pydicom._uid_dict import UID_dictionary

from storage.base import values

# PS3.5 B.2: UIDs derived from UUIDs need no registered root.
IMPLEMENTATION_CLASS_UID: Final = "2.25.251318196033571143564537985819136622862"
IMPLEMENTATION_VERSION_NAME: Final = "LIENTHONG_0_1"

VERIFICATION: Final = "1.2.840.10008.1.1"
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
"""DICOMDIR (PS3.3 Annex F): written to media, never sent."""

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG_SPECTRAL_SELECTION: Final = "1.2.840.10008.1.2.4.53"
JPEG_FULL_PROGRESSION: Final = "1.2.840.10008.1.2.4.55"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS: Final = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS: Final = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
JPEG_2000: Final = "1.2.840.10008.1.2.4.91"
JPEG_XL_LOSSLESS: Final = "1.2.840.10008.1.2.4.110"
JPEG_XL_RECOMPRESSION: Final = "1.2.840.10008.1.2.4.111"
JPEG_XL: Final = "1.2.840.10008.1.2.4.112"
HTJ2K_LOSSLESS: Final = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL: Final = "1.2.840.10008.1.2.4.202"
HTJ2K: Final = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
DEFLATED_IMAGE_FRAME: Final = "1.2.840.10008.1.2.8.1"

NATIVE: Final = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    }
)
"""Pixel data is not encapsulated (PS3.5 A.1 to A.3 and A.5)."""

LOSSY_JPEG: Final = frozenset(
    {JPEG_BASELINE, JPEG_EXTENDED, JPEG_SPECTRAL_SELECTION, JPEG_FULL_PROGRESSION}
)
"""Lossy JPEG (ISO 10918-1): colour is YCbCr in the stream and RGB once decoded."""

DECODABLE: Final = LOSSY_JPEG | {
    ENCAPSULATED_UNCOMPRESSED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_2000,
    JPEG_XL_LOSSLESS,
    JPEG_XL_RECOMPRESSION,
    JPEG_XL,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    HTJ2K,
    RLE_LOSSLESS,
    DEFLATED_IMAGE_FRAME,
}
"""Encapsulated transfer syntaxes whose frames `pacs.decoding` turns into native pixels."""

_VIDEO: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))

NATIVE_TARGETS: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)

LOSSLESS_TARGETS: Final = (
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LOSSLESS,
    RLE_LOSSLESS,
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    HTJ2K,
    JPEG_2000,
)
"""Encapsulated transfer syntaxes that are written without loss; the last two allow loss."""

TRANSCODE_TARGETS: Final = (*NATIVE_TARGETS, *LOSSLESS_TARGETS, JPEG_BASELINE)
"""What `pacs.transcode` writes, best first."""

_NEWER_TRANSFER_SYNTAXES = {
    JPEG_XL_LOSSLESS: "JPEG XL Lossless",
    JPEG_XL_RECOMPRESSION: "JPEG XL JPEG Recompression",
    JPEG_XL: "JPEG XL",
    DEFLATED_IMAGE_FRAME: "Deflated Image Frame Compression",
}

# They name data that lies elsewhere or flows in real time: an object in one of them
# does not hold its own pixels (PS3.5 A.6 and A.11, PS3.22), so it cannot be kept.
_NOT_STORABLE = frozenset(
    {
        "1.2.840.10008.1.2.4.94",  # JPIP Referenced
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.204",  # JPIP HTJ2K Referenced
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
        "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME encapsulation: no dataset
        "1.2.840.10008.1.2.6.2",  # XML encoding: no dataset
        "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110-20 progressive video
        "1.2.840.10008.1.2.7.2",  # SMPTE ST 2110-20 interlaced video
        "1.2.840.10008.1.2.7.3",  # SMPTE ST 2110-30 audio
    }
)

TRANSFER_SYNTAXES: Final[tuple[str, ...]] = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    *(
        uid
        for uid, (_, kind, *_) in UID_dictionary.items()
        if kind == "Transfer Syntax"
        and uid not in _NOT_STORABLE
        and uid not in NATIVE  # these stand at both ends
        and uid not in _NEWER_TRANSFER_SYNTAXES  # pynetdicom adds them to the dictionary
    ),
    *_NEWER_TRANSFER_SYNTAXES,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""Every standard transfer syntax, current or retired, in which objects are kept as sent."""

# The Storage Service Class beyond the SOP classes whose name says so (PS3.4 B.5):
# two retired image classes without a name, and classes that name storage but store nothing.
_UNNAMED_STORAGE = frozenset({"1.2.840.10008.5.1.4.1.1.12.77", "1.2.840.10008.5.1.4.1.1.40"})
_NEWER_STORAGE = {
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
}
_STORAGE_IN_NAME_ONLY = frozenset(
    {
        MEDIA_STORAGE_DIRECTORY,
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    }
)

_NEWER = _NEWER_TRANSFER_SYNTAXES | _NEWER_STORAGE

STORAGE_SOP_CLASSES: Final[frozenset[str]] = frozenset(_NEWER_STORAGE) | frozenset(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class"
    and ("Storage" in name or uid in _UNNAMED_STORAGE)
    and uid not in _STORAGE_IN_NAME_ONLY
)
"""Every storage SOP class of PS3.6 Annex A, current and retired."""

OTHER_SERVICES: Final[frozenset[str]] = (
    frozenset(UID_dictionary) | frozenset(_NEWER_TRANSFER_SYNTAXES)
) - STORAGE_SOP_CLASSES
"""Every registered UID that is no storage SOP class."""


def is_storage(abstract_syntax: str) -> bool:
    """Return whether C-STORE applies: any valid UID that is not known as something else.

    Private SOP classes, and those that are newer than this product, are stored too.
    """
    return abstract_syntax not in OTHER_SERVICES and values.is_uid(abstract_syntax)


def is_storable_syntax(transfer_syntax: str) -> bool:
    """Return whether objects in `transfer_syntax` are kept as sent, private ones included."""
    if transfer_syntax in UID_dictionary:
        return transfer_syntax in TRANSFER_SYNTAXES
    return values.is_uid(transfer_syntax)


def is_encapsulated(transfer_syntax: str) -> bool:
    """Return whether pixel data is a sequence of fragments (PS3.5 A.4); private: unknown, True."""
    return transfer_syntax not in NATIVE


def is_video(transfer_syntax: str) -> bool:
    """Return whether all frames are one MPEG-2, MPEG-4 or HEVC stream (PS3.5 8.2.5 to 8.2.8)."""
    return transfer_syntax.removesuffix(".1") in _VIDEO


def choose(proposed: Sequence[str]) -> str | None:
    """Return the transfer syntax to accept of a storage context, None when there is none.

    The sender's first choice stands, so that it need not transcode; only, where it
    offers Explicit VR Little Endian, that is better than the encodings that lose the
    VR of private elements, are retired or cost an inflate of unknown size.
    """
    first = next((uid for uid in proposed if is_storable_syntax(uid)), None)
    if first in NATIVE and EXPLICIT_VR_LITTLE_ENDIAN in proposed:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return first


def offers(stored: str) -> tuple[str, ...]:
    """Return the transfer syntaxes to propose for an object kept as `stored`, best first."""
    if stored in NATIVE or stored in DECODABLE:
        native = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
        return (stored, *(uid for uid in native if uid != stored))
    return (stored,)


def name_of(uid: str) -> str:
    """Return the UID's name in PS3.6, or the UID itself."""
    known = UID_dictionary.get(uid)
    return (known[0] if known else _NEWER.get(uid, "")) or uid
