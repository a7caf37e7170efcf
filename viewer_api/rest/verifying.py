"""``/verify/CODE``: whether a printed report is one of ours, and still the newest.

Open to everybody who holds the paper, and so it tells little: the state, the hash, the name of
the patient down to its first letters. Nothing of the text, no number of anybody.
"""

import base64
import hashlib
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response

from ris.reports import queries
from ris.reports.faults import LANGUAGES, VIETNAMESE, Missing
from ris.reports.model import Report, Version
from ris.reports.states import NAMES, Status
from storage.base import names
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(prefix="/verify", tags=["reports"])

_STYLE: Final = (
    "body{font:18px/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em}"
    "dt{color:#555}dd{margin:0 0 .7em;overflow-wrap:anywhere}"
    ".good{border-left:.4em solid #176a2b}.bad{border-left:.4em solid #a11}"
    "h1{font-size:1.3em;padding-left:.6em}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'"
_PAGE: Final = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title><style>{style}</style></head>
<body><h1 class="{mark}">{title}</h1><dl>{rows}</dl></body></html>
"""

# what → English, Vietnamese
_TEXTS: Final = {
    "newest": ("Valid: this is the newest version", "Hợp lệ: đây là phiên bản mới nhất"),
    "replaced": (
        "Replaced: a newer version exists, ask for it",
        "Đã được thay thế: có phiên bản mới hơn, hãy yêu cầu bản mới",
    ),
    "withdrawn": ("Withdrawn: do not use this paper", "Đã thu hồi: không sử dụng bản giấy này"),
    "revised": (
        "Approval withdrawn: a correction will follow",
        "Đã huỷ duyệt: đang chờ bản đính chính",
    ),
    "unknown": ("No such report", "Không tìm thấy phiếu kết quả"),
    "state": ("State of this version", "Trạng thái của bản này"),
    "version": ("Version", "Phiên bản"),
    "signed": ("Approved", "Thời điểm duyệt"),
    "patient": ("Patient", "Người bệnh"),
    "signer": ("Approved by", "Người duyệt"),
    "digest": ("Digest of the record (SHA-256)", "Mã băm của bản ghi (SHA-256)"),
}


@router.get("/{code}")
def verify(
    request: Request,
    session: Transaction,
    code: Annotated[str, Path(max_length=64)],
    lang: str = VIETNAMESE,
) -> Response:
    """Say whether the paper with this code holds."""
    language = lang if lang in LANGUAGES else VIETNAMESE
    try:
        report, version = queries.by_verify_code(session, code)
    except Missing:
        return _page(language, "unknown", {}, 404)
    zone = deps.parts(request).settings.zone
    rows = {
        "state": NAMES[version.status].words.told(language),
        "version": str(version.version),
        "signed": f"{version.authored_at.astimezone(zone):%H:%M %d/%m/%Y}",
        "signer": f"{version.author.qualification} {version.author.name}".strip(),
        "patient": names.masked(version.subject.patient_name),
        "digest": version.digest,
    }
    return _page(language, _verdict(report, version), rows, 200)


def _verdict(report: Report, version: Version) -> str:
    if report.status is Status.RETRACTED:
        return "withdrawn"
    if report.version == version.version:
        return "newest"
    return "revised" if report.status is Status.UNAPPROVED else "replaced"


def _page(language: str, verdict: str, rows: dict[str, str], status: int) -> Response:
    shown = "".join(
        f"<dt>{escape(_told(what, language))}</dt><dd>{escape(value)}</dd>"
        for what, value in rows.items()
    )
    page = _PAGE.format(
        language=language,
        title=escape(_told(verdict, language)),
        mark="good" if verdict == "newest" else "bad",
        style=_STYLE,
        rows=shown,
    )
    return HTMLResponse(page, status, {"Content-Security-Policy": _POLICY})


def _told(what: str, language: str) -> str:
    return _TEXTS[what][language == VIETNAMESE]
