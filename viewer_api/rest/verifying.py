"""``/verify/CODE``: whether a printed report is one of ours, and still the newest.

Open to everybody who holds the paper, and so it tells little: the state, the hash, the name of
the patient down to its first letters. Nothing of the text, no number of anybody.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from ris.reports import queries
from ris.reports.faults import LANGUAGES, VIETNAMESE, Missing
from ris.reports.model import Report, Version
from ris.reports.states import NAMES, Status
from storage.access import guesses
from storage.access.guesses import TooOften
from storage.base import names
from storage.db.engine import transaction
from viewer_api import deps, pages

router = APIRouter(prefix="/verify", tags=["reports"])

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
    "too_often": (
        "Too many codes that lead nowhere: try again later",
        "Quá nhiều mã không đúng: hãy thử lại sau",
    ),
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
    code: Annotated[str, Path(max_length=64)],
    lang: str = VIETNAMESE,
) -> Response:
    """Say whether the paper with this code holds; who tries codes has to wait longer and longer."""
    language = lang if lang in LANGUAGES else VIETNAMESE
    try:
        report, version = _looked_up(request, code)
    except Missing:
        return _page(request, language, "unknown", {}, 404)
    except TooOften as error:
        answer = _page(request, language, "too_often", {}, 429)
        answer.headers["Retry-After"] = str(error.wait_s)
        return answer
    zone = deps.parts(request).settings.zone
    rows = {
        "state": NAMES[version.status].words.told(language),
        "version": str(version.version),
        "signed": f"{version.authored_at.astimezone(zone):%H:%M %d/%m/%Y}",
        "signer": f"{version.author.qualification} {version.author.name}".strip(),
        "patient": names.masked(version.subject.patient_name),
        "digest": version.digest,
    }
    return _page(request, language, _verdict(report, version), rows, 200)


def _looked_up(request: Request, code: str) -> tuple[Report, Version]:
    """Count the try before it is looked at, and take it back when it was right."""
    engine, whose = deps.parts(request).engine, f"verify {deps.address_of(request)}"
    with transaction(engine) as session:
        guesses.admit(session, whose, whose)
    with transaction(engine) as session:
        found = queries.by_verify_code(session, code)
        guesses.forgive(session, whose, whose)
    return found


def _verdict(report: Report, version: Version) -> str:
    if report.status is Status.RETRACTED:
        return "withdrawn"
    if report.version == version.version:
        return "newest"
    return "revised" if report.status is Status.UNAPPROVED else "replaced"


def _page(
    request: Request, language: str, verdict: str, rows: Mapping[str, str], status: int
) -> Response:
    # the holder of the paper has nothing to do with the rest of the pages
    return pages.render(
        request,
        deps.root_url(request),
        "verify.html",
        status,
        language=language,
        home=f"{deps.root_url(request)}/",
        title=_told(verdict, language),
        mark="good" if verdict == "newest" else "bad",
        rows={_told(what, language): value for what, value in rows.items()},
        path=request.url.path,
    )


def _told(what: str, language: str) -> str:
    return _TEXTS[what][language == VIETNAMESE]
