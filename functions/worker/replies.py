"""Replies of model servers, treated as hostile input: sloppiness is forgiven, what readers rely on is checked.

Pure. What comes out is a safe OpenAI object with our own id and the catalogue's model id.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from events.types import Operation
from functions.worker.failures import BadReply, of_error_object

FINISH_REASONS: Final = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "function_call"}
)
MAX_TOKENS_SAID: Final = 10_000_000
"""More tokens than any call can use: a larger figure is not believed."""
_USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the client was promised: the operation, how many choices, and the names its objects carry."""

    operation: Operation
    reply_id: str
    model: str
    created: int
    choices: int = 1
    inputs: int = 1

    @property
    def is_chat(self) -> bool:
        return self.operation is Operation.CHAT

    def envelope(self, *, is_chunk: bool = False) -> dict[str, Any]:
        """The fields every object and chunk of this reply begins with."""
        kind = "text_completion"
        if self.is_chat:
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {"id": self.reply_id, "object": kind, "created": self.created, "model": self.model}


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. NaN and infinities become None, lone surrogates U+FFFD.

    Raises:
        BadReply: anything but one JSON object.
    """
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = _parse_sloppy(raw)
    if not isinstance(found, dict):
        raise BadReply("not_an_object")
    return found


def _parse_sloppy(raw: bytes) -> Any:
    try:
        found = json.loads(raw.decode("utf-8"), parse_constant=lambda _: None)
        return _clean(found, _MAX_DEPTH)
    except (ValueError, RecursionError):
        raise BadReply("not_json") from None


def _clean(value: Any, depth: int) -> Any:
    if depth == 0:
        raise BadReply("too_deep")
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_clean(key, depth - 1): _clean(item, depth - 1) for key, item in value.items()}
    return value


def check_reply(found: Mapping[str, Any], shape: Shape) -> tuple[dict[str, Any], bool]:
    """The safe object of a reply that was not streamed, and whether its usage had to be estimated.

    Raises:
        BadReply: not the object that was asked for.
        ApiError: the server said (with status 200) that the request is at fault.
    """
    if "error" in found and found["error"] is not None:
        raise of_error_object(found["error"])
    if shape.operation is Operation.EMBEDDINGS:
        return _check_embeddings(found, shape)
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != shape.choices:
        raise BadReply("choices")
    checked = sorted((_check_choice(choice, shape) for choice in choices), key=_index)
    if [choice["index"] for choice in checked] != list(range(shape.choices)):
        raise BadReply("indexes")
    usage = check_usage(found.get("usage"))
    is_estimated = usage is None
    if usage is None:
        usage = estimated_usage(sum(_text_size(choice) for choice in checked) // 4)
    return shape.envelope() | {"choices": checked, "usage": usage}, is_estimated


def check_usage(found: Any) -> dict[str, Any] | None:
    """A believable usage object, or None: what is billed is never a string, negative or astronomical."""
    if not isinstance(found, dict):
        return None
    counts = {name: found.get(name, 0) for name in _USAGE}
    if not all(type(n) is int and 0 <= n <= MAX_TOKENS_SAID for n in counts.values()):
        return None
    counts["total_tokens"] = counts["prompt_tokens"] + counts["completion_tokens"]
    details = {k: v for k, v in found.items() if k.endswith("_details") and isinstance(v, dict)}
    return counts | details


def estimated_usage(completion_tokens: int) -> dict[str, Any]:
    """Usage where the server said none that can be believed; the prompt's part stays unknown (0)."""
    return {
        "prompt_tokens": 0,
        "completion_tokens": completion_tokens,
        "total_tokens": completion_tokens,
    }


def finish_of(found: Any) -> str:
    """A known finish reason; anything else reads `stop`."""
    return found if isinstance(found, str) and found in FINISH_REASONS else "stop"


def _check_choice(choice: Any, shape: Shape) -> dict[str, Any]:
    if not isinstance(choice, dict) or type(choice.get("index")) is not int:
        raise BadReply("choice")
    found: dict[str, Any] = {"index": choice["index"]}
    if shape.is_chat:
        found["message"] = _check_message(choice.get("message"))
    elif isinstance(choice.get("text"), str):
        found["text"] = choice["text"]
    else:
        raise BadReply("text")
    found["logprobs"] = check_logprobs(choice.get("logprobs"), shape)
    found["finish_reason"] = finish_of(choice.get("finish_reason"))
    return found


def check_logprobs(found: Any, shape: Shape) -> dict[str, Any] | None:
    """Logprobs in the form of the operation: llama.cpp gives completions the form of chat, which is translated."""
    if not isinstance(found, dict):
        return None
    entries = found.get("content")
    if shape.is_chat or not isinstance(entries, list):
        return found
    known = [entry for entry in entries if isinstance(entry, dict)]
    return {
        "tokens": [entry.get("token") for entry in known],
        "token_logprobs": [entry.get("logprob") for entry in known],
        "top_logprobs": [_top(entry.get("top_logprobs")) for entry in known],
        "text_offset": [],
    }


def _top(found: Any) -> dict[str, Any]:
    entries = found if isinstance(found, list) else []
    return {str(e.get("token")): e.get("logprob") for e in entries if isinstance(e, dict)}


def _check_message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadReply("message")
    found: dict[str, Any] = {"role": "assistant", "content": message.get("content")}
    if not isinstance(found["content"], str | None):
        raise BadReply("content")
    for name in ("reasoning_content", "reasoning", "refusal"):
        if isinstance(message.get(name), str):
            found[name] = message[name]
    calls = message.get("tool_calls")
    if calls:
        found["tool_calls"] = check_tool_calls(calls)
    elif found["content"] is None:
        found["content"] = ""
    if isinstance(message.get("function_call"), dict):
        found["function_call"] = message["function_call"]
    return found


def check_tool_calls(calls: Any) -> list[dict[str, Any]]:
    """Tool calls with names and arguments that are text; arguments stay text, JSON or not: the model's words."""
    if not isinstance(calls, list):
        raise BadReply("tool_calls")
    found: list[dict[str, Any]] = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadReply("tool_calls")
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments if arguments is not None else {})
        found.append(
            {
                "id": str(call.get("id") or f"call_{len(found)}"),
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments},
            }
        )
    return found


def _check_embeddings(found: Mapping[str, Any], shape: Shape) -> tuple[dict[str, Any], bool]:
    data = found.get("data")
    if not isinstance(data, list) or len(data) != shape.inputs:
        raise BadReply("embeddings")
    checked = sorted((_check_embedding(item) for item in data), key=_index)
    if [item["index"] for item in checked] != list(range(shape.inputs)):
        raise BadReply("indexes")
    usage = check_usage(found.get("usage"))
    said = usage or estimated_usage(0)
    tokens = {"prompt_tokens": said["prompt_tokens"], "total_tokens": said["prompt_tokens"]}
    reply = {"object": "list", "data": checked, "model": shape.model, "usage": tokens}
    return reply, usage is None


def _check_embedding(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict) or type(item.get("index")) is not int:
        raise BadReply("embedding")
    vector = item.get("embedding")
    is_numbers = (
        isinstance(vector, list)
        and bool(vector)
        and all(type(value) in {float, int} for value in vector)
    )
    if not is_numbers and not (isinstance(vector, str) and vector):
        raise BadReply("embedding")
    return {"object": "embedding", "index": item["index"], "embedding": vector}


def _index(entry: Mapping[str, Any]) -> int:
    index: int = entry["index"]
    return index


def _text_size(choice: Mapping[str, Any]) -> int:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return len(text) if isinstance(text, str) else 0
