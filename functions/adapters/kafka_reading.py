"""`GroupConsumer` and `RecordTail` with kafka-python.

Empty fetches: Apache Kafka answers a waiting fetch the moment data arrives; the embedded broker only after the
whole wait. So the wait is short while records are expected and long while idle (`expect`, ADR 0003); kafka-python
reads `fetch_max_wait_ms` at every fetch, and this is the one place that changes it.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import CorruptRecordError, KafkaError

from events.record import PartitionId, Record
from functions.errors import StartupFailed
from functions.ports import Commit, Polled
from functions.settings import BrokerSettings

log = logging.getLogger(__name__)

KAFKA_BUSY_MS: Final = 20
KAFKA_IDLE_MS: Final = 250
EMBEDDED_SESSION_S: Final = 3.0
"""The embedded broker ends every rebalance of a living group one second before the session timeout, never sooner."""
_TOPIC_WAIT_S: Final = 15.0
_POLL_FAILED_S: Final = 0.2
_PROBE_S: Final = 5.0
_FETCH: Final = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "allow_auto_create_topics": False,
    "fetch_max_bytes": 8 * 1024 * 1024,
    "max_poll_records": 100,
}


class _Waits:
    """The two fetch waits of a broker kind, and the switch between them."""

    def __init__(self, settings: BrokerSettings) -> None:
        is_embedded = settings.kind == "embedded"
        self.busy_ms = settings.poll_busy_ms if is_embedded else KAFKA_BUSY_MS
        self.idle_ms = settings.poll_idle_ms if is_embedded else KAFKA_IDLE_MS

    def apply(self, consumer: Any, *, soon: bool) -> None:
        wait_ms = self.busy_ms if soon else self.idle_ms
        consumer._fetcher.config["fetch_max_wait_ms"] = wait_ms  # noqa: SLF001 - no public way: ADR 0003


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Collects changes; runs on kafka-python's I/O thread, so it only touches two sets."""

    def __init__(self) -> None:
        self.gained: set[PartitionId] = set()
        self.lost: set[PartitionId] = set()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.lost |= {PartitionId(*tp) for tp in revoked}
        self.gained -= self.lost

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.gained |= {PartitionId(*tp) for tp in assigned}

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)

    def take(self) -> tuple[frozenset[PartitionId], frozenset[PartitionId]]:
        gained, lost = frozenset(self.gained), frozenset(self.lost)
        self.gained -= gained
        self.lost -= lost
        return gained, lost


class KafkaGroupConsumer:
    """A member of a group; joins at its first `poll`."""

    def __init__(
        self,
        settings: BrokerSettings,
        options: dict[str, Any],
        *,
        group: str,
        topics: tuple[str, ...],
    ) -> None:
        self._waits = _Waits(settings)
        self._options = options
        is_embedded = settings.kind == "embedded"
        session_s = settings.session_timeout_s
        session_ms = int(1000 * (min(session_s, EMBEDDED_SESSION_S) if is_embedded else session_s))
        self._consumer: Any = KafkaConsumer(
            group_id=group,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(3000, session_ms // 4),
            # The mock cluster gets lost in the two-step rebalance of the cooperative protocol.
            partition_assignment_strategy=(
                (RangePartitionAssignor,) if is_embedded else (CooperativeStickyAssignor,)
            ),
            fetch_max_wait_ms=self._waits.idle_ms,
            **_FETCH,
            **options,
        )
        self._listener = _Assigned()
        self._consumer.subscribe(list(topics), listener=self._listener)
        # Metadata first, joining after: a group leader that joins before it knows a topic's partitions assigns none of
        # them, and the metadata that then arrives costs a second rebalance.
        _await_topics(self._consumer, topics)

    def poll(self, timeout_s: float) -> Polled:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except CorruptRecordError:
            _skip_unreadable(self._consumer, self._options)
            found = {}
        except KafkaError as error:
            # A rebalance that went wrong, a coordinator that moved: the next poll joins again. Nothing is lost
            # by waiting, and a broker that stays away shows as lag and as a replica that is not ready.
            log.warning("poll failed", extra={"reason": type(error).__name__})
            time.sleep(min(timeout_s, _POLL_FAILED_S))
            found = {}
        gained, lost = self._listener.take()
        return Polled(records=_records(found), gained=gained, lost=lost)

    def commit(self, commits: Mapping[PartitionId, Commit]) -> bool:
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(commit.offset, commit.metadata, -1)
            for partition, commit in commits.items()
        }
        try:
            self._consumer.commit(offsets, timeout_ms=5000)
        except KafkaError as error:
            log.info("commit refused", extra={"reason": type(error).__name__})
            return False
        return True

    def committed(self, partitions: Iterable[PartitionId]) -> Mapping[PartitionId, Commit]:
        found: dict[PartitionId, Commit] = {}
        for partition in partitions:
            stored = self._consumer.committed(TopicPartition(*partition), metadata=True)
            if stored is not None and stored.offset >= 0:
                found[partition] = Commit(stored.offset, stored.metadata or "")
        return found

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        self._consumer.pause(*(TopicPartition(*partition) for partition in partitions))

    def resume(self, partitions: Iterable[PartitionId]) -> None:
        self._consumer.resume(*(TopicPartition(*partition) for partition in partitions))

    def assignment(self) -> frozenset[PartitionId]:
        return frozenset(PartitionId(*tp) for tp in self._consumer.assignment())

    def expect(self, *, soon: bool) -> None:
        self._waits.apply(self._consumer, soon=soon)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=3000)


