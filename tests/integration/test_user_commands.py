"""``lienthong user``, from a shell."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from deploy import signing_in
from storage.access import codes, passwords, users
from storage.access.tokens import Role
from storage.base.errors import NotPermitted
from storage.base.settings import Settings
from storage.db.engine import Engine, create, transaction
from tests.fixtures.serving import PROGRAM

PASSWORD = "mưa rào tháng sáu"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Mapping[str, str]:
    (tmp_path / "data").mkdir()
    return {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
        "LIENTHONG_HTTP_PORT": "8099",
    }


@pytest.fixture
def lienthong(settings: Mapping[str, str]) -> Run:
    def run(*arguments: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **settings, "COLUMNS": "200"}
        return subprocess.run(
            [PROGRAM, "user", *arguments],
            env=environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    made = create(database_url)
    yield made
    made.dispose()


def owner(database: Engine, link: str) -> str:
    with transaction(database) as session:
        return codes.owner_of_link(session, link.rpartition("/")[2]).name


def test_added_user_gets_a_link_and_nothing_else_is_printed(
    lienthong: Run, database: Engine
) -> None:
    answer = lienthong("add", "bs.nam", "--role", "radiologist", "--full-name", "Nguyễn Văn Nam")

    [link] = answer.stdout.splitlines()
    assert link.startswith("http://127.0.0.1:8099/welcome/")
    assert owner(database, link) == "bs.nam"
    assert lienthong("add", "bs.nam", "--role", "viewer").returncode == 1
    assert owner(database, link) == "bs.nam"


def test_another_link_makes_the_first_void(lienthong: Run, database: Engine) -> None:
    first = lienthong("add", "lan", "--role", "technologist").stdout.strip()

    second = lienthong("link", "lan").stdout.strip()

    assert owner(database, second) == "lan"
    with pytest.raises(NotPermitted):
        owner(database, first)


def test_password_comes_from_standard_input(lienthong: Run, database: Engine) -> None:
    lienthong("add", "lan", "--role", "admin")

    assert lienthong("password", "lan", typed="short\n").returncode == 1
    assert lienthong("password", "lan", typed=f"{PASSWORD}\n").returncode == 0

    with transaction(database) as session:
        found = users.credentials(session, "lan")
    assert found is not None
    assert passwords.matches(PASSWORD, found[1])


def test_list_shows_role_and_state(lienthong: Run, database: Engine) -> None:
    lienthong("add", "lan", "--role", "admin", "--full-name", "Trần Thị Lan [red]")
    lienthong("role", "lan", "viewer")
    lienthong("disable", "lan")

    [row] = [line for line in lienthong("list").stdout.splitlines() if " lan " in line]

    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[:4] == ["lan", "Trần Thị Lan [red]", "viewer", "not set"]
    assert cells[5] != ""
    lienthong("enable", "lan")
    with transaction(database) as session:
        assert users.find(session, "lan").disabled_at is None
        assert users.find(session, "lan").role is Role.VIEWER


def test_first_link_is_for_an_admin_until_there_is_a_password(
    lienthong: Run, database: Engine, database_url: str, tmp_path: Path
) -> None:
    given = {"database_url": database_url, "public_url": "https://pacs.example.vn"}
    settings = Settings(data_dir=tmp_path, **given)

    link = signing_in.first_link(settings)

    assert link.startswith("https://pacs.example.vn/welcome/")
    assert owner(database, link) == "admin"
    lienthong("password", "admin", typed=f"{PASSWORD}\n")
    assert signing_in.first_link(settings) == ""
