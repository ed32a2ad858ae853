"""`Idempotency-Key`: one key, one piece of work, whoever asks again and however."""

import asyncio
import json
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert

from events import ids
from functions.ingress.api_keys import ApiKeys
from functions.ports.store import KeyUse
from functions.runtime.errors import AppendFailed
from functions.sql.tables import idempotency_keys

pytestmark = pytest.mark.anyio
KEY = {"idempotency-key": "k-1"}


async def test_the_same_call_again_replays_the_finished_answer(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        first = await client.post("/v1/chat/completions", json=chat, headers=KEY)
        second = await client.post("/v1/chat/completions", json=chat, headers=KEY)
    assert second.status_code == 200
    assert second.content == first.content
    assert len(rig.events_on("infer.requests")) == 1


async def test_the_same_key_in_parallel_is_one_piece_of_work(
    rig: Any, chat: Any, eventually: Any
) -> None:
    held = rig.worker.hold()
    async with rig.client() as client:
        calls = [
            asyncio.ensure_future(client.post("/v1/chat/completions", json=chat, headers=KEY))
            for _ in range(3)
        ]
        await eventually(lambda: held)
        rig.worker.send(*rig.worker.completed(held[0], "once"))
        answers = await asyncio.gather(*calls)
    assert {answer.content for answer in answers} == {answers[0].content}
    assert len(rig.events_on("infer.requests")) == 1


async def test_another_body_under_the_same_key_is_refused_for_good(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=chat, headers=KEY)
        answer = await client.post("/v1/chat/completions", json=chat | {"n": 2}, headers=KEY)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "key_reused"
    assert answer.headers["x-should-retry"] == "false"


async def test_a_key_belongs_to_its_tenant(rig: Any, chat: Any) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("a=key-a,b=key-b"))
    async with rig.client() as client:
        for key in ("key-a", "key-b"):
            answer = await client.post(
                "/v1/chat/completions", json=chat, headers=KEY | {"authorization": f"Bearer {key}"}
            )
            assert answer.status_code == 200
    assert len(rig.events_on("infer.requests")) == 2


