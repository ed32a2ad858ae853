"""Bytes of a large body or answer are gone once no request has them any more, and only then."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from events import builders, names
from events.codecs.kafka_codec import to_record
from events.event import Event
from events.timestamps import to_rfc3339
from functions.ports.store import Store
from functions.recorder.purger import SWEEP_S, YOUNG_S, BlobPurger
from functions.runtime.errors import BlobMissing
from functions.sql.sql_store import SqlStore
from functions.storage.blob_directory import BlobDirectory
from tests.unit.recorder.conftest import TOPICS, Stage

BODY = json.dumps({"messages": [{"role": "user", "content": "hello" * 100}]}).encode()


class Bodies(Stage):
    """A stage whose bodies are files, with a sweeper."""

    def __init__(self, directory: Path, *, keeps_prompts: bool = True) -> None:
        super().__init__()
        self.directory = directory
        self.store: Store = SqlStore("sqlite://", self.clock, keeps_prompts=keeps_prompts)
        self.blobs = BlobDirectory(directory)
        self.recorder = self.new_recorder(self.consumer)
        self.sweeper = BlobPurger(self.store, self.blobs, self.clock)

    def ask(self, request_id: str, body: bytes = BODY, **extensions: str) -> str:
        """A request whose body travels by reference, recorded; returns the reference."""
        extensions[names.EXPIRY_TIME] = to_rfc3339(self.clock.now() + timedelta(seconds=60))
        event = Event(
            id=request_id, source="/ingress/0", type=names.REQUEST, subject="auto", data=body,
            time=to_rfc3339(self.clock.now()), extensions=extensions,
        )  # fmt: skip
        ref = self.blobs.put(body)
        sent = to_record(builders.by_reference(event, ref), topic=TOPICS.requests, key=request_id)
        self.appender.append(sent).result(0)
        self.record_all()
        return ref

    def sweep_later(self) -> int:
        """A sweep so late that nothing was put a moment ago."""
        then = time.time() - 2 * YOUNG_S
        for path in self.directory.rglob("*"):
            os.utime(path, (then, then))
        return self.sweep()

    def sweep(self) -> int:
        self.clock.advance(SWEEP_S)
        return self.sweeper.tick()

    def refs(self) -> set[str]:
        found = self.directory.rglob("*")
        return {f"blob:{path.name}" for path in found if path.is_file()}


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    found = Bodies(tmp_path)
    yield found
    found.store.close()


def test_body_and_answer_of_a_deleted_request_go(stage: Bodies) -> None:
    stage.ask("r1")
    stage.answered("r1", ref=True)
    stage.record_all()
    assert len(stage.refs()) == 2
    assert stage.sweep_later() == 0
    stage.store.forget("r1")
    assert stage.sweep_later() == 2
    assert stage.refs() == set()
    assert stage.sweep_later() == 0


def test_a_body_that_another_request_has_too_stays(stage: Bodies) -> None:
    ref = stage.ask("r1")
    assert stage.ask("r2", tenant="other") == ref
    stage.store.forget("r1")
    assert stage.sweep_later() == 0
    assert stage.blobs.get(ref, limit_bytes=10_000) == BODY
    stage.store.forget("r2")
    assert stage.sweep_later() == 1
    with pytest.raises(BlobMissing):
        stage.blobs.get(ref, limit_bytes=10_000)


def test_a_body_that_was_put_again_a_moment_ago_stays(stage: Bodies) -> None:
    ref = stage.ask("r1")
    stage.store.forget("r1")
    then = time.time() - 2 * YOUNG_S
    for path in stage.directory.rglob("*"):
        os.utime(path, (then, then))
    stage.blobs.put(BODY)  # of a request that has no row yet
    assert stage.sweep() == 0
    assert stage.refs() == {ref}


def test_what_comes_after_the_deletion_goes_too(stage: Bodies) -> None:
    stage.ask("r1")
    stage.store.forget("r1")
    stage.answered("r1", ref=True)
    stage.record_all()
    assert stage.sweep_later() == 2
    assert stage.refs() == set()


def test_bodies_that_no_row_has_named_yet_are_never_swept(stage: Bodies) -> None:
    ref = stage.blobs.put(BODY)
    assert stage.sweep_later() == 0
    assert stage.refs() == {ref}


def test_bodies_of_purged_requests_go(stage: Bodies) -> None:
    stage.ask("r1")
    stage.answered("r1", ref=True)
    stage.record_all()
    stage.store.purge(stage.clock.now() + timedelta(days=1))
    assert stage.sweep_later() == 2


@pytest.mark.parametrize("is_told", [False, True], ids=["store: false", "keeps no prompts"])
def test_a_prompt_that_is_not_kept_goes_with_its_end(tmp_path: Path, is_told: bool) -> None:
    stage = Bodies(tmp_path, keeps_prompts=not is_told)
    body = BODY if is_told else json.dumps({**json.loads(BODY), "store": False}).encode()
    asked = stage.ask("r1", body)
    assert stage.sweep_later() == 0
    stage.answered("r1", ref=True)
    stage.record_all()
    assert stage.sweep_later() == 1
    assert asked not in stage.refs()
    # Whoever waits for the answer may still be about to read it.
    assert len(stage.refs()) == 1
    stage.store.close()


def test_a_reference_that_is_none_of_ours_is_not_noted(stage: Bodies) -> None:
    event = Event(
        id="r1", source="/x", type=names.REQUEST, subject="auto", data=BODY,
        time=to_rfc3339(stage.clock.now()),
        extensions={names.DATA_REF: "file:///etc/passwd"},
    )  # fmt: skip
    stage.appender.append(to_record(event, topic=TOPICS.requests, key="r1")).result(0)
    stage.record_all()
    stage.store.forget("r1")
    assert stage.store.unused_bodies(10) == []
