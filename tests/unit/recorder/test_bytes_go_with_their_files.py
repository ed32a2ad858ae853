"""What a deleted file held is gone when no other file holds the same, and only then."""

import io
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.ports.store import BatchRow, FileRow
from functions.recorder.purger import SWEEP_S, YOUNG_S, BlobPurger
from functions.runtime.errors import BlobMissing
from functions.sql.sql_store import SqlStore
from functions.storage.blob_directory import BlobDirectory
from functions.testing.fake_clock import FakeClock


class Stage:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.store = SqlStore("sqlite://", self.clock)
        self.blobs = BlobDirectory(directory)
        self.sweeper = BlobPurger(self.store, self.blobs, self.clock)

    def add(
        self, file_id: str, data: bytes, tenant: str = "a", lives_s: float | None = None
    ) -> str:
        ref = self.blobs.put_file(io.BytesIO(data))
        row = FileRow(
            id=file_id, tenant=tenant, filename="f", purpose="batch", bytes=len(data),
            created_at=datetime(2026, 1, 1, tzinfo=UTC), ref=ref,
            expires_at=None if lives_s is None else self.clock.now() + timedelta(seconds=lives_s),
        )  # fmt: skip
        self.store.add_file(row)
        return ref

    def age(self, seconds: float) -> None:
        """All bytes were put so long ago."""
        then = time.time() - seconds
        for path in self.directory.rglob("*"):
            os.utime(path, (then, then))

    def sweep(self) -> int:
        self.clock.advance(SWEEP_S)
        return self.sweeper.tick()


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    found = Stage(tmp_path)
    yield found
    found.store.close()


def is_there(stage: Stage, ref: str) -> bool:
    try:
        return bool(stage.blobs.get(ref, limit_bytes=100))
    except BlobMissing:
        return False


def test_bytes_of_a_deleted_file_go_and_others_stay(stage: Stage) -> None:
    mine, other = stage.add("f1", b"mine"), stage.add("f2", b"other")
    stage.store.delete_file("f1")
    stage.age(2 * YOUNG_S)
    assert stage.sweep() == 1
    assert (is_there(stage, mine), is_there(stage, other)) == (False, True)
    assert stage.sweep() == 0


def test_bytes_that_another_file_has_too_stay(stage: Stage) -> None:
    ref = stage.add("f1", b"same")
    assert stage.add("f2", b"same", tenant="b") == ref
    stage.store.delete_file("f1")
    stage.age(2 * YOUNG_S)
    assert stage.sweep() == 0
    assert is_there(stage, ref)
    stage.store.delete_file("f2")
    assert stage.sweep() == 1
    assert not is_there(stage, ref)


def test_bytes_whose_row_is_on_its_way_stay(stage: Stage) -> None:
    stage.add("f1", b"data")
    stage.store.delete_file("f1")
    stage.age(2 * YOUNG_S)
    ref = stage.blobs.put_file(io.BytesIO(b"data"))  # an upload of the same, which has no row yet
    assert stage.sweep() == 0
    assert is_there(stage, ref)


def test_bodies_of_messages_are_no_files_even_where_the_bytes_are_the_same(stage: Stage) -> None:
    body = stage.blobs.put(b"same")
    ref = stage.add("f1", b"same")
    assert ref != body
    stage.store.delete_file("f1")
    stage.age(2 * YOUNG_S)
    assert stage.sweep() == 1
    assert is_there(stage, body)


def test_files_of_an_earlier_release_are_read_and_never_swept(stage: Stage) -> None:
    ref = stage.blobs.put(b"old")
    stage.age(2 * YOUNG_S)
    assert stage.sweep() == 0
    assert b"".join(stage.blobs.pieces(ref, limit_bytes=3)) == b"old"


def test_it_sweeps_now_and_then(stage: Stage) -> None:
    stage.add("f1", b"x")
    stage.store.delete_file("f1")
    stage.age(2 * YOUNG_S)
    assert stage.sweeper.tick() == 0
    assert stage.sweep() == 1


def test_a_file_that_has_expired_is_deleted_with_its_bytes(stage: Stage) -> None:
    short, long = stage.add("f1", b"short", lives_s=3600), stage.add("f2", b"long", lives_s=7200)
    stage.age(2 * YOUNG_S)
    assert stage.sweep() == 0
    stage.clock.advance(3600)
    assert stage.sweep() == 1
    assert (stage.store.file("f1"), is_there(stage, short)) == (None, False)
    assert stage.store.file("f2") is not None
    assert is_there(stage, long)


def test_an_expired_file_stays_while_an_open_batch_reads_it(stage: Stage) -> None:
    ref = stage.add("f1", b"lines", lives_s=3600)
    batch = BatchRow(
        id="b1", tenant="a", endpoint="/v1/chat/completions", input_file_id="f1",
        completion_window="24h", status="in_progress", created_at=stage.clock.now(),
        deadline=stage.clock.now() + timedelta(days=1),
    )  # fmt: skip
    stage.store.add_batch(batch)
    stage.clock.advance(3600)
    stage.age(2 * YOUNG_S)
    assert stage.sweep() == 0
    assert is_there(stage, ref)
    stage.store.update_batch(replace(batch, status="completed"))
    assert stage.sweep() == 1
    assert stage.store.file("f1") is None
