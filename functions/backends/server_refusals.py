"""What model servers say when they refuse a request, and what it means. Pure.

One table for all kinds of servers: a hosted API may be any of them behind a proxy. The texts are those of vLLM 0.6 to
0.11, SGLang 0.5, TGI 3.3, TensorRT-LLM 1.3, llama.cpp, Ollama 0.9, and of hosted APIs that speak OpenAI's protocol;
tests/unit/worker/shapes has each of them whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Meaning = Literal["context", "capability", "quota", "busy", "request"]
"""`context`: it does not fit the model. `capability`: the model or the server cannot do it. `quota`: the account is
used up. `busy`: not now. `request`: the request is at fault in another way."""
_MAX_CHARS: Final = 2000
_MAX_DEPTH: Final = 4
_CODES: Final[Mapping[str, Meaning]] = MappingProxyType(
    {
        "context_length_exceeded": "context",
        "context_window_exceeded": "context",
        "exceed_context_size_error": "context",
        "model_context_window_exceeded": "context",
        "not_supported_error": "capability",
        "insufficient_quota": "quota",
        "insufficient_user_quota": "quota",
        "billing_hard_limit_reached": "quota",
        "billing_not_active": "quota",
        "overloaded": "busy",
        "overloaded_error": "busy",
        "rate_limit_error": "busy",
        "rate_limit_exceeded": "busy",
        "unavailable_error": "busy",
        "badrequesterror": "request",
        "invalid_request_error": "request",
        "validation": "request",
    }
)
_WORDS: Final[tuple[tuple[Meaning, tuple[str, ...]], ...]] = (
    (
        "context",
        (
            "context length",
            "context size",
            "context window",
            "maximum context",
            "max_model_len",
            "longer than the maximum model length",
            "exceeds the maximum allowed length",
            "requires more tokens than",
            "`inputs` tokens + `max_new_tokens` must be",
            "`inputs` must have less than",
            "should not exceed max_seq_len",
            "should not exceed max_num_tokens",
            "exceeds maximum input length",
            "exceeds maximum sequence length",
            "too large to process",
            "prompt is too long",
            "input is too long",
            "input token count",
            "maximum prompt length",
            "reduce the length of the messages",
            "exceeded model token limit",
            "exceeds the maximum number of tokens",
        ),
    ),
    (
        "quota",
        (
            "exceeded your current quota",
            "insufficient balance",
            "insufficient credit",
            "requires more credits",
            "out of credits",
        ),
    ),
    (
        "busy",
        (
            "model is overloaded",
            "rate limit",
            "too many requests",
            "queue is full",
            "server busy",
            "maximum pending requests",
            "loading model",
            "no available workers",
        ),
    ),
    (
        "capability",
        (
            "does not support",
            "doesn't support",
            "tool choice requires",
            "--tool-call-parser",
            "--jinja flag",
            "is not a multimodal model",
            "modality is not supported",
            "input is not supported",
            "at most 0 ",
            "only supports one image",
            "only supported by certain models",
            "matryoshka",
            "default chat template is no longer allowed",
            "template not found",
            "grammar is not supported",
            "tool calling is not supported",
            "not a chat model",
            "not an embedding model",
            "not appear to be an embedding model",
            "no endpoints found that support",
        ),
    ),
    ("request", ("input validation error",)),
)
_TEXT_FIELDS: Final = ("message", "detail", "msg", "error", "raw", "metadata")
_CODE_FIELDS: Final = ("code", "type", "error_type", "status")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said: its text in lower case, its codes and types, and a status where the body has one."""

    text: str
    codes: frozenset[str]
    status: int | None

    @property
    def meaning(self) -> Meaning | None:
        """None: nothing that is known. What a text says goes before a code that says less."""
        by_code = {_CODES[code] for code in self.codes if code in _CODES}
        for meaning, words in _WORDS:
            if meaning in by_code or any(word in self.text for word in words):
                return meaning
        return None


def find_error(reply: Mapping[str, Any]) -> Any:
    """The error in a reply or chunk. None: there is none.

    vLLM and SGLang write it flat (`object: error`), FastAPI in `detail`, TGI as a text with its
    type, the others as an object.
    """
    error = reply.get("error")
    if error:
        return reply if isinstance(error, str) else error
    if "choices" in reply:
        return None
    if reply.get("object") == "error":
        return reply
    is_answer = "data" in reply or "usage" in reply
    if not is_answer and (reply.get("detail") or isinstance(reply.get("message"), str)):
        return reply
    return None


def read_refusal(body: Any) -> Refusal:
    """Reads an error object, a text, or whatever came in its place."""
    codes = set()
    status: int | None = None
    for name, value in _codes(body, _MAX_DEPTH):
        if isinstance(value, str) and not value.isdigit():
            codes.add(value.lower())
        elif name != "type" and status is None:
            status = int(value)
    text = " ".join(_texts(body, _MAX_DEPTH))[:_MAX_CHARS].lower()
    return Refusal(text, frozenset(codes), status)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:_MAX_CHARS]
    elif depth and isinstance(value, dict):
        for name in _TEXT_FIELDS:
            yield from _texts(value.get(name), depth - 1)
    elif depth and isinstance(value, list):
        for item in value[:8]:
            yield from _texts(item, depth - 1)


def _codes(entry: Any, depth: int) -> Iterator[tuple[str, str | int]]:
    if depth and isinstance(entry, dict):
        for name in _CODE_FIELDS:
            value = entry.get(name)
            if (isinstance(value, str) and value) or type(value) is int:
                yield name, value
        yield from _codes(entry.get("error"), depth - 1)
