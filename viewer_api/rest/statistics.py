"""How long things take and how much is done, under ``/api/v1/statistics``, as JSON or CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from ris import statistics
from ris.statistics import Days, Group, Spread, Turnaround, Workload
from storage.access.tokens import Action
from viewer_api import deps, problems
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1/statistics",
    tags=["statistics"],
    dependencies=[Depends(deps.may(Action.MANAGE))],
)

CSV: Final = "text/csv; charset=utf-8"
MARK: Final = "\ufeff"
"""Spreadsheets take a file with it for UTF-8."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would calculate."""
GROUPS: Final = {
    "vi": {
        Group.ALL: "Tất cả",
        Group.DAY: "Ngày",
        Group.MODALITY: "Loại máy",
        Group.ROOM: "Phòng máy",
        Group.READER: "Bác sĩ đọc",
    },
    "en": {
        Group.ALL: "All",
        Group.DAY: "Day",
        Group.MODALITY: "Modality",
        Group.ROOM: "Room",
        Group.READER: "Reader",
    },
}
SPANS: Final = {
    "order_to_start": ("Chỉ định đến thực hiện", "Order to start"),
    "start_to_images": ("Thực hiện đến có ảnh", "Start to images"),
    "images_to_result": ("Có ảnh đến ký kết quả", "Images to signed result"),
    "order_to_result": ("Chỉ định đến ký kết quả", "Order to signed result"),
}
SERVICES: Final = ("Số ca", "Services")
SPREAD: Final = (
    ("số ca", "trung vị (phút)", "90% (phút)", "95% (phút)"),
    ("count", "median (min)", "90% (min)", "95% (min)"),
)
LOAD: Final = (("Số ca thực hiện", "Số ảnh", "Số kết quả ký"), ("Services", "Images", "Reports"))
Day = Annotated[date, Query(ge=date(1900, 1, 1), le=date(9000, 1, 1))]
Format = Annotated[str, Query(pattern="^(json|csv)$")]


@router.get("/turnaround")
def show_turnaround(
    request: Request,
    session: Transaction,
    *,
    first: Day,
    last: Day,
    by: Group = Group.ALL,
    format: Format = "json",  # noqa: A002 - the name in the URL
) -> Response:
    """Return how long services took: order, performing, images, signed result; minutes.

    `first` and `last` are days of performing, both inside. CSV has headers in the language that the
    client asks for, Vietnamese if it does not say.
    """
    zone = deps.parts(request).settings.zone
    found = statistics.turnaround(session, Days(first, last), by, zone)
    if format == "csv":
        column = _column(request)
        return _csv(_name(by, column), _turnaround_head(column), map(_turnaround_row, found))
    return JSONResponse([_turnaround(one) for one in found])


@router.get("/workload")
def show_workload(
    request: Request,
    session: Transaction,
    *,
    first: Day,
    last: Day,
    by: Group = Group.MODALITY,
    format: Format = "json",  # noqa: A002 - the name in the URL
) -> Response:
    """Return how many services were performed, of how many images, and how many results signed.

    Services count on the day of performing, results on the day of their first signature.
    """
    zone = deps.parts(request).settings.zone
    found = statistics.workload(session, Days(first, last), by, zone)
    if format == "csv":
        column = _column(request)
        return _csv(_name(by, column), LOAD[column], map(_workload_row, found))
    return JSONResponse(
        [
            {
                "group": one.group,
                "services": one.services,
                "images": one.images,
                "reports": one.reports,
            }
            for one in found
        ]
    )


def _column(request: Request) -> int:
    """Return 0 for Vietnamese, 1 for English."""
    asked = request.headers.get("accept-language")
    return int(asked is not None and problems.language_of(request) == "en")


def _name(by: Group, column: int) -> str:
    return GROUPS[("vi", "en")[column]][by]


def _turnaround_head(column: int) -> list[str]:
    spans = [f"{names[column]}: {what}" for names in SPANS.values() for what in SPREAD[column]]
    return [SERVICES[column], *spans]


def _spread(one: Spread) -> dict[str, Any]:
    return {"count": one.count, "p50": one.p50, "p90": one.p90, "p95": one.p95}


def _turnaround(one: Turnaround) -> dict[str, Any]:
    spans = {name: _spread(getattr(one, name)) for name in SPANS}
    return {"group": one.group, "services": one.services, **spans}


def _turnaround_row(one: Turnaround) -> Sequence[object]:
    spans = (_spread(getattr(one, name)).values() for name in SPANS)
    return [one.group, one.services, *(value for spread in spans for value in spread)]


def _workload_row(one: Workload) -> Sequence[object]:
    return [one.group, one.services, one.images, one.reports]


def _csv(group: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([group, *head])
    writer.writerows([_cell(one) for one in row] for row in rows)
    headers = {"Content-Disposition": 'attachment; filename="lienthong.csv"'}
    return Response((MARK + out.getvalue()).encode(), headers=headers, media_type=CSV)


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
