"""The lines of batch files: what is asked, what was answered, and which work a resumed run still has. Pure.

An input line is OpenAI's batch format (`custom_id`, `method`, `url`, `body`) or a bare request body; an output line is
OpenAI's batch output (`custom_id`, `response`, `error`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from events import ids
from events.codecs import json_codec
from events.errors import EventRejected
from events.limits import DEFAULT_LIMITS, Limits
from functions.runtime.errors import PickspinError

PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
OUR_START: Final = b'{"id":"batch-'
"""What every line that we write begins with: nobody else's file is ever cut off."""
WRAPPER_KEYS: Final = frozenset({"custom_id", "method", "url", "body"})


class BadLine(PickspinError):
    """A line of the input cannot be understood; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of the input. `key` is the same in every run over the same line; `retry` counts the runs in which it
    was answered with a failure.
    """

    number: int
    custom_id: str
    path: str
    body: Mapping[str, object]
    key: str
    retry: int = 0

    @property
    def idempotency_key(self) -> str:
        """Joins a repeated request to the first one; after an answered failure it is another, or it would fail again
        from the ingress's memory.
        """
        return f"{self.key}-{self.retry}" if self.retry else self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one request ended. `status` None: no answer came. `is_ok`: a response that is not an error."""

    ask: Ask
    status: int | None
    request_id: str | None
    body: object | None
    problem: str | None = None

    @property
    def is_ok(self) -> bool:
        return self.status is not None and self.status < 400


def read_asks(
    lines: Iterable[bytes], *, model: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> tuple[Ask, ...]:
    """Every request of an input file; empty lines and a byte order mark at its beginning are skipped. `model` replaces
    the model of every body.

    Raises:
        BadLine: with the number of the first bad line and what is wrong, or two lines with one `custom_id`.
    """
    asks: list[Ask] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(lines, start=1):
        text = json_codec.without_mark(raw) if number == 1 else raw
        if not text.strip():
            continue
        ask = _read_ask(number, text, model, limits)
        if ask.custom_id in seen:
            raise BadLine(f"line {number}: custom_id is that of line {seen[ask.custom_id]}")
        seen[ask.custom_id] = number
        asks.append(ask)
    return tuple(asks)


def _read_ask(number: int, raw: bytes, model: str | None, limits: Limits) -> Ask:
    try:
        found = json_codec.loads(raw.strip(), limits)
    except EventRejected as error:
        raise BadLine(f"line {number}: {error.message}") from error
    if not isinstance(found, dict):
        raise BadLine(f"line {number}: not a JSON object")
    wrapper: dict[str, Any] = (
        found if "body" in found and found.keys() <= WRAPPER_KEYS else {"body": found}
    )
    body, custom_id = wrapper["body"], wrapper.get("custom_id", f"line-{number}")
    problem = _problem(wrapper, body, custom_id)
    if problem is not None:
        raise BadLine(f"line {number}: {problem}")
    path = wrapper.get("url") or _path_of(body)
    asked = body if model is None else {**body, "model": model}
    content = json_codec.dumps([custom_id, path, asked])
    return Ask(
        number=number,
        custom_id=custom_id,
        path=path,
        body=asked,
        key=f"batch-{ids.content_hash(content)}",
    )


def _problem(wrapper: Mapping[str, Any], body: Any, custom_id: Any) -> str | None:
    """What is wrong with a line, or None."""
    if not isinstance(body, dict):
        return "body is not a JSON object"
    if not isinstance(custom_id, str) or not custom_id:
        return "custom_id is not text"
    url = wrapper.get("url", "/v1/completions")
    if not isinstance(url, str) or url not in PATHS:
        return f"url is not one of {', '.join(sorted(PATHS))}"
    if wrapper.get("method", "POST") != "POST":
        return "method is not POST"
    return "stream is not possible in a batch" if body.get("stream") else None


def _path_of(body: Mapping[str, object]) -> str:
    """The door of a bare body, by its field."""
    if "messages" in body:
        return "/v1/chat/completions"
    return "/v1/embeddings" if "input" in body else "/v1/completions"


def output_line(answer: Answer) -> bytes:
    """The answer as one line of OpenAI's batch output, `retry` added."""
    response = None
    if answer.status is not None:
        response = {
            "status_code": answer.status,
            "request_id": answer.request_id,
            "body": answer.body,
        }
    error = None if answer.problem is None else {"code": "no_answer", "message": answer.problem}
    line = {
        "id": answer.ask.key,
        "custom_id": answer.ask.custom_id,
        "response": response,
        "error": error,
        "retry": answer.ask.retry,
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a file of an earlier run holds: requests by key, each with its `retry` number for the next run.

    `good_bytes` is where the last whole line ends: what follows is torn.
    """

    retries: Mapping[str, int]
    good_bytes: int


def read_written(lines: Iterable[bytes]) -> Written:
    """Reads output or errors of an earlier run. Only the last line may be torn.

    Raises:
        BadLine: a line before the last is not one of ours: this is another file.
    """
    retries: dict[str, int] = {}
    good_bytes, torn = 0, None
    for number, raw in enumerate(lines, start=1):
        if torn is not None:
            raise _another_file(torn)
        found = _read_written_line(raw)
        if found is None:
            torn = number
            if raw[: len(OUR_START)] != OUR_START[: len(raw)]:
                raise _another_file(torn)
            continue
        retries[found[0]] = found[1]
        good_bytes += len(raw)
    return Written(retries=retries, good_bytes=good_bytes)


def remaining(asks: Iterable[Ask], done: Written, failed: Written) -> tuple[Ask, ...]:
    """The requests that are not done; those that failed with an answer get a new idempotency key."""
    return tuple(
        replace(ask, retry=failed.retries.get(ask.key, 0))
        for ask in asks
        if ask.key not in done.retries
    )


def _another_file(number: int) -> BadLine:
    return BadLine(f"line {number} of an earlier result is not ours: is it another file?")


def _read_written_line(raw: bytes) -> tuple[str, int] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        return None
    retry = found.get("retry", 0)
    if not isinstance(retry, int):
        return None
    return found["id"], retry + (found.get("response") is not None)
