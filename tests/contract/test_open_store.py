from pathlib import Path

import pytest
from pydantic import SecretStr

from storage.base.errors import Malformed
from storage.base.settings import Settings
from storage.objects import open_store
from storage.objects.directory import DirectoryStore
from storage.objects.s3 import S3Store


def test_store_is_a_folder_when_nothing_is_said(tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path))

    assert isinstance(store, DirectoryStore)
    assert store.folder == tmp_path / "objects"
    assert not store.settles


def test_store_is_s3_by_its_url_also_while_the_server_is_away(tmp_path: Path) -> None:
    url = SecretStr("s3://KEY:SECRET@127.0.0.1:1/bucket?secure=false")

    store = open_store(Settings(data_dir=tmp_path, objects_url=url))

    assert isinstance(store, S3Store)
    assert store.settles
    assert not (tmp_path / "objects").exists()


def test_url_of_another_kind_is_named_without_its_text(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, objects_url=SecretStr("ftp://user:hush@host"))

    with pytest.raises(Malformed, match="LIENTHONG_OBJECTS_URL") as raised:
        open_store(settings)

    assert "hush" not in str(raised.value)