class KafkaTail:
    """Reads partitions by assignment."""

    def __init__(
        self,
        settings: BrokerSettings,
        options: dict[str, Any],
        topics: tuple[str, ...],
        *,
        from_start: bool,
        partition: int | None,
    ) -> None:
        self._waits = _Waits(settings)
        self._options = options
        self._consumer: Any = KafkaConsumer(
            group_id=None, fetch_max_wait_ms=self._waits.idle_ms, **_FETCH, **options
        )
        _await_topics(self._consumer, topics)
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(self._consumer.partitions_for_topic(topic))
            if partition is None or number == partition
        ]
        if not partitions:
            raise StartupFailed(f"{topics[0]} has no partition {partition}")
        self._consumer.assign(partitions)
        self._ends: dict[TopicPartition, int] = self._consumer.end_offsets(partitions)
        if from_start:
            self._consumer.seek_to_beginning(*partitions)
        else:
            # By number: "to the end" is resolved at the first poll, and misses what is appended until then.
            for found, end in self._ends.items():
                self._consumer.seek(found, end)
        self._positions = {found: 0 if from_start else end for found, end in self._ends.items()}

    def poll(self, timeout_s: float) -> tuple[Record, ...]:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except CorruptRecordError:
            _skip_unreadable(self._consumer, self._options)
            found = {}
        for partition, records in found.items():
            self._positions[partition] = records[-1].offset + 1
        return _records(found)

    def is_caught_up(self) -> bool:
        if all(self._positions[p] >= end for p, end in self._ends.items()):
            return True
        # Compaction and transaction markers leave gaps: the consumer's own position counts too.
        return all(
            max(self._positions[p], self._consumer.position(p, timeout_ms=1000) or 0) >= end
            for p, end in self._ends.items()
        )

    def expect(self, *, soon: bool) -> None:
        self._waits.apply(self._consumer, soon=soon)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=2000)


def _await_topics(consumer: Any, topics: tuple[str, ...]) -> None:
    """Fetches metadata until every topic is there."""
    deadline = time.monotonic() + _TOPIC_WAIT_S
    while missing := set(topics) - consumer.topics():
        if time.monotonic() > deadline:
            consumer.close(autocommit=False)
            raise StartupFailed("no such topic: " + ", ".join(sorted(missing)))
        time.sleep(0.1)


def _skip_unreadable(consumer: Any, options: dict[str, Any]) -> None:
    """Steps over records that kafka-python cannot parse (a header name that is not UTF-8, a broken checksum).

    It raises without saying where, and would raise for ever: one such record would hold its partition. So each
    partition is tried alone, by a reader of its own, and stepped one record further where that fails.
    """
    candidates = consumer.assignment() - consumer.paused()
    for partition, end in consumer.end_offsets(list(candidates)).items():
        position = consumer.position(partition)
        if position < end and not _is_readable(partition, position, options):
            place = {"topic": partition.topic, "partition": partition.partition, "offset": position}
            log.error("unreadable record stepped over", extra=place)
            consumer.seek(partition, position + 1)


def _is_readable(partition: TopicPartition, offset: int, options: dict[str, Any]) -> bool:
    probe = KafkaConsumer(group_id=None, **_FETCH, **options)
    deadline = time.monotonic() + _PROBE_S
    try:
        probe.assign([partition])
        probe.seek(partition, offset)
        while time.monotonic() < deadline:
            if probe.poll(timeout_ms=100, max_records=1):
                return True
    except CorruptRecordError:
        return False
    finally:
        probe.close(autocommit=False)
    # Neither read nor refused: nothing there yet that a reader may see (an open transaction).
    return True


def _records(found: Mapping[TopicPartition, list[Any]]) -> tuple[Record, ...]:
    return tuple(
        Record(
            topic=record.topic,
            value=record.value,
            key=record.key,
            headers=tuple(record.headers),
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        for records in found.values()
        for record in records
    )
