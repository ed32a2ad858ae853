"""Reads replies of model servers as hostile input: lenient in form, strict in what readers rely on.

Pure. The result is a safe OpenAI object with our own id and the catalogue's model id.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from events.names import Operation
from functions.backends.server_refusals import find_error
from functions.worker.backend_errors import BadReply, read_error_object
from functions.worker.response_fields import (
    estimated_usage,
    read_citations,
    read_extras,
    read_finish,
    read_logprobs,
    read_texts,
    read_usage,
)
from functions.worker.tool_calls import MAX_CALLS, ToolCalls

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
    most_calls: int = MAX_CALLS
    """Tool calls of one choice."""

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
        reply = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        reply = _parse_sloppy(raw)
    if not isinstance(reply, dict):
        raise BadReply("not_an_object")
    return reply


def _parse_sloppy(raw: bytes) -> Any:
    try:
        reply = json.loads(raw.decode("utf-8"), parse_constant=lambda _: None)
        return _clean(reply, _MAX_DEPTH)
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


def parse_frame(raw: bytes) -> dict[str, Any] | None:
    """The JSON object of one event of a stream. None: an empty event, or `null`.

    Raises:
        BadReply: anything else.
    """
    return None if raw.strip() in {b"", b"null"} else parse(raw)


def as_chunk(frame: Mapping[str, Any]) -> dict[str, Any]:
    """A whole reply as the one chunk of a stream."""
    entries = frame.get("choices")
    if not isinstance(entries, list):
        return dict(frame)
    choices = [
        entry | {"delta": entry["message"]}
        if isinstance(entry, dict) and "message" in entry
        else entry
        for entry in entries
    ]
    return {**frame, "choices": choices}


def check_reply(raw_reply: Mapping[str, Any], shape: Shape) -> tuple[dict[str, Any], bool]:
    """The safe object of a reply that was not streamed, and whether its usage had to be estimated.

    Raises:
        BadReply: not the object that was asked for.
        CallFailed: the server gave up in the middle of the answer.
        NotNow: the server takes no call at the moment.
        ApiError: the server said (with status 200) that the request is at fault.
    """
    error = find_error(raw_reply)
    if error is not None:
        raise read_error_object(error)
    if shape.operation is Operation.EMBEDDINGS:
        return _check_embeddings(raw_reply, shape)
    choices = [
        _check_choice(choice, index, shape)
        for index, choice in _order_by_index(raw_reply.get("choices"), shape.choices, "choices")
    ]
    usage = read_usage(raw_reply)
    is_estimated = usage is None
    if usage is None:
        usage = estimated_usage(sum(_text_size(choice) for choice in choices) // 4)
    reply = shape.envelope() | read_extras(raw_reply) | {"choices": choices, "usage": usage}
    return reply, is_estimated


def _order_by_index(entries: Any, count: int, what: str) -> list[tuple[int, dict[str, Any]]]:
    """The `count` entries of a list in the order of their indexes; where none has one, in the order they came."""
    if not isinstance(entries, list) or len(entries) != count:
        raise BadReply(what)
    if not all(isinstance(entry, dict) for entry in entries):
        raise BadReply(what)
    indexes = [entry.get("index") for entry in entries]
    if all(index is None for index in indexes):
        indexes = list(range(count))
    if not all(type(index) is int for index in indexes) or sorted(indexes) != list(range(count)):
        raise BadReply("indexes")
    return sorted(zip(indexes, entries, strict=True), key=lambda pair: pair[0])


def _check_choice(choice: dict[str, Any], index: int, shape: Shape) -> dict[str, Any]:
    if choice.get("error"):
        raise read_error_object(choice["error"])
    checked: dict[str, Any] = {"index": index}
    has_calls = False
    if shape.is_chat:
        checked["message"] = _check_message(choice.get("message"), index, shape)
        has_calls = "tool_calls" in checked["message"]
    elif isinstance(choice.get("text"), str):
        checked["text"] = choice["text"]
    else:
        raise BadReply("text")
    checked["logprobs"] = read_logprobs(choice.get("logprobs"), is_chat=shape.is_chat)
    said = choice.get("finish_reason")
    checked["finish_reason"] = read_finish(said or "stop", has_calls=has_calls)
    return checked


def _check_message(message: Any, index: int, shape: Shape) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadReply("message")
    texts = read_texts(message)
    checked: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, **texts}
    if message.get("tool_calls"):
        calls = ToolCalls(shape.reply_id, index, shape.most_calls)
        calls.add_whole(message["tool_calls"])
        checked["tool_calls"] = calls.whole()
    if citations := read_citations(message):
        checked["annotations"] = citations
    if isinstance(message.get("function_call"), dict):
        checked["function_call"] = read_function_call(message["function_call"])
    is_said = checked["refusal"] or checked.keys() & {"tool_calls", "function_call"}
    if checked["content"] is None and not is_said:
        checked["content"] = ""
    return checked


def read_function_call(call: Mapping[str, Any]) -> dict[str, str]:
    """The older form of a tool call: name and arguments, both text."""
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return {"name": name if isinstance(name, str) else "", "arguments": arguments}


def _check_embeddings(raw_reply: Mapping[str, Any], shape: Shape) -> tuple[dict[str, Any], bool]:
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(item)}
        for index, item in _order_by_index(raw_reply.get("data"), shape.inputs, "embeddings")
    ]
    usage = read_usage(raw_reply)
    said = usage or estimated_usage(0)
    tokens = {"prompt_tokens": said["prompt_tokens"], "total_tokens": said["prompt_tokens"]}
    reply = {"object": "list", "data": data, "model": shape.model, "usage": tokens}
    return reply, usage is None


def _vector(item: Mapping[str, Any]) -> list[float] | str:
    vector = item.get("embedding")
    if isinstance(vector, list) and len(vector) == 1 and isinstance(vector[0], list):
        vector = vector[0]  # llama.cpp's own path has a list of one for each text
    is_numbers = (
        isinstance(vector, list)
        and bool(vector)
        and all(type(value) in {float, int} for value in vector)
    )
    if not is_numbers and not (isinstance(vector, str) and vector):
        raise BadReply("embedding")
    return vector  # type: ignore[return-value]


def _text_size(choice: Mapping[str, Any]) -> int:
    message = choice.get("message")
    if not isinstance(message, dict):
        return len(choice.get("text") or "")
    return sum(len(text) for text in read_texts(message).values())
