"""Answers: refusals in OpenAI's envelope, JSON, and the `x-pickspin-*` headers. No decision is made here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from events.codecs.json_codec import dumps
from events.errors import EventRejected
from events.payloads import DECISION_WORDS, PickspinData, ProgressData
from functions.runtime.errors import CODES, ApiError, StoreFailed


@dataclass(frozen=True, slots=True)
class AnswerHeader:
    """A header of an answer that repeats what its data says at `path`."""

    name: str
    path: str
    meaning: str


ANSWER_HEADERS: Final = (
    AnswerHeader("x-pickspin-model", "model", "The model that answers."),
    AnswerHeader("x-pickspin-service", "service", "The service that answers."),
    *(
        AnswerHeader(word.header, f"decision.{word.field}", word.meaning)
        for word in DECISION_WORDS
        if word.header is not None
    ),
    AnswerHeader("x-pickspin-cascade", "cascade.steps", "The services that were called, in order."),
    AnswerHeader("x-pickspin-confidence", "cascade.confidence", "Confidence of the answer."),
    AnswerHeader("x-pickspin-queue-ms", "timings.queue_ms", "Milliseconds in the queue."),
    AnswerHeader("x-pickspin-load-ms", "timings.load_ms", "Milliseconds of loading the model."),
    AnswerHeader("x-pickspin-cost", "cost.usd", "US dollars."),
)


def as_refusal(error: Exception) -> ApiError | None:
    """The refusal for an exception. None: an unexpected one.

    A locked or unreachable store and a full disk are expected: nothing was accepted, retry.
    """
    match error:
        case ApiError():
            return error
        case EventRejected():
            return _of_rejected(error)
        case StoreFailed(is_transient=True):
            return storage_unavailable()
        case ConnectionError() | TimeoutError():
            return None
        case OSError():
            return storage_unavailable()
        case _:
            return None


def storage_unavailable() -> ApiError:
    return ApiError("storage_unavailable", "What is kept here is out of reach just now; try again.")


def _of_rejected(rejected: EventRejected) -> ApiError:
    code = rejected.code if rejected.code in CODES else "invalid_body"
    return ApiError(code, rejected.message, param=rejected.attribute)


def refusal(error: ApiError, request_id: str | None) -> Response:
    """The HTTP answer of an error."""
    headers = id_headers(request_id) | error.headers()
    if error.code == "invalid_api_key":
        headers["www-authenticate"] = "Bearer"
    return Response(dumps(error.body(request_id)), error.status, headers, "application/json")


def answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer; bytes are taken as JSON already."""
    body = content if isinstance(content, bytes) else dumps(content)
    return Response(body, status, dict(headers or {}), "application/json")


def id_headers(request_id: str | None) -> dict[str, str]:
    """`x-pickspin-request-id`, and `x-request-id` for the official client."""
    return (
        {}
        if request_id is None
        else {"x-pickspin-request-id": request_id, "x-request-id": request_id}
    )


def answer_headers(about: PickspinData | ProgressData | None) -> dict[str, str]:
    """The `x-pickspin-*` headers of an answer. Unknown values are left out."""
    texts = ((header.name, _text_at(about, header.path)) for header in ANSWER_HEADERS)
    return {name: header_safe(text) for name, text in texts if text}


def _text_at(about: object, path: str) -> str:
    for name in path.split("."):
        about = getattr(about, name, None)
    match about:
        case str():
            return about
        case int() | float():
            return f"{about:.9f}".rstrip("0").rstrip(".") or "0"
        case tuple():
            return ",".join(step.service for step in about)
        case _:
            return ""


def header_safe(text: str) -> str:
    """Text without what a header must not carry: control characters, and anything beyond ASCII."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:256]
