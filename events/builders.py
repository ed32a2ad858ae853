"""Builders of every event that follows from a request, as docs/reference/wire.md says. Pure: times are passed in.

Readers of the same events are in `events.parsers`, destinations in `events.destinations`; all three are one
interface, importable from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from events import ids, names
from events.cascade_attribute import attribute
from events.codecs import json_codec
from events.destinations import (
    cancel_outgoing,
    chunk_outgoing,
    decision_outgoing,
    progress_outgoing,
    revision_outgoing,
    routed_outgoing,
    status_outgoing,
    terminal_outgoing,
)
from events.event import Event
from events.names import BreakerState, State
from events.parsers import (
    Cancel,
    Chunk,
    Progress,
    Terminal,
    parse_cancel,
    parse_chunk,
    parse_decision,
    parse_progress,
    parse_revision,
    parse_status,
    parse_terminal,
)
from events.payloads import (
    DECISION_WORDS,
    CallbackFailedData,
    CancelData,
    CascadeState,
    Cost,
    DecisionData,
    DecisionInfo,
    ErrorData,
    FailedData,
    PickspinData,
    ProbeData,
    ProgressData,
    RevisionData,
    StatusData,
    Timings,
)
from events.requests import InferenceRequest, Origin, ReplyAddress
from events.timestamps import to_rfc3339

__all__ = [
    "CallbackFailedData",
    "Cancel",
    "Chunk",
    "Cost",
    "DecisionInfo",
    "Failure",
    "Origin",
    "PickspinData",
    "Progress",
    "ProgressData",
    "ReplyAddress",
    "RevisionData",
    "StatusData",
    "Terminal",
    "Timings",
    "build_callback_failed",
    "build_cancel",
    "build_chunk",
    "build_completed",
    "build_decision",
    "build_failed",
    "build_probe",
    "build_progress",
    "build_revision",
    "build_routed",
    "build_status",
    "by_reference",
    "cancel_outgoing",
    "chunk_outgoing",
    "decision_outgoing",
    "parse_cancel",
    "parse_chunk",
    "parse_decision",
    "parse_progress",
    "parse_revision",
    "parse_status",
    "parse_terminal",
    "progress_outgoing",
    "revision_outgoing",
    "routed_outgoing",
    "status_outgoing",
    "terminal_outgoing",
]

ROUTER: Final = "/router"
CONTROLLER: Final = "/controller"
_SEQUENCE_DIGITS: Final = 8
_STATE_OF_CODE: Final[Mapping[str, State]] = {
    "deadline_exceeded": State.EXPIRED,
    "cancelled": State.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, in the terms of `functions.runtime.errors.CODES`. The code decides failed,
    expired or cancelled.
    """

    code: str
    message: str
    type: str
    status: int
    param: str | None = None
    src: str = "gateway"

    @property
    def state(self) -> State:
        return _STATE_OF_CODE.get(self.code, State.FAILED)


def build_routed(
    request: InferenceRequest,
    decision: DecisionInfo,
    *,
    service: str,
    model: str,
    now: datetime,
    cascade: CascadeState | None = None,
) -> Event:
    """The routed event: the request's attributes and bytes, plus the decision. `expirytime` is always set.

    `cascade` are the steps of a cascade, of which `service` is the first.
    """
    request_id = request.request_id
    extensions = {
        **request.event.extensions,
        names.OPERATION: request.operation.value,
        names.TENANT: request.tenant,
        names.EXPIRY_TIME: to_rfc3339(request.deadline),
        **_identity(request.origin),
        names.CAUSATION_ID: request.event.id,
        names.REQUEST_TIME: to_rfc3339(request.accepted_at),
        names.ROUTED_TIME: to_rfc3339(now),
        names.SERVICE: service,
    }
    for name in (names.CASCADE, *(word.attribute for word in DECISION_WORDS)):
        extensions.pop(name, None)  # no caller's business
    extensions |= _decision_attributes(decision)
    if cascade is not None:
        extensions[names.CASCADE] = attribute(cascade)
    return Event(
        id=ids.derive(request_id, "routed"),
        source=ROUTER,
        type=names.ROUTED,
        subject=model,
        time=to_rfc3339(now),
        datacontenttype=request.event.datacontenttype,
        data=request.event.data,
        extensions=extensions,
    )


