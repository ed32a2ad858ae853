"""Translates items of a Responses call into chat messages. Pure.

The assistant's items of one turn become one message. Shapes: OpenAI's API reference, `input`.
"""

from collections.abc import Mapping
from typing import Any, Final

from functions.runtime.errors import ApiError

_TEXTS: Final = frozenset({"input_text", "output_text", "text"})
_REASONING: Final = frozenset({"reasoning_text", "text"})


class Messages:
    """The messages so far. `paths`: the caller's path of each message and part."""

    def __init__(self) -> None:
        self.chat: list[dict[str, object]] = []
        self.paths: dict[str, str] = {}
        self._turn = _Turn()

    def instruct(self, text: object) -> None:
        """The system's message, before all others."""
        self._append({"role": "system", "content": text}, "instructions", content="instructions")

    def say(self, text: str) -> None:
        """A user's message that is the whole input."""
        self._append({"role": "user", "content": text}, "input", content="input")

    def add(self, at: str, item: object) -> None:
        """The item at the path `at`, in its order.

        Raises:
            ApiError: it is no item, or of a kind that has no counterpart in a chat.
        """
        if not isinstance(item, Mapping):
            raise invalid(at, f"{at} must be an object.")
        match "message" if item.get("type") is None else item["type"]:
            case "message":
                self._message(at, item)
            case "function_call":
                self._turn.call(at, item)
            case "function_call_output":
                self._output(at, item)
            case "reasoning":
                self._reasoning(at, item)
            case _:
                raise unsupported(
                    f"{at}.type", f"{at}.type: this kind of input is not supported here."
                )

    def end_turn(self) -> None:
        """Makes one message of the assistant's items so far."""
        turn, self._turn = self._turn, _Turn()
        if turn.at is None:
            return
        here = f"messages[{len(self.chat)}]"
        self._append(turn.message(), turn.at, content=turn.content_at or turn.at)
        for n, path in enumerate(turn.part_paths):
            self.paths[f"{here}.content[{n}]"] = path
        for n, path in enumerate(turn.call_paths):
            self.paths[f"{here}.tool_calls[{n}]"] = path
            self.paths[f"{here}.tool_calls[{n}].function"] = path
            self.paths[f"{here}.tool_calls[{n}].id"] = f"{path}.call_id"

    def _append(self, message: dict[str, object], at: str, *, content: str) -> None:
        here = f"messages[{len(self.chat)}]"
        self.paths[here] = at
        self.paths[f"{here}.content"] = content
        self.chat.append(message)

    def _message(self, at: str, item: Mapping[str, Any]) -> None:
        role, content = item.get("role"), item.get("content")
        if role == "assistant":
            self._turn.say(at, content)
            return
        self.end_turn()
        if isinstance(content, list):
            content = [_part(f"{at}.content[{n}]", part) for n, part in enumerate(content)]
            self._note_parts(f"{at}.content", content)
        self._append({"role": role, "content": content}, at, content=f"{at}.content")

    def _output(self, at: str, item: Mapping[str, Any]) -> None:
        self.end_turn()
        output = item.get("output")
        if isinstance(output, list):
            parts = [_part(f"{at}.output[{n}]", part) for n, part in enumerate(output)]
            self._note_parts(f"{at}.output", parts)
            output = _plain(parts) if parts else ""
        elif not isinstance(output, str):
            raise invalid(f"{at}.output", f"{at}.output must be a text or a list of parts.")
        message = {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
        self.paths[f"messages[{len(self.chat)}].tool_call_id"] = f"{at}.call_id"
        self._append(message, at, content=f"{at}.output")

    def _reasoning(self, at: str, item: Mapping[str, Any]) -> None:
        """What a model thought goes back to it where it is readable; a summary, or what is encrypted, cannot."""
        for n, part in enumerate(list_at(f"{at}.content", item.get("content") or [])):
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(part, dict) or not isinstance(kind, str) or kind not in _REASONING:
                raise unsupported(
                    f"{at}.content[{n}].type", f"{at}.content[{n}] must be a reasoning_text."
                )
            self._turn.think(_text(f"{at}.content[{n}].text", part.get("text")))

    def _note_parts(self, at: str, parts: list[dict[str, object]]) -> None:
        for n, part in enumerate(parts):
            here = f"messages[{len(self.chat)}].content[{n}]"
            self.paths[here] = f"{at}[{n}]"
            kind = str(part["type"])
            if kind == "image_url":
                self.paths[f"{here}.image_url"] = f"{at}[{n}]"
                self.paths[f"{here}.image_url.url"] = f"{at}[{n}].image_url"
            elif kind == "file":
                self.paths[f"{here}.file"] = f"{at}[{n}]"


class _Turn:
    """The assistant's items of one turn. `at` None: none yet."""

    def __init__(self) -> None:
        self.at: str | None = None
        self.content_at: str | None = None
        self.part_paths: list[str] = []
        self.call_paths: list[str] = []
        self._parts: list[dict[str, object]] = []
        self._calls: list[dict[str, object]] = []
        self._thoughts: list[str] = []

    def say(self, at: str, content: object) -> None:
        self._begin(at)
        self.content_at = self.content_at or f"{at}.content"
        if not isinstance(content, list):
            self._add(f"{at}.content", _text(f"{at}.content", content))
        for n, part in enumerate(content if isinstance(content, list) else ()):
            self._add(f"{at}.content[{n}]", _said(f"{at}.content[{n}]", part))

    def call(self, at: str, item: Mapping[str, Any]) -> None:
        self._begin(at)
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        self._calls.append({"id": item.get("call_id"), "type": "function", "function": function})
        self.call_paths.append(at)

    def think(self, text: str) -> None:
        self._thoughts.append(text)

    def message(self) -> dict[str, object]:
        content = _plain(self._parts) if self._parts else None
        message: dict[str, object] = {"role": "assistant", "content": content}
        if self._thoughts:
            message["reasoning_content"] = "\n".join(self._thoughts)
        if self._calls:
            message["tool_calls"] = self._calls
        return message

    def _begin(self, at: str) -> None:
        self.at = self.at or at

    def _add(self, at: str, text: str) -> None:
        self._parts.append({"type": "text", "text": text})
        self.part_paths.append(at)


def _said(at: str, part: object) -> str:
    """The assistant's own text. A refusal is text too, which every model server can read."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "refusal":
        return _text(f"{at}.refusal", part.get("refusal"))
    if isinstance(part, dict) and isinstance(kind, str) and kind in _TEXTS:
        return _text(f"{at}.text", part.get("text"))
    raise unsupported(f"{at}.type", f"{at}.type: an assistant's content is text or a refusal here.")


def _part(at: str, part: object) -> dict[str, object]:
    if isinstance(part, dict):
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                return {"type": "text", "text": _text(f"{at}.text", part.get("text"))}
            case "refusal":
                return {"type": "text", "text": _text(f"{at}.refusal", part.get("refusal"))}
            case "input_image":
                return _image(at, part)
            case "input_file":
                return _file(at, part)
            case "input_audio":
                return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise unsupported(f"{at}.type", f"{at}.type: this kind of content is not supported here.")


def _image(at: str, part: Mapping[str, Any]) -> dict[str, object]:
    if part.get("image_url") is None:
        name = "file_id" if part.get("file_id") is not None else "image_url"
        raise unsupported(f"{at}.{name}", f"{at}: send the image as a data: URL in image_url.")
    detail = {} if part.get("detail") is None else {"detail": part["detail"]}
    return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}


def _file(at: str, part: Mapping[str, Any]) -> dict[str, object]:
    for name in ("file_id", "file_url"):
        if part.get(name) is not None:
            raise unsupported(f"{at}.{name}", f"{at}.{name} is not supported; send file_data.")
    kept = {k: part[k] for k in ("file_data", "filename") if part.get(k) is not None}
    return {"type": "file", "file": kept}


def _plain(parts: list[dict[str, object]]) -> object:
    """One text is a text: every server takes it. Several stay parts."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _text(at: str, text: object) -> str:
    if not isinstance(text, str):
        raise invalid(at, f"{at} must be a text.")
    return text


def list_at(at: str, value: object) -> list[object]:
    """Raises ApiError `invalid_value` where the value is no list."""
    if not isinstance(value, list):
        raise invalid(at, f"{at} must be a list.")
    return value


def invalid(at: str, message: str) -> ApiError:
    """A refusal that names the field."""
    return ApiError("invalid_value", message, param=at)


def unsupported(at: str, message: str) -> ApiError:
    """A refusal of what is OpenAI's and not done here."""
    return ApiError("unsupported_parameter", message, param=at)
