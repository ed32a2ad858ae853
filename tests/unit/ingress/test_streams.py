"""Streams over a real socket: uvicorn serves the application on the test's own loop."""

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest

from events import names
from events.names import ReplicaState
from events.payloads import StatusData
from functions.ingress.uvicorn_protocol import watch_reader
from router_model.service_registry import Registry

pytestmark = pytest.mark.anyio


async def lines_of(client: httpx.AsyncClient, body: Any, **headers: str) -> list[str]:
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [line async for line in answer.aiter_lines() if line]


def texts(lines: list[str]) -> str:
    found = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in found if chunk["choices"]
    )


async def test_a_stream_carries_every_chunk_and_ends_with_done(
    rig: Any, chat: Any, live: Any
) -> None:
    async with live(rig) as client:
        lines = await lines_of(client, chat | {"stream": True})
    assert texts(lines) == "hello"
    assert lines[-1] == "data: [DONE]"


async def test_a_cold_model_is_announced_in_comments_with_its_eta(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    status = StatusData(
        service="smol",
        replica="0",
        state=ReplicaState.LOADING,
        at=rig.deps.clock.now(),
        eta_s=3.2,
        progress=0.4,
    )
    rig.registry[0] = Registry().apply(status)
    held = rig.worker.hold(lambda worker, request: worker.progress(request))
    lines: list[str] = []
    async with live(rig) as client:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with client.stream(
            "POST", "/v1/chat/completions", json=chat | {"stream": True}
        ) as answer:
            async for line in answer.aiter_lines():
                if line:
                    lines.append(line)
                if len(lines) == 1:
                    assert loop.time() - start < 1.0
                if len([x for x in lines if x.startswith(":")]) == 2:
                    worker, request = rig.worker, held[0]
                    worker.send(*worker.chunk(request, "hi", 0), *worker.completed(request))
    comments = [line for line in lines if "state=loading" in line]
    assert comments[0] == ": pickspin state=loading service=smol eta_s=3.2 progress=0.40"
    assert answer.headers["x-pickspin-service"] == "smol"
    assert answer.headers["x-pickspin-stage"] == "keyword"
    assert texts(lines) == "hi"


async def test_a_failure_in_the_middle_is_an_error_event_and_the_end(
    rig: Any, chat: Any, live: Any
) -> None:
    rig.worker.script = lambda worker, request: [
        *worker.progress(request),
        *worker.chunk(request, "hel", 0),
        *worker.failed(request, "backend_failed"),
    ]
    async with live(rig) as client:
        lines = await lines_of(client, chat | {"stream": True})
    last = json.loads(lines[-1][6:])
    assert last["error"]["code"] == "backend_failed"
    assert texts(lines[:-1]) == "hel"


async def test_a_failure_before_the_first_byte_has_its_http_status(
    rig: Any, chat: Any, live: Any
) -> None:
    rig.worker.script = lambda worker, request: worker.failed(request, "no_healthy_service")
    async with live(rig) as client:
        answer = await client.post("/v1/chat/completions", json=chat | {"stream": True})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_healthy_service"


async def test_two_generations_are_never_spliced(rig: Any, chat: Any, live: Any) -> None:
    rig.worker.script = lambda worker, request: [
        *worker.chunk(request, "one", 0),
        *worker.chunk(request, "two", 0, generation="g2", attempt=2),
        *worker.completed(request, generation="g2"),
    ]
    async with live(rig) as client:
        lines = await lines_of(client, chat | {"stream": True})
    assert texts(lines[:-1]) == "one"
    assert json.loads(lines[-1][6:])["error"]["code"] == "generation_restarted"


async def test_a_chunk_sent_twice_and_one_of_an_older_attempt_are_dropped(
    rig: Any, chat: Any, live: Any
) -> None:
    rig.worker.script = lambda worker, request: [
        *worker.chunk(request, "a", 0, generation="g2", attempt=2),
        *worker.chunk(request, "a", 0, generation="g2", attempt=2),
        *worker.chunk(request, "old", 0, generation="g1", attempt=1),
        *worker.chunk(request, "b", 1, generation="g2", attempt=2),
        *worker.completed(request, generation="g2"),
    ]
    async with live(rig) as client:
        lines = await lines_of(client, chat | {"stream": True})
    assert texts(lines) == "ab"
    assert lines[-1] == "data: [DONE]"


async def test_an_answer_without_chunks_is_streamed_all_the_same(
    rig: Any, chat: Any, live: Any
) -> None:
    rig.worker.script = lambda worker, request: worker.completed(request, "whole")
    async with live(rig) as client:
        lines = await lines_of(
            client, chat | {"stream": True, "stream_options": {"include_usage": True}}
        )
    assert texts(lines) == "whole"
    assert any('"usage"' in line for line in lines)
    assert lines[-1] == "data: [DONE]"


async def test_a_stream_ends_at_its_deadline_with_an_error_event(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.worker.script = lambda worker, request: worker.chunk(request, "a", 0)
    async with live(rig) as client:
        lines = await lines_of(client, chat | {"stream": True}, **{"x-pickspin-deadline-s": "0.3"})
    assert json.loads(lines[-1][6:])["error"]["code"] == "deadline_exceeded"
    await eventually(lambda: rig.events_on("infer.control"))


async def test_a_stream_whose_end_comes_at_its_deadline_is_whole(
    rig: Any, chat: Any, live: Any
) -> None:
    rig.worker.script = lambda worker, request: worker.chunk(request, "a", 0)
    rig.worker.on_cancel = lambda worker, request: (
        *worker.chunk(request, "b", 1),
        *worker.completed(request, "ab"),
    )
    async with live(rig) as client:
        lines = await lines_of(client, chat | {"stream": True}, **{"x-pickspin-deadline-s": "0.3"})
    assert texts(lines) == "ab"
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_waiter_and_cancels_the_work(
    rig: Any, chat: Any, live: Any, eventually: Any, stream: bool
) -> None:
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client:
        task = asyncio.ensure_future(
            lines_of(client, chat | {"stream": True})
            if stream
            else client.post("/v1/chat/completions", json=chat)
        )
        await eventually(lambda: rig.worker.seen)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: not len(rig.deps.waiters), 1.0)
        cancel = await eventually(lambda: rig.events_on("infer.control"), 1.0)
    assert cancel[0].type == names.CANCEL
    assert b"disconnected" in cancel[0].data


async def test_a_tenant_may_open_only_so_many_streams(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.configure(tenant_streams=1)
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client:
        first = asyncio.ensure_future(lines_of(client, chat | {"stream": True}))
        await eventually(lambda: rig.worker.seen)
        second = await client.post("/v1/chat/completions", json=chat | {"stream": True})
        first.cancel()
        await asyncio.wait([first])
    assert second.status_code == 429
    assert second.json()["error"]["code"] == "tenant_rate"


async def test_a_reader_that_does_not_read_is_dropped(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.configure(stream_idle_s=0.3)
    text = "x" * 60_000

    def flood(worker: Any, request: Any) -> Any:
        return [out for n in range(200) for out in worker.chunk(request, text, n)]

    rig.worker.script = flood
    async with live(rig) as client:
        host, port = client.base_url.host, client.base_url.port
        _, writer = await asyncio.open_connection(host, port, limit=1024)
        body = json.dumps(chat | {"stream": True}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        await eventually(lambda: rig.worker.seen)
        await eventually(lambda: not len(rig.deps.waiters))
        writer.close()
        await client.get("/healthz")


async def test_what_lies_unread_in_the_systems_buffers_ends_its_generation_too(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    """Every write succeeds here: what the model says fits into the system's buffers, and then it thinks on."""
    rig.configure(stream_idle_s=0.5, heartbeat_s=0.01, heartbeat_most_s=0.01)
    rig.worker.script = lambda worker, request: [
        out for n in range(8) for out in worker.chunk(request, "x" * 30_000, n)
    ]
    body = json.dumps(chat | {"stream": True}).encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        async with live(rig) as client:
            deaf.connect((client.base_url.host, client.base_url.port))
            deaf.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            await eventually(lambda: rig.worker.seen)
            await eventually(lambda: not len(rig.deps.waiters), 10.0)
            await eventually(lambda: rig.events_on("infer.control"))
            assert rig.events_on("infer.control")[0].type == names.CANCEL


async def test_a_silent_connection_is_asked_whether_its_client_is_there() -> None:
    with socket.socket() as one:
        watch_reader(one, 20.0)
        asked = {
            name: one.getsockopt(level, getattr(socket, name))
            for level, name in (
                (socket.SOL_SOCKET, "SO_KEEPALIVE"),
                (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
                (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
                (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
            )
        }
    assert asked == {
        "SO_KEEPALIVE": 1,
        "TCP_KEEPIDLE": 10,
        "TCP_KEEPINTVL": 5,
        "TCP_USER_TIMEOUT": 20_000,
    }