async def test_background_work_under_the_same_key_has_the_same_id(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        headers = KEY | {"prefer": "respond-async"}
        first = await client.post("/v1/chat/completions", json=chat, headers=headers)
        second = await client.post("/v1/chat/completions", json=chat, headers=headers)
    assert second.status_code == 202
    assert second.json()["id"] == first.json()["id"]
    assert len(rig.events_on("infer.requests")) == 1


async def test_a_stream_joins_as_a_stream(rig: Any, chat: Any, live: Any) -> None:
    async with live(rig) as client:
        body = chat | {"stream": True}
        first = await client.post("/v1/chat/completions", json=body, headers=KEY)
        second = await client.post("/v1/chat/completions", json=body, headers=KEY)
    lines = [line for line in second.text.split("\n") if line.startswith("data: {")]
    assert json.loads(lines[0][6:])["choices"][0]["delta"]["content"] == "hello"
    assert first.text.endswith("data: [DONE]\n\n")
    assert second.text.endswith("data: [DONE]\n\n")
    assert len(rig.events_on("infer.requests")) == 1


async def test_a_call_that_was_not_accepted_leaves_its_key_free(rig: Any, chat: Any) -> None:
    rig.log.fail_next("infer.requests", AppendFailed("down"))
    async with rig.client() as client:
        first = await client.post("/v1/chat/completions", json=chat, headers=KEY)
        second = await client.post("/v1/chat/completions", json=chat, headers=KEY)
    assert (first.status_code, second.status_code) == (503, 200)


async def test_a_call_that_was_shed_leaves_its_key_free(rig: Any, chat: Any) -> None:
    rig.configure(max_waiters=0)
    async with rig.client() as client:
        assert (
            await client.post("/v1/chat/completions", json=chat, headers=KEY)
        ).status_code == 503
        assert (
            await client.post("/v1/chat/completions", json=chat, headers=KEY)
        ).status_code == 503
    use = KeyUse(tenant="default", key="k-1", body_hash="h", at=rig.deps.clock.now())
    assert rig.deps.store.find_claim(use) is None


async def test_after_an_unknown_outcome_the_key_joins_what_may_have_been_written(
    rig: Any, chat: Any
) -> None:
    record: list[Any] = []

    class Unsure:
        """Writes the record, then says that it does not know."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def append(self, found: Any) -> Any:
            future = self.inner.append(found)
            if found.topic == "infer.requests" and not record:
                record.append(found)
                future = Future()
                future.set_exception(AppendFailed("timed out", is_unknown=True))
            return future

    rig.use(appender=Unsure(rig.deps.appender))
    async with rig.client() as client:
        first = await client.post("/v1/chat/completions", json=chat, headers=KEY)
        second = await client.post("/v1/chat/completions", json=chat, headers=KEY)
    assert first.status_code == 503
    assert second.status_code == 200
    assert len(rig.events_on("infer.requests")) == 1


@pytest.mark.parametrize("key", ["", "x" * 10_000, "k\u00e9y", "a b"])
async def test_a_key_that_is_none_is_refused(rig: Any, chat: Any, key: str) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"idempotency-key": key.encode("latin-1")}
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "idempotency-key"


@pytest.mark.parametrize("more", [{}, {"prefer": "respond-async"}, {"stream": "yes"}])
async def test_the_key_of_a_deleted_request_says_so_at_once(
    rig: Any, chat: Any, more: dict[str, str]
) -> None:
    async with rig.client() as client:
        body = chat | {"stream": "stream" in more}
        first = await client.post("/v1/chat/completions", json=body, headers=KEY)
        await client.delete(f"/v1/requests/{first.headers['x-pickspin-request-id']}")
        async with asyncio.timeout(5):
            again = await client.post("/v1/chat/completions", json=body, headers=KEY | more)
    assert again.status_code == 410
    assert again.json()["error"]["code"] == "request_gone"
    assert again.headers["x-should-retry"] == "false"
    assert len(rig.events_on("infer.requests")) == 1


async def test_a_call_that_waits_for_a_request_hears_that_it_was_deleted(
    rig: Any, chat: Any, eventually: Any
) -> None:
    held = rig.worker.hold()
    async with rig.client() as client:
        headers = KEY | {"prefer": "respond-async"}
        first = await client.post("/v1/chat/completions", json=chat, headers=headers)
        await eventually(lambda: held)
        waits = asyncio.ensure_future(client.post("/v1/chat/completions", json=chat, headers=KEY))
        await client.delete(first.headers["location"])
        async with asyncio.timeout(5):
            answer = await waits
    assert answer.status_code == 410


@pytest.mark.parametrize("more", [{}, {"prefer": "respond-async"}])
async def test_the_key_of_a_private_answer_that_was_fetched_says_so(
    rig: Any, chat: Any, ended: Any, more: dict[str, str]
) -> None:
    body = chat | {"store": False}
    async with rig.client() as client:
        headers = KEY | {"prefer": "respond-async"}
        first = await client.post("/v1/chat/completions", json=body, headers=headers)
        await ended(client, first.headers["location"])
        again = await client.post("/v1/chat/completions", json=body, headers=KEY | more)
    assert again.status_code == 410
    assert again.json()["error"]["code"] == "request_gone"


async def test_a_claim_without_a_request_is_taken_over(rig: Any, chat: Any, ended: Any) -> None:
    """As an ingress left it that was killed between its claim and its request."""
    raw = json.dumps(chat).encode()
    orphan = {"tenant": "default", "key": "k-1", "request_id": "req_never"}
    orphan["body_hash"] = ids.body_hash("chat", raw)
    with rig.deps.store._db.write() as connection:
        now = rig.deps.clock.now()
        connection.execute(insert(idempotency_keys).values(**orphan, claimed_at=now))
    async with rig.client() as client:
        headers = KEY | {"prefer": "respond-async", "content-type": "application/json"}
        answer = await client.post("/v1/chat/completions", content=raw, headers=headers)
        body = await ended(client, answer.headers["location"])
    assert answer.status_code == 202
    assert body["state"] == "completed"


async def test_joining_a_request_that_was_not_accepted_after_all_may_be_tried_again(
    rig: Any, chat: Any, eventually: Any
) -> None:
    first: Future[Any] = Future()

    class Slow:
        """The first append fails, when the test says so."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.has_one = False

        def append(self, found: Any) -> Any:
            if found.topic != "infer.requests" or self.has_one:
                return self.inner.append(found)
            self.has_one = True
            return first

    slow = Slow(rig.deps.appender)
    rig.use(appender=slow)
    async with rig.client() as client:
        headers = KEY | {"prefer": "respond-async"}
        ours = asyncio.ensure_future(
            client.post("/v1/chat/completions", json=chat, headers=headers)
        )
        await eventually(lambda: slow.has_one)
        joined = asyncio.ensure_future(client.post("/v1/chat/completions", json=chat, headers=KEY))
        await asyncio.sleep(0)
        first.set_exception(AppendFailed("down"))
        async with asyncio.timeout(5):
            answers = await asyncio.gather(ours, joined)
        third = await client.post("/v1/chat/completions", json=chat, headers=KEY)
    assert answers[0].status_code == 503
    assert answers[1].status_code in {200, 503}
    assert third.status_code == 200
    assert len(rig.events_on("infer.requests")) == 1
