"""Object keys come from our own hash, never from a peer's text.

    instance      aa/bb/<study>/<object>       as received, or in another encoding
    pack          aa/<pack>                    small instances, many to an object
    metadata      aa/bb/<study>/<part of its hash>    of a series; can be made again
    document      aa/bb/<report>/<part of its hash>   the signed paper of a report
    quarantine    00/<aa>/<object>/<reception>

Every part is lower-case hex, so a key is safe as a path and as an S3 key, the
objects of a study lie together (small ones in packs), and a key can be computed again
from the object alone: it is also its checksum.
"""

import hashlib
import re
from typing import Final

from storage.base.errors import Malformed

STUDY_HEX = 40
METADATA_HEX: Final = 48
"""Digits of the last part of a metadata object's key: an instance has more."""
DOCUMENT_HEX: Final = 56
"""The same of a document's: between both."""
_KEY: Final = re.compile(r"[0-9a-f]+(/[0-9a-f]+)*")
_PREFIX: Final = re.compile(r"([0-9a-f]+/)*[0-9a-f]*")


def is_key(text: str) -> bool:
    """Tell whether `text` has the form of a key."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> None:
    """Raise `Malformed` unless `key` has the form of a key: so it cannot lead elsewhere."""
    if not is_key(key):
        raise Malformed(f"{key[:100]!r} is no object key")


def check_prefix(prefix: str) -> None:
    """Raise `Malformed` unless a key can begin with `prefix`."""
    if not _PREFIX.fullmatch(prefix):
        raise Malformed(f"{prefix[:100]!r} is no beginning of an object key")


def instance_key(study_instance_uid: str, transfer_syntax_uid: str, dataset_sha256: str) -> str:
    """Return the key of a SOP Instance whose dataset bytes have `dataset_sha256` (hex)."""
    content = hashlib.sha256(f"{transfer_syntax_uid}\n{dataset_sha256}".encode()).hexdigest()
    return f"{_study_folder(study_instance_uid)}/{content}"


def replacement_key(study_instance_uid: str, attempt: str) -> str:
    """Return a key for the same SOP Instance in another encoding.

    `attempt` is a text of ours that is never used twice: so is the key, and what was deleted
    under it is never taken for what was put later.
    """
    return f"{_study_folder(study_instance_uid)}/{hashlib.sha256(attempt.encode()).hexdigest()}"


def is_pack(key: str) -> bool:
    """Tell whether a key is that of an object with many instances."""
    return key.count("/") == 1


def metadata_key(study_instance_uid: str, sha256: str) -> str:
    """Return the key of the metadata object of a series, from the hash of its bytes."""
    return f"{_study_folder(study_instance_uid)}/{sha256[:METADATA_HEX]}"


def document_key(report_uid: str, sha256: str) -> str:
    """Return the key of the signed paper of a report, from the hash of its bytes."""
    return f"{_study_folder(report_uid)}/{sha256[:DOCUMENT_HEX]}"


def _study_folder(study_instance_uid: str) -> str:
    study = hashlib.sha256(study_instance_uid.encode()).hexdigest()[:STUDY_HEX]
    return f"{study[:2]}/{study[2:4]}/{study}"


def pack_key(sha256: str) -> str:
    """Return the key of an object that holds many instances, from the hash of its bytes."""
    return f"{sha256[:2]}/{sha256}"


def quarantine_key(dataset_sha256: str, reception: str) -> str:
    """Return the key of a received object that is kept aside.

    `reception` is the spool's name of this reception (our own text): the same
    bytes may be held twice, with different command UIDs.
    """
    name = hashlib.sha256(reception.encode()).hexdigest()[:32]
    return f"00/{dataset_sha256[:2]}/{dataset_sha256}/{name}"
