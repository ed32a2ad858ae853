"""Reads single fields of model servers' replies and chunks, leniently. Pure.

Servers express the same thing in several ways: docs/reference/servers.md lists them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from functions.worker.backend_errors import BadReply, CallFailed

TEXT_FIELDS: Final = frozenset({"content", "reasoning_content", "reasoning", "refusal"})
MAX_TOKENS_SAID: Final = 10_000_000
"""More tokens than any call can use: a larger figure is not believed."""
COMPLETION_LOGPROBS: Final = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
_MAX_FINGERPRINT: Final = 256
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority"})
"""OpenAI's; the official clients refuse any other."""
_CITATION: Final[Mapping[str, type]] = MappingProxyType(
    {"start_index": int, "end_index": int, "url": str, "title": str}
)
_LEAST_LOGPROB: Final = -9999.0
"""How OpenAI and vLLM write minus infinity, which JSON does not have."""
_FINISH_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "length": "length",
        "max_tokens": "length",
        "max_length": "length",
        "max_new_tokens": "length",
        "max_output_tokens": "length",
        "model_length": "length",
        "model_context_window_exceeded": "length",
        # An engine that notices a loop cuts the answer: it is no whole one.
        "repetition": "length",
        "tool_calls": "tool_calls",
        "tool_call": "tool_calls",
        "tool_use": "tool_calls",
        "function_call": "function_call",
        "content_filter": "content_filter",
        "content_filtered": "content_filter",
        "guardrail_intervened": "content_filter",
        "prohibited_content": "content_filter",
        "recitation": "content_filter",
        "refusal": "content_filter",
        "safety": "content_filter",
        "sensitive": "content_filter",
    }
)
_GAVE_UP: Final = (
    "abort",
    "cancel",
    "error",
    "fail",
    "insufficient",
    "interrupt",
    "malformed",
    "timed_out",
    "timeout",
)
"""Parts of finish reasons with which a server says that it did not get to the end."""
_DETAILS: Final = ("prompt_tokens_details", "completion_tokens_details")
_MOVED_DETAILS: Final = (
    ("reasoning_tokens", "completion_tokens_details", "reasoning_tokens"),
    ("cached_tokens", "prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens", "prompt_tokens_details", "cached_tokens"),
)
"""Details that a server has beside the counts: its name, and where OpenAI has it."""


def read_finish(reason: Any, *, has_calls: bool) -> str | None:
    """The finish reason in OpenAI's words; None: not finished. A word that nobody knows reads `stop`.

    `has_calls`: whether the choice has tool calls, which decides between `stop` and `tool_calls`.

    Raises:
        CallFailed: the server gave up: what it said so far is no answer.
    """
    if reason is None or reason == "":
        return None
    word = reason.lower() if isinstance(reason, str) else ""
    known = _FINISH_REASONS.get(word)
    if known is None and any(part in word for part in _GAVE_UP):
        raise CallFailed("gave_up")
    if known in {None, "tool_calls"}:
        return "tool_calls" if has_calls else "stop"
    return known


