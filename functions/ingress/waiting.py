"""Waiters: who waits for which request, and the thread that reads this replica's reply partition for them.

A waiter is registered *before* its request is appended, so that no reply can come too early. The tail thread
decodes records, drops what is not for us (other epoch, nobody waiting, malformed) and hands the rest to the event
loop in batches. Everything else here runs on the loop only.
"""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from events import kafka_codec, reply
from events.errors import EventRejected
from events.record import Event, Record
from events.types import (
    ATTEMPT,
    CHUNK,
    CORRELATION_ID,
    GENERATION,
    PROGRESS,
    REPLY_EPOCH,
    SEQUENCE,
    STATUS,
    TERMINAL_TYPES,
    State,
)
from functions.errors import ApiError, PickspinError
from functions.ports import RecordTail

log = logging.getLogger(__name__)

BUFFER_BYTES: Final = 1024 * 1024
"""Chunks kept for one reader that is slower than the model; above, the reader is dropped."""
POLL_S: Final = 0.25
RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ChunkReply:
    """Streamed parts: each of `parts` is one OpenAI chunk object as JSON bytes."""

    request_id: str
    generation: str
    attempt: int
    sequence: int
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProgressReply:
    """The request was routed, or is running."""

    request_id: str
    state: State
    service: str | None
    model: str | None
    reason: str | None


Reply = ChunkReply | ProgressReply | reply.Terminal


class Waiter:
    """One open synchronous call or stream. Loop only."""

    def __init__(self, request_id: str, tenant: str, *, is_stream: bool) -> None:
        self.request_id = request_id
        self.tenant = tenant
        self.is_stream = is_stream
        self.state = State.ACCEPTED
        self.service: str | None = None
        self.model: str | None = None
        self.reason: str | None = None
        self.terminal: reply.Terminal | None = None
        self.failure: ApiError | None = None
        """Set when the wait ends without a terminal: restarted generation, full buffer, shutdown."""
        self.is_disconnected = False
        self.generation: str | None = None
        self._attempt = 0
        self._sequence = 0
        self._parts: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Nothing more will come (buffered parts may still be taken)."""
        return self.terminal is not None or self.failure is not None or self.is_disconnected

    @property
    def has_parts(self) -> bool:
        return bool(self._parts)

    def offer(self, found: Reply) -> str | None:
        """Takes a reply in; returns why it was dropped, or None. Nothing is taken after the end."""
        if self.is_over:
            return "finished"
        dropped = self._take(found)
        if dropped is None:
            self._changed.set()
        return dropped

    def _take(self, found: Reply) -> str | None:
        if isinstance(found, ChunkReply):
            return self._take_chunk(found)
        if isinstance(found, ProgressReply):
            self.state = found.state
            self.service = found.service or self.service
            self.model = found.model or self.model
            self.reason = found.reason or self.reason
            return None
        foreign = self.generation is not None and found.generation not in (None, self.generation)
        if foreign and found.state is State.COMPLETED:
            self.failure = _restarted()
        else:
            self.terminal = found
        return None

    def _take_chunk(self, chunk: ChunkReply) -> str | None:
        if not self.is_stream:
            return "not_a_stream"
        if self.generation is None:
            self.generation, self._attempt = chunk.generation, chunk.attempt
        if chunk.generation != self.generation:
            if chunk.attempt < self._attempt:
                return "old_attempt"
            self.failure = _restarted()
            return None
        if chunk.sequence < self._sequence:
            return "duplicate"
        if chunk.sequence > self._sequence:
            self.failure = _restarted()
            return None
        self._sequence += 1
        self._buffered_bytes += sum(map(len, chunk.parts))
        if self._buffered_bytes > BUFFER_BYTES:
            self.failure = ApiError("overloaded", "The stream was read too slowly.")
            return None
        self._parts.extend(chunk.parts)
        self.state = State.RUNNING
        return None

    def take_parts(self) -> list[bytes]:
        """All buffered parts, in order; the buffer is empty afterwards."""
        found = list(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        return found

    def fail(self, error: ApiError) -> None:
        """Ends the wait with `error`, unless it is over."""
        if not self.is_over:
            self.failure = error
            self._changed.set()

    def disconnect(self) -> None:
        """The client is gone."""
        self.is_disconnected = True
        self._changed.set()

    async def changed(self, timeout_s: float) -> bool:
        """Waits for news; False when `timeout_s` passed without any."""
        if not self._changed.is_set():
            try:
                async with asyncio.timeout(max(0.0, timeout_s)):
                    await self._changed.wait()
            except TimeoutError:
                return False
        self._changed.clear()
        return True

    async def ended(self, timeout_s: float) -> bool:
        """Waits until the wait is over; False when `timeout_s` passed first."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                while not self.is_over:
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            pass
        return self.is_over


def _restarted() -> ApiError:
    return ApiError("generation_restarted", "The answer was begun again elsewhere; ask once more.")