def _decision_attributes(decision: DecisionInfo) -> dict[str, str]:
    values = ((word.attribute, getattr(decision, word.field)) for word in DECISION_WORDS)
    return {
        name: f"{value:.6g}" if isinstance(value, float) else value
        for name, value in values
        if value is not msgspec.UNSET
    }


def build_progress(origin: Origin, data: ProgressData, *, source: str, now: datetime) -> Event:
    """State `routed` or `running` of a request, from the router or a worker (`source`)."""
    return Event(
        id=ids.derive(origin.request_id, "progress", data.state, data.attempt),
        source=source,
        type=names.PROGRESS,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(data),
        extensions=_extensions(
            origin, {names.SERVICE: data.service, names.ATTEMPT: str(data.attempt)}
        ),
    )


def build_chunk(
    origin: Origin,
    chunks: Sequence[Mapping[str, object]],
    *,
    generation: str,
    sequence: int,
    attempt: int,
    service: str,
    now: datetime,
) -> Event:
    """A part of a stream: OpenAI chunk objects. `sequence` counts from 0 within the `generation` (one model call)."""
    return Event(
        id=ids.derive(origin.request_id, "chunk", generation, sequence),
        source=f"/models/{service}",
        type=names.CHUNK,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps({"chunks": chunks}),
        extensions=_extensions(
            origin,
            {
                names.SEQUENCE: f"{sequence:0{_SEQUENCE_DIGITS}d}",
                names.ATTEMPT: str(attempt),
                names.GENERATION: generation,
                names.SERVICE: service,
            },
        ),
    )


def build_completed(
    origin: Origin,
    response: Mapping[str, object],
    pickspin: PickspinData,
    *,
    source: str,
    generation: str,
    now: datetime,
) -> Event:
    """The terminal of success: the OpenAI response object with `pickspin` added. Larger ones go on `by_reference`."""
    pickspin = msgspec.structs.replace(pickspin, request_id=origin.correlation_id)
    data = json_codec.dumps({**response, "pickspin": pickspin})
    return _terminal(
        origin,
        State.COMPLETED,
        data,
        source=source,
        now=now,
        further=_call(pickspin, generation),
    )


def build_failed(
    origin: Origin,
    failure: Failure,
    *,
    source: str,
    now: datetime,
    pickspin: PickspinData | None = None,
    generation: str | None = None,
) -> Event:
    """The terminal of everything else: failed, expired or cancelled, as `failure.code` says.

    `pickspin` None: nothing is known but the request and its state. `generation` None: no model was called.
    """
    state = failure.state
    known = (
        PickspinData(request_id=origin.request_id, state="failed") if pickspin is None else pickspin
    )
    known = msgspec.structs.replace(known, request_id=origin.correlation_id, state=state.value)
    error = ErrorData(
        message=failure.message,
        type=failure.type,
        code=failure.code,
        param=failure.param,
        src=failure.src,
        request_id=origin.correlation_id,
    )
    data = json_codec.dumps(FailedData(error=error, status=failure.status, pickspin=known))
    further = _call(known, generation)
    return _terminal(origin, state, data, source=source, now=now, further=further)


def build_cancel(origin: Origin, data: CancelData, *, source: str, now: datetime) -> Event:
    """The event that cancels a request."""
    return Event(
        id=ids.derive(origin.request_id, "cancel"),
        source=source,
        type=names.CANCEL,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(data),
        extensions=_extensions(origin, {}),
    )


_USUAL: Final = {
    "failed_starts": 0,
    "breaker": BreakerState.CLOSED.value,
    "retry_at": None,
    "server": None,
}
"""What a status leaves out while nothing is wrong, or not known yet."""


