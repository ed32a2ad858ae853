"""What each kind of model server sends, as its sources and documentation have it, and what becomes of it.

The shapes are in `shapes/`, one file for each server; docs/reference/servers.md shows them as tables. Each goes through
the real caller over HTTP, and whatever comes out is checked with the types of the official client.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from events.names import Operation
from functions.runtime.errors import ApiError
from functions.worker.backend_client import BackendAnswer, BackendClient, CallLimits
from functions.worker.backend_errors import CallFailed, NotNow
from functions.worker.backend_health import BackendHealth
from functions.worker.backend_request import BackendRequest
from functions.worker.backend_response import Shape
from functions.worker.circuit_breaker import BreakerRule

PAGES = [
    json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "shapes").iterdir())
]
SHAPES = {
    f"{page['server']}: {shape['sends']}": shape for page in PAGES for shape in page["shapes"]
}
BEYOND_OPENAI = {"reasoning", "reasoning_content"}
"""Fields of ours that the official client's types do not name."""
Chunks = list[dict[str, Any]]


def as_sent(event: Any) -> bytes:
    """One event of a recorded stream: an object, `[DONE]`, or lines as they are."""
    if event == "[DONE]":
        return b"data: [DONE]\n\n"
    line = event if isinstance(event, str) else f"data: {json.dumps(event)}"
    return f"{line}\n\n".encode()


def served(shape: dict[str, Any]) -> httpx.Response:
    status = shape.get("status", 200)
    if "events" in shape:
        raw = b"".join(as_sent(event) for event in shape["events"])
        return httpx.Response(
            status, headers={"content-type": "text/event-stream"}, stream=httpx.ByteStream(raw)
        )
    text = shape["text"] if "text" in shape else json.dumps(shape["body"])
    kind = {"content-type": "text/html" if "text" in shape else "application/json"}
    return httpx.Response(status, headers=kind, stream=httpx.ByteStream(text.encode()))


def is_stream(shape: dict[str, Any]) -> bool:
    """Whether a stream was asked for: where it is not said, that is what came."""
    return bool(shape.get("asks", "stream" if "events" in shape else "whole") == "stream")


def asked(shape: dict[str, Any]) -> BackendRequest:
    operation = Operation(shape.get("operation", "chat"))
    return BackendRequest(
        request_id="req_1",
        operation=operation,
        body={},
        shape=Shape(
            operation=operation,
            reply_id="chatcmpl-1",
            model="ours",
            created=7,
            inputs=shape.get("inputs", 1),
        ),
        is_stream=is_stream(shape),
        has_usage=True,
        is_base64=False,
        max_tokens=None,
    )


async def call(shape: dict[str, Any]) -> tuple[BackendAnswer, Chunks]:
    chunks: Chunks = []

    async def on_chunk(chunk: dict[str, Any], _is_first: bool) -> None:
        chunks.append(chunk)

    transport = httpx.MockTransport(lambda _: served(shape))
    rule = BreakerRule(window_s=1.0, least=1, share=0.5, open_s=1.0, most_open_s=1.0)
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
        limits = CallLimits(max_reply_bytes=100_000, idle_s=5.0, timeout_s=5.0)
        caller = BackendClient(http, limits, BackendHealth(rule, lambda _state, _left: None))
        return await caller.call(asked(shape), on_chunk), chunks


def told(shape: dict[str, Any]) -> dict[str, Any]:
    """What the caller is given, in the words of the recorded shapes."""
    try:
        generated, _ = asyncio.run(call(shape))
    except NotNow:
        return {"later": True}
    except ApiError as error:
        return {"error": error.code}
    except CallFailed as error:
        return {"error": error.final().code}
    return dict(summary(generated))


def summary(generated: BackendAnswer) -> Iterator[tuple[str, Any]]:
    reply = generated.reply
    if "data" in reply:
        yield "vectors", [item["embedding"] for item in reply["data"]]
    else:
        yield from summary_of_choice(reply["choices"][0])
    usage = reply["usage"]
    if not generated.is_usage_estimated:
        yield "usage", [usage["prompt_tokens"], usage.get("completion_tokens", 0)]
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens")
    if cached:
        yield "cached", cached
    thought = usage.get("completion_tokens_details", {}).get("reasoning_tokens")
    if thought:
        yield "thought", thought
    for ours, name in (("fingerprint", "system_fingerprint"), ("tier", "service_tier")):
        if name in reply:
            yield ours, reply[name]


