"""What runs beside the doors: room on the in-memory broker, large answers, shutdown."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from events import builders, ids
from events.event import Record
from functions.ingress.background_tasks import BackgroundTasks, EndsTail
from functions.ingress.broker_room import BrokerRoom
from functions.recorder.event_recorder import recorded_topics
from functions.runtime.errors import AppendFailed
from functions.runtime.log_consumer import next_offsets
from tests.unit.ingress.conftest import TOPICS

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
ASYNC = {"prefer": "respond-async"}


def read_everything(log: Any, name: str, *topics: str) -> None:
    """A group reads what is there and commits it."""
    group = log.group(group=name, topics=topics, client=name)
    with contextlib.closing(group):
        while records := group.poll(0.0).records:
            group.commit(next_offsets(records))


def draining(rig: Any) -> BackgroundTasks:
    running = BackgroundTasks(rig.deps, rig.log, None, None, None, None)  # type: ignore[arg-type]
    running._loop = asyncio.get_running_loop()
    return running


async def test_room_on_the_broker_is_held_until_the_end_was_read(
    rig: Any, chat: Any, eventually: Any
) -> None:
    held = rig.worker.hold()
    room = BrokerRoom(1500, lambda key: 0)
    rig.use(broker_room=room)
    ends = EndsTail(rig.deps, rig.log)
    ends.start(asyncio.get_running_loop())
    try:
        async with rig.client() as client:
            first = await client.post(CHAT, json=chat, headers=ASYNC)
            assert first.status_code == 202
            assert room.total_bytes > 400
            codes = [
                (await client.post(CHAT, json=chat, headers=ASYNC)).status_code for _ in range(4)
            ]
            assert codes[-1] == 503
            listed = (await client.get("/v1/requests")).json()["data"]
            assert len(listed) == 1 + codes.count(202)
            await eventually(lambda: len(held) == len(listed))
            rig.worker.send(*(out for request in held for out in rig.worker.completed(request)))
            await eventually(lambda: room.unread_bytes > 0)
            assert (await client.post(CHAT, json=chat, headers=ASYNC)).status_code == 503
            assert room.total_bytes > 400
            read_everything(rig.log, TOPICS.recorder_group, *recorded_topics(TOPICS))
            assert (await client.post(CHAT, json=chat, headers=ASYNC)).status_code == 503
            read_everything(rig.log, TOPICS.callbacks_group, TOPICS.responses)
            await eventually(lambda: room.total_bytes == room.unread_bytes == 0)
            assert (await client.post(CHAT, json=chat, headers=ASYNC)).status_code == 202
    finally:
        ends.close()


async def test_a_refused_append_gives_its_room_back(rig: Any, chat: Any) -> None:
    room = BrokerRoom(1500, lambda key: 0)
    rig.use(broker_room=room)
    rig.log.fail_next("infer.requests", AppendFailed("down"))
    async with rig.client() as client:
        assert (await client.post(CHAT, json=chat)).status_code == 503
    assert room.total_bytes == 0


async def test_an_answer_that_travelled_by_reference_is_fetched(rig: Any, chat: Any) -> None:
    def by_reference(worker: Any, request: Any) -> Any:
        found = []
        for out in worker.completed(request, "x" * 400_000):
            ref = rig.deps.blobs.put(out.event.data)
            found.append(replace(out, event=builders.by_reference(out.event, ref)))
        return found

    rig.worker.script = by_reference
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat)
    assert answer.status_code == 200
    assert len(answer.json()["choices"][0]["message"]["content"]) == 400_000
    assert answer.headers["x-pickspin-service"] == "smol"


async def test_an_answer_whose_reference_leads_nowhere_is_a_typed_failure(
    rig: Any, chat: Any
) -> None:
    def lost(worker: Any, request: Any) -> Any:
        ref = f"blob:{ids.content_hash(b'lost')}"
        out = worker.completed(request)[-1]
        return [replace(out, event=builders.by_reference(out.event, ref))]

    rig.worker.script = lost
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "reply_too_large"


@pytest.mark.parametrize("stream", [False, True])
async def test_after_the_grace_of_a_shutdown_open_calls_get_a_typed_answer(
    rig: Any, chat: Any, live: Any, eventually: Any, stream: bool
) -> None:
    rig.configure(drain_s=0.05)
    rig.worker.script = lambda worker, request: worker.progress(request)
    async with live(rig) as client:
        call = asyncio.ensure_future(client.post(CHAT, json=chat | {"stream": stream}))
        await eventually(lambda: len(rig.deps.waiters))
        if stream:
            await eventually(lambda: rig.worker.seen)
            waiter = rig.deps.waiters.get(rig.worker.seen[0].id)
            await eventually(lambda: waiter.service)
        draining(rig).drain()
        answer = await call
    assert not rig.deps.health.is_ready()
    if stream:
        assert answer.status_code == 200
        assert '"code":"not_ready"' in answer.text.split("\n\n")[-2]
    else:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"


async def test_what_can_be_answered_within_the_grace_is_answered(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.configure(drain_s=5.0)
    held = rig.worker.hold(lambda worker, request: worker.progress(request))
    async with live(rig) as client:
        calls = [
            asyncio.ensure_future(client.post(CHAT, json=chat | {"stream": stream}))
            for stream in (False, True)
        ]
        await eventually(lambda: len(held) == 2)
        draining(rig).drain()
        rig.worker.send(*(out for one in held for out in rig.worker.completed(one)))
        plain, stream = await asyncio.gather(*calls)
    assert plain.json()["choices"][0]["message"]["content"] == "hello"
    assert stream.text.endswith("data: [DONE]\n\n")


async def test_whoever_polls_is_told_at_once_where_the_request_stands(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client:
        url = (await client.post(CHAT, json=chat, headers=ASYNC)).headers["location"]
        poll = asyncio.ensure_future(client.get(url, headers={"prefer": "wait=60"}))
        await eventually(lambda: len(rig.deps.calls))
        draining(rig).drain()
        answer = await poll
    assert answer.status_code == 200
    assert answer.json()["state"] == "accepted"


async def test_the_last_resort_of_a_call_is_a_typed_refusal(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    """Who waits for another's call holds no waiter: it is ended all the same, and never just cut."""
    rig.worker.script = lambda worker, request: ()
    keyed = {"idempotency-key": "k"}
    async with live(rig) as client:
        first = asyncio.ensure_future(client.post(CHAT, json=chat, headers=keyed))
        await eventually(lambda: len(rig.deps.waiters))
        join = asyncio.ensure_future(client.post(CHAT, json=chat, headers=keyed))
        await eventually(lambda: len(rig.deps.calls) == 2)
        rig.deps.calls.close()
        answers = await asyncio.gather(first, join)
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
    assert len(rig.deps.calls) == 0


