"""Failures of requests, of the model server and of the process end in one typed answer, or in a further attempt."""

import asyncio
import contextlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from events.event import Record
from events.names import CANCEL, COMPLETED, FAILED, Topics
from functions.runtime.errors import AppendFailed
from functions.testing.memory_broker import MemoryLog

TOPICS = Topics()


def test_expired_work_is_answered_without_a_call(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            request_id = found.send(wait_s=-1.0)
            async with found.worker():
                assert await found.code(request_id) == "deadline_exceeded"
                await found.drained()
            assert found.calls(request_id) == []

    asyncio.run(scenario())


def test_work_that_expires_in_the_queue_is_answered_in_time(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand(service={"concurrency": 1}) as found, found.worker():
            running = found.send("[[fake:ttft=1.5]]")
            await wait_until(lambda: found.calls(running))
            waiting = found.send(wait_s=0.4)
            assert await found.code(waiting) == "deadline_exceeded"
            assert found.calls(waiting) == []

    asyncio.run(scenario())


def test_a_running_call_is_cut_at_the_deadline(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            request_id = found.send("[[fake:ttft=30]]", wait_s=0.4)
            event, data = await found.terminal(request_id)
            assert (event.type, data["error"]["code"], data["status"]) == (
                FAILED,
                "deadline_exceeded",
                504,
            )
            assert data["pickspin"]["state"] == "expired"
            await found.drained()
            assert len(found.calls(request_id, "aborted")) == 1

    asyncio.run(scenario())


def test_cancel_stops_the_running_call(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            request_id = found.send("[[fake:ttft=30]]")
            await wait_until(lambda: found.calls(request_id))
            found.cancel(request_id)
            assert await found.code(request_id) == "cancelled"
            await wait_until(lambda: found.calls(request_id, "aborted"))
            await found.drained()

    asyncio.run(scenario())


def test_a_cancel_that_came_first_prevents_the_call(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            request_id = found.send()
            found.cancel(request_id)
            found.log.store(Record(topic=TOPICS.control, value=b"junk", headers=(("ce_id", b"x"),)))
            async with found.worker():
                assert await found.code(request_id) == "cancelled"
            assert found.calls(request_id) == []

    asyncio.run(scenario())


def test_what_its_caller_gave_up_at_the_deadline_is_expired(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            request_id = found.send(wait_s=-1.0)
            found.cancel(request_id)
            async with found.worker():
                assert await found.code(request_id) == "deadline_exceeded"

    asyncio.run(scenario())


def header(record: Record, name: str, value: bytes | None) -> Record:
    kept = tuple((k, v) for k, v in record.headers if k != name)
    return replace(record, headers=kept if value is None else (*kept, (name, value)))


POISON = {
    "no id": lambda r: header(r, "ce_id", None),
    "no value": lambda r: replace(r, value=None),
    "not json": lambda r: replace(r, value=b"{"),
    "array": lambda r: replace(r, value=b"[]"),
    "deep": lambda r: replace(r, value=b'{"a":' * 200 + b"1" + b"}" * 200),
    "foreign type": lambda r: header(r, "ce_type", CANCEL.encode()),
    "no deadline": lambda r: header(r, "ce_expirytime", None),
    "another service": lambda r: header(r, "ce_service", b"other"),
    "reply to a work topic": lambda r: header(r, "ce_replytopic", b"infer.requests"),
    "reply partition": lambda r: header(r, "ce_replypartition", b"-1"),
    "foreign reference": lambda r: header(r, "ce_dataref", b"file:///etc/passwd"),
    "missing blob": lambda r: header(r, "ce_dataref", b"blob:" + b"0" * 64),
    "header not utf-8": lambda r: header(r, "ce_subject", b"\xff"),
    "junk": lambda r: Record(topic=r.topic, value=b"\x00\x01", key=b"\xff"),
}
TELLS = {
    "not json",
    "array",
    "deep",
    "no deadline",
    "another service",
    "reply to a work topic",
    "reply partition",
    "foreign reference",
    "missing blob",
    "no value",
}


@pytest.mark.parametrize("name", sorted(POISON))
def test_poison_goes_to_the_dead_letters_and_the_partition_advances(stand: Any, name: str) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            event = found.request()
            found.log.store(POISON[name](found.routed(event)))
            after = found.send()
            await found.terminal(after)
            await found.drained()
            (letter,) = found.log.records(TOPICS.dlq)
            assert dict(letter.headers)["ce_deadletterreason"]
            assert found.calls(event.id) == []
            terminals = found.terminals(event.id)
            assert [e.type for e in terminals] == ([FAILED] if name in TELLS else [])
            # Where the address itself is wrong, only the public topic is told.
            told = found.terminals(event.id, TOPICS.replies)
            is_told = name in TELLS and not name.startswith("reply")
            assert len(told) == int(is_told)
            assert all(r.topic != TOPICS.requests for r in found.log.records(TOPICS.requests))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("error400", "invalid_value"),
        ("context", "context_length_exceeded"),
        ("html", "bad_backend_reply"),
        ("empty", "bad_backend_reply"),
        ("truncated", "bad_backend_reply"),
        ("no-choices", "bad_backend_reply"),
        ("error-in-200", "bad_backend_reply"),
        ("huge", "reply_too_large"),
        ("error500", "backend_failed"),
        ("reset", "backend_failed"),
    ],
)
def test_each_failure_of_a_plain_call_has_its_code(stand: Any, mode: str, code: str) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            request_id = found.send(f"[[fake:{mode}]]")
            event, data = await found.terminal(request_id)
            assert data["error"]["code"] == code
            assert "secret" not in json.dumps(data)
            assert ("no such field: ..." in data["error"]["message"]) is (mode == "error400")
            await found.drained()
            attempts = {"backend_failed": 3, "bad_backend_reply": 2}.get(code, 1)
            assert len(found.calls(request_id)) == attempts
            assert data["pickspin"]["attempt"] == attempts
            assert len(found.log.records(TOPICS.dlq)) == int(code == "backend_failed")
            assert len(found.terminals(event.get("correlationid"))) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("reset-mid", "backend_failed"),
        ("error-mid", "bad_backend_reply"),
        ("no-done", "bad_backend_reply"),
        ("not-json", "bad_backend_reply"),
        ("bad-utf8", "bad_backend_reply"),
        ("long-line", "bad_backend_reply"),
    ],
)
def test_a_stream_that_breaks_is_never_continued_by_another_generation(
    stand: Any, mode: str, code: str
) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            body = {"messages": [{"role": "user", "content": f"[[fake:{mode}]]"}], "stream": True}
            request_id = found.send(body=body)
            event, data = await found.terminal(request_id)
            assert data["error"]["code"] == code
            assert len(found.calls(request_id)) == 1
            assert len({e.get("generation") for e in found.chunks(request_id)}) == 1
            assert event.get("generation") == found.chunks(request_id)[0].get("generation")

    asyncio.run(scenario())


def test_attempts_that_gave_no_answer_are_in_the_books(stand: Any) -> None:
    """Each kept the model for 0.3 s: at one dollar a second they cost 0.9, and are no time in the queue."""

    async def scenario() -> None:
        service = {"timeout_s": 0.3, "price_per_hour_usd": 3600.0, "concurrency": 1}
        async with stand(service=service) as found, found.worker():
            began_s = time.monotonic()
            request_id = found.send("[[fake:silence]]")
            _, data = await found.terminal(request_id)
            assert len(found.calls(request_id)) == 3
            known = data["pickspin"]
            assert known["cost"]["usd"] >= 0.9
            assert known["timings"]["model_ms"] == pytest.approx(known["cost"]["usd"] * 1000, abs=1)
            elapsed_ms = (time.monotonic() - began_s) * 1000
            assert known["timings"]["queue_ms"] <= elapsed_ms - 900

    asyncio.run(scenario())


def test_silence_in_a_stream_is_bounded(stand: Any) -> None:
    async def scenario() -> None:
        async with stand(backend_idle_s=0.3) as found, found.worker():
            body = {
                "messages": [{"role": "user", "content": "[[fake:silence-mid]]"}],
                "stream": True,
            }
            assert await found.code(found.send(body=body)) == "backend_failed"

    asyncio.run(scenario())


def test_silence_before_the_first_token_is_work(stand: Any) -> None:
    """A long prompt is read for longer than a stream may pause later: one call, its answer."""

    async def scenario() -> None:
        async with stand(backend_idle_s=0.3) as found, found.worker():
            content = "[[fake:ttft=1]] nonce:late"
            body = {"messages": [{"role": "user", "content": content}], "stream": True}
            request_id = found.send(body=body)
            event, data = await found.terminal(request_id)
            assert event.type == COMPLETED
            assert "nonce:late" in data["choices"][0]["message"]["content"]
            assert len(found.calls(request_id)) == 1

    asyncio.run(scenario())


def test_an_endless_stream_is_cut_at_the_byte_cap(stand: Any) -> None:
    async def scenario() -> None:
        async with stand(max_reply_bytes=20_000) as found, found.worker():
            body = {"messages": [{"role": "user", "content": "[[fake:endless]]"}], "stream": True}
            _, data = await found.terminal(found.send(body=body))
            assert data["choices"][0]["finish_reason"] == "length"
            assert len(data["choices"][0]["message"]["content"]) < 40_000

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["error503", "error429"])
def test_a_busy_server_costs_no_attempt_and_ends_at_the_deadline(stand: Any, mode: str) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            request_id = found.send(f"[[fake:{mode}]]", wait_s=0.8)
            _, data = await found.terminal(request_id)
            assert data["error"]["code"] == "deadline_exceeded"
            assert data["pickspin"]["attempt"] == 1
            assert len(found.calls(request_id)) > 1

    asyncio.run(scenario())


def test_attempts_of_a_crashed_worker_are_counted(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand(max_attempts=2) as found:
            request_id = found.send("[[fake:ttft=0.5]]")
            for calls in (1, 2):
                async with found.worker() as worker:
                    await wait_until(lambda calls=calls: len(found.calls(request_id)) == calls)
                    # What SIGKILL leaves: no outcome, no further commit.
                    worker._parts.poll._is_abandoned.set()
                    await worker._parts.runner.stop()
            assert found.terminals(request_id) == []
            async with found.worker():
                _, data = await found.terminal(request_id)
                assert data["error"]["code"] == "attempts_exhausted"
                await found.drained()
            assert len(found.calls(request_id)) == 2
            assert len(found.log.records(TOPICS.dlq)) == 1

    asyncio.run(scenario())


def test_a_request_whose_partition_moves_while_it_runs_has_not_failed(
    stand: Any, wait_until: Any
) -> None:
    async def scenario() -> None:
        async with stand(max_attempts=2) as found:
            found.log = MemoryLog(partitions=1)
            request_id = found.send("[[fake:ttft=1.5]]")
            async with contextlib.AsyncExitStack() as workers:
                # In a group of the log in memory the only partition goes to the member whose name comes first.
                for number, replica in enumerate(("d", "c", "b", "a"), start=1):
                    await workers.enter_async_context(found.worker(replica=replica))
                    await wait_until(lambda number=number: len(found.calls(request_id)) == number)
                event, _ = await found.terminal(request_id)
                assert event.type == COMPLETED
                await found.drained()
            assert {event.type for event in found.terminals(request_id)} == {COMPLETED}
            told = {
                event.extensions["attempt"] for event in found.events(TOPICS.progress, request_id)
            }
            assert told == {"1", "2", "3", "4"}
            assert not found.log.records(TOPICS.dlq)

    asyncio.run(scenario())


def test_a_terminal_is_published_until_it_is_in_the_log(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            for _ in range(2):
                found.log.fail_next(TOPICS.responses, AppendFailed("down", is_unknown=True))
            request_id = found.send()
            await found.terminal(request_id)
            await found.drained()
            assert len(found.terminals(request_id)) == 1

    asyncio.run(scenario())


def test_an_impossible_reply_partition_does_not_hold_the_request(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            request_id = found.send(replypartition="9999")
            await found.terminal(request_id)
            await found.drained()

    asyncio.run(scenario())


def test_draining_finishes_what_runs_and_starts_nothing(stand: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with stand("--ttft-s", "0.3", service={"concurrency": 1}) as found:
            running, waiting = found.send(partitionkey="k"), found.send(partitionkey="k")
            async with found.worker() as worker:
                await wait_until(lambda: found.calls(running))
                worker.stop()
                await found.terminal(running)
            assert found.status == 0
            assert found.terminals(waiting) == []
            assert found.calls(waiting) == []
            assert found.lag() == 1
            states = [json.loads(e.data)["state"] for e in found.events(TOPICS.status)]
            assert states[-2:] == ["draining", "stopped"]

    asyncio.run(scenario())


def test_a_drain_that_takes_too_long_leaves_the_work_uncommitted(
    stand: Any, wait_until: Any
) -> None:
    async def scenario() -> None:
        async with stand(drain_s=0.2) as found:
            request_id = found.send("[[fake:ttft=30]]", wait_s=60)
            async with found.worker():
                await wait_until(lambda: found.calls(request_id))
            assert found.terminals(request_id) == []
            assert found.lag() == 1

    asyncio.run(scenario())
