"""What the fake model answers: pure functions from a request body to OpenAI objects.

Every answer says that it is simulated.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

SIMULATED: Final = "[simulated]"
_NONCE: Final = re.compile(r"nonce[:=]([\w.-]{1,64})")
_DIRECTIVE: Final = re.compile(r"\[\[fake:([a-z0-9-]+)(?:=([\w.-]{1,32}))?\]\]")
_WORDS: Final = (" the", " quick", " brown", " fox", " jumps", " over", " a", " lazy", " dog", ".")
_DIMENSIONS: Final = 384
_LOGPROB: Final = -0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRequest:
    """What the fake model takes from a body."""

    is_chat: bool
    model: str
    prompt: str
    tokens: int
    is_stream: bool
    has_usage: bool
    choices: int
    has_logprobs: bool
    directives: Mapping[str, str]
    inputs: tuple[str, ...] = ()
    dimensions: int = _DIMENSIONS
    ignores_end: bool = False
    """Goes on to the limit."""
    echoes: bool = False
    """A completion begins with its prompt."""

    @property
    def nonce(self) -> str | None:
        match = _NONCE.search(self.prompt)
        return None if match is None else match.group(1)

    @property
    def logprob(self) -> float:
        """That of every token: `[[fake:logprob=-2]]` in the prompt, or -0.1."""
        return float(self.directives.get("logprob") or _LOGPROB)


def read_body(
    path: str, body: Mapping[str, Any], *, tokens: int, ignores_limit: bool
) -> SimulatedRequest:
    """Reads a body of one of the three operations; `tokens` is the answer's length unless the body limits it."""
    prompt = _prompt(body)
    directives = {name: value or "" for name, value in _DIRECTIVE.findall(prompt)}
    wanted = int(directives.get("tokens") or tokens)
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    if isinstance(limit, int) and not ignores_limit:
        wanted = limit if body.get("ignore_eos") else min(wanted, limit)
    wanted = max(wanted, int(body.get("min_tokens") or 0))
    options = body.get("stream_options")
    inputs = body.get("input", ())
    return SimulatedRequest(
        is_chat=path.endswith("/chat/completions"),
        model=str(body.get("model", "fake")),
        prompt=prompt,
        tokens=max(1, wanted),
        is_stream=bool(body.get("stream")),
        has_usage=bool(options.get("include_usage")) if isinstance(options, dict) else False,
        choices=int(body.get("n") or 1),
        has_logprobs=bool(body.get("logprobs")) and "no-logprobs" not in directives,
        directives=directives,
        inputs=(inputs,) if isinstance(inputs, str) else tuple(str(item) for item in inputs),
        dimensions=int(body.get("dimensions") or _DIMENSIONS),
        ignores_end=bool(body.get("ignore_eos")),
        echoes=bool(body.get("echo")) and not path.endswith("/chat/completions"),
    )


def words(asked: SimulatedRequest) -> Iterator[str]:
    """The answer, token by token: the mark, the nonce where there is one, then filler."""
    first = SIMULATED if asked.nonce is None else f"{SIMULATED} nonce:{asked.nonce}"
    yield asked.prompt + first if asked.echoes else first
    for index in range(asked.tokens - 1):
        yield _WORDS[index % len(_WORDS)]


def finish_reason(asked: SimulatedRequest, configured: int) -> str:
    return "length" if asked.ignores_end or asked.tokens < configured else "stop"


def usage(asked: SimulatedRequest) -> dict[str, int]:
    prompt = len(asked.prompt.split())
    completion = asked.tokens * asked.choices
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def whole(asked: SimulatedRequest, call: int, configured: int) -> dict[str, Any]:
    """The object of a call that is not streamed."""
    text = "".join(words(asked))
    reason = finish_reason(asked, configured)
    choices: list[dict[str, Any]] = []
    for index in range(asked.choices):
        choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if asked.is_chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        if asked.has_logprobs:
            choice["logprobs"] = _logprobs(asked, list(words(asked)))
        choices.append(choice)
    return {
        "id": f"fake-{call}",
        "object": "chat.completion" if asked.is_chat else "text_completion",
        "created": 0,
        "model": asked.model,
        "choices": choices,
        "usage": usage(asked),
    }


def part(
    asked: SimulatedRequest, call: int, index: int, token: str | None, reason: str | None
) -> dict[str, Any]:
    """One streamed chunk: a token, or (None) the closing one with its reason."""
    choice: dict[str, Any] = {"index": index, "finish_reason": reason}
    if asked.is_chat:
        choice["delta"] = {} if token is None else {"role": "assistant", "content": token}
    else:
        choice["text"] = token or ""
    if asked.has_logprobs and token is not None:
        choice["logprobs"] = _logprobs(asked, [token])
    return {
        "id": f"fake-{call}",
        "object": "chat.completion.chunk" if asked.is_chat else "text_completion",
        "created": 0,
        "model": asked.model,
        "choices": [choice],
    }


def usage_part(asked: SimulatedRequest, call: int) -> dict[str, Any]:
    """The last chunk when usage was asked for."""
    whole_part = part(asked, call, 0, None, None)
    return whole_part | {"choices": [], "usage": usage(asked)}


def embeddings(asked: SimulatedRequest) -> dict[str, Any]:
    """Vectors made from a hash of each input: equal inputs, equal vectors of length 1."""
    tokens = sum(len(text.split()) for text in asked.inputs)
    return {
        "object": "list",
        "model": asked.model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _vector(text, asked.dimensions),
            }
            for index, text in enumerate(asked.inputs)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(text: str, dimensions: int) -> list[float]:
    """A shorter one has the direction that the longer one begins with."""
    digest = hashlib.shake_128(text.encode()).digest(dimensions)
    raw = [byte / 127.5 - 1.0 for byte in digest]
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [value / length for value in raw]


def _logprobs(asked: SimulatedRequest, tokens: list[str]) -> dict[str, Any]:
    if not asked.is_chat:
        return {
            "tokens": tokens,
            "token_logprobs": [asked.logprob] * len(tokens),
            "top_logprobs": [{token: asked.logprob} for token in tokens],
            "text_offset": [0] * len(tokens),
        }
    return {
        "content": [
            {
                "token": token,
                "logprob": asked.logprob,
                "bytes": list(token.encode()),
                "top_logprobs": [],
            }
            for token in tokens
        ]
    }


def _prompt(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if isinstance(messages, list):
        return "\n".join(_content(message) for message in messages if isinstance(message, dict))
    prompt = body.get("prompt", body.get("input", ""))
    return prompt if isinstance(prompt, str) else " ".join(str(item) for item in prompt)


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return str(content or "")
