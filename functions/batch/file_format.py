"""The lines of batch files: what is asked, and what an earlier run has answered. Pure.

An input line is OpenAI's batch format (`custom_id`, `method`, `url`, `body`) or a bare request
body. An output line is OpenAI's batch output (`id`, `custom_id`, `response`, `error`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from events import ids
from events.codecs import json_codec
from events.errors import EventRejected
from functions.runtime.errors import PickspinError

PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
WRAPPER_KEYS: Final = frozenset({"custom_id", "method", "url", "body"})
MAX_LINES: Final = 50_000
"""Most lines of one batch of the ingress."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""Size at which a batch of the ingress takes no further line."""


class BadLine(PickspinError):
    """A line of the input cannot be understood; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of the input. `key` is the same in every run over the same line."""

    number: int
    custom_id: str
    path: str
    body: Mapping[str, object]
    key: str

    @property
    def line(self) -> bytes:
        """The request as a line of OpenAI's batch input."""
        wrapper = {"custom_id": self.custom_id, "method": "POST", "url": self.path}
        return json_codec.dumps(wrapper | {"body": self.body}) + b"\n"


def read_asks(lines: Iterable[bytes], *, model: str | None = None) -> tuple[Ask, ...]:
    """Every request of an input file; a byte order mark and empty lines are skipped.

    `model` replaces the model of every body.

    Raises:
        BadLine: with the number of the first bad line and what is wrong, or two lines with one
            `custom_id`.
    """
    asks: list[Ask] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(lines, start=1):
        text = json_codec.without_mark(raw) if number == 1 else raw
        if not text.strip():
            continue
        ask = _read_ask(number, text, model)
        if ask.custom_id in seen:
            raise BadLine(f"line {number}: custom_id is that of line {seen[ask.custom_id]}")
        seen[ask.custom_id] = number
        asks.append(ask)
    return tuple(asks)


def _read_ask(number: int, raw: bytes, model: str | None) -> Ask:
    try:
        value = json_codec.loads(raw.strip())
    except EventRejected as error:
        raise BadLine(f"line {number}: {error.message}") from error
    if not isinstance(value, dict):
        raise BadLine(f"line {number}: not a JSON object")
    is_wrapper = "body" in value and value.keys() <= WRAPPER_KEYS
    wrapper: dict[str, Any] = value if is_wrapper else {"body": value}
    body, custom_id = wrapper["body"], wrapper.get("custom_id", f"line-{number}")
    problem = _find_problem(wrapper, body, custom_id)
    if problem is not None:
        raise BadLine(f"line {number}: {problem}")
    path = wrapper.get("url") or _path_of(body)
    asked = body if model is None else {**body, "model": model}
    content = json_codec.dumps([custom_id, path, asked])
    key = f"batch-{ids.content_hash(content)}"
    return Ask(number=number, custom_id=custom_id, path=path, body=asked, key=key)


def _find_problem(wrapper: Mapping[str, Any], body: Any, custom_id: Any) -> str | None:
    """What is wrong with a line, or None."""
    if not isinstance(body, dict):
        return "body is not a JSON object"
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 512:
        return "custom_id is not text of 1 to 512 characters"
    url = wrapper.get("url", "/v1/completions")
    if not isinstance(url, str) or url not in PATHS:
        return f"url is not one of {', '.join(sorted(PATHS))}"
    if wrapper.get("method", "POST") != "POST":
        return "method is not POST"
    return "stream is not possible in a batch" if body.get("stream") else None


def _path_of(body: Mapping[str, object]) -> str:
    """The endpoint of a bare body, by its field."""
    if "messages" in body:
        return "/v1/chat/completions"
    return "/v1/embeddings" if "input" in body else "/v1/completions"


def split_batches(asks: Sequence[Ask]) -> Iterator[tuple[Ask, ...]]:
    """The batches of the ingress that a file makes: one endpoint each, none too large.

    The whole file is split, whatever is done already: a later run splits it alike, and finds the
    batches of the one before.
    """
    for path in sorted(PATHS):
        part: list[Ask] = []
        size = 0
        for ask in asks:
            if ask.path != path:
                continue
            if len(part) >= MAX_LINES or (part and size + len(ask.line) > MAX_BYTES):
                yield tuple(part)
                part, size = [], 0
            part.append(ask)
            size += len(ask.line)
        if part:
            yield tuple(part)


def read_done(lines: Iterable[bytes]) -> frozenset[str]:
    """The keys of the requests that the output of an earlier run answers.

    Raises:
        BadLine: a line is not ours: this is another file.
    """
    done: set[str] = set()
    for number, raw in enumerate(lines, start=1):
        try:
            line = json.loads(raw)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not str(line.get("id")).startswith("batch-"):
            raise BadLine(f"line {number} of an earlier result is not ours: is it another file?")
        done.add(str(line["id"]))
    return frozenset(done)


def name_results(content: bytes, asks: Sequence[Ask]) -> bytes:
    """Lines of a batch's output or error file, each with the `key` of its request as its id."""
    keys = {ask.custom_id: ask.key for ask in asks}
    lines = (json.loads(raw) for raw in content.splitlines())
    return b"".join(
        json_codec.dumps({**line, "id": keys[line["custom_id"]]}) + b"\n" for line in lines
    )
