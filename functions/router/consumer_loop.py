"""A consumer loop for records that may be worked on in any order: fetch, begin, retry, commit the lowest contiguous.

Used by the source (work is an HTTP call) and by the log binding (work is handler and appends). A record is tried
again, with growing delays; nothing is skipped. One that fails while others get through is given up in the end: it goes
to the dead letter topic with its reason (`give_up`).
"""

import heapq
import logging
import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from events.event import PartitionId, Record
from functions.ports.clock import Clock
from functions.ports.kafka import GroupConsumer
from functions.router.give_up import FailingRecords, GiveUpRule
from functions.router.retry_policy import BACKOFF
from functions.runtime.offset_ledger import OffsetLedger
from functions.runtime.shutdown import StopFlag

log = logging.getLogger(__name__)

COMMIT_S: Final = 0.2
"""Commits are at least this far apart: a replay is harmless, a commit costs a round trip."""
BUSY_POLL_S: Final = 0.05
IDLE_POLL_S: Final = 0.25
DRAIN_S: Final = 5.0
PROBE_S: Final = 5.0
"""While as many records as may be begun wait for another try, a new one is begun this often: it tells whether they are
at fault themselves.
"""

Begin = Callable[[Record], "Future[None]"]
"""Starts the work on a record and returns at once. A failed future means: again, later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """`in_flight`: most records begun or waiting for another try, but for one probe now and then."""

    in_flight: int
    give_up: GiveUpRule = field(default_factory=GiveUpRule)


@dataclass(order=True, slots=True)
class _Retry:
    due_s: float
    partition: PartitionId
    offset: int
    record: Record = field(compare=False)


@dataclass(slots=True)
class _Done:
    record: Record
    error: BaseException | None
    is_given_up: bool


class ConsumerLoop:
    """Owned by the thread that calls `run`.

    Args:
        consumer: a group member; closed at the end.
        begin: starts the work on a record.
        give_up: starts the end of one that is tried no longer.
        clock: for delays.
        stop: ends the loop; what is in flight is given `DRAIN_S`.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        begin: Begin,
        *,
        give_up: Begin,
        clock: Clock,
        stop: StopFlag,
        limits: LoopLimits,
    ) -> None:
        self._consumer = consumer
        self._begin = begin
        self._give_up = give_up
        self._clock = clock
        self._stop = stop
        self._limit = limits.in_flight
        self._ledger = OffsetLedger()
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._waiting: list[Record] = []
        self._retries: list[_Retry] = []
        self._failing = FailingRecords(limits.give_up)
        self._probed_s = clock.monotonic_s()
        self._running = 0
        self._paused: frozenset[PartitionId] = frozenset()
        self._committed_s = clock.monotonic_s()

    def run(self) -> None:
        """Until stopped."""
        try:
            while not self._stop.is_set():
                self.step()
            self._drain()
        finally:
            self._consumer.close()

    def step(self) -> None:
        """One turn of the loop."""
        self._settle(block=self._is_full)
        self._retry_due()
        self._begin_waiting()
        self._pause_or_resume()
        self._poll()
        self._begin_waiting()
        self._commit(force=False)

    @property
    def _outstanding(self) -> int:
        return self._running + len(self._retries)

    @property
    def _room(self) -> int:
        """How many new records may be begun now."""
        room = self._limit - self._outstanding
        if room > 0:
            return room
        is_due = self._clock.monotonic_s() - self._probed_s >= PROBE_S
        return 1 if is_due and self._running < self._limit else 0

    @property
    def _is_full(self) -> bool:
        return self._room == 0

    @property
    def _poll_s(self) -> float:
        if self._is_full or self._waiting:
            return 0.0
        return BUSY_POLL_S if self._outstanding else IDLE_POLL_S

    def _poll(self) -> None:
        polled = self._consumer.poll(self._poll_s)
        if polled.lost:
            self._forget(polled.lost)
        if polled.gained:
            self._ledger.gained(polled.gained, self._consumer.committed(polled.gained))
            self._paused -= polled.gained
        for record in polled.records:
            if self._ledger.note_fetched(record.partition_id, record.offset):
                self._waiting.append(record)

    def _forget(self, lost: frozenset[PartitionId]) -> None:
        self._ledger.lost(lost)
        self._waiting = [one for one in self._waiting if one.partition_id not in lost]
        self._retries = [one for one in self._retries if one.partition not in lost]
        heapq.heapify(self._retries)
        self._failing.lost(lost)
        self._paused -= lost

    def _begin_waiting(self) -> None:
        room = self._room
        begun = self._waiting[:room]
        del self._waiting[:room]
        for record in begun:
            self._probed_s = self._clock.monotonic_s()
            self._start(record)

    def _retry_due(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._retries and self._retries[0].due_s <= now_s:
            self._start(heapq.heappop(self._retries).record)

    def _start(self, record: Record) -> None:
        place = (record.partition_id, record.offset)
        is_hopeless = self._failing.is_hopeless(place, self._clock.monotonic_s())
        self._running += 1
        try:
            work = self._give_up(record) if is_hopeless else self._begin(record)
        except Exception as error:
            # The loop boundary: whatever a record makes of us, the others go on.
            log.exception("a record cannot be begun")
            self._done.put(_Done(record, error, is_hopeless))
            return
        work.add_done_callback(
            lambda future: self._done.put(_Done(record, future.exception(), is_hopeless))
        )

    def _settle(self, *, block: bool) -> None:
        """Takes in what has finished; when nothing more may begin, waits a moment for something to finish."""
        try:
            done = self._done.get(timeout=BUSY_POLL_S) if block else self._done.get_nowait()
            while True:
                self._finish(done)
                done = self._done.get_nowait()
        except queue.Empty:
            return

    def _finish(self, done: _Done) -> None:
        self._running -= 1
        record, partition = done.record, done.record.partition_id
        if not self._ledger.owns(partition):
            return
        place = (partition, record.offset)
        if done.error is None:
            if done.is_given_up:
                log.error("record given up", extra={"partition": partition, "at": record.offset})
                self._failing.ended(place)
            else:
                self._failing.succeeded(place)
            self._ledger.finished(partition, record.offset)
            return
        now_s = self._clock.monotonic_s()
        attempt = self._failing.failed(place, now_s)
        wait_s = BACKOFF.delay_s(attempt)
        log.warning(
            "record not routed yet",
            extra={"attempt": attempt, "retry_s": wait_s, "reason": type(done.error).__name__},
        )
        heapq.heappush(self._retries, _Retry(now_s + wait_s, partition, record.offset, record))

    def _pause_or_resume(self) -> None:
        """Polling must go on while nothing more can be taken, or the group would drop this member."""
        assigned = self._consumer.assignment()
        wanted = assigned if self._is_full or self._waiting else self._ledger.full() & assigned
        if wanted - self._paused:
            self._consumer.pause(wanted - self._paused)
        if (self._paused - wanted) & assigned:
            self._consumer.resume((self._paused - wanted) & assigned)
        self._paused = wanted

    def _commit(self, *, force: bool) -> None:
        now_s = self._clock.monotonic_s()
        if not force and now_s - self._committed_s < COMMIT_S:
            return
        pending = self._ledger.pending()
        if pending and self._consumer.commit(pending):
            self._ledger.committed(pending)
        self._committed_s = now_s

    def _drain(self) -> None:
        deadline_s = self._clock.monotonic_s() + DRAIN_S
        while self._running and self._clock.monotonic_s() < deadline_s:
            self._settle(block=True)
        self._commit(force=True)
