"""A call in one piece, from HTTP to the log and back."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from events import names
from events.timestamps import from_rfc3339
from functions.runtime.errors import AppendFailed

pytestmark = pytest.mark.anyio


async def test_a_chat_is_answered_with_what_the_worker_wrote(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"]["content"] == "hello"
    assert body["pickspin"]["state"] == "completed"
    assert answer.headers["x-pickspin-request-id"] == rig.worker.seen[0].id
    assert answer.headers["x-pickspin-model"] == "smol"
    assert answer.headers["x-pickspin-service"] == "smol"
    assert answer.headers["x-pickspin-reason"] == "explicit"
    assert answer.headers["x-pickspin-class"] == "low"
    assert answer.headers["x-pickspin-stage"] == "keyword"
    assert answer.headers["x-pickspin-score"] == "0.7"
    assert answer.headers["x-pickspin-queue-ms"] == "1.5"
    assert answer.headers["x-pickspin-load-ms"] == "0"
    assert answer.headers["x-pickspin-cost"] == "0.0001"


async def test_the_request_event_says_what_the_wire_page_says(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post(
            "/v1/chat/completions",
            json=chat,
            headers={
                "x-pickspin-session": "s1",
                "x-pickspin-profile": "cost",
                "x-pickspin-priority": "batch",
            },
        )
    event = rig.worker.seen[0]
    assert event.type == names.REQUEST
    assert event.subject == "smol"
    assert event.source == "/ingress/test-0"
    assert event.get("operation") == "chat"
    assert event.get("replytopic") == "infer.replies"
    assert event.get("replypartition") == "0"
    assert event.get("replyepoch") == "epoch-1"
    assert event.get("tenant") == "default"
    assert event.get("partitionkey") == "s1"
    assert event.get("profile") == "cost"
    assert event.get("priority") == "batch"
    wait = from_rfc3339(event.get("expirytime")) - from_rfc3339(event.time)
    assert wait == timedelta(seconds=115)
    assert abs(from_rfc3339(event.time) - datetime.now(UTC)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "smol", "prompt": "once"}),
        ("/v1/embeddings", {"model": "org/embed-1", "input": "text"}),
    ],
)
async def test_the_other_operations_have_their_own_shape(rig: Any, path: str, body: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200
    assert rig.worker.seen[0].get("operation") == path.removeprefix("/v1/")


async def test_fields_that_only_the_model_understands_pass_unchanged(rig: Any, chat: Any) -> None:
    raw = (
        b'{"model":"smol", "messages":[{"role":"user","content":"hi"}],"n":2,"stop":["x"],'
        b'"logprobs":true,"response_format":{"type":"json_object"},"some_new_field":[1]}'
    )
    async with rig.client() as client:
        await client.post(
            "/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
        )
    assert rig.worker.seen[0].data == raw


@pytest.mark.parametrize("model", ["auto", "gpt-4o", "summarize", None])
async def test_alias_task_and_auto_are_models_too(rig: Any, chat: Any, model: str | None) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat | {"model": model})
    assert answer.status_code == 200
    assert rig.worker.seen[0].subject == (model or "auto")


async def test_a_task_has_its_own_time_and_lane(rig: Any, chat: Any) -> None:
    """Known to everyone who waits, and to the reaper, from the start."""
    async with rig.client() as client:
        for headers in ({}, {"x-pickspin-priority": "interactive"}):
            await client.post(
                "/v1/chat/completions", json={**chat, "model": "nightly"}, headers=headers
            )
    event, urgent = rig.worker.seen
    assert event.get("priority") == "batch"
    assert urgent.get("priority") == "interactive"
    wait = from_rfc3339(event.get("expirytime")) - from_rfc3339(event.time)
    assert wait == timedelta(seconds=60)


async def test_a_request_says_whether_another_model_may_answer(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        for said in ("none", "allow", "perhaps"):
            headers = {"x-pickspin-fallback": said}
            answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
        await client.post("/v1/chat/completions", json=chat)
    assert [event.get("fallback") for event in rig.worker.seen] == ["none", "allow", None]
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-pickspin-fallback"


async def test_a_failed_reply_is_the_answer_with_its_own_status(rig: Any, chat: Any) -> None:
    rig.worker.script = lambda worker, request: worker.failed(request, "context_length_exceeded")
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["request_id"] == rig.worker.seen[0].id


async def test_the_deadline_answers_504_that_is_not_retried_and_cancels_the_work(
    rig: Any, chat: Any
) -> None:
    rig.worker.script = lambda worker, request: ()
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"x-pickspin-deadline-s": "0.1"}
        )
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.headers["x-should-retry"] == "false"
    cancel = rig.events_on("infer.control")[0]
    assert cancel.type == names.CANCEL
    assert cancel.subject == rig.worker.seen[0].id
    assert b"deadline" in cancel.data


async def test_an_answer_that_comes_at_the_deadline_is_what_the_caller_gets(
    rig: Any, chat: Any
) -> None:
    rig.worker.script = lambda worker, request: ()
    rig.worker.on_cancel = lambda worker, request: worker.completed(request, "just in time")
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"x-pickspin-deadline-s": "0.1"}
        )
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == "just in time"
        row = (await client.get(f"/v1/requests/{rig.worker.seen[0].id}")).json()
    assert row["state"] == "completed"


async def test_an_expiry_on_the_log_is_what_the_caller_gets(rig: Any, chat: Any) -> None:
    rig.worker.script = lambda worker, request: ()
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"x-pickspin-deadline-s": "0.1"}
        )
        row = (await client.get(f"/v1/requests/{rig.worker.seen[0].id}")).json()
    assert (answer.status_code, row["state"]) == (504, "expired")
    # Word for word, because it is the same.
    assert answer.json()["error"]["message"] == row["error"]["message"]


async def test_where_nothing_is_said_at_the_deadline_the_caller_waits_only_a_moment(
    rig: Any, chat: Any
) -> None:
    rig.configure(deadline_grace_s=0.05)
    rig.worker.script = rig.worker.on_cancel = lambda worker, request: ()
    async with rig.client() as client, asyncio.timeout(5):
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"x-pickspin-deadline-s": "0.1"}
        )
    assert answer.json()["error"]["code"] == "deadline_exceeded"


async def test_the_clients_own_read_timeout_bounds_the_deadline(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post(
            "/v1/chat/completions", json=chat, headers={"x-stainless-read-timeout": "10"}
        )
    event = rig.worker.seen[0]
    wait = from_rfc3339(event.get("expirytime")) - from_rfc3339(event.time)
    assert timedelta(seconds=9) <= wait < timedelta(seconds=10)


async def test_a_refused_append_is_503_and_may_be_retried(rig: Any, chat: Any) -> None:
    rig.log.fail_next("infer.requests", AppendFailed("broker down"))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "not_accepted"
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert len(rig.deps.waiters) == 0


async def test_replies_of_another_life_or_for_nobody_reach_nobody(rig: Any, chat: Any) -> None:
    def answer_twice_and_late(worker: Any, request: Any) -> Any:
        other = worker.completed(request, "from another life")[1]
        changed = dict(other.event.extensions) | {"replyepoch": "epoch-0"}
        foreign = replace(other, event=replace(other.event, extensions=changed))
        return [foreign, *worker.completed(request, "first"), *worker.completed(request, "second")]

    rig.worker.script = answer_twice_and_late
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.json()["choices"][0]["message"]["content"] == "first"
    assert "other_epoch" in rig.dropped


async def test_a_large_body_travels_by_reference(rig: Any, chat: Any) -> None:
    chat["messages"][0]["content"] = "x" * 300_000

    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 200
    event = rig.events_on("infer.requests")[0]
    assert event.data is None
    assert rig.deps.blobs.get(event.get("dataref"), limit_bytes=400_000).startswith(b"{")


async def test_more_waiters_than_allowed_are_shed(rig: Any, chat: Any) -> None:
    rig.configure(max_waiters=0)
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "overloaded"
    assert rig.events_on("infer.requests") == []


async def test_a_tenant_has_its_own_queue_limit(rig: Any, chat: Any) -> None:
    rig.configure(tenant_queue=0)
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "tenant_queue"
