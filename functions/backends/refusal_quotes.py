"""What may be repeated of a model server's refusal: the field that it names, and its sentence, cleaned.

A server's text may hold addresses, paths of its machine and keys, and some quote the request's own values at length.
These are left out. Pure.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

MAX_CHARS: Final = 300
_MAX_RAW_CHARS: Final = 2000
_MAX_PARAM_CHARS: Final = 128
_MAX_DEPTH: Final = 4
_TEXT_FIELDS: Final = ("message", "detail", "msg", "error")
_VALUES: Final = re.compile(r"['\"]?\binput(?:_value)?['\"]? ?[=:].*", re.DOTALL)
"""Where pydantic begins to quote the request."""
_ADDRESS: Final = re.compile(
    r"[a-z][a-z0-9+.-]{1,15}://\S*|\b\d{1,3}(?:\.\d{1,3}){3}\b\S*", re.IGNORECASE
)
_HOST: Final = re.compile(r"\b[\w.-]{1,100}:\d{2,5}\b")
_FOLDER: Final = re.compile(r"(?<![\w<])[~/][\w.-]*/\S*")
_KEY: Final = re.compile(
    r"\b(?:bearer |(?:sk|hf|gsk|xai)[-_]|(?:api[_-]?key|token|password|secret)['\"]? ?[=:] ?)\S+"
    r"|\b(?=[\w-]{0,80}\d)[\w-]{24,}",
    re.IGNORECASE,
)
_LEFT_OUT: Final = "..."
_LOCATION: Final = ("body", "query")


def read_quote(body: Any) -> str | None:
    """The server's sentence, on one line and short; None where it said none."""
    quote = "; ".join(_texts(body, _MAX_DEPTH))[:_MAX_RAW_CHARS]
    quote = _VALUES.sub(_LEFT_OUT, quote)
    for pattern in (_ADDRESS, _HOST, _FOLDER, _KEY):
        quote = pattern.sub(_LEFT_OUT, quote)
    words = "".join(char if char.isprintable() else " " for char in quote).split()
    text = " ".join(words)
    if len(text) > MAX_CHARS:
        text = f"{text[: MAX_CHARS - len(_LEFT_OUT)]}{_LEFT_OUT}"
    return text or None


def read_param(body: Any) -> str | None:
    """The field that the server names, in OpenAI's spelling; None where it names none."""
    for entry in _objects(body, _MAX_DEPTH):
        param, location = entry.get("param"), entry.get("loc")
        if isinstance(param, str) and 0 < len(param) <= _MAX_PARAM_CHARS and param.isprintable():
            return param
        if isinstance(location, list) and location:
            return _path(location[1:] if location[0] in _LOCATION else location)
    return None


def _path(location: list[Any]) -> str | None:
    path = ""
    for step in location[: _MAX_DEPTH * 2]:
        if type(step) is int:
            path += f"[{step}]"
        elif isinstance(step, str) and step.isidentifier():
            path += f".{step}"
    return path.removeprefix(".")[:_MAX_PARAM_CHARS] or None


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:_MAX_RAW_CHARS]
    elif depth and isinstance(value, dict):
        texts = (list(_texts(value.get(name), depth - 1)) for name in _TEXT_FIELDS)
        yield from next(filter(None, texts), [])
    elif depth and isinstance(value, list):
        for item in value[:3]:
            yield from _texts(item, depth - 1)


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth and isinstance(value, dict):
        yield value
        for name in ("error", "detail"):
            yield from _objects(value.get(name), depth - 1)
    elif depth and isinstance(value, list):
        for item in value[:1]:
            yield from _objects(item, depth - 1)
