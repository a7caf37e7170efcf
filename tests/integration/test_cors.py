"""Pages of other origins: those that the operator named may read, no others."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from storage.db.engine import Engine
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode, http_node_on

MINE, OTHER = "https://ris.example.vn", "https://evil.example"
STUDIES = "/dicom-web/studies"


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[HttpNode]:
    with http_node_on(engine, tmp_path, cors_origins=f"{MINE}, http://localhost:3000") as node:
        yield node


def preflight(node: HttpNode, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return node.client("").options(STUDIES, headers=headers)


def test_named_origin_may_ask_and_read(node: HttpNode) -> None:
    asked = preflight(node, MINE)
    read = node.client().get(STUDIES, headers={"Origin": MINE})

    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == MINE
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert read.headers["access-control-allow-origin"] == MINE
    assert "X-Total-Count" in read.headers["access-control-expose-headers"]
    assert "Origin" in read.headers["vary"]
    for answer in (asked, read):
        assert "access-control-allow-credentials" not in answer.headers


def test_errors_can_be_read_too(node: HttpNode) -> None:
    answer = node.client("").get(STUDIES, headers={"Origin": MINE})

    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == MINE


@pytest.mark.parametrize("origin", [OTHER, "null", f"{MINE}.evil.example", MINE.upper()])
def test_other_origins_may_not(node: HttpNode, origin: str) -> None:
    asked = preflight(node, origin)
    read = node.client().get(STUDIES, headers={"Origin": origin})

    for answer in (asked, read):
        assert "access-control-allow-origin" not in answer.headers
    assert asked.status_code in {401, 405}
    assert "Origin" in read.headers["vary"]


def test_frames_on_the_short_way_can_be_read(node: HttpNode) -> None:
    dataset = ct_slice()
    node.put(dataset)
    node.settle()
    base = f"{STUDIES}/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances"
    client = node.client()

    for _ in range(3):
        answer = client.get(f"{base}/{dataset.SOPInstanceUID}/frames/1", headers={"Origin": MINE})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == MINE


def test_nobody_may_unless_named(http_node: HttpNode) -> None:
    assert preflight(http_node, MINE).status_code in {401, 405}
    read = http_node.client().get(STUDIES, headers={"Origin": MINE})
    assert "access-control-allow-origin" not in read.headers


def test_everybody_may_if_the_operator_says_so(engine: Engine, tmp_path: Path) -> None:
    with http_node_on(engine, tmp_path, cors_origins="*") as node:
        assert preflight(node, OTHER).headers["access-control-allow-origin"] == "*"
