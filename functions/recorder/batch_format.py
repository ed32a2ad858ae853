"""Lines of batch files: parses input lines, writes output lines as OpenAI's Batch API. Pure.

Ids are derived from batch and line number, so that a restarted runner repeats them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from events import ids, names
from events.codecs import json_codec
from events.errors import EventRejected
from events.event import Event
from events.names import Operation, Priority, State
from events.openai.body_validation import check_body
from events.openai.operations import BY_PATH
from events.requests import AUTO
from events.timestamps import to_rfc3339
from functions.ports.store import BatchRow, RequestRow
from functions.runtime.errors import ApiError

MAX_LINES: Final = 50_000
MAX_ERRORS: Final = 100
"""Errors kept of a refused file."""
SOURCE: Final = "/batches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an input file. `number` counts from 1. `refusal` is set where its body can never be answered."""

    number: int
    custom_id: str
    body: bytes = field(repr=False)
    """The body as it is sent: compact JSON."""
    model: str = AUTO
    is_stored: bool = True
    refusal: ApiError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """Why a file is refused: one line's fault, in OpenAI's terms. `line` None: the file's."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_data(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, "line": self.line, "param": self.param}


class _LineRefused(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(code)
        self.code, self.message, self.param = code, message, param


def read_lines(data: bytes, endpoint: str) -> tuple[tuple[Line, ...], tuple[LineError, ...]]:
    """The lines of an input file, and everything that is wrong with it (then there is no batch). A byte order mark at
    its beginning, either kind of line ends and empty lines are passed over; the latter count in line numbers.

    A body that is wrong in itself is not an error of the file: its line carries the refusal.
    """
    operation = BY_PATH.get(endpoint)
    if operation is None:
        return (), (LineError(code="invalid_endpoint", message="no such endpoint for batches"),)
    lines: list[Line] = []
    errors: list[LineError] = []
    seen: set[str] = set()
    for number, raw in _texts(data):
        if number > MAX_LINES:
            message = f"a batch has at most {MAX_LINES} lines"
            errors.append(LineError(code="too_many_lines", message=message, line=number))
            break
        try:
            lines.append(_read(number, raw, endpoint, operation, seen))
        except _LineRefused as error:
            errors.append(
                LineError(code=error.code, message=error.message, line=number, param=error.param)
            )
        if len(errors) >= MAX_ERRORS:
            break
    if not lines and not errors:
        errors.append(LineError(code="empty_file", message="the input file has no lines"))
    return tuple(lines), tuple(errors)


def line_request_id(batch_id: str, number: int) -> str:
    """The request id of a line."""
    return "req_" + ids.derive(batch_id, "line", number).replace("-", "")


def line_event(batch: BatchRow, line: Line, *, deadline: datetime, now: datetime) -> Event:
    """The request event of a line; the caller replaces a large body by a reference."""
    return Event(
        id=line_request_id(batch.id, line.number),
        source=SOURCE,
        type=names.REQUEST,
        subject=line.model,
        time=to_rfc3339(now),
        data=line.body,
        extensions={
            names.OPERATION: BY_PATH[batch.endpoint].value,
            names.TENANT: batch.tenant,
            names.PRIORITY: Priority.BATCH.value,
            names.BATCH_ID: batch.id,
            names.EXPIRY_TIME: to_rfc3339(deadline),
        },
    )


def line_row(batch: BatchRow, line: Line, *, deadline: datetime, now: datetime) -> RequestRow:
    """The row of a line's request."""
    return RequestRow(
        id=line_request_id(batch.id, line.number),
        tenant=batch.tenant,
        operation=BY_PATH[batch.endpoint].value,
        state=State.ACCEPTED,
        asked_model=line.model,
        accepted_at=now,
        deadline=deadline,
        is_background=True,
        is_stored=line.is_stored,
        batch_id=batch.id,
    )


