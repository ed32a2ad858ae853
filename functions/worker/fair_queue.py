"""Which fetched job runs next. Pure. Owned by the consumer thread.

Interactive work precedes batch work. Tenants take turns (start-time fair queueing, Goyal et al.
1996, equal weights). Retries wait for their time. A job that was in flight in crashed processes,
and has one attempt left, runs alone.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from events.event import PartitionId
from functions.worker.job import Job

_MAX_TENANTS: Final = 10_000


@dataclass(slots=True)
class Lane:
    """Jobs of one lane, in fair order of their tenants."""

    heap: list[tuple[float, int, Job]] = field(default_factory=list)
    virtual: float = 0.0
    tags: dict[str, float] = field(default_factory=dict)

    def push(self, job: Job, sequence: int) -> None:
        """Queues a job behind the other jobs of its tenant."""
        tag = max(self.virtual, self.tags.get(job.tenant, 0.0))
        self.tags[job.tenant] = tag + 1.0
        if len(self.tags) > _MAX_TENANTS:
            self.tags = {tenant: t for tenant, t in self.tags.items() if t > self.virtual}
        heapq.heappush(self.heap, (tag, sequence, job))

    def push_front(self, job: Job, sequence: int) -> None:
        """Queues a job before all others: it had its turn and comes back."""
        heapq.heappush(self.heap, (self.virtual - 1.0, sequence, job))

    def pop(self) -> Job | None:
        if not self.heap:
            return None
        tag, _, job = heapq.heappop(self.heap)
        self.virtual = max(self.virtual, tag)
        return job

    def remove(self, is_unwanted: Callable[[Job], bool]) -> list[Job]:
        """Takes out every job for which `is_unwanted`."""
        removed = [entry[2] for entry in self.heap if is_unwanted(entry[2])]
        if removed:
            gone = set(map(id, removed))
            self.heap = [entry for entry in self.heap if id(entry[2]) not in gone]
            heapq.heapify(self.heap)
        return removed


class FairQueue:
    """Everything fetched and not finished.

    Args:
        concurrency: model calls at once. Batch jobs leave one of them free, where there is more than one.
        max_attempts: attempts a job may begin, those of crashed processes included.
    """

    def __init__(self, *, concurrency: int, max_attempts: int) -> None:
        self._concurrency = concurrency
        self._batch_concurrency = max(1, concurrency - 1)
        self._max_attempts = max_attempts
        self._interactive, self._batch, self._suspects = Lane(), Lane(), Lane()
        self._delayed: list[tuple[float, int, Job]] = []
        self._running: dict[tuple[PartitionId, int], Job] = {}
        self._running_batch = 0
        self._alone: Job | None = None
        self._sequence = 0
        self.queued_bytes = 0
        """What all that waits holds in memory, about. Kept, not added up: it is asked for at every turn."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def queued_interactive(self) -> int:
        return len(self._interactive.heap) + len(self._suspects.heap)

    @property
    def queued_batch(self) -> int:
        return len(self._batch.heap)

    @property
    def queued(self) -> int:
        """All jobs that wait, delayed ones included."""
        return self.queued_interactive + self.queued_batch + len(self._delayed)

    @property
    def is_saturated(self) -> bool:
        return self._alone is not None or self.running >= self._concurrency

    @property
    def may_fetch_batch(self) -> bool:
        """Batch is fetched only while nothing interactive waits and a slot could take it."""
        return (
            self.queued_interactive == 0
            and self.queued_batch < self._concurrency
            and not self.is_saturated
        )

    def is_running(self, partition: PartitionId, offset: int) -> bool:
        return (partition, offset) in self._running

    def add(self, job: Job) -> None:
        """Queues a job that was just fetched."""
        self.queued_bytes += job.size_bytes
        self._lane(job).push(job, self._next())

    def put_back(self, job: Job) -> None:
        """Queues a job that was started or running and comes back: first in line once `not_before_s` has passed."""
        self.ended(job)
        self.queued_bytes += job.size_bytes
        heapq.heappush(self._delayed, (job.not_before_s, self._next(), job))

    def next(self, monotonic_s: float) -> Job | None:
        """The job to start now (it counts as running from here on), or None."""
        self._release(monotonic_s)
        job = self._choose()
        if job is not None:
            self.queued_bytes -= job.size_bytes
            self._running[(job.partition, job.offset)] = job
            self._running_batch += job.is_batch
        return job

    def ended(self, job: Job) -> None:
        """A running job is no longer running. Others change nothing."""
        if self._running.get((job.partition, job.offset)) is job:
            del self._running[(job.partition, job.offset)]
            self._running_batch -= job.is_batch
        if self._alone is job:
            self._alone = None

    def due_s(self, monotonic_s: float) -> float | None:
        """Seconds until the next delayed job may start; None: there is none."""
        return max(0.0, self._delayed[0][0] - monotonic_s) if self._delayed else None

    def sweep(self, now: datetime, is_cancelled: Callable[[str], bool]) -> list[Job]:
        """Takes out queued jobs that are past their deadline or cancelled."""

        def is_over(job: Job) -> bool:
            request = job.request
            return request is not None and (
                request.deadline <= now or is_cancelled(request.request_id)
            )

        return self._remove(is_over)

    def drop(self, partitions: frozenset[PartitionId]) -> None:
        """Forgets queued jobs of partitions that were lost; running ones go on."""
        self._remove(lambda job: job.partition in partitions)

    def _remove(self, is_unwanted: Callable[[Job], bool]) -> list[Job]:
        removed: list[Job] = []
        for lane in (self._interactive, self._batch, self._suspects):
            removed += lane.remove(is_unwanted)
        kept: list[tuple[float, int, Job]] = []
        for entry in self._delayed:
            if is_unwanted(entry[2]):
                removed.append(entry[2])
            else:
                kept.append(entry)
        if len(kept) < len(self._delayed):
            heapq.heapify(kept)
            self._delayed = kept
        self.queued_bytes -= sum(job.size_bytes for job in removed)
        return removed

    def _choose(self) -> Job | None:
        if self.is_saturated:
            return None
        if self._suspects.heap:
            if self._running:
                return None  # it runs alone: wait until the others are through
            self._alone = self._suspects.pop()
            return self._alone
        job = self._interactive.pop()
        if job is None and self._running_batch < self._batch_concurrency:
            job = self._batch.pop()
        return job

    def _release(self, monotonic_s: float) -> None:
        while self._delayed and self._delayed[0][0] <= monotonic_s:
            job = heapq.heappop(self._delayed)[2]
            self._lane(job).push_front(job, self._next())

    def _lane(self, job: Job) -> Lane:
        if 0 < self._max_attempts - 1 <= job.prior - job.moved < self._max_attempts:
            return self._suspects
        return self._batch if job.is_batch else self._interactive

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
