import pytest

from storage.base.errors import Malformed, StoreUnavailable
from storage.db.engine import check, create, parse_url


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_each_way_to_write_postgresql_is_taken(scheme: str) -> None:
    url = parse_url(f"{scheme}://u:p@host:5433/db?sslmode=require")

    assert url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://u:p@host:5433/db?sslmode=require"
    )


@pytest.mark.parametrize(
    "url", ["", "hush", "mysql://u:hush@h/d", "sqlite://", "postgresql://h:x/"]
)
def test_other_urls_are_malformed_and_not_repeated(url: str) -> None:
    with pytest.raises(Malformed, match="LIENTHONG_DATABASE_URL") as refused:
        parse_url(url)

    assert "hush" not in str(refused.value)


def test_server_that_is_not_there_is_unavailable() -> None:
    engine = create("postgresql://u:hush@/d?host=/nowhere")

    with pytest.raises(StoreUnavailable, match="/nowhere") as refused:
        check(engine)

    assert "hush" not in str(refused.value)
