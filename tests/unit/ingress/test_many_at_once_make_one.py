"""Twenty calls in one moment with one key, or one URL: one thing is made, and all of them are told of it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio
AT_ONCE = 20
KEY = {"idempotency-key": "once"}
URL = "https://hooks.example.org/answers"


@pytest.fixture
def busy(rig: Any) -> Any:
    """The ingress with as many threads for its store as calls come at once."""
    pool = ThreadPoolExecutor(AT_ONCE)
    rig.use(executor=pool)
    yield rig
    pool.shutdown()


async def at_once(call: Any, count: int = AT_ONCE) -> list[Any]:
    return await asyncio.gather(*(call() for _ in range(count)))


async def test_one_key_registers_one_callback_with_one_secret(busy: Any) -> None:
    async with busy.client() as client:
        answers = await at_once(
            lambda: client.post("/v1/callbacks", json={"url": URL}, headers=KEY)
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({(answer.json()["id"], answer.json()["secret"]) for answer in answers}) == 1


async def test_a_url_that_is_first_named_by_many_has_one_secret(busy: Any, chat: Any) -> None:
    async with busy.client() as client:
        answers = await at_once(
            lambda: client.post(
                "/v1/chat/completions", json=chat, headers={"x-pickspin-callback": URL}
            )
        )
    assert {answer.status_code for answer in answers} == {202}
    secrets = {answer.json()["callback"]["secret"] for answer in answers}
    assert secrets == {busy.deps.store.target(answers[0].json()["callback"]["id"]).secret}


async def test_one_key_makes_one_batch(busy: Any) -> None:
    async with busy.client() as client:
        file = await client.post(
            "/v1/files", files={"file": ("in.jsonl", b"{}")}, data={"purpose": "batch"}
        )
        body = {"endpoint": "/v1/embeddings", "input_file_id": file.json()["id"]}
        answers = await at_once(lambda: client.post("/v1/batches", json=body, headers=KEY))
        listed = (await client.get("/v1/batches")).json()["data"]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["id"] for answer in answers} == {listed[0]["id"]}
    assert len(listed) == 1


async def test_one_key_keeps_one_file(busy: Any) -> None:
    async with busy.client() as client:
        answers = await at_once(
            lambda: client.post(
                "/v1/files",
                files={"file": ("in.jsonl", b"{}")},
                data={"purpose": "batch"},
                headers=KEY,
            )
        )
        listed = (await client.get("/v1/files")).json()["data"]
    assert {answer.json()["id"] for answer in answers} == {listed[0]["id"]}
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"prefer": "respond-async"}),
        ("/v1/responses", {}),
        ("/v1/responses", {"prefer": "respond-async"}),
    ],
)
async def test_one_key_asks_a_model_once(
    busy: Any, chat: Any, path: str, more: dict[str, str]
) -> None:
    body = chat if path.endswith("completions") else {"model": "smol", "input": "hi"}
    async with busy.client() as client:
        answers = await at_once(lambda: client.post(path, json=body, headers=KEY | more))
    assert {answer.status_code for answer in answers} == {202 if more else 200}
    assert len({answer.headers["x-pickspin-request-id"] for answer in answers}) == 1
    assert len(busy.events_on("infer.requests")) == 1


async def test_a_tenant_gets_no_more_into_its_queue_than_it_may(busy: Any, chat: Any) -> None:
    """The tenant `narrow` may have two unfinished requests."""
    busy.use(keys=ApiKeys.parse("narrow=k"))
    busy.worker.script = lambda worker, request: ()
    headers = {"authorization": "Bearer k", "prefer": "respond-async"}
    async with busy.client(**headers) as client:
        answers = await at_once(lambda: client.post("/v1/chat/completions", json=chat), 40)
    codes = [answer.status_code for answer in answers]
    assert (codes.count(202), codes.count(429)) == (2, 38)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "tenant_queue"
    assert 1 <= int(refused.headers["retry-after"]) <= 120


async def test_a_tenant_has_no_more_open_batches_than_it_may_queue(busy: Any) -> None:
    busy.deps = replace(busy.deps, keys=ApiKeys.parse("narrow=k"))
    async with busy.client(authorization="Bearer k") as client:
        file = await client.post(
            "/v1/files", files={"file": ("in.jsonl", b"{}")}, data={"purpose": "batch"}
        )
        body = {"endpoint": "/v1/embeddings", "input_file_id": file.json()["id"]}
        answers = await at_once(lambda: client.post("/v1/batches", json=body), 20)
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(429)) == (2, 18)
