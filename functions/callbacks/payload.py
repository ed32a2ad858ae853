"""Builds deliveries of terminals: the body that is sent for each outcome. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from events.builders import Terminal
from events.codecs import json_codec
from events.event import Event
from events.names import State
from functions.ports.store import CallbackTarget, Delivery, RequestRow
from functions.response_objects import DOOR, build_response_object
from functions.runtime.errors import ApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRequest:
    """How a request ended. `data` is the terminal's after its reference was resolved; None: it is gone. `row` is the
    request as the store knows it; None: not (any more).
    """

    event: Event
    terminal: Terminal
    data: bytes | None
    row: RequestRow | None = None


def build_delivery(end: EndedRequest, target: CallbackTarget, now: datetime) -> Delivery | None:
    """The delivery of an end; None where the target must not hear of it (another tenant's, or disabled)."""
    terminal = end.terminal
    if target.tenant != terminal.tenant or target.is_disabled:
        return None
    return Delivery(
        id=end.event.id,
        request_id=terminal.request_id,
        target_id=target.id,
        body=build_body(end),
        attempt=0,
        due_at=now,
    )


def build_body(end: EndedRequest) -> bytes:
    """`{"type", "timestamp", "data": {"request_id", "response" | "error"}}`, the same bytes at every attempt.

    `response` is the object of the API that was called; that of a Responses API call also says how it failed.
    """
    terminal = end.terminal
    about: dict[str, object] = {"request_id": terminal.correlation_id}
    try:
        result = msgspec.json.decode(end.data or b"", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        gone = ApiError(
            "not_found", "the answer is no longer kept: ask for it under its request id"
        )
        about |= gone.body(terminal.correlation_id)
    else:
        about |= _outcome(end, result)
    kind = f"inference.{terminal.state.value}"
    return json_codec.dumps({"type": kind, "timestamp": end.event.time, "data": about})


def _outcome(end: EndedRequest, result: Mapping[str, object]) -> dict[str, object]:
    terminal, row = end.terminal, end.row
    told: dict[str, object] = {}
    if terminal.state is not State.COMPLETED:
        told = {"error": result.get("error"), "status": terminal.status}
    is_own = row is not None and row.tenant == terminal.tenant
    if row is not None and is_own and row.meta.get("door") == DOOR:
        ended = replace(row, state=terminal.state, status=terminal.status)
        return {"response": build_response_object(ended, result), **told}
    return told or {"response": result}
