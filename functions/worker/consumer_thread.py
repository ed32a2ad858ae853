"""The thread that owns the group consumer, the ledger and the queue.

Each turn takes results from the event loop, polls, chooses what starts, makes the attempts durable
in one commit, and then hands the jobs over. So no call begins before its attempt is counted.
"""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from events.event import PartitionId, Record
from functions.ports.clock import Clock
from functions.ports.kafka import Commit, GroupConsumer, Polled
from functions.runtime.errors import ApiError
from functions.runtime.offset_ledger import OffsetLedger
from functions.worker.fair_queue import FairQueue
from functions.worker.job import Job, JobReader, RefusedRecord

log = logging.getLogger(__name__)

BUSY_POLL_S: Final = 0.02
JOINING_POLL_S: Final = 0.05
IDLE_POLL_S: Final = 0.5
"""A record ends a poll at once; what costs is the polls that end without one."""
SATURATED_WAIT_S: Final = 0.02
SWEEP_S: Final = 0.1
COMMIT_S: Final = 0.05
"""Outcomes are committed this often, and with the next attempt: a commit each would hold up the next call."""
SOON_S: Final = 2.0
"""After the last activity polls stay short for this long: the next record is likely to come soon."""
_BACKOFF_S: Final = 0.2
_GIVE_UP_S: Final = 60.0
_KNOWN_REQUESTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class JobFinished:
    """The job's terminal is on Kafka."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobRetry:
    """The attempt failed before anything was streamed; the job may be tried again from `not_before_s` (monotonic).

    `is_counted` False: there was no attempt, the model was not called.
    """

    job: Job
    not_before_s: float
    is_counted: bool = True


Outcome = JobFinished | JobRetry


@dataclass(frozen=True, slots=True, kw_only=True)
class PollLimits:
    """`high_water`, `high_water_bytes`: what may wait here; more pauses the partitions."""

    max_attempts: int
    high_water: int
    high_water_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """How thread and event loop talk.

    `outcomes`: what became of jobs that were handed over; None only wakes. `hand_over` gets jobs to run or to refuse;
    thread-safe, never blocks.
    """

    outcomes: "queue.SimpleQueue[Outcome | None]"
    hand_over: Callable[[list[Job]], None]


class ConsumerThread(threading.Thread):
    """Runs until `quiet` was called and nothing is running, or `abandon` was. `on_joined` is called whenever
    partitions were assigned, `on_end` last; both in this thread.

    Args:
        open_consumer: makes the consumer, in this thread.
        is_cancelled: whether a request id was cancelled; thread-safe.
    """

    def __init__(
        self,
        *,
        open_consumer: Callable[[], GroupConsumer],
        reader: JobReader,
        schedule: FairQueue,
        exchange: Exchange,
        is_cancelled: Callable[[str], bool],
        clock: Clock,
        limits: PollLimits,
    ) -> None:
        super().__init__(name="poll", daemon=True)
        self.failure: BaseException | None = None
        self.last_turn_s = time.monotonic()
        self.owed = 0
        self.on_joined: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self._outcomes = exchange.outcomes
        self._open_consumer = open_consumer
        self._reader = reader
        self._schedule = schedule
        self._hand_over = exchange.hand_over
        self._is_cancelled = is_cancelled
        self._clock = clock
        self._limits = limits
        self._ledger = OffsetLedger()
        self._may_join = threading.Event()
        self._is_quiet = threading.Event()
        self._is_abandoned = threading.Event()
        self._parting: Mapping[PartitionId, Commit] = {}
        self._paused: set[PartitionId] = set()
        self._ending: set[int] = set()
        self._known: OrderedDict[str, tuple[PartitionId, int]] = OrderedDict()
        self._active_s = 0.0
        self._swept_s = 0.0
        self._committed_s = 0.0
        self._troubled_s: float | None = None

    def join_group(self) -> None:
        """Lets the thread subscribe: the model is warm."""
        self._may_join.set()

    def quiet(self) -> None:
        """No new record and no new attempt from now on; outcomes are still committed."""
        self._is_quiet.set()
        self._may_join.set()
        self._outcomes.put(None)

    def abandon(self) -> None:
        """Leaves the group now; what is not finished stays uncommitted."""
        self._is_abandoned.set()
        self.quiet()

    def run(self) -> None:
        try:
            consumer = self._open_consumer()
            consumer.part_with(self._part)
            try:
                self._may_join.wait()
                self._loop(consumer)
            finally:
                consumer.close()
        except Exception as error:
            log.exception("the poll thread ends")
            self.failure = error
        finally:
            self.on_end()

    def _part(self, partitions: Collection[PartitionId]) -> Mapping[PartitionId, Commit]:
        """For the consumer, in its thread: what was known when the last turn began or its commit was sent."""
        parting = self._parting
        return {p: parting[p] for p in partitions if p in parting}

    def _loop(self, consumer: GroupConsumer) -> None:
        while not self._is_over():
            self.last_turn_s = time.monotonic()
            try:
                self._turn(consumer)
                self._troubled_s = None
            except Exception as error:  # noqa: BLE001 - loop boundary: a broker outage is survived, bounded below
                self._trouble(error)
        self._commit(consumer, [], is_last=True)

    def _is_over(self) -> bool:
        if self._is_abandoned.is_set():
            self._take_outcomes()
            return True
        return (
            self._is_quiet.is_set()
            and self._schedule.running == 0
            and not self._ending
            and self._outcomes.empty()
        )

    def _trouble(self, error: Exception) -> None:
        now_s = time.monotonic()
        if self._troubled_s is None:
            self._troubled_s = now_s
            log.warning("poll turn failed", extra={"reason": type(error).__name__}, exc_info=error)
        if now_s - self._troubled_s > _GIVE_UP_S:
            raise error
        time.sleep(_BACKOFF_S)

    def _turn(self, consumer: GroupConsumer) -> None:
        self._take_outcomes()
        self._parting = self._ledger.parting()
        polled = self._poll(consumer)
        self._rebalance(consumer, polled)
        over = self._receive(polled.records) + self._sweep()
        starts = [] if self._is_quiet.is_set() else self._choose()
        over += [job for job in starts if job.refusal is not None]
        if over:
            self._ending |= {id(job) for job in over}
            self._hand_over(over)
        starts = [job for job in starts if job.refusal is None]
        if self._commit(consumer, starts) and starts:
            self._hand_over(starts)
        self._steer(consumer)
        self.owed = self._owed()

    def _owed(self) -> int:
        """Jobs whose outcome is still to come: handed over, or fetched and neither queued nor finished."""
        handed_over = self._schedule.running + len(self._ending)
        return max(handed_over, self._ledger.unfinished - self._schedule.queued)

    def _take_outcomes(self) -> None:
        while True:
            try:
                outcome = self._outcomes.get_nowait()
            except queue.Empty:
                return
            if outcome is not None:
                self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        job = outcome.job
        self._active_s = time.monotonic()
        if isinstance(outcome, JobRetry) and self._ledger.owns(job.partition):
            note = self._ledger.end_attempt if outcome.is_counted else self._ledger.withdraw_attempt
            note(job.partition, job.offset)
            job.not_before_s = outcome.not_before_s
            self._schedule.put_back(job)
            return
        self._schedule.ended(job)
        self._ending.discard(id(job))
        if isinstance(outcome, JobFinished):
            self._ledger.finished(job.partition, job.offset)

    def _poll(self, consumer: GroupConsumer) -> Polled:
        schedule = self._schedule
        is_waiting = self._is_quiet.is_set() or (schedule.is_saturated and schedule.queued > 0)
        if is_waiting:
            # Nothing fetched could start: the next outcome is what matters, a poll only keeps the membership.
            try:
                outcome = self._outcomes.get(timeout=SATURATED_WAIT_S)
            except queue.Empty:
                outcome = None
            if outcome is not None:
                self._take(outcome)
            return consumer.poll(0)
        if not self._outcomes.empty():
            return consumer.poll(0)
        wait_s = self._wait_s(consumer)
        due_s = schedule.due_s(time.monotonic())
        return consumer.poll(wait_s if due_s is None else min(wait_s, due_s))

    def _wait_s(self, consumer: GroupConsumer) -> float:
        if self._is_active():
            return BUSY_POLL_S
        # Whoever has a share is ready: that must not wait until a poll without records ends.
        return IDLE_POLL_S if consumer.assignment() else JOINING_POLL_S

    def _rebalance(self, consumer: GroupConsumer, polled: Polled) -> None:
        if polled.lost:
            self._ledger.lost(polled.lost)
            self._parting = self._ledger.parting()
            self._schedule.drop(polled.lost)
            self._paused -= polled.lost
        if polled.gained:
            self._ledger.gained(polled.gained, consumer.committed(polled.gained))
            self._paused -= polled.gained
            log.info("partitions gained", extra={"count": len(polled.gained)})
            self.on_joined()

    def _receive(self, records: Iterable[Record]) -> list[Job]:
        """Queues what is to be run; returns what is refused at once."""
        refused: list[Job] = []
        for record in records:
            self._active_s = time.monotonic()
            partition, offset = record.partition_id, record.offset
            if not self._ledger.note_fetched(partition, offset) or self._schedule.is_running(
                partition, offset
            ):
                continue
            job = self._reader.read(record)
            job.prior = self._ledger.attempts(partition, offset)
            job.moved = self._ledger.moved(partition, offset)
            if job.refusal is not None:
                refused.append(job)
            elif self._is_duplicate(job):
                self._ledger.finished(partition, offset)
            else:
                self._schedule.add(job)
        return refused

    def _is_duplicate(self, job: Job) -> bool:
        """Whether another record of this request was seen here: routers may publish the same event again."""
        request_id = job.request_id
        if request_id is None:
            return False
        place = (job.partition, job.offset)
        known = self._known.setdefault(request_id, place)
        if len(self._known) > _KNOWN_REQUESTS:
            self._known.popitem(last=False)
        return known != place

    def _sweep(self) -> list[Job]:
        now_s = time.monotonic()
        if now_s - self._swept_s < SWEEP_S or self._schedule.queued == 0:
            return []
        self._swept_s = now_s
        over = self._schedule.sweep(self._clock.now(), self._is_cancelled)
        for job in over:
            job.refusal = self._why_over(job)
        return over

    def _choose(self) -> list[Job]:
        """Jobs that start now; one that may not be run any more carries its refusal."""
        chosen: list[Job] = []
        while (job := self._schedule.next(time.monotonic())) is not None:
            job.refusal = self._why_over(job)
            if job.refusal is not None:
                self._schedule.ended(job)
            else:
                job.attempt = self._ledger.start_attempt(job.partition, job.offset)
            chosen.append(job)
        return chosen

    def _why_over(self, job: Job) -> RefusedRecord | None:
        request = job.request
        if request is None:
            return job.refusal
        if request.deadline <= self._clock.now():
            # First, because callers cancel what is past its deadline.
            error = ApiError("deadline_exceeded", "the deadline passed before a model was free")
        elif self._is_cancelled(request.request_id):
            error = ApiError("cancelled", "the request was cancelled")
        elif self._counted(job) >= self._limits.max_attempts:
            error = ApiError(
                "attempts_exhausted", f"no answer after {self._limits.max_attempts} attempts"
            )
            return RefusedRecord(error, "attempts_exhausted", request.origin, request.reply)
        else:
            return None
        return RefusedRecord(error, None, request.origin, request.reply)

    def _counted(self, job: Job) -> int:
        """Attempts that count: failed ones, and those of crashed processes, not those that moved."""
        place = job.partition, job.offset
        return self._ledger.attempts(*place) - self._ledger.moved(*place)

    def _commit(self, consumer: GroupConsumer, starts: list[Job], *, is_last: bool = False) -> bool:
        """Commits what is due. False: refused; the started attempts are taken back and the jobs wait again."""
        now_s = time.monotonic()
        if not starts and not is_last and now_s - self._committed_s < COMMIT_S:
            return True
        pending: dict[PartitionId, Commit] = self._ledger.pending()
        if not pending:
            return True
        self._committed_s = now_s
        self._parting = self._ledger.parting()
        is_accepted = False
        try:
            is_accepted = consumer.commit(pending)
        finally:
            if is_accepted:
                self._ledger.committed(pending)
            else:
                self._withdraw(starts)
        return is_accepted

    def _withdraw(self, starts: list[Job]) -> None:
        for job in starts:
            self._ledger.withdraw_attempt(job.partition, job.offset)
            self._schedule.ended(job)
            if self._ledger.owns(job.partition):
                job.not_before_s = time.monotonic() + _BACKOFF_S
                self._schedule.put_back(job)

    def _steer(self, consumer: GroupConsumer) -> None:
        """Pauses and resumes partitions."""
        assigned = consumer.assignment()
        wanted = {p for p in assigned if self._must_pause(p)} | (self._ledger.full() & assigned)
        to_pause, to_resume = wanted - self._paused, (self._paused & assigned) - wanted
        if to_pause:
            consumer.pause(to_pause)
        if to_resume:
            consumer.resume(to_resume)
        self._paused = wanted

    def _must_pause(self, partition: PartitionId) -> bool:
        if self._is_quiet.is_set():
            return True
        if self._reader.is_batch(partition.topic):
            return not self._schedule.may_fetch_batch
        queued, limits = self._schedule, self._limits
        return queued.queued >= limits.high_water or queued.queued_bytes >= limits.high_water_bytes

    def _is_active(self) -> bool:
        return self._schedule.running > 0 or time.monotonic() - self._active_s < SOON_S
