"""From changes (events as they were read) to facts about requests. Pure; what cannot be read is left out."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from events import types
from events.errors import EventRejected
from events.instants import from_rfc3339
from events.record import Event
from events.types import State
from functions.adapters.sql_states import (
    CancelAsked,
    Ended,
    Fact,
    Progressed,
    Streamed,
    as_amount,
    as_count,
)
from functions.store import Change

_MAX_ATTEMPT: Final = 10_000
_NOT_A_CANCEL: Final = "duplicate"
"""A cancel with this reason stops a second generation of a request that has its terminal already."""


class _Pickspin(msgspec.Struct):
    state: str | None = None
    service: str | None = None
    model: str | None = None
    decision: msgspec.Raw | None = None
    cost: dict[str, object] | None = None
    attempt: int = 0


class _TerminalData(msgspec.Struct):
    pickspin: _Pickspin | None = None
    usage: dict[str, object] | None = None
    status: int | None = None


class _ProgressData(msgspec.Struct):
    state: str
    service: str | None = None
    model: str | None = None
    attempt: int = 0
    decision: msgspec.Raw | None = None


def fact_of(change: Change, now: datetime) -> Fact | None:
    """What the event of `change` says about a request; None for a request event itself and for what cannot be read.

    `now` stands in where an event has no readable time.
    """
    event = change.event
    request_id = event.subject or event.get(types.CORRELATION_ID)
    if not request_id:
        return None
    if event.type in types.TERMINAL_TYPES:
        return _ended(change, request_id, _at(event, now))
    if event.type == types.PROGRESS:
        return _progressed(event, request_id, _at(event, now))
    if event.type == types.CHUNK:
        return _streamed(event, request_id)
    if event.type == types.CANCEL:
        reason = _cancel_reason(event)
        return (
            None if reason == _NOT_A_CANCEL else CancelAsked(request_id=request_id, reason=reason)
        )
    return None


def chunk_entry(event: Event) -> bytes:
    """Data of a `chunk` entry: the chunk's own data with generation, sequence and attempt beside it.

    Raises:
        ValueError: the data is not a JSON object.
    """
    data: dict[str, object] = msgspec.json.decode(event.data or b"", type=dict[str, object])
    data["generation"] = event.get(types.GENERATION)
    data["sequence"] = _number(event.get(types.SEQUENCE))
    data["attempt"] = _number(event.get(types.ATTEMPT))
    return msgspec.json.encode(data)


def state_entry(state: State, extra: Mapping[str, object] | None = None) -> bytes:
    """Data of a `state` or `terminal` entry without a result."""
    return msgspec.json.encode({"state": state.value, **(extra or {})})


def _at(event: Event, now: datetime) -> datetime:
    if event.time is None:
        return now
    try:
        return from_rfc3339(event.time)
    except EventRejected:
        return now


def _number(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return 0
    return int(text)


def _raw(value: msgspec.Raw | None) -> bytes | None:
    return None if value is None or bytes(value) == b"null" else bytes(value)


def _progressed(event: Event, request_id: str, at: datetime) -> Progressed | None:
    try:
        data = msgspec.json.decode(event.data or b"", type=_ProgressData)
        state = State(data.state)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Progressed(
        request_id=request_id,
        event_id=event.id,
        state=state,
        at=at,
        data=event.data or b"",
        service=data.service,
        model=data.model,
        attempt=min(_MAX_ATTEMPT, max(0, data.attempt)),
        decision=_raw(data.decision),
    )


def _streamed(event: Event, request_id: str) -> Streamed | None:
    try:
        data = chunk_entry(event)
    except (ValueError, RecursionError):
        return None
    return Streamed(request_id=request_id, event_id=event.id, data=data)


def _ended(change: Change, request_id: str, at: datetime) -> Ended:
    event = change.event
    raw = change.result if change.result is not None else event.data
    try:
        data = msgspec.json.decode(raw or b"{}", type=_TerminalData)
    except (msgspec.MsgspecError, RecursionError):
        # The answer is kept as it came; only what would be read out of it is missing.
        data = _TerminalData()
    about = data.pickspin or _Pickspin()
    usage = data.usage or {}
    is_completed = event.type == types.COMPLETED
    return Ended(
        request_id=request_id,
        event_id=event.id,
        state=State.COMPLETED if is_completed else _failed_state(about.state),
        at=at,
        status=200 if is_completed else _status(data.status),
        result=raw,
        service=about.service or event.get(types.SERVICE),
        model=about.model,
        attempt=min(_MAX_ATTEMPT, _number(event.get(types.ATTEMPT))),
        usage_prompt=as_count(usage.get("prompt_tokens")),
        usage_completion=as_count(usage.get("completion_tokens")),
        cost_usd=as_amount((about.cost or {}).get("usd")),
        decision=_raw(about.decision),
    )


def _failed_state(text: str | None) -> State:
    known = {state.value: state for state in (State.EXPIRED, State.CANCELLED)}
    return known.get(text or "", State.FAILED)


def _status(value: int | None) -> int:
    return value if value is not None and 400 <= value <= 599 else 500


def _cancel_reason(event: Event) -> str:
    try:
        data = msgspec.json.decode(event.data or b"{}", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return "client"
    reason = data.get("reason")
    return reason if isinstance(reason, str) and 0 < len(reason) <= 32 else "client"
