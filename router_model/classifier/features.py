"""What the router may know of a prompt cheaply: its text, how many tokens it may be, what it asks of a model."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from events.names import Operation
from events.openai.operations import OPERATIONS
from router_model.routing.backend_fields import list_used_fields

Need = Literal["tools", "vision"]
"""A capability that a body asks for beyond its operation."""

MAX_CLASSIFIED_CHARS: Final = 8_000
"""A classifier reads this much of the question: bounds the time of a decision."""
TAIL_CHARS: Final = 400
"""Of a longer question the end is kept too: instructions often follow the text that they are about."""
CHARS_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
"""Role and separators of one chat message."""
DEFAULT_ANSWER_TOKENS: Final = 256
"""Expected length of an answer whose length is not limited below it."""
_IMAGES: Final = frozenset({"image_url", "input_image", "video_url"})
_AUDIO: Final = frozenset({"input_audio", "audio_url"})
_SPACES: Final = bytes(32 if chr(code).isspace() and code < 128 else 120 for code in range(256))
"""Every byte as a space or an x; white space beyond ASCII counts as part of a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFeatures:
    """Features of one prompt.

    `text` is the question (last user message, prompt or input), cut to `MAX_CLASSIFIED_CHARS`. `tokens` is an estimate
    of the whole prompt. `least_tokens` is a lower bound: tokens given as numbers plus words, since tokenisers do not
    join words. `answer_limit` is the caller's own limit of answer tokens, None where absent.
    `tail` is the end of a question that was cut, else empty. `needs` are the capabilities that the body asks for.
    `opening` are the features that a conversation had when it began, `conversation` is a hash of its first question and
    answer, which every further turn repeats; None for what is none, or only begins.
    """

    operation: Operation
    text: str
    tokens: int
    least_tokens: int
    answer_limit: int | None = None
    tail: str = ""
    needs: tuple[Need, ...] = ()
    opening: "PromptFeatures | None" = None
    conversation: str | None = None
    fields: tuple[str, ...] = ()
    """Fields of the body that not every model server takes (router_model.routing.backend_fields)."""
    choices: int = 1
    has_audio: bool = False
    most_token_id: int = -1
    """The highest of the tokens that the body gives as numbers; -1: none."""

    @property
    def answer_tokens(self) -> int:
        """Expected tokens of the answer; 0 for embeddings."""
        if not OPERATIONS[self.operation].is_generative:
            return 0
        return min(DEFAULT_ANSWER_TOKENS, self.answer_limit or DEFAULT_ANSWER_TOKENS)


def extract_features(operation: Operation, body: Mapping[str, object]) -> PromptFeatures:
    """Features of a body that was checked; parts of an unexpected shape count as empty.

    For embeddings of several inputs the tokens are those of the longest one: each is embedded by itself.
    """
    found = _features(operation, body)
    question, answer = _first_turn(operation, body)
    if not answer:
        return found
    said = "\0".join(text for pair in _message_texts(answer) for text in pair)
    return replace(
        found,
        opening=_features(operation, {**body, "messages": question}),
        conversation=hashlib.blake2b(
            said.encode("utf-8", "surrogatepass"), digest_size=16
        ).hexdigest(),
    )


def _features(operation: Operation, body: Mapping[str, object]) -> PromptFeatures:
    """The same, of the last turn alone."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    answer_limit = limit if isinstance(limit, int) and limit > 0 else None
    if operation is Operation.CHAT:
        texts = tuple(_message_texts(body.get("messages")))
        extra = MESSAGE_TOKENS * len(texts)
        tokens = extra + sum(_tokens(text) for _, text in texts)
        least = sum(_words(text) for _, text in texts)
        text = _question(texts)
    else:
        parts = tuple(_parts(body.get(OPERATIONS[operation].prompt_field)))
        tokens = max((_tokens(part) for part in parts), default=0)
        least = max((_words(part) for part in parts), default=0)
        text = next((part for part in parts if isinstance(part, str)), "")
    return PromptFeatures(
        operation=operation,
        text=text[:MAX_CLASSIFIED_CHARS],
        tokens=max(1, tokens),
        least_tokens=least,
        answer_limit=answer_limit,
        tail=text[-TAIL_CHARS:] if len(text) > MAX_CLASSIFIED_CHARS else "",
        **_wants(operation, body),
    )


def extract_wants(operation: Operation, body: Mapping[str, object]) -> PromptFeatures:
    """What a checked body wants of a model server, without a look at its text: that may be long."""
    return PromptFeatures(
        operation=operation, text="", tokens=1, least_tokens=0, **_wants(operation, body)
    )


def _wants(operation: Operation, body: Mapping[str, object]) -> dict[str, Any]:
    is_chat = operation is Operation.CHAT
    return {
        "needs": tuple(_needs(operation, body)),
        "fields": list_used_fields(operation, body),
        "choices": _count(body.get("n")),
        "has_audio": is_chat and _has_part(body.get("messages"), _AUDIO),
        "most_token_id": -1 if is_chat else _most_token_id(body),
    }


def _first_turn(
    operation: Operation, body: Mapping[str, object]
) -> tuple[list[object], list[object]]:
    """The messages up to the first of the user's, and up to the answer to it; both empty where nothing follows it (a
    further question, or what a tool said).
    """
    messages = body.get("messages") if operation is Operation.CHAT else None
    if not isinstance(messages, list):
        return [], []
    roles = [message.get("role") for message in messages if isinstance(message, Mapping)]
    first = roles.index("user") if "user" in roles else len(roles)
    answer = roles.index("assistant", first) if "assistant" in roles[first:] else len(roles)
    if len(roles) != len(messages) or answer + 1 >= len(roles):
        return [], []
    return messages[: first + 1], messages[: answer + 1]


def limit_answer(features: PromptFeatures, answer_tokens: int) -> PromptFeatures:
    """The features with a further limit of answer tokens."""
    limit = min(answer_tokens, features.answer_limit or answer_tokens)
    return replace(features, answer_limit=limit)


def _needs(operation: Operation, body: Mapping[str, object]) -> Iterator[Need]:
    if operation is not Operation.CHAT:
        return
    if (body.get("tools") or body.get("functions")) and body.get("tool_choice") != "none":
        yield "tools"
    if _has_part(body.get("messages"), _IMAGES):
        yield "vision"


def _has_part(messages: object, kinds: Collection[str]) -> bool:
    """Whether a message has a part of one of these kinds."""
    contents = (
        message.get("content")
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, Mapping)
    )
    return any(
        isinstance(part, Mapping) and isinstance(part.get("type"), str) and part["type"] in kinds
        for content in contents
        if isinstance(content, list)
        for part in content
    )


def _count(found: object) -> int:
    return found if isinstance(found, int) and found > 0 else 1


def _most_token_id(body: Mapping[str, object]) -> int:
    """Of a prompt or input that is given as numbers, alone or in lists."""
    items = body.get("input", body.get("prompt"))
    if not isinstance(items, list) or not items or isinstance(items[0], str):
        return -1
    lists = [items] if isinstance(items[0], int) else items
    return max((_highest(one) for one in lists if isinstance(one, list)), default=-1)


def _highest(tokens: list[Any]) -> int:
    """There may be a million: they are compared where they are. -1 where they are no numbers."""
    try:
        found = max(tokens, default=-1)
    except TypeError:
        return -1
    return found if isinstance(found, int) else -1


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
    """Pieces between ASCII white space, in a third of the time of `split` on a long text."""
    if isinstance(part, int):
        return part
    marks = part.encode("utf-8", "surrogatepass").translate(_SPACES)
    return marks.count(b" x") + marks.startswith(b"x")