async def test_the_last_resort_of_a_stream_is_the_error_event(
    rig: Any, chat: Any, live: Any
) -> None:
    rig.worker.script = lambda worker, request: worker.progress(request)
    keyed = {"idempotency-key": "k"}
    async with live(rig) as client:
        asked = client.build_request("POST", CHAT, json=chat | {"stream": True}, headers=keyed)
        first = await client.send(asked, stream=True)
        join = await client.send(asked, stream=True)
        url = f"/v1/requests/{first.headers['x-pickspin-request-id']}/events"
        events = await client.send(client.build_request("GET", url), stream=True)
        rig.deps.calls.close()
        streams = (first, join, events)
        texts = [(await one.aread()).decode() for one in streams]
    for one, text in zip(streams, texts, strict=True):
        assert one.status_code == 200
        last = text.split("\n\n")[-2]
        assert '"code":"not_ready"' in last
        assert first.headers["x-pickspin-request-id"] in last


async def test_an_upload_that_shutdown_ends_is_refused(
    rig: Any, live: Any, eventually: Any
) -> None:
    async with live(rig) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\n"
            b"content-type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        await eventually(lambda: len(rig.deps.calls))
        rig.deps.calls.close()
        assert b" 503 " in await reader.readline()
        writer.close()


async def test_a_malformed_reply_is_counted_and_harms_nobody(rig: Any, chat: Any) -> None:
    def garbage(worker: Any, request: Any) -> Any:
        worker._appender.append(
            Record(topic="infer.replies", value=b"\xff", headers=(("ce_id", b"\xff"),), partition=0)
        ).result()
        out = worker.chunk(request, "x", 0)[0]
        worker.send(replace(out, event=replace(out.event, data=b"{")))
        return worker.completed(request)

    rig.worker.script = garbage
    async with rig.client() as client:
        assert (await client.post(CHAT, json=chat)).status_code == 200
    assert rig.dropped.count("malformed") == 2
