"""The recording loop: poll, one transaction, commit. Killed in between, it repeats and changes nothing twice.

No record holds it up, whatever it holds: what cannot be read or recorded is passed over, counted and said.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from events.event import PartitionId, Record
from events.names import Topics
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import Commit, GroupConsumer
from functions.ports.store import Change, RecordingResult, RequestStore
from functions.recorder.event_to_change import build_change
from functions.runtime.errors import StoreFailed
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics

POLL_S: Final = 0.25
GATHER_S: Final = 0.1
FULL: Final = 100
"""A poll with this many records has more behind it."""
RETRY_S: Final = 0.5
"""Pause before a transaction is tried again while the store is out of reach."""

log = logging.getLogger(__name__)


def recorded_topics(topics: Topics) -> tuple[str, ...]:
    """What the recorder reads."""
    return (topics.requests, topics.progress, topics.responses, topics.control)


class Recorder:
    """One member of the recorder group. Owned by the thread that runs it.

    Args:
        wait_s: deadline of requests that name none, in seconds after their time.
    """

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        store: RequestStore,
        blobs: BlobStore,
        clock: Clock,
        metrics: Metrics,
        wait_s: float,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._metrics = metrics
        self._wait_s = wait_s

    def run(self, stop: StopFlag) -> None:
        """Records until `stop` is set."""
        while not stop.is_set():
            if 0 < self.step(stop, POLL_S) < FULL:
                # Nobody waits for the store: what gathers in this moment shares one transaction and one commit.
                stop.wait(GATHER_S)

    def step(self, stop: StopFlag, timeout_s: float) -> int:
        """One poll, recorded and committed; returns how many records it had."""
        records = self._consumer.poll(timeout_s).records
        if not records:
            return 0
        changes = [change for record in records if (change := self._read(record)) is not None]
        if self._record(changes, stop):
            # Only after the transaction; a refused commit means that another member repeats these records.
            self._consumer.commit(next_offsets(records))
        return len(records)

    def _read(self, record: Record) -> Change | None:
        try:
            return build_change(record, self._blobs, wait_s=self._wait_s, now=self._clock.now())
        except Exception:
            # The boundary of one record: whatever it holds, the others go on.
            self._metrics.skipped_records.labels(reader="recorder").inc()
            log.exception(
                "record not read",
                extra={
                    "topic": record.topic, "partition": record.partition, "offset": record.offset,
                },
            )  # fmt: skip
            return None

    def _record(self, changes: Sequence[Change], stop: StopFlag) -> bool:
        """False: stopped before the store could take them."""
        while True:
            try:
                recorded = self._store.record_batch(changes)
            except StoreFailed as error:
                if not error.is_transient:
                    return self._record_singly(changes, stop)
                log.warning("store out of reach", extra={"reason": str(error)})
                if stop.wait(RETRY_S):
                    return False
            except Exception:
                # The same boundary: what breaks the store's own code is found and passed over.
                log.exception("changes not recorded", extra={"changes": len(changes)})
                return self._record_singly(changes, stop)
            else:
                self._count(recorded)
                return True

    def _count(self, recorded: RecordingResult) -> None:
        """An end after the end changes nothing, but somebody may have been told it."""
        for request_id, what in recorded.other_ends:
            self._metrics.other_ends.labels(differs=what).inc()
            log.warning("request ended again", extra={"request_id": request_id, "differs": what})

    def _record_singly(self, changes: Sequence[Change], stop: StopFlag) -> bool:
        """One change that the store refuses must not hold up the others."""
        if len(changes) == 1:
            event = changes[0].event
            self._metrics.skipped_records.labels(reader="recorder").inc()
            log.error(
                "event refused by the store", extra={"event_id": event.id, "type": event.type}
            )
            return True
        return all(self._record([change], stop) for change in changes)


def next_offsets(records: Iterable[Record]) -> dict[PartitionId, Commit]:
    """What to commit once all these records are done."""
    commits: dict[PartitionId, Commit] = {}
    for record in records:
        known = commits.get(record.partition_id)
        if known is None or record.offset >= known.offset:
            commits[record.partition_id] = Commit(record.offset + 1)
    return commits
