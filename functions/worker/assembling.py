"""A streamed reply: each chunk made safe for the client, the whole assembled for the terminal event. Pure."""

from dataclasses import dataclass, field
from typing import Any, Final

from functions.worker.failures import BadReply, of_error_object
from functions.worker.replies import (
    FINISH_REASONS,
    Shape,
    check_logprobs,
    check_usage,
    estimated_usage,
    finish_of,
)

_TEXT_FIELDS: Final = ("content", "reasoning_content", "reasoning", "refusal")
_TOKEN_SLACK: Final = 8
_MAX_TOOL_CALLS: Final = 128
_COMPLETION_LOGPROBS: Final = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@dataclass(slots=True)
class _Choice:
    """What one choice has said so far."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    tools: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: dict[str, list[Any]] = field(default_factory=dict)
    finish_reason: str | None = None
    parts: int = 0


class Assembler:
    """Takes chunks in order.

    Args:
        shape: what the client was promised.
        max_bytes: text bytes after which the reply is cut (`is_cut`).
        max_tokens: parts with content after which a choice is cut; None: no such cap.
        has_usage: whether the client asked for a usage chunk.
    """

    def __init__(
        self, shape: Shape, *, max_bytes: int, max_tokens: int | None, has_usage: bool
    ) -> None:
        self._shape = shape
        self._max_bytes = max_bytes
        self._max_parts = None if max_tokens is None else max_tokens + _TOKEN_SLACK
        self._has_usage = has_usage
        self._choices = [_Choice() for _ in range(shape.choices)]
        self._usage: dict[str, Any] | None = None
        self._bytes = 0
        self.is_cut = False
        self.has_content = False

    def add(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """The chunk as the client gets it, or None where there is nothing for the client in it.

        Raises:
            BadReply: not a chunk of this reply.
            ApiError: the server said in the stream that the request is at fault.
        """
        if chunk.get("error") is not None:
            raise of_error_object(chunk["error"])
        entries = chunk.get("choices")
        if not isinstance(entries, list):
            raise BadReply("choices")
        usage = check_usage(chunk.get("usage"))
        self._usage = usage or self._usage
        shown = [found for entry in entries if (found := self._entry(entry)) is not None]
        if not shown and not (usage and self._has_usage and not entries):
            return None
        found = self._shape.envelope(is_chunk=True) | {"choices": shown}
        if self._has_usage:
            found["usage"] = usage if not entries else None
        return found

    def closing(self) -> dict[str, Any] | None:
        """The chunk that ends a reply which was cut, or whose server forgot the finish reason; None: not needed."""
        missing = [
            (index, choice)
            for index, choice in enumerate(self._choices)
            if choice.finish_reason is None
        ]
        if not missing:
            return None
        reason = "length" if self.is_cut else "stop"
        empty: dict[str, Any] = {"delta": {}} if self._shape.is_chat else {"text": ""}
        for _, choice in missing:
            choice.finish_reason = reason
        return self._shape.envelope(is_chunk=True) | {
            "choices": [
                {"index": index, **empty, "logprobs": None, "finish_reason": reason}
                for index, _ in missing
            ]
        }

    def result(self) -> tuple[dict[str, Any], bool]:
        """The whole object, and whether its usage had to be estimated.

        Raises:
            BadReply: a choice never said anything and never ended.
        """
        if not self.is_cut and not all(c.parts or c.finish_reason for c in self._choices):
            raise BadReply("no_choices")
        choices = [self._whole(index, choice) for index, choice in enumerate(self._choices)]
        is_estimated = self._usage is None
        usage = self._usage or estimated_usage(sum(choice.parts for choice in self._choices))
        return self._shape.envelope() | {"choices": choices, "usage": usage}, is_estimated

    def _entry(self, entry: Any) -> dict[str, Any] | None:
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is not int or not 0 <= index < len(self._choices):
            raise BadReply("index")
        choice = self._choices[index]
        if choice.finish_reason is not None:
            return None  # nothing counts after the end of a choice
        found: dict[str, Any] = {"index": index}
        has_content = (
            self._delta(entry, choice, found)
            if self._shape.is_chat
            else self._text(entry, choice, found)
        )
        logprobs = check_logprobs(entry.get("logprobs"), self._shape)
        self._add_logprobs(choice, logprobs)
        reason = entry.get("finish_reason")
        if reason is not None:
            choice.finish_reason = finish_of(reason) if reason in FINISH_REASONS else "stop"
        if not has_content and reason is None and not found.get("delta"):
            return None
        found["logprobs"], found["finish_reason"] = logprobs, choice.finish_reason
        if has_content:
            self._count(choice)
        return found

    def _count(self, choice: _Choice) -> None:
        choice.parts += 1
        self.has_content = True
        over = self._max_parts is not None and choice.parts > self._max_parts
        self.is_cut = self.is_cut or over or self._bytes > self._max_bytes

    def _text(self, entry: dict[str, Any], choice: _Choice, found: dict[str, Any]) -> bool:
        text = entry.get("text")
        if not isinstance(text, str | None):
            raise BadReply("text")
        found["text"] = text or ""
        return self._say(choice, "content", text)

    def _delta(self, entry: dict[str, Any], choice: _Choice, found: dict[str, Any]) -> bool:
        delta = entry.get("delta")
        if not isinstance(delta, dict | None):
            raise BadReply("delta")
        shown: dict[str, Any] = {}
        has_content = False
        for name, value in (delta or {}).items():
            if name == "role":
                shown[name] = "assistant"
            elif name in _TEXT_FIELDS:
                if not isinstance(value, str | None):
                    raise BadReply(name)
                shown[name] = value
                has_content = self._say(choice, name, value) or has_content
            elif name == "tool_calls" and value:
                shown[name] = self._tools(choice, value)
                has_content = True
        found["delta"] = shown
        return has_content

    def _say(self, choice: _Choice, name: str, text: str | None) -> bool:
        if not text:
            return False
        choice.texts.setdefault(name, []).append(text)
        self._bytes += len(text.encode("utf-8", "replace"))
        return True

    def _tools(self, choice: _Choice, calls: Any) -> list[dict[str, Any]]:
        if not isinstance(calls, list):
            raise BadReply("tool_calls")
        return [self._tool(choice, call) for call in calls]

    def _tool(self, choice: _Choice, call: Any) -> dict[str, Any]:
        index = call.get("index", 0) if isinstance(call, dict) else None
        function = call.get("function") if isinstance(call, dict) else None
        if type(index) is not int or not 0 <= index < _MAX_TOOL_CALLS:
            raise BadReply("tool_calls")
        if not isinstance(function, dict | None):
            raise BadReply("tool_calls")
        known = choice.tools.setdefault(index, {"id": f"call_{index}", "name": "", "arguments": []})
        shown: dict[str, Any] = {"index": index}
        if isinstance(call.get("id"), str):
            known["id"] = shown["id"] = call["id"]
            shown["type"] = "function"
        said: dict[str, str] = {}
        for name in ("name", "arguments"):
            value = (function or {}).get(name)
            if isinstance(value, str):
                said[name] = value
        known["name"] = said.get("name") or known["name"]
        if "arguments" in said:
            known["arguments"].append(said["arguments"])
            self._bytes += len(said["arguments"].encode("utf-8", "replace"))
        shown["function"] = said
        return shown

    def _add_logprobs(self, choice: _Choice, logprobs: Any) -> None:
        if logprobs is None:
            return
        names = ("content", "refusal") if self._shape.is_chat else _COMPLETION_LOGPROBS
        for name in names:
            if isinstance(logprobs.get(name), list):
                choice.logprobs.setdefault(name, []).extend(logprobs[name])

    def _whole(self, index: int, choice: _Choice) -> dict[str, Any]:
        found: dict[str, Any] = {"index": index}
        if self._shape.is_chat:
            found["message"] = self._message(choice)
        else:
            found["text"] = "".join(choice.texts.get("content", ()))
        found["logprobs"] = choice.logprobs or None
        found["finish_reason"] = choice.finish_reason or ("length" if self.is_cut else "stop")
        return found

    def _message(self, choice: _Choice) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in choice.texts.items()}
        content = texts.pop("content", None)
        message: dict[str, Any] = {"role": "assistant", "content": content, **texts}
        if choice.tools:
            message["tool_calls"] = [
                {
                    "id": tool["id"],
                    "type": "function",
                    "function": {"name": tool["name"], "arguments": "".join(tool["arguments"])},
                }
                for _, tool in sorted(choice.tools.items())
            ]
        elif content is None:
            message["content"] = ""
        return message
