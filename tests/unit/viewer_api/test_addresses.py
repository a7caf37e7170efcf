import pytest
from starlette.datastructures import Headers

from viewer_api import addresses


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, "http://pacs:8080", id="no proxy"),
        pytest.param(
            {"forwarded": 'for=1.2.3.4;proto=https;host="pacs.example.vn:8443", for=10.0.0.1'},
            "https://pacs.example.vn:8443",
            id="Forwarded, the proxy nearest to the client",
        ),
        pytest.param(
            {
                "x-forwarded-proto": "https, http",
                "x-forwarded-host": "pacs.example.vn, inner",
                "x-forwarded-prefix": "/imaging/",
            },
            "https://pacs.example.vn/imaging",
            id="X-Forwarded",
        ),
        pytest.param({"x-forwarded-proto": "https"}, "https://pacs:8080", id="scheme only"),
        pytest.param({"x-forwarded-host": "[::1]:80"}, "http://[::1]:80", id="IPv6"),
        pytest.param(
            {"x-forwarded-host": 'x"><script>', "x-forwarded-proto": "javascript"},
            "http://pacs:8080",
            id="hostile values are passed over",
        ),
        pytest.param({"x-forwarded-prefix": "//evil.example/"}, "http://pacs:8080", id="no path"),
        pytest.param({"forwarded": ';;=;a"b'}, "http://pacs:8080", id="no Forwarded grammar"),
        pytest.param({"host": "a b"}, "http://localhost", id="no host at all"),
    ],
)
def test_root_is_what_the_client_sees(headers: dict[str, str], expected: str) -> None:
    given = Headers({"host": "pacs:8080", **headers})

    assert addresses.root_url(given, "http", "") == expected


def test_public_url_wins() -> None:
    headers = Headers({"host": "inner", "x-forwarded-host": "other"})

    root = addresses.root_url(headers, "http", "https://pacs.example.vn/")

    assert root == "https://pacs.example.vn"


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        ("127.0.0.1", {"host": "localhost:8080"}, True),
        ("127.0.0.1", {"host": "127.0.0.1:8080"}, True),
        ("::1", {"host": "[::1]:8080"}, True),
        ("10.0.0.5", {"host": "localhost"}, False),
        ("127.0.0.1", {"host": "pacs.example.vn"}, False),
        ("127.0.0.1", {"host": "localhost.evil.example"}, False),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-for": "10.0.0.5"}, False),
        ("127.0.0.1", {"host": "localhost", "forwarded": "for=10.0.0.5"}, False),
        ("127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}, False),
        ("127.0.0.1", {}, False),
        ("", {"host": "localhost"}, False),
    ],
)
def test_local_is_this_machine_without_a_proxy(
    peer: str, headers: dict[str, str], *, local: bool
) -> None:
    assert addresses.is_local(peer, Headers(headers)) is local


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.7", "http://10.0.0.7:8080"),
        ("[::1]", "http://[::1]"),
        ("10.0.0.7:80", "http://10.0.0.7:80"),
        ("10.0.0.8", "http://10.0.0.8"),
        ("pacs.example.vn", "http://pacs.example.vn"),
    ],
)
def test_port_that_a_client_forgot_is_put_back(host: str, expected: str) -> None:
    root = addresses.root_url(Headers({"host": host}), "http", "", ("10.0.0.7", 8080))

    assert root == expected
