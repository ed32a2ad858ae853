"""How a request ended, whichever way we learnt it, and what an HTTP caller is told."""

from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.responses import Response

from events.builders import Terminal
from events.names import State
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer, id_headers, info_headers, read_info
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


class _ErrorCode(msgspec.Struct, frozen=True):
    code: str | None = None


class _Failed(msgspec.Struct, frozen=True):
    error: _ErrorCode | None = None


async def of_terminal(deps: Dependencies, terminal: Terminal) -> Result:
    """The outcome of a terminal event; data that travelled by reference is fetched."""
    data = terminal.data
    status = terminal.status
    state = terminal.state
    if data is None and terminal.dataref is not None:
        limit = deps.settings.broker.inline_bytes * MAX_ANSWER_FACTOR
        try:
            data = await deps.offload(deps.blobs.get, terminal.dataref, limit_bytes=limit)
        except BlobMissing:
            error = ApiError("reply_too_large", "The answer is no longer there, or too large.")
            state, status, data = State.FAILED, error.status, _dump(error, terminal.request_id)
    return Result(request_id=terminal.request_id, state=state, status=status, data=data or b"{}")


def of_row(row: RequestRow) -> Result | None:
    """The outcome that the store keeps; None while the request goes on.

    Raises:
        ApiError: `request_gone` when the answer was not kept (`store: false`).
    """
    if not row.state.is_terminal:
        return None
    if row.result is None:
        raise ApiError("request_gone", "That request ended, and its answer was not kept.")
    return Result(request_id=row.id, state=row.state, status=row.status or 200, data=row.result)


def to_response(outcome: Result) -> Response:
    """The HTTP answer: the bytes as the worker wrote them, with headers that repeat the decision."""
    headers = id_headers(outcome.request_id) | info_headers(read_info(outcome.data))
    if outcome.state is not State.COMPLETED:
        code = error_code(outcome.data)
        if code in CODES:
            headers |= ApiError(code, "").headers()
    return answer(outcome.data, outcome.status, headers)


def error_code(data: bytes) -> str:
    """The code of a failed reply's data; `internal` where there is none."""
    try:
        error = msgspec.json.decode(data, type=_Failed).error
    except (msgspec.MsgspecError, ValueError):
        return "internal"
    return (None if error is None else error.code) or "internal"


def _dump(error: ApiError, request_id: str) -> bytes:
    return msgspec.json.encode(error.body(request_id) | {"status": error.status})
