"""The Responses API: a dialect of chat with its own objects."""

import json
from typing import Any

import pytest

from functions.ingress.responses_input import to_chat
from functions.runtime.errors import ApiError

pytestmark = pytest.mark.anyio


async def test_a_response_in_one_piece_has_its_text(rig: Any, ended: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/responses",
            json={
                "model": "smol",
                "input": "hi",
                "instructions": "be brief",
                "metadata": {"a": "b"},
            },
        )
        assert answer.status_code == 200
        body = answer.json()
        assert body["object"] == "response"
        assert body["status"] == "completed"
        assert body["output"][0]["content"][0]["text"] == "hello"
        assert body["usage"] == {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 4,
        }
        assert body["metadata"] == {"a": "b"}
        assert body["instructions"] == "be brief"
        kept = await ended(client, f"/v1/responses/{body['id']}", "status")
    assert kept == body
    sent = json.loads(rig.events_on("infer.requests")[0].data)
    assert sent["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


async def test_a_background_response_is_queued_then_completed(rig: Any, ended: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/responses", json={"model": "smol", "input": "hi", "background": True}
        )
        assert answer.status_code == 202
        body = answer.json()
        assert body["status"] == "queued"
        assert body["background"] is True
        assert answer.headers["location"] == f"/v1/responses/{body['id']}"
        done = await ended(client, f"/v1/responses/{body['id']}", "status")
        assert done["status"] == "completed"
        assert done["background"] is True
        assert (await client.get(f"/v1/requests/{body['id']}")).json()["state"] == "completed"
    assert rig.events_on("infer.requests")[0].get("replytopic") is None


async def test_a_response_with_a_callback_shows_its_secret_as_a_chat_does(rig: Any) -> None:
    async with rig.client() as client:
        call = {"input": "hi", "background": True, "callback": "https://hooks.example.org/x"}
        answer = await client.post("/v1/responses", json=call)
        chat = {"messages": [{"role": "user", "content": "hi"}], "callback": call["callback"]}
        other = await client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == other.status_code == 202
    assert answer.json()["callback"]["secret"].startswith("whsec_")
    assert answer.json()["callback"] == other.json()["callback"]


async def test_a_background_response_can_be_cancelled_and_deleted(rig: Any) -> None:
    rig.worker.script = lambda worker, request: ()
    async with rig.client() as client:
        body = (await client.post("/v1/responses", json={"input": "hi", "background": True})).json()
        answer = await client.post(f"/v1/responses/{body['id']}/cancel")
        assert answer.json()["status"] == "cancelled"
        assert (await client.delete(f"/v1/responses/{body['id']}")).json()["deleted"] is True
        assert (await client.get(f"/v1/responses/{body['id']}")).status_code == 404


async def test_a_failed_response_is_an_error_in_one_piece_and_an_object_in_the_background(
    rig: Any, ended: Any
) -> None:
    rig.worker.script = lambda worker, request: worker.failed(request, "backend_failed")
    async with rig.client() as client:
        answer = await client.post("/v1/responses", json={"input": "hi"})
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "backend_failed"
        body = (await client.post("/v1/responses", json={"input": "hi", "background": True})).json()
        done = await ended(client, f"/v1/responses/{body['id']}", "status")
    assert done["status"] == "failed"
    assert done["error"] == {"code": "server_error", "message": "it went wrong"}
    assert done["pickspin"]["error_code"] == "backend_failed"
    assert done["output"] == []


async def test_the_same_key_is_the_same_response(rig: Any) -> None:
    async with rig.client() as client:
        for background in (False, True):
            call = {"input": "hi", "background": background}
            headers = {"idempotency-key": f"r-{background}"}
            first = await client.post("/v1/responses", json=call, headers=headers)
            second = await client.post("/v1/responses", json=call, headers=headers)
            assert second.json()["id"] == first.json()["id"]
    assert len(rig.events_on("infer.requests")) == 2


@pytest.mark.parametrize(
    "field",
    ["stream", "previous_response_id", "conversation", "prompt", "something_new"],
)
async def test_what_has_no_counterpart_is_refused_by_name(rig: Any, field: str) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/responses", json={"input": "hi", field: True})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": 5},
        {"input": "x", "background": "yes"},
        {"input": [{"type": "message"}]},
        {"input": "x", "temperature": 99},
        {"input": "x", "tools": {}},
        {"input": [5]},
    ],
)
async def test_a_bad_body_is_400(rig: Any, body: Any) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/responses", json=body)
    assert answer.status_code == 400, answer.text
    assert rig.events_on("infer.requests") == []


async def test_messages_tools_and_formats_are_translated() -> None:
    chat = to_chat(
        {
            "model": "smol",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "42"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
            "max_output_tokens": 5,
        }
    ).chat
    assert chat == {
        "model": "smol",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
        "max_tokens": 5,
    }


async def test_tools_that_run_elsewhere_are_refused() -> None:
    with pytest.raises(ApiError) as refused:
        to_chat({"input": "x", "tools": [{"type": "web_search"}]})
    assert refused.value.code == "unsupported_parameter"
