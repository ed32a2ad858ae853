"""Reply events as the ingress understands them: parts of streams, progress, ends. Pure."""

from dataclasses import dataclass
from typing import Final

import msgspec

from events import builders
from events.errors import EventRejected
from events.event import Event
from events.names import (
    ATTEMPT,
    CHUNK,
    CORRELATION_ID,
    GENERATION,
    PROGRESS,
    REPLY_EPOCH,
    REQUEST_ID,
    SEQUENCE,
    TERMINAL_TYPES,
    State,
)


@dataclass(frozen=True, slots=True)
class ChunkReply:
    """Streamed parts: each of `parts` is one OpenAI chunk object as JSON bytes."""

    request_id: str
    generation: str
    attempt: int
    sequence: int
    parts: tuple[bytes, ...]


class Decision(msgspec.Struct, frozen=True, rename={"route_class": "class"}):
    """What progress and terminals say of the decision that is repeated in headers; None: not said."""

    reason: str | None = None
    route_class: str | None = None
    stage: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class ProgressReply:
    """The request was routed, or is running."""

    request_id: str
    state: State
    service: str | None
    model: str | None
    decision: Decision | None


Reply = ChunkReply | ProgressReply | builders.Terminal


class _ChunkData(msgspec.Struct, frozen=True):
    chunks: list[msgspec.Raw]


class _ProgressData(msgspec.Struct, frozen=True):
    state: State
    service: str | None = None
    model: str | None = None
    decision: Decision | None = None


_CHUNK_DATA: Final = msgspec.json.Decoder(_ChunkData)
_PROGRESS_DATA: Final = msgspec.json.Decoder(_ProgressData)


def read_reply(event: Event, epoch: str) -> Reply | str:
    """What a reply event means here, or why it is dropped. Pure.

    Chunk objects are kept as the JSON the worker wrote: they are forwarded, never looked into.
    """
    if event.get(REPLY_EPOCH) not in (None, epoch):
        return "other_epoch"
    try:
        if event.type == CHUNK:
            return _read_chunk(event)
        if event.type == PROGRESS:
            data = _PROGRESS_DATA.decode(event.data or b"")
            return ProgressReply(_about(event), data.state, data.service, data.model, data.decision)
        if event.type in TERMINAL_TYPES:
            return builders.parse_terminal(event)
    except (EventRejected, msgspec.MsgspecError, ValueError):
        return "malformed"
    return "other_type"


def _read_chunk(event: Event) -> ChunkReply:
    raws = (bytes(raw) for raw in _CHUNK_DATA.decode(event.data or b"").chunks)
    # A line break between tokens is legal JSON, but would cut an SSE frame.
    parts = tuple(
        msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw for raw in raws
    )
    return ChunkReply(
        request_id=_about(event),
        generation=event.get(GENERATION) or "",
        attempt=int(event.get(ATTEMPT) or "1"),
        sequence=int(event.get(SEQUENCE) or ""),
        parts=parts,
    )


def _about(event: Event) -> str:
    request_id = event.get(REQUEST_ID) or event.get(CORRELATION_ID) or event.subject
    if not request_id:
        raise ValueError("no request id")
    return request_id
