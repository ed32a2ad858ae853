"""Any JSON value at any place of any documented body: an answer or a typed refusal, never a 500."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.anyio
KINDS: tuple[Any, ...] = (
    None, True, -1, 10**18, 1.5, "", "\x00", [], [[]], [{}], {}, {"type": "x"}, {"type": []}, {"type": {}},
)  # fmt: skip
"""Every kind of JSON value, and shapes that code takes for something else."""
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
SAMPLED = {
    "model": "smol", "stream": False, "max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "n": 1, "stop": ["x"],
    "seed": 1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "logit_bias": {"1": 1}, "user": "u", "store": True,
    "metadata": {"a": "b"}, "pickspin": {"max_cost": 1.0, "max_latency": 90.0, "min_quality": 0.1},
}  # fmt: skip
PNG = "data:image/png;base64,AAAA"
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESPONSES = {
    "model": "smol", "instructions": "be brief", "max_output_tokens": 5, "temperature": 0.5, "background": False,
    "metadata": {"a": "b"}, "tools": [{"type": "function", **FUNCTION}], "text": {"format": {"type": "text"}},
    "tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"}, "store": True, "stream": False,
    "parallel_tool_calls": True, "top_logprobs": 1, "truncation": "auto", "include": ["x"],
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": PNG}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "ho"}]},
        {"role": "user", "content": "and now?"},
    ],
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **SAMPLED, "stream_options": None, "logprobs": True, "top_logprobs": 1, "max_completion_tokens": 5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": True,
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "callback": None,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "name": "n", "content": [
                {"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": PNG, "filename": "f"}},
            ]},
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "1", "tool_call_id": "call_1"},
        ],
    },
    "/v1/completions": {
        **SAMPLED, "prompt": [[1, 2], [3]], "suffix": "s", "echo": False, "best_of": 1, "logprobs": 1,
    },
    "/v1/embeddings": {
        "model": "org/embed-1", "input": ["hi", "ho"], "encoding_format": "float", "dimensions": 8, "user": "u",
    },
    "/v1/responses": RESPONSES,
    "/v1/batches": {
        "endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h",
        "metadata": {"a": "b"},
    },
    "/v1/callbacks": {"url": "https://example.com/hook"},
    "/v1/requests/req_1/feedback": {"score": 0.5, "source": "judge", "judge": "j", "model": "smol", "comment": "c"},
}  # fmt: skip
EVENT = {
    "specversion": "1.0", "id": "e-1", "source": "/s", "type": "io.pickspin.inference.request.v1", "subject": "smol",
    "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "operation": "chat", "priority": "batch",
    "data": {"model": "smol", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
}  # fmt: skip


def variants(body: Any) -> Iterator[Any]:
    """The body with every kind of value at every place in turn, and without what is there."""
    yield from KINDS
    for path in places(body):
        for kind in KINDS:
            changed = copy.deepcopy(body)
            place_of(changed, path)[path[-1]] = kind
            yield changed
        lacking = copy.deepcopy(body)
        del place_of(lacking, path)[path[-1]]
        yield lacking


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def place_of(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        body = body[key]
    return body


async def statuses(client: Any, path: str, bodies: Iterator[Any], **headers: str) -> set[int]:
    """The statuses of all answers; each refusal has OpenAI's shape."""
    found: set[int] = set()
    todo = iter(bodies)

    async def post() -> None:
        for body in todo:
            answer = await client.post(path, json=body, headers=headers)
            if answer.status_code >= 400:
                assert "code" in answer.json()["error"], body
            assert answer.status_code != 500, body
            found.add(answer.status_code)

    await asyncio.gather(*(post() for _ in range(8)))
    return found


@pytest.mark.parametrize("path", BODIES)
async def test_no_json_value_breaks_a_door(rig: Any, path: str) -> None:
    rig.configure(tenant_queue=10**6)
    body = BODIES[path]
    async with rig.client() as client:
        assert 400 in await statuses(client, path, variants(body), prefer="respond-async")
        whole = await client.post(path, json=body, headers={"prefer": "respond-async"})
    expected = {"/v1/batches": 404, "/v1/callbacks": 201, "/v1/requests/req_1/feedback": 404}
    assert whole.status_code == expected.get(path, 202), whole.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_nor_one_that_waits_for_its_answer(rig: Any, path: str) -> None:
    async with rig.client() as client:
        found = await statuses(client, path, variants({"model": "smol", **only_text(path)}))
    assert {200, 400} <= found


def only_text(path: str) -> dict[str, Any]:
    if path == "/v1/responses":
        return {"input": RESPONSES["input"][:1], "text": RESPONSES["text"]}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}


async def test_no_json_value_breaks_the_door_of_events(rig: Any) -> None:
    rig.configure(tenant_queue=10**6)
    structured = {"content-type": "application/cloudevents+json"}
    async with rig.client() as client:
        found = await statuses(client, "/", variants(EVENT), **structured)
        binary = {f"ce-{name}": str(value) for name, value in EVENT.items() if name != "data"}
        binary["content-type"] = "application/json"
        found |= await statuses(client, "/", variants(EVENT["data"]), **binary)
    assert {202, 400} <= found