class Waiters:
    """All open waiters of this replica. `dropped` is told the reason of every reply that reached nobody."""

    def __init__(self, dropped: Callable[[str], None]) -> None:
        self._dropped = dropped
        self._open: dict[str, Waiter] = {}
        self._streams: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._open

    def get(self, request_id: str) -> Waiter | None:
        return self._open.get(request_id)

    def streams_of(self, tenant: str) -> int:
        return self._streams[tenant]

    def count_of(self, tenant: str) -> int:
        return self._tenants[tenant]

    def open(self, request_id: str, tenant: str, *, is_stream: bool) -> Waiter:
        """Registers a waiter. The caller closes it, whatever happens."""
        waiter = Waiter(request_id, tenant, is_stream=is_stream)
        self._open[request_id] = waiter
        self._tenants[tenant] += 1
        self._streams[tenant] += is_stream
        return waiter

    def close(self, waiter: Waiter) -> None:
        """Forgets a waiter; a second time changes nothing."""
        if self._open.get(waiter.request_id) is not waiter:
            return
        del self._open[waiter.request_id]
        for counter, amount in ((self._tenants, 1), (self._streams, int(waiter.is_stream))):
            counter[waiter.tenant] -= amount
            if counter[waiter.tenant] <= 0:
                del counter[waiter.tenant]

    def deliver(self, replies: Iterable[Reply]) -> None:
        """Hands replies to their waiters; the first terminal wins, the rest is dropped and counted."""
        for found in replies:
            waiter = self._open.get(found.request_id)
            reason = "nobody_waits" if waiter is None else waiter.offer(found)
            if reason is not None:
                self._dropped(reason)

    def fail_all(self, error: ApiError) -> None:
        """Ends every wait: shutdown."""
        for waiter in tuple(self._open.values()):
            waiter.fail(error)


class _ChunkData(msgspec.Struct, frozen=True):
    chunks: list[msgspec.Raw]


class _Decision(msgspec.Struct, frozen=True):
    reason: str | None = None


class _ProgressData(msgspec.Struct, frozen=True):
    state: State
    service: str | None = None
    model: str | None = None
    decision: _Decision | None = None


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
            reason = None if data.decision is None else data.decision.reason
            return ProgressReply(_about(event), data.state, data.service, data.model, reason)
        if event.type in TERMINAL_TYPES:
            return reply.parse_terminal(event)
    except (EventRejected, msgspec.MsgspecError, ValueError):
        return "malformed"
    return "other_type"


def _read_chunk(event: Event) -> ChunkReply:
    raws = (bytes(raw) for raw in _CHUNK_DATA.decode(event.data or b"").chunks)
    # A line break between tokens is legal JSON, but would cut an SSE frame.
    parts = tuple(msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw for raw in raws)
    return ChunkReply(
        request_id=_about(event),
        generation=event.get(GENERATION) or "",
        attempt=int(event.get(ATTEMPT) or "1"),
        sequence=int(event.get(SEQUENCE) or ""),
        parts=parts,
    )


def _about(event: Event) -> str:
    request_id = event.get(CORRELATION_ID) or event.subject
    if not request_id:
        raise ValueError("no request id")
    return request_id


class ReplyTail:
    """The thread over this replica's partition of `infer.replies`.

    `open_tail` opens the tail at the end of the partition (called in the thread, again after a failure).
    """

    def __init__(
        self,
        open_tail: Callable[[], RecordTail],
        waiters: Waiters,
        *,
        epoch: str,
        dropped: Callable[[str], None],
        poll_s: float = POLL_S,
    ) -> None:
        self._poll_s = poll_s
        self._open_tail = open_tail
        self._waiters = waiters
        self._epoch = epoch
        self._dropped = dropped
        self._stop = threading.Event()
        self._caught_up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def is_caught_up(self) -> bool:
        """The tail stands where it was opened or later, and its thread lives."""
        return self._caught_up.is_set() and self._thread.is_alive()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                tail = self._open_tail()
                try:
                    self._follow(tail)
                finally:
                    self._caught_up.clear()
                    tail.close()
            except Exception:
                # A loop boundary: whatever the client library raised, the tail is opened again.
                log.warning("the reply tail failed and is opened again", exc_info=True)
                self._stop.wait(RETRY_S)

    def _follow(self, tail: RecordTail) -> None:
        while not self._stop.is_set():
            records = tail.poll(self._poll_s)
            if tail.is_caught_up():
                self._caught_up.set()
            found = [one for one in map(self._read, records) if one is not None]
            if found and self._loop is not None:
                self._loop.call_soon_threadsafe(self._waiters.deliver, found)
            tail.expect(soon=len(self._waiters) > 0)

    def _read(self, record: Record) -> Reply | None:
        try:
            event = kafka_codec.from_record(record)
        except (EventRejected, PickspinError):
            self._dropped("malformed")
            return None
        if event.type == STATUS:
            return None  # our own probe (functions.ingress.running.probe)
        found = read_reply(event, self._epoch)
        if isinstance(found, str):
            self._dropped(found)
            return None
        if found.request_id not in self._waiters:
            self._dropped("nobody_waits")
            return None
        return found
