"""Whatever becomes of a job's task, its owner hears of it: the slot is free again and the partition goes on."""

import asyncio
from typing import Any

import msgspec
import pytest

from events.dead_letters import REASON_HEADER
from events.event import Record
from events.names import Topics
from functions.runtime.errors import AppendFailed
from functions.runtime.settings import BrokerSettings
from functions.testing.memory_broker import MemoryBlobs
from functions.worker import replica, replica_status
from functions.worker.lost_jobs import LostJobs
from functions.worker.reply_producer import REPLY_TRIES

TOPICS = Topics()
ONE = {"concurrency": 1}


class FullDisk(MemoryBlobs):
    """A blob store without room, until it has some."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = True
        self.tries = 0

    def put(self, data: bytes) -> str:
        self.tries += 1
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().put(data)


def with_full_disk(found: Any) -> FullDisk:
    """Every answer of this stand is too large for a record, and there is no room for it."""
    found.blobs = disk = FullDisk()
    found.settings = msgspec.structs.replace(found.settings, broker=BrokerSettings(inline_bytes=10))
    return disk


def test_an_answer_waits_for_room_and_is_then_delivered(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand(service=ONE) as found:
            disk = with_full_disk(found)
            async with found.worker():
                first, second = found.send(), found.send()
                await wait_until(lambda: disk.tries >= 2)
                assert found.terminals(first) == found.terminals(second) == []
                disk.is_full = False
                for request_id in (first, second):
                    event, _ = await found.terminal(request_id)
                    assert event.get("dataref")
                await found.drained()

    asyncio.run(scenario())


def test_an_answer_without_room_until_its_deadline_fails_and_gives_its_slot_back(
    stand: Any,
) -> None:
    async def scenario() -> None:
        async with stand(service=ONE) as found:
            disk = with_full_disk(found)
            async with found.worker():
                lost = found.send(wait_s=0.5)
                assert await found.code(lost) == "internal"
                (letter,) = found.log.records(TOPICS.dlq)
                reason = dict(letter.headers)["ce_deadletterreason"]
                assert reason == b"internal:answer_not_kept"
                disk.is_full = False
                await found.terminal(found.send())
                await found.drained()

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["a bug", "a stray cancel"])
def test_a_task_that_dies_ends_its_request_and_gives_its_slot_back(
    stand: Any, wait_until: Any, way: str
) -> None:
    async def scenario() -> None:
        async with stand("--ttft-s", "0.2", service=ONE) as found, found.worker() as worker:
            runner = worker._parts.runner
            if way == "a bug":
                real, runner._measured.add = runner._measured.add, lambda *_: 1 / 0
            dead = found.send()
            if way == "a stray cancel":
                await wait_until(lambda: found.calls(dead))
                next(iter(runner._tasks)).cancel()
            assert await found.code(dead) == "internal"
            if way == "a bug":
                runner._measured.add = real
            await found.terminal(found.send())
            await found.drained()
            (letter,) = found.log.records(TOPICS.dlq)
            assert dict(letter.headers)["ce_deadletterreason"].startswith(b"internal:")
            await wait_until(lambda: worker._parts.poll.owed == 0)
            assert worker.is_live()

    asyncio.run(scenario())


def test_a_job_whose_burial_fails_too_gives_its_slot_back(stand: Any) -> None:
    async def scenario() -> None:
        async with stand(service=ONE) as found, found.worker() as worker:
            publisher = worker._parts.runner._publisher
            real, publisher.terminal = publisher.terminal, lambda *_, **__: 1 / 0
            found.send()
            await found.drained()
            publisher.terminal = real
            await found.terminal(found.send())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "record",
    [
        Record(topic=TOPICS.model("small"), value=b"y" * 950 * 1024, key=b"k", partition=0),
        Record(topic=TOPICS.model("small"), value=None, partition=0),
    ],
    ids=["too large for a record of ours", "neither key nor value"],
)
def test_a_foreign_record_on_a_models_topic_is_passed(stand: Any, record: Record) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            found.log.store(record)
            await found.drained()
            (letter,) = found.log.records(TOPICS.dlq)
            assert letter.size_bytes < 1024

    asyncio.run(scenario())


def test_an_answer_whose_address_takes_nothing_is_kept_and_public(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            lost = found.send(replytopic=TOPICS.replies, replypartition="77")
            await found.terminal(lost)
            await found.drained()
            (letter,) = found.log.records(TOPICS.dlq)
            assert dict(letter.headers)["ce_deadletterreason"] == b"undeliverable"
            assert len(found.terminals(lost)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(("failures", "is_told"), [(REPLY_TRIES - 1, True), (REPLY_TRIES, False)])
def test_an_address_is_tried_a_few_times_where_the_broker_does_not_say_why(
    stand: Any, failures: int, is_told: bool
) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            for _ in range(failures):
                error = AppendFailed("not acknowledged", is_unknown=True)
                found.log.fail_next(TOPICS.replies, error)
            sent = found.send()
            await found.terminal(sent)
            await found.drained()
            assert len(found.terminals(sent)) == 1
            assert len(found.terminals(sent, TOPICS.replies)) == int(is_told)
            reasons = [dict(one.headers)[REASON_HEADER] for one in found.log.records(TOPICS.dlq)]
            assert reasons == ([] if is_told else [b"undeliverable"])

    asyncio.run(scenario())


def test_jobs_that_nobody_runs_are_missing_once_that_lasts() -> None:
    counted, run = [2], [2]
    missing = LostJobs(lambda: counted[0], lambda: run[0], after_s=10.0)
    assert missing.look(0.0) == 0
    run[0] = 1
    assert missing.look(1.0) == 0
    assert missing.look(10.9) == 0
    assert missing.look(11.0) == 1
    run[0] = 2
    assert missing.look(12.0) == 0
    run[0] = 0
    assert missing.look(13.0) == 0


def test_a_worker_whose_slots_are_held_for_nobody_is_not_live(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand(service=ONE, stuck_s=0.2) as found, found.worker() as worker:
            schedule = worker._parts.poll._schedule
            job = worker._parts.poll._reader.read(found.routed(found.request()))
            schedule._running[job.partition, job.offset] = job
            await wait_until(lambda: not worker.is_live())
            schedule.ended(job)
            await wait_until(worker.is_live)

    asyncio.run(scenario())


def test_a_record_that_was_fetched_and_forgotten_is_missed(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand(service=ONE, stuck_s=0.2) as found, found.worker() as worker:
            poll = worker._parts.poll
            poll._schedule.add = lambda _job: None
            found.send()
            await wait_until(lambda: not worker.is_live())

    asyncio.run(scenario())


def test_a_worker_whose_status_task_dies_ends_and_is_started_again(
    stand: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "HEALTH_EVERY_S", 0.05)
    monkeypatch.setattr(replica_status, "REPEAT_S", 0.05)

    async def scenario() -> None:
        async with stand() as found:
            async with found.worker() as worker:
                parts = worker._parts
                real = parts.status.publish
                parts.status.publish = lambda: 1 / 0
                await wait_until(lambda: worker._dead_beside() is not None)
                parts.status.publish = real
                await wait_until(lambda: not worker.is_ready())
            assert found.status == 1

    asyncio.run(scenario())


def test_a_stream_that_nobody_can_read_is_not_generated_to_its_end(
    stand: Any, wait_until: Any
) -> None:
    async def scenario() -> None:
        flags = ("--ttft-s", "0.01", "--tokens-per-s", "20", "--tokens", "2000")
        async with stand(*flags, service=ONE) as found, found.worker():
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            lost = found.send(
                body=body, wait_s=60.0, replytopic=TOPICS.replies, replypartition="77"
            )
            assert await found.code(lost) == "internal"
            await found.drained()
            (letter,) = found.log.records(TOPICS.dlq)
            assert dict(letter.headers)["ce_deadletterreason"] == b"undeliverable"

    asyncio.run(scenario())
