"""OpenAI's Responses API as a dialect of chat: bodies in, response objects out. Pure.

Source of the field names: OpenAI's API reference, Responses. What has no counterpart in a chat is refused by name,
so that nobody believes it had an effect.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from events.types import State
from functions.errors import ApiError

REFUSED: Final = (
    "previous_response_id",
    "conversation",
    "prompt",
    "max_tool_calls",
    "context_management",
)
"""They need state of earlier responses, or tools that run on our side."""
IGNORED: Final = frozenset(
    {
        "include", "truncation", "service_tier", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier", "reasoning", "stream_options",
    }
)  # fmt: skip
"""Hints that change nothing here."""
SAME: Final = (
    "model", "temperature", "top_p", "store", "user", "parallel_tool_calls", "top_logprobs", "metadata",
    "presence_penalty", "frequency_penalty", "seed", "stop",
)  # fmt: skip
ECHOED: Final = (
    "instructions", "max_output_tokens", "metadata", "temperature", "top_p", "tool_choice", "tools",
    "parallel_tool_calls", "text", "user", "store",
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
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text"})


def to_chat(body: Mapping[str, Any]) -> dict[str, object]:
    """The chat body that asks for the same.

    Raises:
        ApiError: `unsupported_parameter` or `invalid_value`, with the field in `param`.
    """
    for name in REFUSED:
        if body.get(name) is not None:
            raise _unsupported(name)
    if body.get("stream"):
        raise ApiError(
            "unsupported_parameter",
            "Responses are not streamed here; stream /v1/chat/completions instead.",
            param="stream",
        )
    known = {*SAME, *IGNORED, *ECHOED, *REFUSED, "input", "background", "stream", "callback"}
    for name in body.keys() - known:
        raise _unsupported(name[:64])
    chat: dict[str, object] = {name: body[name] for name in SAME if body.get(name) is not None}
    chat["messages"] = _messages(body)
    if body.get("max_output_tokens") is not None:
        chat["max_tokens"] = body["max_output_tokens"]
    if body.get("top_logprobs"):
        chat["logprobs"] = True
    tools = _list(body["tools"], "tools") if body.get("tools") is not None else []
    if tools:
        chat["tools"] = [_tool(n, tool) for n, tool in enumerate(tools)]
    if body.get("tool_choice") is not None:
        chat["tool_choice"] = _tool_choice(body["tool_choice"])
    response_format = _format(body.get("text"))
    if response_format is not None:
        chat["response_format"] = response_format
    return chat


def echo_of(body: Mapping[str, object]) -> dict[str, object]:
    """What the response object will repeat: kept with the request."""
    return {name: body[name] for name in ECHOED if body.get(name) is not None}


def shape(
    *,
    request_id: str,
    state: State,
    model: str,
    created_at: datetime,
    echo: Mapping[str, Any],
    is_background: bool,
    data: Mapping[str, Any] | None,
) -> dict[str, object]:
    """A response object. `data` is the terminal's: the chat completion, or `{"error": ...}`; None before the end."""
    found = data or {}
    completion = found if state is State.COMPLETED else {}
    choice = _first(completion.get("choices"))
    is_cut = choice.get("finish_reason") == "length"
    return {
        "id": request_id,
        "object": "response",
        "created_at": int(created_at.timestamp()),
        "status": "incomplete" if is_cut else _STATUS[state],
        "background": is_background,
        "error": _error(found.get("error")) if _STATUS[state] == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": echo.get("instructions"),
        "max_output_tokens": echo.get("max_output_tokens"),
        "metadata": echo.get("metadata") or {},
        "model": completion.get("model") or model,
        "output": _output(request_id, choice, is_cut=is_cut),
        "parallel_tool_calls": echo.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": echo.get("store", True),
        "temperature": echo.get("temperature", 1.0),
        "text": echo.get("text") or {"format": {"type": "text"}},
        "tool_choice": echo.get("tool_choice", "auto"),
        "tools": echo.get("tools") or [],
        "top_p": echo.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": _usage(completion.get("usage")),
        "user": echo.get("user"),
        "pickspin": found.get("pickspin") or {"request_id": request_id, "state": state},
    }


def _messages(body: Mapping[str, Any]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    if body.get("instructions") is not None:
        found.append({"role": "system", "content": body["instructions"]})
    asked = body.get("input")
    if isinstance(asked, str):
        return [*found, {"role": "user", "content": asked}]
    items = _list(asked, "input")
    if not items:
        raise ApiError("invalid_value", "input is a text or a list of messages.", param="input")
    return found + [_item(f"input[{n}]", item) for n, item in enumerate(items)]


def _item(at: str, item: object) -> dict[str, object]:
    if not isinstance(item, dict):
        raise ApiError("invalid_value", "must be an object.", param=at)
    match item.get("type", "message"):
        case "message":
            return {"role": item.get("role"), "content": _content(at, item.get("content"))}
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            return {
                "role": "tool",
                "tool_call_id": item.get("call_id"),
                "content": item.get("output"),
            }
        case _:
            raise ApiError(
                "unsupported_parameter", "This kind of input is not supported.", param=at
            )


def _content(at: str, content: object) -> object:
    if not isinstance(content, list):
        return content
    return [_part(f"{at}.content[{n}]", part) for n, part in enumerate(content)]


def _part(at: str, part: object) -> dict[str, object]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and isinstance(kind, str) and kind in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    if isinstance(part, dict) and kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    raise ApiError("unsupported_parameter", "This kind of content is not supported.", param=at)


def _tool(number: int, tool: object) -> dict[str, object]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise ApiError(
            "unsupported_parameter",
            "Only function tools are supported.",
            param=f"tools[{number}].type",
        )
    function = {k: v for k, v in tool.items() if k != "type" and v is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: object) -> object:
    if isinstance(choice, dict) and choice.get("type") == "function" and "function" not in choice:
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _format(text: object) -> dict[str, object] | None:
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") == "text":
        return None
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    schema = {k: v for k, v in wanted.items() if k != "type" and v is not None}
    return {"type": "json_schema", "json_schema": schema}


def _output(request_id: str, choice: Mapping[str, Any], *, is_cut: bool) -> list[dict[str, object]]:
    message = choice.get("message")
    if not isinstance(message, dict):
        return []
    suffix = request_id.removeprefix("req_")
    items: list[dict[str, object]] = []
    text = message.get("content")
    if isinstance(text, str) and (text or not message.get("tool_calls")):
        content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        items.append(
            {
                "id": f"msg_{suffix}",
                "type": "message",
                "role": "assistant",
                "status": "incomplete" if is_cut else "completed",
                "content": [content],
            }
        )
    calls = message.get("tool_calls")
    for n, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") or {}
        items.append(
            {
                "id": f"fc_{suffix}_{n}",
                "type": "function_call",
                "status": "completed",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return items


def _usage(usage: object) -> dict[str, object] | None:
    if not isinstance(usage, dict):
        return None
    return {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.get("total_tokens") or 0,
    }


def _error(error: object) -> dict[str, object]:
    if not isinstance(error, dict):
        return {"code": "internal", "message": "The request failed."}
    return {"code": error.get("code"), "message": error.get("message")}


def _first(choices: object) -> Mapping[str, Any]:
    found = choices[0] if isinstance(choices, list) and choices else None
    return found if isinstance(found, dict) else {}


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise ApiError("invalid_value", f"{name} must be a list.", param=name)
    return value


def _unsupported(name: str) -> ApiError:
    return ApiError("unsupported_parameter", f"{name} is not supported here.", param=name)
