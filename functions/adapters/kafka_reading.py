"""`GroupConsumer` and `RecordTail` with kafka-python.

Empty fetches: Apache Kafka answers a waiting fetch the moment data arrives; the embedded broker only after the
whole wait. So there a reader fetches when the doorbell rings, with almost no wait, and otherwise at intervals that
depend on what it expects (`expect`, ADR 0003). kafka-python reads `fetch_max_wait_ms` at every fetch, and this is
the one place that changes it.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kafka import (
    AsyncConsumerRebalanceListener,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import CorruptRecordError, KafkaError

from events.record import PartitionId, Record
from functions.adapters.doorbell import Ear, bell_directory
from functions.adapters.kafka_heartbeats import Heartbeats
from functions.adapters.kafka_membership import MemberNote
from functions.errors import StartupFailed
from functions.ports import Commit, Parting, Polled
from functions.settings import BrokerSettings

log = logging.getLogger(__name__)

KAFKA_BUSY_MS: Final = 20
KAFKA_IDLE_MS: Final = 500
EMBEDDED_SESSION_S: Final = 3.0
"""The embedded broker ends every rebalance of a living group one second before the session timeout, never sooner."""
_TOPIC_WAIT_S: Final = 15.0
_POLL_FAILED_S: Final = 0.2
_PARTING_MS: Final = 1000
"""A rebalance waits for the last commit of what it takes away for this long."""
_PROBE_S: Final = 5.0
_RUNG_WAIT_MS: Final = 1
_RUNG_POLL_MS: Final = 4
_FETCH: Final[dict[str, Any]] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "allow_auto_create_topics": False,
    "fetch_max_bytes": 8 * 1024 * 1024,
    "max_poll_records": 100,
    # Nobody reads the client's own metrics, and they are a third of what a fetch costs.
    "metrics_enabled": False,
}


class _Fetching:
    """Polls the client: plainly on Apache Kafka, by doorbell on the embedded broker."""

    def __init__(self, settings: BrokerSettings, consumer: Any, topics: tuple[str, ...]) -> None:
        self._consumer = consumer
        self._idle_ms = settings.poll_idle_ms
        self._regular_ms = settings.poll_lazy_ms
        self._ear: Ear | None = None
        self._is_lazy = True
        self._has_more = True
        if settings.kind == "embedded":
            self._ear = Ear(bell_directory(settings.bootstrap), topics)

    def expect(self, *, soon: bool) -> None:
        """Who never says what it expects stays lazy."""
        self._regular_ms, self._is_lazy = self._idle_ms, False
        if self._ear is None:
            wait_ms = KAFKA_BUSY_MS if soon else KAFKA_IDLE_MS
            self._consumer._fetcher.config["fetch_max_wait_ms"] = wait_ms  # noqa: SLF001 - ADR 0003

    def look_again(self) -> None:
        """Something may be there without a ring: partitions gained or resumed."""
        self._has_more = True

    def poll(self, timeout_s: float) -> Any:
        """One poll of the client's own kind: partition to records."""
        if self._ear is None or self._is_joining():
            # Then a poll drives the joining of the group, which takes its time.
            self._has_more = True
            return self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        if not self._has_more:
            # Regular fetches find what did not ring: a plain producer's records.
            self._ear.wait(min(timeout_s, self._regular_ms / 1000))
        found = self._consumer.poll(timeout_ms=_RUNG_POLL_MS)
        # The embedded broker answers with one batch of a partition, and those that follow have rung already.
        self._has_more = bool(found)
        return self._gather(found) if self._is_lazy else found

    def _gather(self, found: Any) -> Any:
        """Together with what follows, up to one poll's worth: lazy readers pause between their polls."""
        gathered: dict[Any, list[Any]] = {}
        while found:
            for partition, records in found.items():
                gathered.setdefault(partition, []).extend(records)
            is_enough = sum(map(len, gathered.values())) >= _FETCH["max_poll_records"]
            if is_enough or self._is_joining():
                break
            try:
                found = self._consumer.poll(timeout_ms=_RUNG_POLL_MS)
            except Exception:  # noqa: BLE001 - what was read must not go with it: the next poll meets it again
                break
            self._has_more = bool(found)
        return gathered

    def _is_joining(self) -> bool:
        coordinator = self._consumer._coordinator  # noqa: SLF001 - no public way to know of a rebalance
        return not self._consumer.assignment() or bool(coordinator.need_rejoin())

    def close(self) -> None:
        if self._ear is not None:
            self._ear.close()


