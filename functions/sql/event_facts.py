"""From changes (events as they were read) to facts about requests. Pure; what cannot be read is left out."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from events import names
from events.builders import parse_cancel, parse_chunk, parse_progress, parse_terminal
from events.errors import EventRejected
from events.event import Event
from events.names import State
from events.timestamps import from_rfc3339
from functions.ports.store import Change
from functions.sql.state_machine import (
    CancelAsked,
    Ended,
    Fact,
    Progressed,
    Streamed,
    as_amount,
    as_count,
)

_MAX_ATTEMPT: Final = 10_000
_NOT_A_CANCEL: Final = "duplicate"
"""A cancel with this reason stops a second generation of a request that has its terminal already."""


class _TerminalFacts(msgspec.Struct):
    service: str | None = None
    model: str | None = None
    decision: msgspec.Raw = msgspec.Raw(b"null")
    cost: dict[str, object] | None = None


class _TerminalOutcome(msgspec.Struct):
    pickspin: _TerminalFacts | None = None
    usage: dict[str, object] | None = None


def read_fact(change: Change, now: datetime) -> Fact | None:
    """What the event of `change` says about a request; None for a request event itself and for what cannot be read.

    `now` stands in where an event has no readable time.
    """
    event = change.event
    try:
        if event.type in names.TERMINAL_TYPES:
            return _read_ended(change, _at(event, now))
        if event.type == names.PROGRESS:
            return _read_progressed(event, _at(event, now))
        if event.type == names.CHUNK:
            return _read_streamed(event)
        if event.type == names.CANCEL:
            return _read_cancel_asked(event)
    except EventRejected:
        return None
    return None


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


def _read_progressed(event: Event, at: datetime) -> Progressed:
    progress = parse_progress(event)
    data = progress.data
    return Progressed(
        request_id=progress.request_id,
        event_id=event.id,
        state=State(data.state),
        at=at,
        data=event.data or b"",
        service=data.service,
        model=data.model,
        attempt=min(_MAX_ATTEMPT, data.attempt),
        decision=None if data.decision is None else msgspec.json.encode(data.decision),
    )


def _read_streamed(event: Event) -> Streamed:
    chunk = parse_chunk(event)
    data = {
        "chunks": chunk.chunks,
        "generation": chunk.generation,
        "sequence": chunk.sequence,
        "attempt": chunk.attempt,
    }
    return Streamed(request_id=chunk.request_id, event_id=event.id, data=msgspec.json.encode(data))


def _read_cancel_asked(event: Event) -> CancelAsked | None:
    cancel = parse_cancel(event)
    if cancel.reason == _NOT_A_CANCEL:
        return None
    return CancelAsked(request_id=cancel.request_id, reason=cancel.reason)


def _read_ended(change: Change, at: datetime) -> Ended:
    raw = change.result if change.result is not None else change.event.data
    terminal = parse_terminal(replace(change.event, data=raw))
    try:
        outcome = msgspec.json.decode(raw or b"{}", type=_TerminalOutcome)
    except (msgspec.MsgspecError, RecursionError):
        # The answer is kept as it came; only what would be read out of it is missing.
        outcome = _TerminalOutcome()
    about = outcome.pickspin or _TerminalFacts()
    usage = outcome.usage or {}
    return Ended(
        request_id=terminal.request_id,
        event_id=change.event.id,
        state=terminal.state,
        at=at,
        status=terminal.status,
        result=raw,
        service=about.service or terminal.service,
        model=about.model,
        attempt=min(_MAX_ATTEMPT, terminal.attempt),
        usage_prompt=as_count(usage.get("prompt_tokens")),
        usage_completion=as_count(usage.get("completion_tokens")),
        cost_usd=as_amount((about.cost or {}).get("usd")),
        decision=_raw(about.decision),
    )


def _raw(value: msgspec.Raw | None) -> bytes | None:
    return None if value is None or bytes(value) == b"null" else bytes(value)