def output_line(
    batch: BatchRow, line: Line, row: RequestRow | None, *, is_submitted: bool = False
) -> tuple[bool, bytes]:
    """(is a success, one line of the output or error file). `row` None: the line was never submitted, or (with
    `is_submitted`) nothing is known of it any more.
    """
    refusal = line.refusal
    if refusal is None and row is None and is_submitted:
        refusal = _GONE
    if refusal is not None:
        request_id = line_request_id(batch.id, line.number)
        response = _response(refusal.status, request_id, refusal.body(request_id))
        return False, _dump(batch, line, response, None)
    if row is None or row.state in {State.EXPIRED, State.CANCELLED}:
        is_cancelled = row.state is State.CANCELLED if row else batch.cancelled_at is not None
        return False, _dump(batch, line, None, _CANCELLED if is_cancelled else _EXPIRED)
    is_success = row.state is State.COMPLETED
    body = _body(row.result, is_success=is_success)
    status = row.status or (200 if is_success else 500)
    return is_success, _dump(batch, line, _response(status, row.id, body), None)


_GONE: Final = ApiError("not_found", "the answer is no longer kept")
_EXPIRED: Final = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}
_CANCELLED: Final = {
    "code": "batch_cancelled",
    "message": "This request was not executed: the batch was cancelled.",
}


def _texts(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, raw in enumerate(json_codec.without_mark(data).split(b"\n"), start=1):
        text = raw.strip(b" \t\r")
        if text:
            yield number, text


def _read(number: int, raw: bytes, endpoint: str, operation: Operation, seen: set[str]) -> Line:
    try:
        entry = json_codec.loads_object(raw)
    except EventRejected as error:
        raise _LineRefused("invalid_json_line", f"not a JSON object: {error.message}") from None
    custom_id = entry.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 512:
        message = "custom_id must be text of 1 to 512 characters"
        raise _LineRefused("invalid_custom_id", message, "custom_id")
    if custom_id in seen:
        raise _LineRefused("duplicate_custom_id", "custom_id was used before", "custom_id")
    seen.add(custom_id)
    if entry.get("method") != "POST":
        raise _LineRefused("invalid_method", "method must be POST", "method")
    if entry.get("url") != endpoint:
        raise _LineRefused("invalid_url", "url must be the endpoint of the batch", "url")
    body = entry.get("body")
    if not isinstance(body, dict):
        raise _LineRefused("invalid_body", "body must be an object", "body")
    model = body.get("model")
    return Line(
        number=number,
        custom_id=custom_id,
        body=json_codec.dumps(body),
        model=model if isinstance(model, str) else AUTO,
        is_stored=body.get("store") is not False,
        refusal=_refusal(operation, body),
    )


def _refusal(operation: Operation, body: Mapping[str, object]) -> ApiError | None:
    if body.get("stream") is True:
        return ApiError("unsupported_parameter", "a batch cannot stream", param="stream")
    try:
        check_body(operation, body)
    except EventRejected as error:
        return ApiError(error.code, error.message, param=error.attribute)
    model = body.get("model")
    if isinstance(model, str) and not ids.is_valid_id(model):
        # No catalogue has such a name, and no event may carry it.
        return ApiError("model_not_found", "no model has such a name", param="model")
    return None


def _body(result: bytes | None, *, is_success: bool) -> Mapping[str, object]:
    try:
        body = msgspec.json.decode(result or b"", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        # Forgotten on request, or beyond what a store keeps.
        return _GONE.body(None)
    return body if is_success else {"error": body.get("error")}


def _response(status: int, request_id: str, body: Mapping[str, object]) -> dict[str, object]:
    return {"status_code": status, "request_id": request_id, "body": body}


def _dump(
    batch: BatchRow,
    line: Line,
    response: Mapping[str, object] | None,
    error: Mapping[str, object] | None,
) -> bytes:
    derived = ids.derive(batch.id, "result", line.number).replace("-", "")
    entry = {
        "id": f"batch_req_{derived}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return json_codec.dumps(entry) + b"\n"


def errors_data(errors: Iterable[LineError]) -> Sequence[Mapping[str, object]]:
    """For the `errors` of a batch."""
    return tuple(error.as_data() for error in errors)
