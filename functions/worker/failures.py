"""What can become of a model call, beside an answer.

ApiError (functions.errors)   final: the caller gets this error
CallFailed                    this call ended without an answer; another attempt may follow if nothing was streamed
├── BadReply                  the server answered something that is no answer
NotNow                        the server takes no work at the moment; call again later, no attempt was used up
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from functions.errors import ApiError, PickspinError

MAX_WAIT_S: Final = 5.0
"""Longest pause between calls to a server that answers "not now", whatever its Retry-After says."""
_CONTEXT_WORDS: Final = (
    "context length",
    "context size",
    "context window",
    "maximum context",
    "max_model_len",
    "too large to process",
)
_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})


class CallFailed(PickspinError):
    """A call ended without an answer. `reason` is a short word for logs and metrics, never upstream text."""

    code = "backend_failed"
    message = "the model server failed before it had answered; the request may be sent again"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def final(self) -> ApiError:
        """The error that the caller gets when no further attempt follows."""
        return ApiError(self.code, self.message, src="model")


class BadReply(CallFailed):
    """The model server's answer cannot be read or is not the answer to this request."""

    code = "bad_backend_reply"
    message = "the model server sent an answer that is not valid"


class NotNow(PickspinError):
    """The model server cannot take the call now. `wait_s`: its own wish, bounded; None where it said nothing."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


def of_status(status: int, headers: Mapping[str, str], body: Any) -> ApiError | CallFailed | NotNow:
    """What an HTTP status other than 200 means. Nothing of `body` reaches the caller: it may hold secrets."""
    if status in {429, 503}:
        return NotNow(f"http_{status}", _wait_s(headers))
    if status == 413 or (status >= 400 and _is_context(body)):
        return ApiError(
            "context_length_exceeded",
            "the prompt and the wanted answer do not fit into the model's context",
            src="model",
        )
    if status in {400, 422}:
        return ApiError(
            "invalid_value", "the model server does not accept a field of this request", src="model"
        )
    if status in {401, 403, 404, 405, 415}:
        return ApiError(
            "backend_failed", "the model server refused the gateway's call", src="model"
        )
    return CallFailed(f"http_{status}")


def of_transport(error: httpx.HTTPError) -> CallFailed | NotNow:
    """What a transport error means: nothing was begun (call again), or the call is lost."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return NotNow("connect")
    if isinstance(error, httpx.TimeoutException):
        return CallFailed("silence")
    if isinstance(error, httpx.DecodingError):
        return BadReply("encoding")
    return CallFailed("reset")


def of_error_object(error: Any) -> ApiError | CallFailed:
    """What an error object inside a 200 answer, or in the middle of a stream, means."""
    status = error.get("code") if isinstance(error, dict) else None
    # A list has no hash: only numbers are looked up.
    if (isinstance(status, int) and status in {400, 413, 422}) or _is_context({"error": error}):
        found = of_status(400, {}, {"error": error})
        if isinstance(found, ApiError):
            return found
    return BadReply("error_in_reply")


def _is_context(body: Any) -> bool:
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return False
    if {str(error.get("code")), str(error.get("type"))} & _CONTEXT_CODES:
        return True
    message = error.get("message")
    return isinstance(message, str) and any(
        word in message[:2000].lower() for word in _CONTEXT_WORDS
    )


def _wait_s(headers: Mapping[str, str]) -> float | None:
    try:
        wanted = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(MAX_WAIT_S, wanted) if wanted >= 0 else None
