"""Builders of every event that follows from a request, as docs/reference/wire.md says. Pure: times are passed in.

Readers of the same events are in `events.reply_reading`, destinations in `events.destinations`; all three are one
interface, importable from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from events import ids, json_codec, types
from events.cascading import attribute
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
from events.instants import to_rfc3339
from events.payloads import (
    CallbackFailedData,
    CancelData,
    CascadeState,
    Cost,
    DecisionData,
    DecisionInfo,
    ErrorData,
    FailedData,
    PickspinData,
    ProgressData,
    RevisionData,
    StatusData,
    Timings,
)
from events.record import Event
from events.reply_reading import (
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
from events.request import InferenceRequest, Origin, ReplyAddress
from events.stages import why_not_judged
from events.types import BreakerState, State

__all__ = [
    "CallbackFailedData",
    "Cancel",
    "Chunk",
    "Cost",
    "Decision",
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
    "by_reference",
    "callback_failed",
    "cancel",
    "cancel_outgoing",
    "chunk",
    "chunk_outgoing",
    "completed",
    "decision",
    "decision_outgoing",
    "failed",
    "parse_cancel",
    "parse_chunk",
    "parse_decision",
    "parse_progress",
    "parse_revision",
    "parse_status",
    "parse_terminal",
    "progress",
    "progress_outgoing",
    "revision",
    "revision_outgoing",
    "routed",
    "routed_outgoing",
    "status",
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
class Decision:
    """The router's choice. `score` is Eq. 2's value; `reason` is short printable text; `catalogue` its version.

    `asked_model` is the model that was named, where another one answers. `stage` is what of the classifier found the
    class: short printable text, empty where nothing says.
    """

    service: str
    model: str
    route_class: str
    score: float
    reason: str
    catalogue: str
    stage: str = ""
    asked_model: str | None = None
    cascade: CascadeState | None = None

    @property
    def info(self) -> DecisionInfo:
        """As it is shown in progress and in the answer."""
        return DecisionInfo(
            route_class=self.route_class,
            score=self.score,
            reason=self.reason,
            catalogue=self.catalogue,
            stage=self.stage or msgspec.UNSET,
            asked_model=self.asked_model or msgspec.UNSET,
            explanation=why_not_judged(self.stage, self.route_class) or msgspec.UNSET,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, in the terms of `functions.errors.CODES`. The code decides failed, expired or cancelled."""

    code: str
    message: str
    type: str
    status: int
    param: str | None = None
    src: str = "gateway"

    @property
    def state(self) -> State:
        return _STATE_OF_CODE.get(self.code, State.FAILED)


def routed(request: InferenceRequest, decision: Decision, now: datetime) -> Event:
    """The routed event: the request's attributes and bytes, plus the decision. `expirytime` is always set."""
    request_id = request.request_id
    extensions = {
        **request.event.extensions,
        types.OPERATION: request.operation.value,
        types.TENANT: request.tenant,
        types.EXPIRY_TIME: to_rfc3339(request.deadline),
        **_identity(request.origin),
        types.CAUSATION_ID: request.event.id,
        types.REQUEST_TIME: to_rfc3339(request.accepted_at),
        types.ROUTED_TIME: to_rfc3339(now),
        types.SERVICE: decision.service,
        types.ROUTE_CLASS: decision.route_class,
        types.ROUTE_SCORE: f"{decision.score:.6g}",
        types.ROUTE_VERSION: decision.catalogue,
        types.ROUTE_REASON: decision.reason,
    }
    for name in (types.CASCADE, types.ROUTE_STAGE):  # no caller's business
        extensions.pop(name, None)
    if decision.stage:
        extensions[types.ROUTE_STAGE] = decision.stage
    if decision.cascade is not None:
        extensions[types.CASCADE] = attribute(decision.cascade)
    return Event(
        id=ids.derive(request_id, "routed"),
        source=ROUTER,
        type=types.ROUTED,
        subject=decision.model,
        time=to_rfc3339(now),
        datacontenttype=request.event.datacontenttype,
        data=request.event.data,
        extensions=extensions,
    )


