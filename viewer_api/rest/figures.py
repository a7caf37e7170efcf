"""``GET /metrics`` for Prometheus, and the description of this interface.

Neither shows anything of patients, so this machine itself needs no token for them;
everybody else does.
"""

from html import escape

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from storage.access.tokens import Action
from viewer_api import deps, metrics

router = APIRouter(tags=["operations"])

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Lienthong {version}</title>
<h1>Lienthong {version}</h1>
<p>Every request but those for health carries <code>Authorization: Bearer TOKEN</code>; a token
is made by <code>lienthong token create --role ROLE</code>.
The same as OpenAPI: <a href="openapi.json">openapi.json</a>.</p>
<table><tr><th align="left">request<th align="left">what it does</tr>
{rows}
</table></html>
"""


@router.get("/metrics", dependencies=[Depends(deps.may(Action.MANAGE, local=True))])
def figures(request: Request) -> Response:
    """Return the figures of all processes of this node."""
    return Response(deps.parts(request).metrics.render(), media_type=metrics.MEDIA_TYPE)


@router.get(
    "/openapi.json",
    include_in_schema=False,
    dependencies=[Depends(deps.may(None, local=True))],
)
def openapi(request: Request) -> Response:
    """Return the description of every route (OpenAPI 3.1)."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False, dependencies=[Depends(deps.may(None, local=True))])
def docs(request: Request) -> Response:
    """Return the same as a page that loads nothing from anywhere."""
    described = request.app.openapi()
    rows = "\n".join(
        f"<tr><td><code>{method.upper()} {escape(path)}</code>"
        f"<td>{escape(operation.get('description', ''))}</tr>"
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    )
    return HTMLResponse(_PAGE.format(version=escape(described["info"]["version"]), rows=rows))
