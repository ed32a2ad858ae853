"""Appends a request's events: chunks in order without waiting, terminals until acknowledged."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Final

from events import builders
from events.codecs import kafka_codec
from events.event import Event, Outgoing, PartitionId, Record
from events.names import COMPLETED, GENERATION, Topics
from events.requests import Origin, ReplyAddress
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.runtime.backoff import Backoff
from functions.runtime.dead_letter_writer import DeadLetterWriter
from functions.runtime.errors import ApiError, AppendFailed
from functions.runtime.settings import BrokerSettings
from functions.runtime.telemetry import Metrics

log = logging.getLogger(__name__)

REPLY_TRIES: Final = 3
"""A caller's own address may be impossible (a partition that does not exist): no more tries than this."""
_BACKOFF: Final = Backoff(0.1, 5.0)


class Undelivered(Exception):
    """An append failed for good."""


class Unkept(Exception):
    """The blob store did not take an answer in time."""


class ReplyProducer:
    """Appends events of one service. Owned by the event loop."""

    def __init__(
        self,
        *,
        appender: RecordAppender,
        blobs: BlobStore,
        topics: Topics,
        clock: Clock,
        metrics: Metrics,
        limits: BrokerSettings,
    ) -> None:
        self._appender = appender
        self._blobs = blobs
        self.topics = topics
        self._clock = clock
        self._metrics = metrics
        self._inline_bytes = limits.inline_bytes
        if limits.kind == "embedded":
            self._inline_bytes = min(limits.inline_bytes, limits.embedded_answer_bytes)
        self._dead_letters = DeadLetterWriter(
            appender, topic=topics.dlq, max_bytes=limits.max_record_bytes, metrics=metrics
        )

    def send(self, out: Outgoing) -> "Future[PartitionId]":
        """Appends without waiting; a failure is counted and stays in the future."""
        future = self._appender.append(kafka_codec.outgoing_record(out))
        future.add_done_callback(lambda done: self._count(out.topic, done))
        return future

    async def terminal(
        self, event: Event, address: ReplyAddress | None, *, until: datetime | None = None
    ) -> None:
        """Returns when the terminal is in `infer.responses` (tried until it is) and at the caller's address, or in the
        dead letter topic where that takes nothing. Data above the inline limit goes to the blob store.

        Raises:
            Unkept: the blob store did not take the data by `until`, several tries at least.
        """
        event = await self._by_reference(event, until)
        outgoing = builders.terminal_outgoing(event, topics=self.topics, reply=address)
        # The caller's record goes first, it is the one somebody waits for.
        errors = await asyncio.gather(*(self._deliver(out) for out in reversed(outgoing)))
        if errors[-1] is not None and event.type == COMPLETED:
            error = ApiError("reply_too_large", "the answer is larger than a record may be")
            origin, generation = Origin.of(event), event.get(GENERATION)
            known = self.failed(origin, error, source=event.source, generation=generation)
            await self.terminal(known, address)
        elif errors[0] is not None:
            untold = kafka_codec.outgoing_record(outgoing[-1])
            await self.dead_letter(untold, "undeliverable")

    async def _by_reference(self, event: Event, until: datetime | None) -> Event:
        data, tries = event.data, 0
        if event.type != COMPLETED or data is None or len(data) <= self._inline_bytes:
            return event  # only answers are large
        while True:
            try:
                return builders.by_reference(event, await asyncio.to_thread(self._blobs.put, data))
            except OSError as error:
                tries += 1
                self._metrics.blob_failures.inc()
                log.warning("an answer was not stored", extra={"reason": type(error).__name__})
                if tries >= REPLY_TRIES and (until is None or self._clock.now() >= until):
                    raise Unkept from error
            await asyncio.sleep(_BACKOFF.delay_s(tries))

    async def hand_on(self, out: Outgoing) -> bool:
        """Returns True when a routed event is in the log (tried until it is); False: it is too large for a record,
        or there is no such topic.
        """
        try:
            await self._append(kafka_codec.outgoing_record(out), tries=None, is_ours=False)
        except Undelivered:
            return False
        return True

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Returns when the record is in the dead letter topic with its reason, whole or by reference."""
        for tries in itertools.count(1):
            try:
                await asyncio.wrap_future(self._dead_letters.keep(record, reason))
            except AppendFailed as error:
                log.warning("dead letter not appended", extra={"reason": error.reason})
            else:
                return
            await asyncio.sleep(_BACKOFF.delay_s(tries))

    def failed(self, origin: Origin, error: ApiError, **more: Any) -> Event:
        """The failed terminal of an error (`source`, `pickspin`, `generation` as in `reply.failed`)."""
        failure = builders.Failure(
            code=error.code,
            message=error.message,
            type=error.row.type,
            status=error.status,
            param=error.param,
            src=error.src,
        )
        return builders.build_failed(origin, failure, now=self._clock.now(), **more)

    async def _deliver(self, out: Outgoing) -> Undelivered | None:
        """None: it is on Kafka."""
        is_public = out.topic == self.topics.responses and out.partition is None
        record = kafka_codec.outgoing_record(out)
        try:
            await self._append(record, tries=None if is_public else REPLY_TRIES, is_ours=is_public)
        except Undelivered as error:
            self._metrics.replies_dropped.labels("undeliverable").inc()
            log.warning("a reply could not be delivered", extra={"topic": out.topic})
            return error
        return None

    async def _append(self, record: Record, *, tries: int | None, is_ours: bool) -> None:
        """`is_ours`: the topic is one that every installation has; without it there is nothing to do but wait."""
        for count in itertools.count(1):
            try:
                await asyncio.wrap_future(self._appender.append(record))
            except AppendFailed as error:
                self._metrics.append_failures.labels(record.topic).inc()
                is_final = error.is_too_large or (error.is_unroutable and not is_ours)
                if is_final or (tries is not None and count >= tries):
                    raise Undelivered from error
                log.warning("append failed", extra={"topic": record.topic, "reason": error.reason})
            else:
                return
            await asyncio.sleep(_BACKOFF.delay_s(count))

    def _count(self, topic: str, done: "Future[PartitionId]") -> None:
        if not done.cancelled() and done.exception() is not None:
            self._metrics.append_failures.labels(topic).inc()


class ChunkSender:
    """Chunks of one generation, coalesced: the first content goes at once, later ones at most every `window_s`.

    Args:
        publish: makes and appends the event of a sequence number and its chunks.
        most_unacknowledged: appends in flight before `add` waits for the oldest.
    """

    def __init__(
        self,
        publish: Callable[[int, Sequence[dict[str, Any]]], "Future[PartitionId]"],
        *,
        window_s: float,
        most_unacknowledged: int = 64,
    ) -> None:
        self._publish = publish
        self._window_s = window_s
        self._most = most_unacknowledged
        self._loop = asyncio.get_running_loop()
        self._waiting: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sent: list[Future[PartitionId]] = []
        self._sequence = 0
        self._refusal: AppendFailed | None = None
        self._last_s: float | None = None

    @property
    def has_sent(self) -> bool:
        """True once something may have reached a reader: from then on this generation is the only one."""
        return self._sequence > 0

    async def add(self, chunk: dict[str, Any], is_first_content: bool) -> None:  # noqa: FBT001 - an OnChunk
        """Queues a chunk; sends when it is time.

        Raises:
            AppendFailed: an earlier part can never be delivered, or one of many is not in the log.
        """
        if self._refusal is not None:
            raise self._refusal
        self._waiting.append(chunk)
        now_s = self._loop.time()
        if is_first_content or (
            self._last_s is not None and now_s - self._last_s >= self._window_s
        ):
            self.flush()
        elif self._timer is None and self._last_s is not None:
            self._timer = self._loop.call_at(self._last_s + self._window_s, self.flush)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._window_s, self.flush)
        if len(self._sent) >= self._most:
            await self._settle()

    def flush(self) -> None:
        """Sends what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            chunks, self._waiting = self._waiting, []
            self._last_s = self._loop.time()
            sent = self._publish(self._sequence, chunks)
            sent.add_done_callback(self._note)
            self._sent.append(sent)
            self._sequence += 1

    def _note(self, done: "Future[PartitionId]") -> None:
        """Ends the generation of a stream whose address takes nothing."""
        error = None if done.cancelled() else done.exception()
        if isinstance(error, AppendFailed) and error.is_final:
            self._refusal = error

    async def finish(self) -> None:
        """Sends the rest and returns when all of it is in the log.

        Raises:
            AppendFailed: a part is not; the stream has a gap.
        """
        self.flush()
        await self._settle()

    def drop(self) -> None:
        """Forgets what waits; nothing more is sent."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _settle(self) -> None:
        sent, self._sent = self._sent, []
        for future in sent:
            await asyncio.wrap_future(future)