class _EndedJoin:
    """A join that ended between two polls, shown as one that still runs.

    `join_group_async` of kafka-python 3.0.12 drops one that `is_done` and joins again. Whoever polls without waiting
    never got a partition that way, and each time the whole group was rebalanced once more.
    """

    def __init__(self, ended: Any, coordinator: Any) -> None:
        self._ended = ended
        self._coordinator = coordinator
        self.add_callback = ended.add_callback
        self.add_errback = ended.add_errback

    @property
    def is_done(self) -> bool:
        """Whether the membership was lost since (the generation has no protocol): then it is to be dropped."""
        return self._coordinator._generation.protocol is None  # noqa: SLF001

    def __await__(self) -> Any:
        return self._ended.__await__()


def _keep_join(consumer: Any) -> None:
    """Call before every poll."""
    coordinator = consumer._coordinator  # noqa: SLF001 - see _EndedJoin
    join = coordinator._join_task  # noqa: SLF001
    if join is not None and join.is_done and not isinstance(join, _EndedJoin):
        coordinator._join_task = _EndedJoin(join, coordinator)  # noqa: SLF001


class _Assigned(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Collects changes in two sets, and commits what is taken away; all of it on kafka-python's I/O thread.

    The group still takes that commit: this member has not joined the next generation yet.
    """

    def __init__(self, consumer: Any) -> None:
        self.gained: set[PartitionId] = set()
        self.lost: set[PartitionId] = set()
        self.parting: Parting = lambda _: {}
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        taken = {PartitionId(*tp) for tp in revoked}
        # Nothing can run on what was lost before and came back: its owner has not heard of that yet.
        await self._part(taken - self.lost)
        self._lose(taken)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.gained |= {PartitionId(*tp) for tp in assigned}

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._lose({PartitionId(*tp) for tp in lost})

    def _lose(self, partitions: set[PartitionId]) -> None:
        self.lost |= partitions
        self.gained -= partitions

    async def _part(self, partitions: set[PartitionId]) -> None:
        # The public commits wait in another thread, or are sent after the next join.
        coordinator = self._consumer._coordinator  # noqa: SLF001
        manager = coordinator._manager  # noqa: SLF001

        async def send() -> None:
            # Asked here: no commit of the owner can come between the answer and its way to the broker.
            commits = self.parting(partitions)
            if commits:
                await coordinator._send_offset_commit_request(_offsets(commits))  # noqa: SLF001

        try:
            await manager.wait_for(manager.call_soon(send), _PARTING_MS)
        except Exception as error:  # noqa: BLE001 - the rebalance goes on without it; the attempts count then
            log.info("parting commit refused", extra={"reason": type(error).__name__})

    def take(self) -> tuple[frozenset[PartitionId], frozenset[PartitionId]]:
        gained, lost = frozenset(self.gained), frozenset(self.lost)
        self.gained -= gained
        self.lost -= lost
        return gained, lost


def _offsets(commits: Mapping[PartitionId, Commit]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(*partition): OffsetAndMetadata(commit.offset, commit.metadata, -1)
        for partition, commit in commits.items()
    }


class KafkaGroupConsumer:
    """A member of a group; joins at its first `poll`."""

    def __init__(
        self,
        settings: BrokerSettings,
        options: dict[str, Any],
        *,
        group: str,
        topics: tuple[str, ...],
        note: MemberNote | None = None,
    ) -> None:
        if note is not None:
            note.remove_former()
        wait_ms = _first_wait_ms(settings)
        self._options = options
        self._note = note
        is_embedded = self._is_eager = settings.kind == "embedded"
        session_s = settings.session_timeout_s
        session_ms = int(1000 * (min(session_s, EMBEDDED_SESSION_S) if is_embedded else session_s))
        self._heartbeats = Heartbeats(settings, session_ms)
        self._consumer: Any = KafkaConsumer(
            group_id=group,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=self._heartbeats.interval_ms(),
            # The mock cluster gets lost in the two-step rebalance of the cooperative protocol.
            partition_assignment_strategy=(
                (RangePartitionAssignor,) if is_embedded else (CooperativeStickyAssignor,)
            ),
            fetch_max_wait_ms=wait_ms,
            **_FETCH,
            **options,
        )
        self._listener = _Assigned(self._consumer)
        self._consumer.subscribe(list(topics), listener=self._listener)
        # Metadata first, joining after: a group leader that joins before it knows a topic's partitions assigns none of
        # them, and the metadata that then arrives costs a second rebalance.
        _await_topics(self._consumer, topics)
        self._fetching = _Fetching(settings, self._consumer, topics)

    def poll(self, timeout_s: float) -> Polled:
        _keep_join(self._consumer)
        try:
            found = self._fetching.poll(timeout_s)
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
        if gained:
            self._fetching.look_again()
        self._keep_membership()
        return Polled(records=_records(found), gained=gained, lost=lost)

    def _keep_membership(self) -> None:
        found = self._consumer.group_metadata()
        # While it still joins, too: killed then, it would hold up the group for a whole session.
        if self._note is not None and found.member_id:
            self._note.write(found.member_id)
        self._beat_every(self._heartbeats.interval_ms(found.generation_id))

    def _beat_every(self, interval_ms: int) -> None:
        # Read at every heartbeat, like the wait of a fetch, and with no public way to change it either.
        heartbeat = self._consumer._coordinator.heartbeat  # noqa: SLF001
        heartbeat.config["heartbeat_interval_ms"] = interval_ms

    def commit(self, commits: Mapping[PartitionId, Commit]) -> bool:
        try:
            self._consumer.commit(_offsets(commits), timeout_ms=5000)
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

    def part_with(self, parting: Parting) -> None:
        # An eager rebalance takes everything away, what stays as well: what runs there would count as moved.
        if not self._is_eager:
            self._listener.parting = parting

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        self._consumer.pause(*(TopicPartition(*partition) for partition in partitions))

    def resume(self, partitions: Iterable[PartitionId]) -> None:
        self._fetching.look_again()
        self._consumer.resume(*(TopicPartition(*partition) for partition in partitions))

    def assignment(self) -> frozenset[PartitionId]:
        return frozenset(PartitionId(*tp) for tp in self._consumer.assignment())

    def expect(self, *, soon: bool) -> None:
        self._fetching.expect(soon=soon)
        self._heartbeats.expect(soon=soon)
        self._beat_every(self._heartbeats.interval_ms())

    def close(self) -> None:
        # Who leaves with work under way has failed at it, or its model has: that counts.
        self._listener.parting = lambda _: {}
        self._fetching.close()
        self._consumer.close(autocommit=False, timeout_ms=3000)
        if self._note is not None:
            self._note.clear()


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
        wait_ms = _first_wait_ms(settings)
        self._options = options
        self._consumer: Any = KafkaConsumer(
            group_id=None, fetch_max_wait_ms=wait_ms, **_FETCH, **options
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
        self._fetching = _Fetching(settings, self._consumer, topics)

    def poll(self, timeout_s: float) -> tuple[Record, ...]:
        try:
            found = self._fetching.poll(timeout_s)
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
        self._fetching.expect(soon=soon)

    def close(self) -> None:
        self._fetching.close()
        self._consumer.close(autocommit=False, timeout_ms=2000)


def _first_wait_ms(settings: BrokerSettings) -> int:
    return _RUNG_WAIT_MS if settings.kind == "embedded" else KAFKA_IDLE_MS


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
