import json
import logging

import pytest
from starlette.responses import Response

from storage.base import errors
from storage.base.errors import ImagingError
from viewer_api import problems


def body(response: Response) -> dict[str, object]:
    return dict(json.loads(bytes(response.body)))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Malformed, 400),
        (problems.Unauthenticated, 401),
        (errors.NotPermitted, 403),
        (errors.NotFound, 404),
        (errors.NotSupported, 406),
        (problems.TooSlow, 408),
        (errors.Conflict, 409),
        (problems.TooLarge, 413),
        (problems.UnsupportedMediaType, 415),
        (errors.StoreUnavailable, 503),
        (errors.PeerUnavailable, 503),
        (problems.Busy, 503),
        (errors.Rejected, 500),
        (errors.ImagingError, 500),
    ],
)
def test_each_error_has_the_status_of_its_nearest_ancestor(
    kind: type[ImagingError], status: int
) -> None:
    response = problems.answer(kind("a reason"))

    assert response.status_code == status
    assert response.media_type == "application/problem+json"
    assert body(response) == {"title": kind.__name__, "status": status, "detail": "a reason"}


def test_every_error_of_the_tree_has_a_status() -> None:
    def below(kind: type[ImagingError]) -> set[type[ImagingError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    leaves = below(ImagingError) - {ImagingError, errors.Rejected}

    assert [kind for kind in leaves if problems.status_of(kind.__new__(kind)) == 500] == []


def test_missing_token_is_challenged() -> None:
    response = problems.answer(problems.Unauthenticated("no token"))

    assert response.headers["www-authenticate"] == 'Bearer realm="lienthong"'


def test_unavailable_says_when_to_come_again() -> None:
    assert int(problems.answer(errors.StoreUnavailable("disk")).headers["retry-after"]) > 0


def test_defect_shows_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = problems.defect(RuntimeError("password=secret"))

    assert response.status_code == 500
    assert "secret" not in bytes(response.body).decode()
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.__dict__["request_id"] in bytes(response.body).decode()
