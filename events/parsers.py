"""Readers of the events that follow from a request: strict about what they need, blind to what they do not know."""

from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from events import names
from events.errors import EventRejected
from events.event import Event
from events.ids import is_event_id, is_valid_id
from events.names import Operation, State
from events.payloads import (
    CancelData,
    DecisionData,
    Payload,
    PickspinData,
    ProgressData,
    RevisionData,
    StatusData,
)
from events.request_identity import read_correlation_id, read_request_id

_MAX_NUMBER_CHARS: Final = 9
_OK: Final = 200
_INTERNAL: Final = 500
_P = TypeVar("_P", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """The one final answer of a request. `data` None: resolve `dataref` (its SHA-256 is `datahash`).

    `status` is the HTTP status that a synchronous caller gets. `attempt` 0 and `generation` None: no model was called.
    `epoch` None: nobody listens on a reply partition.
    """

    request_id: str
    correlation_id: str
    """What whoever sent the request knows it by."""
    state: State
    data: bytes | None = field(repr=False)
    dataref: str | None
    datahash: str | None
    status: int
    generation: str | None
    attempt: int
    service: str | None
    tenant: str
    operation: Operation | None
    callback_id: str | None
    epoch: str | None
    batch_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of a stream: OpenAI chunk objects, number `sequence` (from 0) of one model call (`generation`)."""

    request_id: str
    generation: str
    sequence: int
    attempt: int
    chunks: list[msgspec.Raw] = field(repr=False)
    """As JSON, as they were written: they are forwarded, never looked into."""
    service: str | None
    tenant: str
    epoch: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State `routed` or `running` of a request."""

    request_id: str
    data: ProgressData
    tenant: str
    epoch: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A request that shall stop."""

    request_id: str
    reason: str


class _Chunks(Payload, frozen=True):
    """`ChunkData` with the objects left as they are."""

    chunks: list[msgspec.Raw]


class _Terminal(Payload, frozen=True):
    """The `pickspin` object of a terminal's data, whatever else is there."""

    pickspin: PickspinData | None = None


class _Outcome(Payload, frozen=True):
    """What is read of a failure: its state and status, whatever else is there."""

    status: int = _INTERNAL
    pickspin: "_OutcomeState | None" = None


class _OutcomeState(Payload, frozen=True):
    state: str = State.FAILED.value


def parse_terminal(event: Event) -> Terminal:
    """Raises EventRejected for another type, or a malformed attribute or failure."""
    _check_type(event, *names.TERMINAL_TYPES)
    state, status = _outcome(event)
    return Terminal(
        request_id=_request_id(event),
        correlation_id=read_correlation_id(event),
        state=state,
        data=event.data,
        dataref=event.get(names.DATA_REF),
        datahash=event.get(names.DATA_HASH),
        status=status,
        generation=event.get(names.GENERATION),
        attempt=_number(event, names.ATTEMPT, default=0),
        service=event.get(names.SERVICE),
        tenant=_tenant(event),
        operation=_operation(event),
        callback_id=event.get(names.CALLBACK_ID),
        epoch=event.get(names.REPLY_EPOCH),
        batch_id=event.get(names.BATCH_ID),
    )


def parse_pickspin(data: bytes) -> PickspinData | None:
    """The `pickspin` object of a terminal's data; None where there is none that can be read."""
    try:
        return msgspec.json.decode(data, type=_Terminal).pickspin
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def parse_chunk(event: Event) -> Chunk:
    """Raises EventRejected for another type, or a malformed attribute or data."""
    _check_type(event, names.CHUNK)
    generation = event.get(names.GENERATION)
    if not generation:
        raise EventRejected("invalid_event", "the attribute is missing", names.GENERATION)
    return Chunk(
        request_id=_request_id(event),
        generation=generation,
        sequence=_number(event, names.SEQUENCE),
        attempt=_number(event, names.ATTEMPT, least=1),
        chunks=_data(event, _Chunks).chunks,
        service=event.get(names.SERVICE),
        tenant=_tenant(event),
        epoch=event.get(names.REPLY_EPOCH),
    )


def parse_progress(event: Event) -> Progress:
    """Raises EventRejected for another type, or a malformed attribute or data."""
    _check_type(event, names.PROGRESS)
    return Progress(
        request_id=_request_id(event),
        data=_data(event, ProgressData),
        tenant=_tenant(event),
        epoch=event.get(names.REPLY_EPOCH),
    )


def parse_cancel(event: Event) -> Cancel:
    """Raises EventRejected for another type, or a malformed attribute or data."""
    _check_type(event, names.CANCEL)
    return Cancel(request_id=_request_id(event), reason=_data(event, CancelData).reason)


def parse_status(event: Event) -> StatusData:
    """Raises EventRejected for another type, or malformed data."""
    _check_type(event, names.STATUS)
    return _data(event, StatusData)


def parse_decision(event: Event) -> tuple[str, str]:
    """(request id, service). Raises EventRejected for another type, or malformed data."""
    _check_type(event, names.DECISION)
    return _request_id(event), _data(event, DecisionData).service


def parse_revision(event: Event) -> RevisionData:
    """Raises EventRejected for another type, or malformed data."""
    _check_type(event, names.REVISION)
    return _data(event, RevisionData)


def _check_type(event: Event, *expected: str) -> None:
    if event.type not in expected:
        raise EventRejected("invalid_event", "the event is of another type", "type")


def _request_id(event: Event) -> str:
    correlation_id, request_id = event.get(names.CORRELATION_ID), event.get(names.REQUEST_ID)
    for name, is_good in (
        (names.CORRELATION_ID, correlation_id is not None and is_event_id(correlation_id)),
        (names.REQUEST_ID, request_id is None or is_valid_id(request_id)),
    ):
        if not is_good:
            raise EventRejected("invalid_event", "not a request id", name)
    return read_request_id(event)


def _outcome(event: Event) -> tuple[State, int]:
    if event.type == names.COMPLETED:
        return State.COMPLETED, _OK
    if event.data is None:
        return State.FAILED, _INTERNAL
    outcome = _data(event, _Outcome)
    state = State.FAILED.value if outcome.pickspin is None else outcome.pickspin.state
    if state not in (State.FAILED, State.EXPIRED, State.CANCELLED):
        raise EventRejected("invalid_event", "a failure is failed, expired or cancelled", "data")
    return State(state), outcome.status


def _tenant(event: Event) -> str:
    return event.get(names.TENANT) or names.DEFAULT_TENANT


def _operation(event: Event) -> Operation | None:
    text = event.get(names.OPERATION)
    try:
        return None if text is None else Operation(text)
    except ValueError:
        raise EventRejected("invalid_event", "no such operation", names.OPERATION) from None


def _number(event: Event, name: str, default: int | None = None, least: int = 0) -> int:
    text = event.get(name)
    if text is None and default is not None:
        return default
    if text is None or len(text) > _MAX_NUMBER_CHARS or not (text.isascii() and text.isdigit()):
        raise EventRejected("invalid_event", "must be a whole number", name)
    if int(text) < least:
        raise EventRejected("invalid_event", f"must be {least} or more", name)
    return int(text)


def _data(event: Event, kind: type[_P]) -> _P:
    try:
        return msgspec.json.decode(event.data or b"", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise EventRejected(
            "invalid_event", "the data is not of this type's form", "data"
        ) from None
