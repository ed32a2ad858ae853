"""OpenAI's Responses API on the way out: the objects that a chat completion and its prompt become. Pure.

Source of the field names: OpenAI's API reference, Responses. The ingress answers with them, the callbacks send them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from events.names import State
from functions.ports.store import RequestRow
from functions.runtime.errors import CODES

DOOR: Final = "responses"
"""`door` in the `meta` of a request that came in as a call of the Responses API."""
ECHOED: Final = (
    "instructions", "max_output_tokens", "metadata", "temperature", "top_p", "tool_choice", "tools",
    "parallel_tool_calls", "text", "user", "store", "reasoning", "top_logprobs",
)  # fmt: skip
"""Fields that a response object repeats."""
_STATUS: Final[Mapping[State, str]] = {
    State.ACCEPTED: "queued",
    State.ROUTED: "queued",
    State.LOADING: "queued",
    State.RUNNING: "in_progress",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.EXPIRED: "failed",
    State.CANCELLED: "cancelled",
}
_INCOMPLETE: Final[Mapping[str, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}
"""Why an answer is not whole, by the finish reason of the completion."""
_ITEM_PREFIXES: Final = ("msg_", "fc_", "rs_")


def build_meta(body: Mapping[str, object], *, is_background: bool) -> dict[str, object]:
    """What has to be kept with a request, so that its response object can be made."""
    echo = {name: body[name] for name in ECHOED if body.get(name) is not None}
    return {"door": DOOR, "echo": echo, "background": is_background}


def build_response_object(
    row: RequestRow, result: Mapping[str, Any] | None = None
) -> dict[str, object]:
    """The response object of a request, as far as it is. `result`: the data of its end, where the row has none yet."""
    if result is None and row.result is not None:
        result = msgspec.json.decode(row.result, type=dict[str, Any])
    echo = row.meta.get("echo")
    data = result or {}
    completion = data if row.state is State.COMPLETED else {}
    choice = _first(completion.get("choices"))
    reason = _INCOMPLETE.get(str(choice.get("finish_reason")))
    status = _STATUS[row.state] if reason is None else "incomplete"
    return {
        "id": row.id,
        "object": "response",
        "created_at": int(row.accepted_at.timestamp()),
        "status": status,
        "background": row.meta.get("background") is True,
        "error": _error(data.get("error")) if status == "failed" else None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": completion.get("model") or row.model or row.asked_model,
        "output": _output(row.id, choice, status="completed" if reason is None else "incomplete"),
        "usage": _usage(completion.get("usage")),
        **_repeat_fields(echo if isinstance(echo, dict) else {}),
        "pickspin": _pickspin(row, data),
    }


def parse_item_id(item_id: str) -> str | None:
    """The request that gave out an item with this id; None where the id is none of ours."""
    prefix = next((p for p in _ITEM_PREFIXES if item_id.startswith(p)), None)
    if prefix is None:
        return None
    return f"req_{item_id.removeprefix(prefix).partition('_')[0]}"


def input_items(
    request_id: str, chat: Mapping[str, Any], *, has_instructions: bool
) -> list[dict[str, object]]:
    """The items that a request's chat body was made from, in their order: its instructions are none."""
    messages = chat.get("messages")
    items: list[dict[str, object]] = []
    for message in messages[int(has_instructions) :] if isinstance(messages, list) else ():
        items += _message_items(f"{_suffix(request_id)}_in{len(items)}", message)
    return items


def _repeat_fields(echo: Mapping[str, Any]) -> dict[str, object]:
    """What the caller said, or what holds where it said nothing."""
    reasoning = echo.get("reasoning") or {}
    return {
        "instructions": echo.get("instructions"),
        "max_output_tokens": echo.get("max_output_tokens"),
        "metadata": echo.get("metadata") or {},
        "parallel_tool_calls": echo.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "store": echo.get("store", True),
        "temperature": echo.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, **(echo.get("text") or {})},
        "tool_choice": echo.get("tool_choice", "auto"),
        "tools": echo.get("tools") or [],
        "top_logprobs": echo.get("top_logprobs", 0),
        "top_p": echo.get("top_p", 1.0),
        "truncation": "disabled",
        "user": echo.get("user"),
    }


def _output(request_id: str, choice: Mapping[str, Any], *, status: str) -> list[dict[str, object]]:
    message = choice.get("message")
    if not isinstance(message, dict):
        return []
    suffix = _suffix(request_id)
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    items = _thoughts(suffix, message)
    content = _content(message, choice.get("logprobs"), has_calls=bool(calls))
    if content:
        items.append(_assistant(f"msg_{suffix}", content, status="completed" if calls else status))
    items += [_call(f"fc_{suffix}_{n}", call) for n, call in enumerate(calls)]
    if calls:
        items[-1]["status"] = status  # What was cut is the last of them.
    return items