def progress(origin: Origin, data: ProgressData, *, source: str, now: datetime) -> Event:
    """State `routed` or `running` of a request, from the router or a worker (`source`)."""
    return Event(
        id=ids.derive(origin.request_id, "progress", data.state, data.attempt),
        source=source,
        type=types.PROGRESS,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(data),
        extensions=_extensions(
            origin, {types.SERVICE: data.service, types.ATTEMPT: str(data.attempt)}
        ),
    )


def chunk(
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
        type=types.CHUNK,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps({"chunks": chunks}),
        extensions=_extensions(
            origin,
            {
                types.SEQUENCE: f"{sequence:0{_SEQUENCE_DIGITS}d}",
                types.ATTEMPT: str(attempt),
                types.GENERATION: generation,
                types.SERVICE: service,
            },
        ),
    )


def completed(
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


def failed(
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


def cancel(origin: Origin, data: CancelData, *, source: str, now: datetime) -> Event:
    """Asks whoever works on a request to stop."""
    return Event(
        id=ids.derive(origin.request_id, "cancel"),
        source=source,
        type=types.CANCEL,
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


def status(data: StatusData) -> Event:
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
        type=types.STATUS,
        subject=data.service,
        time=at,
        data=json_codec.dumps(plain),
        extensions={types.SERVICE: data.service},
    )


def decision(request_id: str, service: str, *, now: datetime) -> Event:
    """Remembers on the status topic where a request went."""
    return Event(
        id=ids.derive(request_id, "decision"),
        source=ROUTER,
        type=types.DECISION,
        subject=request_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(DecisionData(service=service)),
        extensions={types.CORRELATION_ID: request_id, types.SERVICE: service},
    )


def revision(data: RevisionData) -> Event:
    """Says on the control topic which revision holds a service's topic."""
    at = to_rfc3339(data.at)
    return Event(
        id=ids.derive(data.service, "revision", data.revision, at),
        source=CONTROLLER,
        type=types.REVISION,
        subject=data.service,
        time=at,
        data=json_codec.dumps({**msgspec.to_builtins(data), "at": at}),
        extensions={types.SERVICE: data.service},
    )


def callback_failed(origin: Origin, data: CallbackFailedData, *, now: datetime) -> Event:
    """A callback that was given up, for the dead letter topic."""
    return Event(
        id=ids.derive(origin.request_id, "callback_failed", data.target_id),
        source="/callbacks",
        type=types.CALLBACK_FAILED,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=json_codec.dumps(data),
        extensions=_extensions(origin, {}),
    )


def by_reference(event: Event, ref: str) -> Event:
    """The event with its data replaced by the `dataref` under which a blob store keeps those bytes, and their hash."""
    extensions = {
        **event.extensions,
        types.DATA_REF: ref,
        types.DATA_HASH: ids.content_hash(event.data or b""),
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
        type=types.COMPLETED if state is State.COMPLETED else types.FAILED,
        subject=origin.correlation_id,
        time=to_rfc3339(now),
        data=data,
        extensions=_extensions(origin, further),
    )


def _call(pickspin: PickspinData, generation: str | None) -> dict[str, str]:
    found = {types.ATTEMPT: str(pickspin.attempt)}
    if pickspin.service is not None:
        found[types.SERVICE] = pickspin.service
    if generation is not None:
        found[types.GENERATION] = generation
    return found


def _extensions(origin: Origin, further: Mapping[str, str]) -> dict[str, str]:
    return {**origin.carried, **_identity(origin), **further}


def _identity(origin: Origin) -> dict[str, str]:
    named = {types.CORRELATION_ID: origin.correlation_id}
    return named if origin.event_id is None else {**named, types.REQUEST_ID: origin.request_id}
