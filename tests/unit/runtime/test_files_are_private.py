"""What is kept of requests is its owner's alone, whatever the umask and whatever an earlier release left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.factories import data_dir
from functions.runtime.settings import Settings
from functions.runtime.system_clock import SystemClock
from functions.sql.sql_store import SqlStore
from functions.storage.blob_directory import BlobDirectory
from functions.storage.private_files import make_private_file, make_private_folder


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def rights(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_blobs_and_their_folders(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir(mode=0o755)
    ref = BlobDirectory(folder).put(b"what somebody asked")
    assert {rights(one) for one in folder.rglob("*") if one.is_dir()} | {rights(folder)} == {0o700}
    assert {rights(one) for one in folder.rglob("*") if one.is_file()} == {0o600}
    assert BlobDirectory(folder).get(ref, limit_bytes=100) == b"what somebody asked"


@pytest.mark.parametrize("is_old", [False, True])
def test_the_store_and_what_sqlite_writes_beside_it(tmp_path: Path, is_old: bool) -> None:
    path = tmp_path / "store.sqlite3"
    if is_old:
        SqlStore(f"sqlite:///{path}", SystemClock()).close()
        path.chmod(0o644)
    store = SqlStore(f"sqlite:///{path}", SystemClock())
    try:
        assert store.boot("one")
        beside = sorted(one.name for one in tmp_path.iterdir())
        assert beside == ["store.sqlite3", "store.sqlite3-shm", "store.sqlite3-wal"]
        assert {rights(one) for one in tmp_path.iterdir()} == {0o600}
    finally:
        store.close()


def test_a_new_data_directory(tmp_path: Path) -> None:
    path = data_dir(Settings(data_dir=str(tmp_path / "share" / "pickspin")))
    assert rights(path) == 0o700
    assert rights(path.parent) == 0o777  # the system's own rights: not ours to change


def test_a_directory_that_was_there_is_left_to_its_owner(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert rights(data_dir(Settings(data_dir=str(tmp_path)))) == 0o755


def test_what_is_there_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("kept")
    path.chmod(0o666)
    assert make_private_file(path).read_text() == "kept"
    assert rights(path) == 0o600
    assert rights(make_private_folder(tmp_path / "b" / "c")) == 0o700