def _thoughts(suffix: str, message: Mapping[str, Any]) -> list[dict[str, object]]:
    """The reasoning item of a message, where its model shows what it thought."""
    text = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(text, str):
        return []
    content = [{"type": "reasoning_text", "text": text}]
    return [{"id": f"rs_{suffix}", "type": "reasoning", "summary": [], "content": content}]


def _content(
    message: Mapping[str, Any], logprobs: object, *, has_calls: bool
) -> list[dict[str, object]]:
    text, refusal = message.get("content"), message.get("refusal")
    parts: list[dict[str, object]] = []
    has_refused = isinstance(refusal, str) and bool(refusal)
    if isinstance(text, str) and (text or not (has_calls or has_refused)):
        parts.append(
            {
                "type": "output_text",
                "text": text,
                "annotations": [],
                "logprobs": _logprobs(logprobs),
            }
        )
    if has_refused:
        parts.append({"type": "refusal", "refusal": refusal})
    return parts


def _logprobs(logprobs: object) -> list[dict[str, object]]:
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [_logprob(e) for e in entries or () if isinstance(e, dict)]


def _logprob(entry: Mapping[str, Any]) -> dict[str, object]:
    top = entry.get("top_logprobs")
    return {
        "token": entry.get("token"),
        "bytes": entry.get("bytes") or [],
        "logprob": entry.get("logprob"),
        "top_logprobs": [
            {"token": e.get("token"), "bytes": e.get("bytes") or [], "logprob": e.get("logprob")}
            for e in top or ()
            if isinstance(e, dict)
        ],
    }


def _assistant(
    item_id: str, content: Sequence[Mapping[str, object]], *, status: str = "completed"
) -> dict[str, object]:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _call(item_id: str, call: Mapping[str, Any]) -> dict[str, object]:
    function = call.get("function") or {}
    return {
        "id": item_id,
        "type": "function_call",
        "status": "completed",
        "call_id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments"),
    }


def _message_items(suffix: str, message: Mapping[str, Any]) -> list[dict[str, object]]:
    """The items of one message of a chat."""
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else _input_parts(content)
        item: dict[str, object] = {"id": f"fco_{suffix}", "type": "function_call_output"}
        return [
            item | {"status": "completed", "call_id": message.get("tool_call_id"), "output": output}
        ]
    if role != "assistant":
        item = {"id": f"msg_{suffix}", "type": "message", "role": role, "status": "completed"}
        return [item | {"content": _input_parts(content)}]
    texts = [content] if isinstance(content, str) else [part["text"] for part in content or ()]
    said: list[dict[str, object]] = [
        {"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts
    ]
    items = _thoughts(suffix, message)
    if said:
        items.append(_assistant(f"msg_{suffix}", said))
    calls = message.get("tool_calls") or ()
    return items + [_call(f"fc_{suffix}_{n}", call) for n, call in enumerate(calls)]


def _input_parts(content: object) -> list[dict[str, object]]:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [_input_part(part) for part in content] if isinstance(content, list) else []


def _input_part(part: Mapping[str, Any]) -> dict[str, object]:
    match part.get("type"):
        case "image_url":
            image = part["image_url"]
            detail = image.get("detail") or "auto"
            return {"type": "input_image", "image_url": image.get("url"), "detail": detail}
        case "file":
            return {"type": "input_file", **part["file"]}
        case "text":
            return {"type": "input_text", "text": part.get("text")}
        case _:
            return dict(part)


def _usage(usage: object) -> dict[str, object] | None:
    if not isinstance(usage, dict):
        return None
    cached = {
        name: _detail(usage.get("prompt_tokens_details"), name)
        for name in ("cached_tokens", "cache_write_tokens")
    }
    thought = _detail(usage.get("completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "input_tokens_details": cached,
        "output_tokens": usage.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": usage.get("total_tokens") or 0,
    }


def _detail(details: object, name: str) -> int:
    count = details.get(name) if isinstance(details, dict) else None
    return count if type(count) is int and count >= 0 else 0


def _error(error: object) -> dict[str, object]:
    """OpenAI's few codes of a response that failed; ours is the `error_code` of `pickspin`."""
    if not isinstance(error, dict):
        return {"code": "server_error", "message": "The request failed."}
    row = CODES.get(str(error.get("code")))
    code = "server_error"
    if row is not None and row.status == 429:
        code = "rate_limit_exceeded"
    elif row is not None and row.type == "invalid_request_error":
        code = "invalid_prompt"
    return {"code": code, "message": error.get("message") or "The request failed."}


def _pickspin(row: RequestRow, data: Mapping[str, Any]) -> dict[str, object]:
    said = data.get("pickspin")
    info: dict[str, object] = {"request_id": row.id, "state": row.state}
    if isinstance(said, dict):
        info = dict(said)
    error = data.get("error")
    return info | {"error_code": error.get("code")} if isinstance(error, dict) else info


def _first(choices: object) -> Mapping[str, Any]:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _suffix(request_id: str) -> str:
    return request_id.removeprefix("req_")
