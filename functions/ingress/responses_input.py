"""Translates the input of OpenAI's Responses API into a chat body. Pure.

Field names: OpenAI's API reference, Responses. Fields without a counterpart in a chat are refused
by name. Output items of a response are valid input, also by reference.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from events.errors import EventRejected
from functions.ingress.responses_items import Messages, invalid, list_at, unsupported
from functions.response_objects import ECHOED

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
        "truncation", "service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "safety_identifier", "stream_options",
    }
)  # fmt: skip
"""Hints that change nothing here."""
SAME: Final = (
    "model", "temperature", "top_p", "store", "user", "parallel_tool_calls", "top_logprobs", "metadata",
    "presence_penalty", "frequency_penalty", "seed", "stop",
)  # fmt: skip
_READ: Final = frozenset(
    {"input", "instructions", "background", "stream", "callback", "include", "reasoning", "text"}
)
_KNOWN: Final = frozenset({*SAME, *IGNORED, *ECHOED, *REFUSED, *_READ})
_LOGPROBS: Final = "message.output_text.logprobs"
_PATHS: Final[Mapping[str, str]] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "tool_choice.function": "tool_choice",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
}
"""Where the caller wrote what the chat body has elsewhere."""
_TOOL: Final = re.compile(r"(tools\[\d+\])\.function\b")
_LAST_STEP: Final = re.compile(r"(?:\.\w+|\[\d+\])\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedBody:
    """The chat body, and where in the caller's body each of its messages and parts comes from."""

    chat: dict[str, object]
    paths: Mapping[str, str]


def to_chat(
    body: Mapping[str, Any], referenced: Mapping[str, Mapping[str, object]] | None = None
) -> ConvertedBody:
    """The chat body that asks for the same. `referenced`: the items that references name, by id.

    Raises:
        ApiError: `unsupported_parameter` or `invalid_value`, with the field in `param`.
    """
    _refuse_unknown(body)
    chat: dict[str, object] = {name: body[name] for name in SAME if body.get(name) is not None}
    messages = _messages(body, referenced or {})
    chat["messages"] = messages.chat
    if body.get("max_output_tokens") is not None:
        chat["max_tokens"] = body["max_output_tokens"]
    if body.get("top_logprobs") or _LOGPROBS in _names(body.get("include")):
        chat["logprobs"] = True
    tools = list_at("tools", body["tools"]) if body.get("tools") is not None else []
    if tools:
        chat["tools"] = [_tool(n, tool) for n, tool in enumerate(tools)]
    if body.get("tool_choice") is not None:
        chat["tool_choice"] = _tool_choice(body["tool_choice"])
    effort = _field(body.get("reasoning"), "reasoning", "effort")
    if effort is not None:
        chat["reasoning_effort"] = effort
    verbosity = _field(body.get("text"), "text", "verbosity")
    if verbosity is not None:
        chat["verbosity"] = verbosity
    response_format = _format(_field(body.get("text"), "text", "format"))
    if response_format is not None:
        chat["response_format"] = response_format
    return ConvertedBody(chat=chat, paths={**_PATHS, **messages.paths})


def list_references(body: Mapping[str, object]) -> dict[str, str]:
    """The ids of items that the input only refers to, each with the path of the reference to it.

    Raises:
        ApiError: `invalid_value`: an item is named twice, as OpenAI has it.
    """
    items = body.get("input")
    paths: dict[str, str] = {}
    for n, item in enumerate(items if isinstance(items, list) else ()):
        if is_reference(item) and isinstance(item.get("id"), str):
            at = f"input[{n}].id"
            if item["id"] in paths:
                raise invalid(at, f"{at}: the input refers to this item already.")
            paths[item["id"]] = at
    return paths


def is_reference(item: Any) -> bool:
    """Whether an input item is a reference to another one; OpenAI lets its type be left out."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def to_callers_path(path: str, paths: Mapping[str, str]) -> str:
    """The caller's path of a path in the chat body."""
    path = _TOOL.sub(r"\1", path.replace(".[", "["))
    head, rest = path, ""
    while head not in paths:
        step = _LAST_STEP.search(head)
        if step is None:
            return path
        head, rest = head[: step.start()], step.group() + rest
    return paths[head] + rest


def rename_error(error: EventRejected, paths: Mapping[str, str]) -> EventRejected:
    """A refusal of the chat body, in the words of the body that the caller sent."""
    if error.attribute is None:
        return error
    path = to_callers_path(error.attribute, paths)
    message = error.message
    if message.startswith(error.attribute):
        message = path + message.removeprefix(error.attribute)
    return EventRejected(error.code, message, path)


def _refuse_unknown(body: Mapping[str, Any]) -> None:
    for name in REFUSED:
        if body.get(name) is not None:
            raise unsupported(name, f"{name} is not supported here.")
    if body.get("stream"):
        raise unsupported(
            "stream", "Responses are not streamed here; stream /v1/chat/completions instead."
        )
    for name in body.keys() - _KNOWN:
        raise unsupported(name[:64], f"{name[:64]} is not supported here.")


def _messages(body: Mapping[str, Any], referenced: Mapping[str, Mapping[str, object]]) -> Messages:
    messages = Messages()
    if body.get("instructions") is not None:
        messages.instruct(body["instructions"])
    asked = body.get("input")
    if isinstance(asked, str):
        messages.say(asked)
        return messages
    items = list_at("input", asked)
    if not items:
        raise invalid("input", "input is a text or a list of messages.")
    for n, item in enumerate(items):
        at = f"input[{n}]"
        is_named = isinstance(item, dict) and is_reference(item)
        messages.add(at, _referenced(f"{at}.id", item, referenced) if is_named else item)
    messages.end_turn()
    return messages


def _referenced(
    at: str, reference: Any, referenced: Mapping[str, Mapping[str, object]]
) -> Mapping[str, object]:
    item_id = reference.get("id")
    item = referenced.get(item_id) if isinstance(item_id, str) else None
    if item is None:
        raise invalid(
            at,
            f"{at}: this item is not known here, or is no longer kept (`store: false`, deleted).",
        )
    return item


def _field(value: object, at: str, name: str) -> object:
    if value is not None and not isinstance(value, dict):
        raise invalid(at, f"{at} must be an object.")
    return None if value is None else value.get(name)


def _names(names: object) -> list[object]:
    return [] if names is None else list_at("include", names)


def _tool(number: int, tool: object) -> dict[str, object]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise unsupported(f"tools[{number}].type", "Only function tools are supported.")
    function = {k: v for k, v in tool.items() if k != "type" and v is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: object) -> object:
    if isinstance(choice, dict) and choice.get("type") == "function" and "function" not in choice:
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _format(wanted: object) -> dict[str, object] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise invalid("text.format", "text.format must be an object.")
    if wanted.get("type") == "text":
        return None
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    schema = {k: v for k, v in wanted.items() if k != "type" and v is not None}
    return {"type": "json_schema", "json_schema": schema}
