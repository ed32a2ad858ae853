"""How a request ended, whichever way we learnt it, and what an HTTP caller is told."""

from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.responses import Response

from events.names import Operation, State
from events.parsers import Terminal, parse_pickspin
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer, answer_headers, id_headers
from functions.ingress.parse_call import InferenceCall
from functions.ingress.sse_response import DONE, chunks_of, data_frame
from functions.ports.store import RequestRow
from functions.runtime.errors import CODES, ApiError, BlobMissing

MAX_ANSWER_FACTOR: Final = 32
"""An answer that travelled by reference may be this many times larger than an inline body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A terminal with its data (JSON bytes): the OpenAI object, or `{"error": ...}`."""

    request_id: str
    state: State
    status: int
    data: bytes


class _FailureData(msgspec.Struct, frozen=True):
    error: msgspec.Raw = msgspec.Raw(b"null")


class _ErrorCode(msgspec.Struct, frozen=True):
    code: str | None = None


async def load_result(deps: Dependencies, terminal: Terminal) -> Result:
    """The result of a terminal event. Loads data that travelled by reference."""
    data = terminal.data
    status = terminal.status
    state = terminal.state
    if data is None and terminal.dataref is not None:
        limit = deps.settings.broker.inline_bytes * MAX_ANSWER_FACTOR
        try:
            data = await deps.offload(deps.blobs.get, terminal.dataref, limit_bytes=limit)
        except BlobMissing:
            error = ApiError("reply_too_large", "The answer is no longer there, or too large.")
            body = error.body(terminal.request_id) | {"status": error.status}
            state, status, data = State.FAILED, error.status, msgspec.json.encode(body)
    return Result(request_id=terminal.request_id, state=state, status=status, data=data or b"{}")


def read_result(row: RequestRow) -> Result:
    """The result that the store keeps of a request that has ended.

    Raises:
        ApiError: `request_gone` when the answer was not kept (`store: false`).
    """
    if row.result is None:
        raise ApiError("request_gone", "That request ended, and its answer was not kept.")
    return Result(request_id=row.id, state=row.state, status=row.status or 200, data=row.result)


def to_response(result: Result) -> Response:
    """The HTTP answer: the bytes as the worker wrote them, with headers that repeat the decision."""
    headers = id_headers(result.request_id) | answer_headers(parse_pickspin(result.data))
    if result.state is not State.COMPLETED:
        code = _error_code(result.data)
        if code in CODES:
            headers |= ApiError(code, "").headers()
    return answer(result.data, result.status, headers)


def whole_stream(call: InferenceCall, result: Result) -> bytes:
    """All events of a stream whose answer is there in one piece."""
    if result.state is not State.COMPLETED:
        return data_frame(result.data)
    body = msgspec.json.decode(result.data)
    if not call.has_usage:
        body.pop("usage", None)
    kind = "chat.completion.chunk" if call.operation is Operation.CHAT else "text_completion"
    return b"".join(map(data_frame, chunks_of(body, kind))) + DONE


def deadline_exceeded() -> ApiError:
    """The error of a call past its deadline."""
    return ApiError("deadline_exceeded", "The deadline passed before the answer was complete.")


def read_error(data: bytes | None) -> msgspec.Raw | None:
    """The OpenAI error object of a failed reply's data; None where there is none."""
    try:
        return None if data is None else msgspec.json.decode(data, type=_FailureData).error
    except (msgspec.MsgspecError, ValueError):
        return None


def _error_code(data: bytes) -> str:
    """The code of a failed reply's data; `internal` where there is none."""
    try:
        error = msgspec.json.decode(read_error(data) or b"null", type=_ErrorCode | None)
    except (msgspec.MsgspecError, ValueError):
        return "internal"
    return (None if error is None else error.code) or "internal"
