"""Waiters: calls that wait for a request's reply, and what has arrived. Event loop only.

A waiter is registered *before* its request is appended, so that no reply can come too early.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from events.names import State
from events.parsers import Chunk, Progress, Terminal
from events.payloads import ProgressData
from functions.ingress.reply_events import Reply
from functions.runtime.errors import ApiError

BUFFER_BYTES: Final = 1024 * 1024
"""Chunks kept for one reader that is slower than the model; above, the reader is dropped."""


class Waiter:
    """One open synchronous call or stream. Loop only."""

    def __init__(self, request_id: str, tenant: str, *, is_stream: bool) -> None:
        self.request_id = request_id
        self.tenant = tenant
        self.is_stream = is_stream
        self.state = State.ACCEPTED
        self.progress: ProgressData | None = None
        self.terminal: Terminal | None = None
        self.failure: ApiError | None = None
        """Set when the wait ends without a terminal: restarted generation, full buffer, shutdown."""
        self.generation: str | None = None
        self._attempt = 0
        self._sequence = 0
        self._parts: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Nothing more will come (buffered parts may still be taken)."""
        return self.terminal is not None or self.failure is not None

    @property
    def service(self) -> str | None:
        """The service that answers, once it is known."""
        return None if self.progress is None else self.progress.service

    @property
    def has_parts(self) -> bool:
        return bool(self._parts)

    def offer(self, reply: Reply) -> str | None:
        """Takes a reply in; returns why it was dropped, or None. Nothing is taken after the end."""
        if self.is_over:
            return "finished"
        dropped = self._take(reply)
        if dropped is None:
            self._changed.set()
        return dropped

    def _take(self, reply: Reply) -> str | None:
        if isinstance(reply, Chunk):
            return self._take_chunk(reply)
        if isinstance(reply, Progress):
            self._take_progress(reply.data)
            return None
        foreign = self.generation is not None and reply.generation not in (None, self.generation)
        if foreign and reply.state is State.COMPLETED:
            self.failure = _restarted()
        else:
            self.terminal = reply
        return None

    def _take_progress(self, data: ProgressData) -> None:
        self.state = State(data.state)
        if data.decision is None and self.progress is not None:
            data = msgspec.structs.replace(data, decision=self.progress.decision)
        self.progress = data

    def _take_chunk(self, chunk: Chunk) -> str | None:
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
        parts = [_one_line(bytes(raw)) for raw in chunk.chunks]
        self._buffered_bytes += sum(map(len, parts))
        if self._buffered_bytes > BUFFER_BYTES:
            self.failure = ApiError("overloaded", "The stream was read too slowly.")
            return None
        self._parts.extend(parts)
        self.state = State.RUNNING
        return None

    def take_parts(self) -> list[bytes]:
        """All buffered parts, in order; the buffer is empty afterwards."""
        parts = list(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        return parts

    def fail(self, error: ApiError) -> None:
        """Ends the wait with `error`, unless it is over."""
        if not self.is_over:
            self.failure = error
            self._changed.set()

    async def wait_for_news(self, timeout_s: float) -> bool:
        """Waits for news; False when `timeout_s` passed without any."""
        if not self._changed.is_set():
            try:
                async with asyncio.timeout(max(0.0, timeout_s)):
                    await self._changed.wait()
            except TimeoutError:
                return False
        self._changed.clear()
        return True

    async def wait_for_end(self, timeout_s: float) -> bool:
        """Waits until the wait is over; False when `timeout_s` passed first."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                while not self.is_over:
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            pass
        return self.is_over


def _one_line(raw: bytes) -> bytes:
    """A line break between tokens is legal JSON, but would cut an SSE frame."""
    return msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw


def _restarted() -> ApiError:
    return ApiError("generation_restarted", "The answer was begun again elsewhere; ask once more.")


class Waiters:
    """All open waiters of this replica. `dropped` gets the reason of every reply without a waiter."""

    def __init__(self, dropped: Callable[[str], None]) -> None:
        self.dropped = dropped
        self._open: dict[str, Waiter] = {}
        self._streams: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._open

    def get(self, request_id: str) -> Waiter | None:
        return self._open.get(request_id)

    def count_streams(self, tenant: str) -> int:
        return self._streams[tenant]

    def count(self, tenant: str) -> int:
        return self._tenants[tenant]

    def open(self, request_id: str, tenant: str, *, is_stream: bool) -> Waiter:
        """Registers a waiter. The caller must close it."""
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
        for reply in replies:
            waiter = self._open.get(reply.request_id)
            reason = "nobody_waits" if waiter is None else waiter.offer(reply)
            if reason is not None:
                self.dropped(reason)

    def fail_all(self, error: ApiError) -> None:
        """Ends every wait: shutdown."""
        for waiter in tuple(self._open.values()):
            waiter.fail(error)
