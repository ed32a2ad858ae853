"""The one path: metrics, limits and idempotency are the same for every API."""

import asyncio
import inspect
import re
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from events import names
from functions.ingress import deadlines, parse_call
from functions.ingress.sse_response import EventStream
from functions.runtime.errors import ApiError, AppendFailed

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Sent:
    """How one API is called, and what it counts a call as."""

    path: str
    door: str
    operation: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)
    """What is another body under the same key."""

    async def post(self, client: Any, key: str | None = None, *, other: bool = False) -> Any:
        headers = dict(self.headers)
        if key is not None:
            name = "ce-id" if self.path == "/" else "idempotency-key"
            headers[name] = key
        body = self.body | self.other if other else self.body
        return await client.post(self.path, json=body, headers=headers)


CHAT = {"model": "smol", "messages": [{"role": "user", "content": "hi"}]}
OTHER = {"messages": [{"role": "user", "content": "ho"}]}
EVENT = {"ce-specversion": "1.0", "ce-source": "/shop", "ce-type": names.REQUEST, "ce-id": "o-1"}
ASYNC = {"prefer": "respond-async"}
WHOLE = {
    "chat": Sent("/v1/chat/completions", "sync", "chat", CHAT, other=OTHER),
    "completions": Sent(
        "/v1/completions", "sync", "completions", {"prompt": "hi"}, other={"prompt": "ho"}
    ),
    "embeddings": Sent(
        "/v1/embeddings", "sync", "embeddings", {"input": "a"}, other={"input": "b"}
    ),
    "responses": Sent("/v1/responses", "sync", "chat", {"input": "hi"}, other={"input": "ho"}),
}
STREAM = {
    "stream": Sent("/v1/chat/completions", "stream", "chat", CHAT | {"stream": True}, other=OTHER)
}
BACKGROUND = {
    "chat in the background": Sent(
        "/v1/chat/completions", "background", "chat", CHAT, headers=ASYNC, other=OTHER
    ),
    "responses in the background": Sent(
        "/v1/responses",
        "background",
        "chat",
        {"input": "hi", "background": True},
        other={"input": "ho"},
    ),
    "events": Sent("/", "events", "chat", CHAT, headers=EVENT, other=OTHER),
}
WAITING = WHOLE | STREAM
ALL = WAITING | BACKGROUND


def each(apis: dict[str, Sent]) -> Any:
    return pytest.mark.parametrize("sent", apis.values(), ids=apis.keys())


def counted(rig: Any) -> dict[tuple[str, str, str], float]:
    """Requests by door, operation and outcome."""
    (family,) = rig.deps.metrics.requests.collect()
    return {
        (sample.labels["door"], sample.labels["operation"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def outcome(sent: Sent) -> str:
    return "accepted" if sent.door in {"background", "events"} else "completed"


@each(ALL)
async def test_a_request_is_counted_once_however_often_it_is_sent(
    rig: Any, sent: Sent, eventually: Any
) -> None:
    async with rig.client() as client:
        for _ in range(2):
            assert (await sent.post(client, "k-1")).status_code in (200, 202)
            # The next one finds the end in the store.
            await eventually(lambda: rig.deps.store.unfinished(tenant="default") == 0)
    assert counted(rig) == {(sent.door, sent.operation, outcome(sent)): 1.0}
    assert len(rig.events_on("infer.requests")) == 1


@each(ALL)
async def test_a_request_that_was_not_accepted_is_a_refusal_and_nothing_else(
    rig: Any, sent: Sent
) -> None:
    rig.log.fail_next("infer.requests", AppendFailed("down"))
    async with rig.client() as client:
        answer = await sent.post(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_accepted")
    assert counted(rig) == {}
    assert rig.deps.metrics.refusals.labels(code="not_accepted")._value.get() == 1.0
    assert len(rig.deps.waiters) == 0


@each(WAITING)
async def test_who_waits_takes_a_place_among_the_waiters(rig: Any, sent: Sent) -> None:
    rig.configure(max_waiters=0)
    async with rig.client() as client:
        answer = await sent.post(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert rig.events_on("infer.requests") == []


@each(BACKGROUND)
async def test_who_does_not_wait_takes_a_place_in_the_tenants_queue(rig: Any, sent: Sent) -> None:
    rig.configure(max_waiters=0, tenant_queue=1)
    rig.worker.hold()
    async with rig.client() as client:
        first, second = await sent.post(client, "k-1"), await sent.post(client, "k-2")
    assert first.status_code == 202
    assert (second.status_code, second.json()["error"]["code"]) == (429, "tenant_queue")
    assert len(rig.events_on("infer.requests")) == 1


@each(ALL)
async def test_a_key_is_bound_to_what_was_first_sent_with_it(rig: Any, sent: Sent) -> None:
    async with rig.client() as client:
        first = await sent.post(client, "k-1")
        same = await sent.post(client, "k-1")
        other = await sent.post(client, "k-1", other=True)
    request_id = first.headers["x-pickspin-request-id"]
    assert same.headers["x-pickspin-request-id"] == request_id
    assert same.status_code == first.status_code
    assert (other.status_code, other.json()["error"]["code"]) == (409, "key_reused")
    assert len(rig.events_on("infer.requests")) == 1


@each(WHOLE)
async def test_the_same_key_replays_a_failure_as_it_was(rig: Any, sent: Sent) -> None:
    rig.worker.script = lambda worker, request: worker.failed(request, "backend_failed")
    async with rig.client() as client:
        first, second = await sent.post(client, "k-1"), await sent.post(client, "k-1")
    assert first.json()["error"]["code"] == "backend_failed"
    assert (second.status_code, second.json()) == (first.status_code, first.json())


@each({name: sent for name, sent in ALL.items() if name != "events"})
async def test_a_request_that_was_not_accepted_leaves_its_key_free(rig: Any, sent: Sent) -> None:
    rig.log.fail_next("infer.requests", AppendFailed("down"))
    async with rig.client() as client:
        first, second = await sent.post(client, "k-1"), await sent.post(client, "k-1")
    assert first.status_code == 503
    assert second.status_code in (200, 202)


async def nobody() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def test_a_stream_ends_as_soon_as_its_reader_is_gone() -> None:
    said: list[str] = []

    async def frames() -> Any:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            said.append("closed")

    async def send(message: Any) -> None: ...

    stream = EventStream(
        frames(),
        "r-1",
        gone=lambda: said.append("gone"),
        finished=lambda: said.append("finished"),
        write_s=5.0,
    )
    await stream({}, nobody, send)
    assert said == ["closed", "gone", "finished"]


async def test_the_last_error_of_a_stream_names_the_request() -> None:
    sent: list[bytes] = []

    async def frames() -> Any:
        yield b": hello\n"
        raise ApiError("request_gone", "It was deleted.")

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    await EventStream(frames(), "r-1", write_s=5.0)({}, receive, send)
    assert b'"request_id":"r-1"' in sent[-1]
    assert b'"code":"request_gone"' in sent[-1]


@pytest.mark.parametrize("module", [parse_call, deadlines], ids=lambda module: module.__name__)
def test_every_header_that_is_read_is_in_the_document(module: ModuleType) -> None:
    read = set(re.findall(r'"(x-pickspin-[a-z-]+)"', inspect.getsource(module)))
    assert read
    assert read <= {name.lower() for name in parse_call.CALL_HEADERS}
