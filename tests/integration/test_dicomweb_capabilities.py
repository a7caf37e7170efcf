"""Retrieve Capabilities (PS3.18 8.9): the WADL document over a real port."""

from xml.etree import ElementTree as ET

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.fixtures.http import HttpNode
from viewer_api.dicomweb import capabilities

NAMES = {"w": capabilities.NAMESPACE}


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode) -> httpx.Client:
    return shared_http_node.client()


def told(resource: ET.Element, path: str = "") -> set[tuple[str, str]]:
    """Return method and path of everything below a resource."""
    found = {(str(one.get("name")), path) for one in resource.findall("w:method", NAMES)}
    for child in resource.findall("w:resource", NAMES):
        found |= told(child, f"{path}/{child.get('path')}")
    return found


@pytest.mark.parametrize("path", ["/dicom-web", "/dicom-web/"])
def test_every_transaction_is_told(shared_http_node: HttpNode, client: httpx.Client, path: str):
    answer = client.options(path)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == capabilities.WADL
    [resources] = ET.fromstring(answer.text).findall("w:resources", NAMES)  # noqa: S314 - our own
    assert resources.get("base") == f"{shared_http_node.url}/dicom-web/"
    routes = {
        (method, route.path.removeprefix("/dicom-web").replace(":path}", "}"))
        for route in shared_http_node.app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/dicom-web/")
        for method in route.methods
    }
    assert told(resources) == routes - {("OPTIONS", "/")}


def test_search_names_its_parameters_and_what_it_gives(client: httpx.Client) -> None:
    document = ET.fromstring(client.options("/dicom-web").text)  # noqa: S314 - our own

    [search] = document.findall(".//w:method[@id='SearchStudies']", NAMES)

    names = [str(one.get("name")) for one in search.findall(".//w:param", NAMES)]
    assert {"fuzzymatching", "includefield", "limit", "offset", "Accept"} <= {*names}
    first = search.find(".//w:representation", NAMES)
    assert first is not None
    assert first.get("mediaType") == "application/dicom+json"


def test_another_form_is_406(client: httpx.Client) -> None:
    assert client.options("/dicom-web", headers={"Accept": "image/png"}).status_code == 406


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/dicom-web/studies", "GET, HEAD, POST"),
        ("DELETE", "/dicom-web/studies/1.2.3", "GET, HEAD, POST"),
        ("POST", "/dicom-web/series", "GET, HEAD"),
        ("OPTIONS", "/dicom-web/workitems/1.2.3/state", "PUT"),
        ("GET", "/dicom-web", "OPTIONS"),
    ],
)
def test_what_is_not_allowed_says_what_is(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
