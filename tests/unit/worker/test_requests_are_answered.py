"""A routed request ends in exactly one terminal, on `infer.responses` and at the caller's address."""

import asyncio
import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from events import ids
from events.names import COMPLETED, DATA_HASH, DATA_REF, GENERATION, PROGRESS, SEQUENCE, Topics
from functions.runtime.settings import BrokerSettings

TOPICS = Topics()


def test_a_plain_call_is_answered_once_and_everything_is_committed(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            request_id = found.send()
            event, data = await found.terminal(request_id)
            await found.drained()
            assert event.type == COMPLETED
            assert data["id"] == f"chatcmpl-{request_id.removeprefix('req_')}"
            assert data["model"] == "small"
            assert request_id[-8:] in data["choices"][0]["message"]["content"]
            known = data["pickspin"]
            assert (known["state"], known["attempt"], known["service"]) == ("completed", 1, "small")
            assert known["decision"] == {
                "class": "low",
                "score": 0.5,
                "reason": "only",
                "catalogue": "v1",
                "stage": "keyword",
            }
            assert known["timings"]["model_ms"] > 0
            assert len(found.terminals(request_id)) == 1
            (copy,) = found.terminals(request_id, TOPICS.replies)
            assert copy.data == event.data
            assert copy.get("replyepoch") == "e1"
            states = [
                json.loads(e.data or b"")["state"]
                for e in found.events(TOPICS.progress)
                if e.type == PROGRESS
            ]
            assert states == ["running"]

    asyncio.run(scenario())


def test_a_stand_in_names_whom_it_stands_in_for_and_keeps_the_tasks_cap(stand: Any) -> None:
    async def scenario() -> None:
        async with stand("--tokens", "10") as found, found.worker():
            request_id = found.send(askedmodel="big", maxtokens="3")
            _, data = await found.terminal(request_id)
            assert data["pickspin"]["model"] == "small"
            assert data["pickspin"]["decision"]["asked_model"] == "big"
            assert data["usage"]["completion_tokens"] == 3
            assert data["choices"][0]["finish_reason"] == "length"

    asyncio.run(scenario())


def test_a_stream_comes_in_chunks_of_one_generation_and_ends_in_the_whole(stand: Any) -> None:
    async def scenario() -> None:
        async with stand("--tokens-per-s", "50", "--tokens", "10") as found, found.worker():
            body = {
                "messages": [{"role": "user", "content": "hi"}],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            request_id = found.send(body=body)
            event, data = await found.terminal(request_id)
            chunks = found.chunks(request_id)
            assert [e.get(SEQUENCE) for e in chunks] == [f"{n:08d}" for n in range(len(chunks))]
            assert {e.get(GENERATION) for e in chunks} == {event.get(GENERATION)}
            assert 2 <= len(chunks) < 10
            parts = [part for e in chunks for part in json.loads(e.data or b"")["chunks"]]
            text = "".join(
                p["choices"][0]["delta"].get("content", "") for p in parts if p["choices"]
            )
            assert text == data["choices"][0]["message"]["content"]
            assert {part["id"] for part in parts} == {data["id"]}
            assert parts[-1]["usage"] == data["usage"]
            assert data["pickspin"]["timings"]["ttft_ms"] > 0

    asyncio.run(scenario())


def test_completions_choices_and_embeddings_are_answered(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            text = found.send(operation="completions", body={"prompt": ["a", "b"][0], "n": 2})
            vectors = found.send(operation="embeddings", body={"input": ["a", "b"]})
            packed = found.send(
                operation="embeddings", body={"input": "a", "encoding_format": "base64"}
            )
            assert [c["index"] for c in (await found.terminal(text))[1]["choices"]] == [0, 1]
            data = (await found.terminal(vectors))[1]["data"]
            assert [len(item["embedding"]) for item in data] == [384, 384]
            (only,) = (await found.terminal(packed))[1]["data"]
            raw = base64.b64decode(only["embedding"])
            assert (
                struct.unpack("<384f", raw)[0]
                == struct.unpack("<f", struct.pack("<f", data[0]["embedding"][0]))[0]
            )

    asyncio.run(scenario())


def test_nothing_that_is_ours_or_null_reaches_the_model(stand: Any) -> None:
    async def scenario() -> None:
        async with stand("--tokens", "100") as found, found.worker():
            body = {
                "messages": [{"role": "user", "content": "hi", "name": None}],
                "max_tokens": 5,
                "temperature": None,
                "store": False,
                "callback": "x",
            }
            _, data = await found.terminal(found.send(body=body))
            assert data["usage"]["completion_tokens"] == 5

    asyncio.run(scenario())


def test_large_answers_travel_by_reference(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            body = {"input": [str(n) for n in range(64)]}
            event, _ = await found.terminal(found.send(operation="embeddings", body=body))
            assert event.data is None
            stored = found.blobs.get(event.get(DATA_REF), limit_bytes=10**9)
            assert ids.content_hash(stored) == event.get(DATA_HASH)
            assert len(json.loads(stored)["data"]) == 64

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "by_reference"), [("embedded", True), ("kafka", False)])
def test_a_broker_that_forgets_gets_references_sooner(
    stand: Any, kind: str, by_reference: bool
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            broker = BrokerSettings(kind=kind, embedded_answer_bytes=100)
            found.settings = msgspec.structs.replace(found.settings, broker=broker)
            async with found.worker():
                event, _ = await found.terminal(found.send())
                assert (event.get(DATA_REF) is not None) is by_reference

    asyncio.run(scenario())


def test_requests_finish_out_of_order_and_commits_stay_behind_the_slowest(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            slow = found.send("[[fake:ttft=0.6]]", partitionkey="one")
            quick = [found.send(partitionkey="one") for _ in range(3)]
            for request_id in quick:
                await found.terminal(request_id)
            assert not found.terminals(slow)
            assert found.lag() == 4
            await found.terminal(slow)
            await found.drained()

    asyncio.run(scenario())


def test_a_routed_event_published_twice_is_run_once(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found, found.worker():
            event = found.request()
            for _ in range(3):
                found.log.store(found.routed(event))
            await found.terminal(event.id)
            await found.drained()
            assert len(found.calls(event.id)) == 1
            assert len(found.terminals(event.id)) == 1

    asyncio.run(scenario())


def test_a_tenant_behind_anothers_long_queue_is_next(stand: Any) -> None:
    async def scenario() -> None:
        flags = ("--ttft-s", "0.05")
        async with stand(*flags, service={"concurrency": 1}) as found:
            greedy = [found.send(tenant="greedy", wait_s=60.0) for _ in range(150)]
            quiet = found.send(tenant="quiet", wait_s=60.0)
            async with found.worker():
                await found.terminal(quiet)
                before = len(found.calls())
                for request_id in greedy:
                    found.cancel(request_id)
                await found.drained()
            assert before < 20

    asyncio.run(scenario())


def test_batch_waits_for_interactive(stand: Any) -> None:
    async def scenario() -> None:
        flags = ("--ttft-s", "0.05")
        async with stand(*flags, service={"concurrency": 1}) as found:
            batch = [found.send(priority="batch") for _ in range(4)]
            interactive = [found.send() for _ in range(4)]
            async with found.worker():
                for request_id in batch + interactive:
                    await found.terminal(request_id)
            order = [call["request"] for call in found.calls()]
            assert set(order[:4]) == set(interactive)

    asyncio.run(scenario())


def test_concurrency_is_bounded(stand: Any) -> None:
    async def scenario() -> None:
        async with stand("--ttft-s", "0.02", service={"concurrency": 2}) as found, found.worker():
            ids_sent = [found.send() for _ in range(40)]
            for request_id in ids_sent:
                await found.terminal(request_id)
            running = most = 0
            for line in found.history.read_text().splitlines():
                entry = json.loads(line)
                running += 1 if entry["event"] == "start" else -1
                most = max(most, running)
            assert most == 2
            await found.drained()

    asyncio.run(scenario())