def read_texts(message: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a message or a delta by field. Content that comes as parts is joined: thinking goes to
    `reasoning_content`, a refusal to `refusal`, parts that hold no text are left out.

    Raises:
        BadReply: the content is neither text nor parts.
    """
    texts: dict[str, str] = {}
    for name, value in message.items():
        if name not in TEXT_FIELDS:
            continue
        if isinstance(value, str):
            if value or name == "content":
                texts[name] = texts.get(name, "") + value
        elif isinstance(value, list):
            for part in value:
                field, text = _read_part(part, name)
                if text or field == "content":
                    texts[field] = texts.get(field, "") + text
        elif value is not None and name == "content":
            raise BadReply(name)
    return texts


def _read_part(part: Any, name: str) -> tuple[str, str]:
    if isinstance(part, str):
        return name, part
    if not isinstance(part, dict):
        return name, ""
    if isinstance(part.get("refusal"), str):
        return "refusal", part["refusal"]
    thinking = part.get("thinking", part.get("reasoning"))
    if isinstance(thinking, list):
        thinking = "".join(_read_part(inner, name)[1] for inner in thinking)
    if isinstance(thinking, str):
        return "reasoning_content", thinking
    text = part.get("text")
    return name, text if isinstance(text, str) else ""


def read_citations(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `annotations` of a message or a delta that are citations as OpenAI has them; no client reads any other."""
    annotations = message.get("annotations")
    citations: list[dict[str, Any]] = []
    if not annotations:
        return citations
    for annotation in annotations if isinstance(annotations, list) else ():
        cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if not isinstance(cited, dict):
            continue
        known = {name: cited.get(name) for name in _CITATION}
        if all(type(known[name]) is kind for name, kind in _CITATION.items()):
            citations.append({"type": "url_citation", "url_citation": known})
    return citations


def read_extras(reply: Mapping[str, Any]) -> dict[str, str]:
    """Fields of a reply or chunk about its server, in OpenAI's names."""
    extras: dict[str, str] = {}
    fingerprint, tier = reply.get("system_fingerprint"), reply.get("service_tier")
    if isinstance(fingerprint, str) and 0 < len(fingerprint) <= _MAX_FINGERPRINT:
        extras["system_fingerprint"] = fingerprint
    if isinstance(tier, str) and tier in _TIERS:
        extras["service_tier"] = tier
    return extras


def read_usage(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    """A believable usage object of a reply or chunk, or None: what is billed is never a string, negative or huge.

    Groq's older streams have it in an object of their own.
    """
    own = reply.get("x_groq")
    usage = reply.get("usage") or (own.get("usage") if isinstance(own, dict) else None)
    if not isinstance(usage, dict) or not usage.keys() & {"prompt_tokens", "completion_tokens"}:
        return None
    said = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    counts: dict[str, Any] = {name: count for name, count in said.items() if count is not None}
    if counts.keys() != said.keys() or not any(counts.values()):
        return None  # Ollama's chunks say 0 of both until the last one
    counts["total_tokens"] = counts["prompt_tokens"] + counts["completion_tokens"]
    return counts | _read_details(usage)


def _count(value: Any) -> int | None:
    """A number of tokens, 0 if missing. None: implausible."""
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS_SAID else None


def _read_details(usage: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    details: dict[str, dict[str, int]] = {}
    for name in _DETAILS:
        counts = usage.get(name)
        for key, value in counts.items() if isinstance(counts, dict) else ():
            if type(value) is int and 0 <= value <= MAX_TOKENS_SAID:
                details.setdefault(name, {})[key] = value
    for key, name, known in _MOVED_DETAILS:
        value = usage.get(key)
        if type(value) is int and 0 < value <= MAX_TOKENS_SAID:
            details.setdefault(name, {}).setdefault(known, value)
    return details


def estimated_usage(completion_tokens: int) -> dict[str, Any]:
    """Usage if the server sent no plausible one. The prompt's part is unknown (0)."""
    return {
        "prompt_tokens": 0,
        "completion_tokens": completion_tokens,
        "total_tokens": completion_tokens,
    }


def read_logprobs(logprobs: Any, *, is_chat: bool, offset: int = 0) -> dict[str, Any] | None:
    """Log probabilities in the form of the operation. `offset`: characters of the choice's text before these tokens.

    llama.cpp gives completions the form of chat, which is translated.
    """
    if not isinstance(logprobs, dict):
        return None
    if is_chat:
        lists = {name: _read_tokens(logprobs.get(name)) for name in ("content", "refusal")}
        return None if lists["content"] is lists["refusal"] is None else lists
    entries = logprobs.get("content")
    if not isinstance(entries, list):
        return _read_lists(logprobs)
    tokens = [_read_token(entry) for entry in entries if isinstance(entry, dict)]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in token["top_logprobs"]} for token in tokens
        ],
        "text_offset": offsets,
    }


def _read_tokens(tokens: Any) -> list[dict[str, Any]] | None:
    if not isinstance(tokens, list):
        return None
    return [_read_token(entry) for entry in tokens if isinstance(entry, dict)]


def _read_token(entry: Mapping[str, Any]) -> dict[str, Any]:
    tops = entry.get("top_logprobs")
    alternatives = tops if isinstance(tops, list) else []
    pairs = [_read_pair(top) for top in alternatives if isinstance(top, dict)]
    return _read_pair(entry) | {"top_logprobs": pairs}


def _read_pair(entry: Mapping[str, Any]) -> dict[str, Any]:
    token, logprob, data = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    return {
        "token": token if isinstance(token, str) else "",
        "logprob": logprob if type(logprob) in {int, float} else _LEAST_LOGPROB,
        "bytes": data if _is_list_of(data, int) else None,
    }


def _read_lists(logprobs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The lists of a completion's log probabilities; what is not known (the first token's, with `echo`) stays None."""
    lists = {
        name: logprobs[name] for name in COMPLETION_LOGPROBS if isinstance(logprobs.get(name), list)
    }
    is_known = (
        _is_list_of(lists.get("tokens", []), str)
        and _is_list_of(lists.get("text_offset", []), int)
        and _is_list_of(lists.get("token_logprobs", []), int, float, type(None))
        and _is_list_of(lists.get("top_logprobs", []), dict, type(None))
        and all(
            _is_list_of(list((top or {}).values()), int, float)
            for top in lists.get("top_logprobs", [])
        )
    )
    return lists if lists and is_known else None


def _is_list_of(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and all(type(item) in kinds for item in value)
