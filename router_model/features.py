"""What the router may know of a prompt cheaply: its text for classification, and how many tokens it may be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from events.types import Operation

MAX_CLASSIFIED_CHARS: Final = 8_000
"""A classifier reads this much of the question: bounds the time of a decision."""
CHARS_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
"""Role and separators of one chat message."""
DEFAULT_ANSWER_TOKENS: Final = 256
"""Expected length of an answer whose length is not limited below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFeatures:
    """Features of one prompt.

    `text` is the question (last user message, prompt or input), cut to `MAX_CLASSIFIED_CHARS`. `tokens` is an estimate
    of the whole prompt. `least_tokens` is a lower bound: tokens given as numbers plus words, since tokenisers do not
    join words. `answer_limit` is the caller's own limit of answer tokens, None where absent.
    """

    operation: Operation
    text: str
    tokens: int
    least_tokens: int
    answer_limit: int | None = None

    @property
    def answer_tokens(self) -> int:
        """Expected tokens of the answer; 0 for embeddings."""
        if self.operation is Operation.EMBEDDINGS:
            return 0
        return min(DEFAULT_ANSWER_TOKENS, self.answer_limit or DEFAULT_ANSWER_TOKENS)


def prompt_features(operation: Operation, body: Mapping[str, object]) -> PromptFeatures:
    """Features of a body that was checked; parts of an unexpected shape count as empty.

    For embeddings of several inputs the tokens are those of the longest one: each is embedded by itself.
    """
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    answer_limit = limit if isinstance(limit, int) and limit > 0 else None
    if operation is Operation.CHAT:
        texts = tuple(_message_texts(body.get("messages")))
        extra = MESSAGE_TOKENS * len(texts)
        tokens = extra + sum(_tokens(text) for _, text in texts)
        least = sum(_words(text) for _, text in texts)
        text = _question(texts)
    else:
        parts = tuple(_parts(body.get("input" if operation is Operation.EMBEDDINGS else "prompt")))
        tokens = max((_tokens(part) for part in parts), default=0)
        least = max((_words(part) for part in parts), default=0)
        text = next((part for part in parts if isinstance(part, str)), "")
    return PromptFeatures(
        operation=operation,
        text=text[:MAX_CLASSIFIED_CHARS],
        tokens=max(1, tokens),
        least_tokens=least,
        answer_limit=answer_limit,
    )


def _question(texts: tuple[tuple[str, str], ...]) -> str:
    """The last user message, else the last message."""
    for role, text in reversed(texts):
        if role == "user" and text:
            return text
    return texts[-1][1] if texts else ""


def _message_texts(messages: object) -> Iterator[tuple[str, str]]:
    if not isinstance(messages, list):
        return
    for message in messages:
        if isinstance(message, Mapping):
            yield str(message.get("role")), _content(message.get("content"))


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _parts(value: object) -> Iterator[str | int]:
    """The single prompts of a prompt or input: text, or the number of tokens already counted by the caller."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and isinstance(value[0], int):
        yield len(value)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str):
                yield item
            elif isinstance(item, list):
                yield len(item)


def _tokens(part: str | int) -> int:
    if isinstance(part, int):
        return part
    # Bytes, not characters: scripts beyond ASCII take more tokens a character.
    size = len(part) if part.isascii() else len(part.encode("utf-8", "surrogatepass"))
    return -(-size // CHARS_PER_TOKEN)


def _words(part: str | int) -> int:
    return part if isinstance(part, int) else len(part.split())
