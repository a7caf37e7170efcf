import pytest

from storage.base.errors import Malformed
from storage.objects.s3 import S3Address, S3Store


def test_url_names_everything() -> None:
    url = "s3://KEY:a%2Fb%3Ac%40d@store.example.vn:8333/images?secure=false&region=hue-1"

    assert S3Address.parse(url) == S3Address(
        endpoint="store.example.vn:8333",
        bucket="images",
        access_key="KEY",
        secret_key="a/b:c@d",
        secure=False,
        region="hue-1",
    )


def test_url_without_options_is_tls() -> None:
    address = S3Address.parse("s3://KEY:SECRET@s3.example.vn/images/")

    assert (address.endpoint, address.secure, address.region) == (
        "s3.example.vn",
        True,
        "us-east-1",
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://KEY:hush@host/bucket", "not of the form"),
        ("s3://host/bucket", "not of the form"),
        ("s3://KEY@host/bucket", "not of the form"),
        ("s3://KEY:hush@/bucket", "not of the form"),
        ("s3://KEY:hush@host:port/bucket", "not a URL"),
        ("s3://KEY:hush@[host/bucket", "not a URL"),
        ("s3://KEY:hush@host", "no name of a bucket"),
        ("s3://KEY:hush@host/a/b", "no name of a bucket"),
        ("s3://KEY:hush@host/Bucket", "no name of a bucket"),
        ("s3://KEY:hush@host/bucket?secure=maybe", "secure is true or false"),
        ("s3://KEY:hush@host/bucket?sec=false", "unknown sec"),
    ],
)
def test_wrong_url_says_what_is_wrong_and_never_the_secret(url: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason) as raised:
        S3Store.from_url(url)

    assert "hush" not in str(raised.value)


def test_secret_is_not_in_what_is_printed() -> None:
    assert "hush" not in repr(S3Address.parse("s3://KEY:hush@host/bucket"))
