"""From the log into the store: poll, write, commit. Recorder and callbacks read their topics with it.

Killed in between, it repeats records, so `write` must change nothing the second time.
No record holds it up: what cannot be read or written is skipped, counted and logged.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from events.event import PartitionId, Record
from functions.ports.kafka import Commit, GroupConsumer
from functions.runtime.errors import StoreFailed
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics

POLL_S: Final = 0.25
GATHER_S: Final = 0.1
FULL: Final = 100
"""A poll with this many records has more behind it."""
RETRY_S: Final = 0.5
"""Pause before a write is tried again while the store is out of reach."""

Item = TypeVar("Item")
log = logging.getLogger(__name__)


class LogConsumer(Generic[Item]):
    """One member of a consumer group. Owned by the thread that runs it.

    Args:
        read: what a record means for the store; None: nothing.
        write: writes what one poll meant; all of it again after a failure.
        reader: its label in the metrics.
    """

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read: Callable[[Record], Item | None],
        write: Callable[[Sequence[Item]], None],
        metrics: Metrics,
        reader: str,
    ) -> None:
        self._consumer = consumer
        self._read = read
        self._write = write
        self._metrics = metrics
        self._reader = reader

    def run(self, stop: StopFlag) -> None:
        """Consumes until `stop` is set."""
        while not stop.is_set():
            if 0 < self.step(stop, POLL_S) < FULL:
                # Nobody waits for the store: what gathers in this moment shares one transaction and one commit.
                stop.wait(GATHER_S)

    def step(self, stop: StopFlag, timeout_s: float) -> int:
        """One poll, written and committed; returns how many records it had."""
        records = self._consumer.poll(timeout_s).records
        if not records:
            return 0
        entries = [
            (record, item) for record in records if (item := self._parse(record)) is not None
        ]
        if self._store(entries, stop):
            # Only after the write; a refused commit means that another member repeats these records.
            self._consumer.commit(next_offsets(records))
        return len(records)

    def _parse(self, record: Record) -> Item | None:
        try:
            return self._read(record)
        except Exception:
            # The boundary of one record: whatever it holds, the others go on.
            log.exception("record not read", extra=self._skip(record))
            return None

    def _store(self, entries: Sequence[tuple[Record, Item]], stop: StopFlag) -> bool:
        """False: stopped before the store could take them."""
        while entries:
            try:
                self._write([item for _, item in entries])
            except StoreFailed as error:
                if not error.is_transient:
                    return self._store_singly(entries, stop)
                log.warning("store out of reach", extra={"reason": str(error)})
                if stop.wait(RETRY_S):
                    return False
            except Exception:
                # The same boundary: what breaks the store's own code is found and passed over.
                log.exception("records not written", extra={"records": len(entries)})
                return self._store_singly(entries, stop)
            else:
                break
        return True

    def _store_singly(self, entries: Sequence[tuple[Record, Item]], stop: StopFlag) -> bool:
        """One record that the store refuses must not hold up the others."""
        if len(entries) > 1:
            return all(self._store([entry], stop) for entry in entries)
        log.error("record refused by the store", extra=self._skip(entries[0][0]))
        return True

    def _skip(self, record: Record) -> dict[str, object]:
        """Counts a record that is passed over; returns what a log line says of it."""
        self._metrics.skipped_records.labels(reader=self._reader).inc()
        return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def next_offsets(records: Iterable[Record]) -> dict[PartitionId, Commit]:
    """What to commit once all these records are done."""
    commits: dict[PartitionId, Commit] = {}
    for record in records:
        known = commits.get(record.partition_id)
        if known is None or record.offset >= known.offset:
            commits[record.partition_id] = Commit(record.offset + 1)
    return commits
