"""What can become of a model call, beside an answer.

ApiError (functions.runtime.errors)   final: the caller gets this error
CallFailed                    this call ended without an answer; another attempt may follow if nothing was streamed
├── BadReply                  the server answered something that is no answer
NotNow                        the server takes no work at the moment; call again later, no attempt was used up
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from functions.backends.refusal_quotes import read_param, read_quote
from functions.backends.server_refusals import read_refusal
from functions.runtime.errors import ApiError, PickspinError

MAX_WAIT_S: Final = 5.0
"""Longest pause between calls to a server that answers "not now", whatever its Retry-After says."""
_MS: Final = 1000.0
_NOT_NOW: Final = frozenset({429, 498, 503, 529})
"""Statuses of servers that take no work; 498 is Groq's, 529 Anthropic's."""
_AT_FAULT: Final = frozenset({400, 413, 422})
_TOO_LONG: Final = "the prompt and the wanted answer do not fit into the model's context"
_CANNOT: Final = (
    "the model or its server cannot do what the request asks for (tools, images, a format)"
)


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
    """The model server cannot take the call now. `wait_s`: its own wish, bounded. None: it has
    none.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


def read_status_error(
    status: int, headers: Mapping[str, str], body: Any
) -> ApiError | CallFailed | NotNow:
    """What an HTTP status other than 200 means. Of `body` the caller reads only why a field is not accepted, without
    what may be secret.
    """
    meaning = read_refusal(body).meaning
    if status == 402 or meaning == "quota":
        return _final("backend_failed", "the account at the model's provider is used up")
    if status in _NOT_NOW:
        return NotNow(f"http_{status}", _wait_s(headers))
    if status == 413 or meaning == "context":
        return _final("context_length_exceeded", _TOO_LONG)
    if status == 501 or meaning == "capability":
        return _final("capability_missing", _CANNOT)
    if status in {400, 422}:
        return _invalid(body)
    if status in {401, 403, 404, 405, 415}:
        return _final("backend_failed", "the model server refused the gateway's call")
    if meaning == "busy":
        return NotNow(f"http_{status}", _wait_s(headers))
    return CallFailed(f"http_{status}")


def _invalid(body: Any) -> ApiError:
    quote = read_quote(body)
    message = "the model server does not accept a field of this request"
    if quote is not None:
        message = f"{message}: {quote}"
    return ApiError("invalid_value", message, param=read_param(body), src="model")


def _final(code: str, message: str) -> ApiError:
    return ApiError(code, message, src="model")


def read_transport_error(error: httpx.HTTPError) -> CallFailed | NotNow:
    """What a transport error means: nothing was begun (call again), or the call is lost."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return NotNow("connect")
    if isinstance(error, httpx.TimeoutException):
        return CallFailed("silence")
    if isinstance(error, httpx.DecodingError):
        return BadReply("encoding")
    return CallFailed("reset")


def read_error_object(error: Any, *, has_begun: bool = False) -> ApiError | CallFailed | NotNow:
    """What an error object inside a 200 answer, or in a stream, means. `has_begun`: the caller has seen a part of the
    answer, so that the server cannot simply be called again later.
    """
    refusal = read_refusal(error)
    is_busy = refusal.status in _NOT_NOW or refusal.meaning == "busy"
    if is_busy and refusal.meaning != "quota":
        return CallFailed("overloaded") if has_begun else NotNow("overloaded")
    if refusal.status in _AT_FAULT or refusal.meaning is not None:
        return read_status_error(400, {}, error)
    return BadReply("error_in_reply")


def _wait_s(headers: Mapping[str, str]) -> float | None:
    """The server's wish: seconds, or milliseconds in the header of OpenAI's own."""
    for name, unit in (("retry-after-ms", _MS), ("retry-after", 1.0)):
        try:
            wanted = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if wanted >= 0:
            return min(MAX_WAIT_S, wanted)
    return None