def build_status(data: StatusData) -> Event:
    """What a replica or the scaler says now (`data.at`)."""
    at = to_rfc3339(data.at)
    plain = msgspec.to_builtins(data) | {"at": at}
    if data.retry_at is not None:
        plain["retry_at"] = to_rfc3339(data.retry_at)
    for name, usual in _USUAL.items():
        if plain[name] == usual:
            del plain[name]
    return Event(
        id=ids.derive(f"{data.service}/{data.replica}", at, data.state.value),
        source=f"/models/{data.service}/{data.replica}",
        type=names.STATUS,
        subject=data.service,
        time=at,
        data=json_codec.dumps(plain),
        extensions={names.SERVICE: data.service},
    )


def build_decision(request_id: str, service: str, *, now: datetime) -> Event:
    """Remembers on the status topic where a request went."""
    return Event(
        id=ids.derive(request_id, "decision"),
        source=ROUTER,
        type=names.DECISION,
        subject=request_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(DecisionData(service=service)),
        extensions={names.CORRELATION_ID: request_id, names.SERVICE: service},
    )


def build_revision(data: RevisionData) -> Event:
    """Says on the control topic which revision holds a service's topic."""
    at = to_rfc3339(data.at)
    return Event(
        id=ids.derive(data.service, "revision", data.revision, at),
        source=CONTROLLER,
        type=names.REVISION,
        subject=data.service,
        time=at,
        data=json_codec.dumps({**msgspec.to_builtins(data), "at": at}),
        extensions={names.SERVICE: data.service},
    )


def build_callback_failed(origin: Origin, data: CallbackFailedData, *, now: datetime) -> Event:
    """A callback that was given up, for the dead letter topic."""
    return Event(
        id=ids.derive(origin.request_id, "callback_failed", data.target_id),
        source="/callbacks",
        type=names.CALLBACK_FAILED,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(data),
        extensions=_extensions(origin, {}),
    )


def build_probe(instance: str, epoch: str, *, now: datetime) -> Event:
    """Sent by an ingress to its own reply partition, where its readers drop it."""
    at = to_rfc3339(now)
    return Event(
        id=ids.derive(epoch, "probe", at),
        source=f"/ingress/{instance}",
        type=names.PROBE,
        subject=instance,
        time=at,
        data=json_codec.dumps(ProbeData()),
        extensions={names.REPLY_EPOCH: epoch},
    )


def by_reference(event: Event, ref: str) -> Event:
    """The event with its data replaced by the `dataref` under which a blob store keeps those bytes, and their hash."""
    extensions = {
        **event.extensions,
        names.DATA_REF: ref,
        names.DATA_HASH: ids.content_hash(event.data or b""),
    }
    return replace(event, data=None, extensions=extensions)


def _terminal(
    origin: Origin,
    state: State,
    data: bytes,
    *,
    source: str,
    now: datetime,
    further: Mapping[str, str],
) -> Event:
    return Event(
        id=ids.derive(origin.request_id, "terminal", state.value),
        source=source,
        type=names.COMPLETED if state is State.COMPLETED else names.FAILED,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=data,
        extensions=_extensions(origin, further),
    )


def _call(pickspin: PickspinData, generation: str | None) -> dict[str, str]:
    attributes = {names.ATTEMPT: str(pickspin.attempt)}
    if pickspin.service is not None:
        attributes[names.SERVICE] = pickspin.service
    if generation is not None:
        attributes[names.GENERATION] = generation
    return attributes


def _extensions(origin: Origin, further: Mapping[str, str]) -> dict[str, str]:
    return {**origin.carried, **_identity(origin), **further}


def _identity(origin: Origin) -> dict[str, str]:
    named = {names.CORRELATION_ID: origin.correlation_id}
    return named if origin.event_id is None else {**named, names.REQUEST_ID: origin.request_id}