def summary_of_choice(choice: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    message = choice.get("message", {"content": choice.get("text")})
    for name in ("content", "reasoning", "reasoning_content", "refusal"):
        if message.get(name) is not None:
            yield name, message[name]
    if "tool_calls" in message:
        functions = [tool["function"] for tool in message["tool_calls"]]
        yield "tools", [[function["name"], function["arguments"]] for function in functions]
    if "function_call" in message:
        yield "function", [message["function_call"]["name"], message["function_call"]["arguments"]]
    yield "finish", choice["finish_reason"]
    logprobs = choice["logprobs"]
    if logprobs:
        yield "logprobs", len(logprobs.get("content") or logprobs["tokens"])


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_server_sends_becomes_what_is_promised(name: str) -> None:
    assert told(SHAPES[name]) == SHAPES[name]["gives"]


ANSWERS = [name for name, shape in SHAPES.items() if not shape["gives"].keys() & {"error", "later"}]
STREAMS = [name for name in ANSWERS if is_stream(SHAPES[name]) and "operation" not in SHAPES[name]]


def check_type(kind: type[BaseModel], found: dict[str, Any]) -> None:
    """Strictly: no value is converted, no field is missing, and none is there that the type does not name."""
    model = kind.model_validate(found, strict=True)
    assert unknown_fields(model) <= BEYOND_OPENAI


def unknown_fields(found: Any) -> set[str]:
    if isinstance(found, list):
        return {name for item in found for name in unknown_fields(item)}
    if not isinstance(found, BaseModel):
        return set()
    inner = {name for value in dict(found).values() for name in unknown_fields(value)}
    return set(found.model_extra or ()) | inner


@pytest.mark.parametrize("name", ANSWERS)
def test_the_official_clients_types_take_every_answer(name: str) -> None:
    shape = SHAPES[name]
    generated, chunks = asyncio.run(call(shape))
    whole, part = {
        "chat": (ChatCompletion, ChatCompletionChunk),
        "completions": (Completion, Completion),
        "embeddings": (CreateEmbeddingResponse, CreateEmbeddingResponse),
    }[shape.get("operation", "chat")]
    check_type(whole, generated.reply)
    for chunk in chunks:
        check_type(part, ended(chunk) if part is Completion else chunk)


def ended(chunk: dict[str, Any]) -> dict[str, Any]:
    """The client's own type has no choice of a completion that goes on, though the streams that it reads have."""
    choices = chunk["choices"]
    return chunk | {
        "choices": [
            choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in choices
        ]
    }


@pytest.mark.parametrize(
    "name",
    # The client's helper raises where an answer is not whole.
    [one for one in STREAMS if SHAPES[one]["gives"]["finish"] not in {"length", "content_filter"}],
)
def test_the_official_client_joins_a_stream_to_what_is_stored(name: str) -> None:
    generated, chunks = asyncio.run(call(SHAPES[name]))
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk, strict=True))
    joined = state.get_final_completion().to_dict()
    stored = generated.reply["choices"][0]
    seen = joined["choices"][0]
    assert seen["finish_reason"] == stored["finish_reason"]
    assert joined["usage"] == generated.reply["usage"]
    for field, value in stored["message"].items():
        if field == "tool_calls":
            assert [tool["id"] for tool in seen["message"][field]] == [t["id"] for t in value]
            functions = [tool["function"] for tool in seen["message"][field]]
            assert [(f["name"], f["arguments"]) for f in functions] == [
                (tool["function"]["name"], tool["function"]["arguments"]) for tool in value
            ]
        else:
            assert (seen["message"].get(field) or None) == (value or None)


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_says_its_role_once_and_its_usage_last(name: str) -> None:
    _, chunks = asyncio.run(call(SHAPES[name]))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["delta"].get("role") for choice in choices].count("assistant") == 1
    assert choices[0]["delta"]["role"] == "assistant"
    assert [bool(chunk["usage"]) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["choices"] == []
