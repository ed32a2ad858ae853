"""Whoever follows a topic without a group passes every record, and takes in the good one behind it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import builders
from events import names as types
from events.codecs import kafka_codec
from events.event import Record
from events.names import ReplicaState, Topics
from events.payloads import CancelData, RevisionData, StatusData
from events.requests import Origin
from events.salvage import salvage
from functions.ingress import reply_consumer
from functions.ingress.pending_requests import Waiters
from functions.ingress.reply_consumer import ReplyConsumer
from functions.runtime import registry_consumer
from functions.runtime.registry_consumer import RegistryFold
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from functions.worker import control_consumer
from functions.worker.control_consumer import ControlConsumer
from functions.worker.job import JobReader

TOPICS = Topics()
NOW = FakeClock().now()
KINDS = (
    types.REQUEST, types.ROUTED, types.PROGRESS, types.CHUNK, types.COMPLETED, types.FAILED,
    types.CANCEL, types.STATUS, types.DECISION, types.REVISION,
)  # fmt: skip

texts = st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace"))
raws = st.binary(max_size=40) | st.sampled_from(
    [b"{}", b"[]", b"null", b'{"chunks":[1]}', b'{"state":"ready"}', b'{"pickspin":{"state":[]}}']
)
names = st.sampled_from(
    ["ce_id", "ce_source", "ce_time", "ce_subject", "ce_correlationid", "ce_replypartition",
     "ce_sequence", "ce_attempt", "ce_generation", "ce_expirytime", "ce_dataref", "CE_ID",
     "content-type", "x"]
)  # fmt: skip
records = st.builds(
    lambda kind, more, value, key, is_event: Record(
        topic="t",
        value=value,
        key=key,
        headers=(
            *(
                (("ce_specversion", b"1.0"), ("ce_type", kind.encode()), ("ce_id", b"r1"))
                if is_event
                else ()
            ),
            *more,
        ),
        partition=0,
        offset=0,
    ),
    st.sampled_from(KINDS),
    st.lists(st.tuples(names, texts | raws | st.none()), max_size=5),
    raws | st.none(),
    raws | st.none(),
    st.booleans(),
)


def replies() -> ReplyConsumer:
    waiters = Waiters(lambda _reason: None)
    return ReplyConsumer(MemoryLog, waiters, epoch="e", dropped=lambda _reason: None)  # type: ignore[arg-type]


@given(record=records)
def test_no_record_makes_a_reader_raise(record: Record) -> None:
    RegistryFold().fold((record,))
    replies()._read(record)
    ControlConsumer(MemoryLog, lambda _request_id: None)._take(record)  # type: ignore[arg-type]
    salvage(record)
    reader = JobReader(
        slug="s", topics=TOPICS, blobs=MemoryBlobs(), further_reply_topics=(), max_body_bytes=1000
    )
    reader.read(record)


def status_of(service: str) -> Record:
    data = StatusData(service=service, replica="0", state=ReplicaState.READY, at=NOW)
    return kafka_codec.outgoing_record(
        builders.status_outgoing(builders.build_status(data), topics=TOPICS, replica="0")
    )


def cancel_of(request_id: str) -> Record:
    event = builders.build_cancel(
        Origin(request_id=request_id), CancelData(reason="client"), source="/s", now=NOW
    )
    return kafka_codec.outgoing_record(builders.cancel_outgoing(event, topics=TOPICS))


class Odd(Exception):
    """What no reader expects."""


def once(real: Callable[..., Any]) -> Callable[..., Any]:
    """Raises at the first call: a record that nobody thought of."""
    calls = iter([True])

    def call(*given: Any, **named: Any) -> Any:
        if next(calls, False):
            raise Odd
        return real(*given, **named)

    return call


def test_a_status_that_nobody_thought_of_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_consumer, "parse_status", once(registry_consumer.parse_status))
    fold = RegistryFold()
    fold.fold((status_of("bad"), status_of("good")))
    assert set(fold.registry.entries) == {("good", "0")}


def test_a_cancel_that_nobody_thought_of_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_consumer.builders, "parse_cancel", once(builders.parse_cancel))
    log, seen = MemoryLog(), threading.Event()
    for request_id in ("bad", "good"):
        log.store(cancel_of(request_id))
    tail = ControlConsumer(
        lambda: log.tail(topics=(TOPICS.control,), client="c", from_start=True),
        lambda _request_id: seen.set(),
    )
    tail.start()
    try:
        assert seen.wait(5.0)
        tail.wait_until_caught_up(5.0)
        assert [tail.is_cancelled(found) for found in ("bad", "good")].count(True) == 1
    finally:
        tail.close(5.0)


def test_a_reply_that_nobody_thought_of_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_consumer, "read_reply", once(reply_consumer.read_reply))
    dropped: list[str] = []

    async def scenario() -> None:
        log = MemoryLog(partitions=1)
        waiters = Waiters(dropped.append)
        waiter = waiters.open("r1", "acme", is_stream=False)
        tail = ReplyConsumer(
            lambda: log.tail(topics=(TOPICS.replies,), client="c", from_start=True),
            waiters,
            epoch="e",
            dropped=dropped.append,
            poll_s=0.01,
        )
        event = builders.build_completed(
            Origin(request_id="r1"),
            {},
            builders.PickspinData(request_id="r1", state="completed"),
            source="/s",
            generation="g",
            now=NOW,
        )
        for _ in range(2):
            log.store(kafka_codec.to_record(event, topic=TOPICS.replies, key=None, partition=0))
        tail.start(asyncio.get_running_loop())
        try:
            assert await waiter.wait_for_end(5.0)
            assert waiter.terminal is not None
        finally:
            await asyncio.to_thread(tail.close)

    asyncio.run(scenario())
    assert "malformed" in dropped


def test_a_revision_is_still_read_behind_a_bad_one() -> None:
    event = builders.build_revision(RevisionData(service="s", revision="s-2", at=NOW))
    good = kafka_codec.outgoing_record(builders.revision_outgoing(event, topics=TOPICS))
    tail = ControlConsumer(MemoryLog, lambda _request_id: None)  # type: ignore[arg-type]
    for record in (Record(topic=TOPICS.control, value=b"\xff"), good):
        tail._take(record)
    assert tail.revision_of("s") == "s-2"
