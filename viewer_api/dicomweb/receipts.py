"""What a Store Transaction answers: the Store Instances Response (PS3.18 10.5.3, I.2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from fastapi.responses import Response

from pacs import dicom_xml
from storage.base import values
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotPermitted,
    NotSupported,
    StoreFull,
    Unavailable,
)
from viewer_api import media
from viewer_api.media import Offer
from viewer_api.problems import RETRY_AFTER_S


class OtherSyntax(NotSupported):
    """Pixel data in a transfer syntax that is not taken."""


# PS3.18 Table I.2-2 and PS3.4 Table B.2-1
REASONS: Final[Mapping[type[ImagingError], int]] = {
    Unavailable: 0xA700,  # Refused out of Resources
    Conflict: 0xA900,  # Error: Data Set does not match SOP Class
    Malformed: 0xC000,  # Error: Cannot understand
    NotPermitted: 0x0124,  # Refused: Not Authorized
    NotSupported: 0x0122,  # Refused: SOP Class not supported
    OtherSyntax: 0xC122,  # Referenced Transfer Syntax not supported
}
OFFERS: Final = (Offer(media.DICOM_JSON), Offer(media.JSON), Offer(media.DICOM_XML))
COERCED: Final = 0xB000
"""Warning: Coercion of Data Elements."""
PROCESSING_FAILURE: Final = 0x0110
MAX_COMMENT: Final = 64
"""Error Comment (0000,0902) has VR LO."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One instance that is durable."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    warning: int = 0
    """Warning Reason (0008,1196), 0 for none."""
    comment: str = ""

    def warned(self, reason: int, comment: str) -> "Stored":
        """Return the same with a warning."""
        return replace(self, warning=reason, comment=comment)


@dataclass(frozen=True, slots=True)
class Failure:
    """One part that was not stored, with the UIDs that it named."""

    error: ImagingError
    sop_class_uid: str = ""
    sop_instance_uid: str = ""

    @property
    def reason(self) -> int:
        """Failure Reason (0008,1197) of the nearest ancestor named in the table."""
        kinds = type(self.error).__mro__
        return next((REASONS[kind] for kind in kinds if kind in REASONS), PROCESSING_FAILURE)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The fate of every part of one request."""

    stored: list[Stored] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    @property
    def status(self) -> int:
        """PS3.18 Table 10.5.3-1: 200 all, 202 some or with warnings, 409 none.

        When nothing is stored and trying again helps, 507 for want of room, else 503.
        """
        if not self.failed and not any(one.warning for one in self.stored):
            return 200
        if self.stored:
            return 202
        if all(isinstance(one.error, StoreFull) for one in self.failed):
            return 507
        return 503 if all(isinstance(one.error, Unavailable) for one in self.failed) else 409

    @property
    def retry(self) -> bool:
        """Whether sending some of it again may help."""
        return any(isinstance(one.error, Unavailable) for one in self.failed)


def answer(receipt: Receipt, dicomweb_url: str, chosen: Offer) -> Response:
    """Return the response, with a sequence only where it has items."""
    body: dict[str, Any] = {}
    studies = {one.study_instance_uid for one in receipt.stored}
    if len(studies) == 1:
        body["00081190"] = _element("UR", f"{dicomweb_url}/studies/{studies.pop()}")
    named = [_failed(one) for one in receipt.failed if values.is_uid(one.sop_instance_uid)]
    others = [_failed(one) for one in receipt.failed if not values.is_uid(one.sop_instance_uid)]
    for tag, items in (
        ("00081198", named),  # Failed SOP Sequence
        ("00081199", [_stored(one, dicomweb_url) for one in receipt.stored]),
        ("0008119A", others),  # Other Failures Sequence: parts that name no instance
    ):
        if items:
            body[tag] = {"vr": "SQ", "Value": items}
    headers = {"Retry-After": RETRY_AFTER_S} if receipt.retry else None
    body = dict(sorted(body.items()))
    if chosen.media_type == media.DICOM_XML:
        return Response(dicom_xml.encode(body), receipt.status, headers, media.DICOM_XML)
    return Response(msgspec.json.encode(body), receipt.status, headers, media.DICOM_JSON)


def _stored(one: Stored, dicomweb_url: str) -> dict[str, Any]:
    study, series = one.study_instance_uid, one.series_instance_uid
    url = f"{dicomweb_url}/studies/{study}/series/{series}/instances/{one.sop_instance_uid}"
    item = {
        "00081150": _element("UI", one.sop_class_uid),
        "00081155": _element("UI", one.sop_instance_uid),
        "00081190": _element("UR", url),
    }
    if one.warning:
        item["00000902"] = _element("LO", one.comment[:MAX_COMMENT])
        item["00081196"] = _element("US", one.warning)
    return dict(sorted(item.items()))


def _failed(one: Failure) -> dict[str, Any]:
    item = {
        "00000902": _element("LO", str(one.error)[:MAX_COMMENT]),
        "00081197": _element("US", one.reason),
    }
    if values.is_uid(one.sop_instance_uid):
        item["00081150"] = _element("UI", one.sop_class_uid)
        item["00081155"] = _element("UI", one.sop_instance_uid)
    return dict(sorted(item.items()))


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
