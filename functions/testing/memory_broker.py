"""In-memory adapters of the ports: a whole broker with partitions, groups and offsets, and a blob store.

`MemoryLog` keeps the semantics processes rely on: order within a partition, key hashing, committed offsets with
metadata that outlive members, rebalance on join and leave, refused commits for lost partitions. It is shared by
threads of one process and forgets everything with it. The contract suite runs against it, the embedded broker
and Apache Kafka alike.
"""

import hashlib
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from events.event import PartitionId, Record
from functions.ports.kafka import Commit, Numbers, Offsets, Parting, Polled, TopicSpec
from functions.runtime.errors import AppendFailed, BlobMissing

DEFAULT_PARTITIONS = 4


@dataclass(slots=True)
class _Group:
    topics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    owners: dict[PartitionId, str] = field(default_factory=dict)
    commits: dict[PartitionId, Commit] = field(default_factory=dict)
    partings: dict[str, Parting] = field(default_factory=dict)


class MemoryLog:
    """One in-memory cluster. `fail_next(topic, error)` makes the next append to a topic fail: for tests."""

    def __init__(self, *, partitions: int = DEFAULT_PARTITIONS) -> None:
        self.condition = threading.Condition()
        self.partitions: dict[PartitionId, list[Record]] = {}
        self.groups: dict[str, _Group] = {}
        self.noted: dict[Path, MemoryGroupConsumer] = {}
        self._default = partitions
        self._counts: dict[str, int] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._members = 0

    # ---- RecordLog
    def appender(self, *, client: str) -> "MemoryAppender":
        return MemoryAppender(self)

    def group(
        self,
        *,
        group: str,
        topics: tuple[str, ...],
        client: str,
        member_file: Path | None = None,
        is_awaited: bool = False,
    ) -> "MemoryGroupConsumer":
        consumer = MemoryGroupConsumer(self, group, topics, client)
        if member_file is not None:
            with self.condition:
                former = self.noted.get(member_file)
                self.noted[member_file] = consumer
            if former is not None:
                former.close()
        return consumer

    def tail(
        self,
        *,
        topics: tuple[str, ...],
        client: str,
        from_start: bool,
        partition: int | None = None,
        is_awaited: bool = False,
    ) -> "MemoryTail":
        return MemoryTail(self, topics, from_start=from_start, partition=partition)

    def lag_reader(self, *, client: str) -> "MemoryLagReader":
        return MemoryLagReader(self)

    def offset_reader(self, *, client: str) -> "MemoryOffsetReader":
        return MemoryOffsetReader(self)

    def membership(self, *, client: str) -> "MemoryMembership":
        return MemoryMembership(self)

    def reach(self, *, client: str, timeout_s: float) -> None:
        return

    def admin(self, *, client: str) -> "MemoryAdmin":
        return MemoryAdmin(self)

    # ---- the cluster itself
    def fail_next(self, topic: str, error: Exception) -> None:
        """The next append to `topic` fails with `error`."""
        self._failures.setdefault(topic, []).append(error)

    def create(self, topic: str, partitions: int) -> None:
        """Creates a topic; a second time changes nothing."""
        with self.condition:
            self._counts.setdefault(topic, partitions)

    def partitions_of(self, topic: str) -> tuple[PartitionId, ...]:
        count = self._counts.setdefault(topic, self._default)
        return tuple(PartitionId(topic, number) for number in range(count))

    def records(self, topic: str) -> tuple[Record, ...]:
        """Everything in a topic, by partition, then offset: what tests look at."""
        with self.condition:
            return tuple(
                record
                for partition in self.partitions_of(topic)
                for record in self.partitions.get(partition, [])
            )

    def store(self, record: Record) -> PartitionId:
        with self.condition:
            failures = self._failures.get(record.topic)
            if failures:
                raise failures.pop(0)
            partition = self._choose(record)
            records = self.partitions.setdefault(partition, [])
            records.append(
                replace(
                    record,
                    partition=partition.partition,
                    offset=len(records),
                    timestamp_ms=int(time.time() * 1000),
                )
            )
            self.condition.notify_all()
            return partition

    def _choose(self, record: Record) -> PartitionId:
        partitions = self.partitions_of(record.topic)
        if record.partition is not None:
            if record.partition >= len(partitions):
                raise AppendFailed(
                    f"no partition {record.partition} in {record.topic}", is_unroutable=True
                )
            return partitions[record.partition]
        return partitions[zlib.crc32(record.key or b"") % len(partitions)]

    def end(self, partition: PartitionId) -> int:
        return len(self.partitions.get(partition, []))

    def next_member(self, client: str) -> str:
        self._members += 1
        return f"{client}-{self._members}"

    def rebalance(self, group: _Group) -> None:
        """Spreads partitions over members, in sorted order, as an eager assignor would."""
        owners: dict[PartitionId, str] = {}
        members = sorted(group.topics)
        wanted = sorted({topic for topics in group.topics.values() for topic in topics})
        for topic in wanted:
            readers = [member for member in members if topic in group.topics[member]]
            for index, partition in enumerate(self.partitions_of(topic)):
                owners[partition] = readers[index % len(readers)]
        self._part(group, owners)
        group.owners = owners
        self.condition.notify_all()

    def _part(self, group: _Group, owners: dict[PartitionId, str]) -> None:
        """Commits of members that are still there, for what they give away."""
        taken: dict[str, list[PartitionId]] = defaultdict(list)
        for partition, owner in group.owners.items():
            if owner in group.topics and owners.get(partition) != owner:
                taken[owner].append(partition)
        for owner, partitions in taken.items():
            group.commits.update(group.partings[owner](partitions))


class MemoryAppender:
    """Appends at once."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def append(self, record: Record) -> "Future[PartitionId]":
        future: Future[PartitionId] = Future()
        try:
            future.set_result(self._log.store(record))
        except AppendFailed as error:
            future.set_exception(error)
        return future

    def close(self, timeout_s: float) -> None:
        return None


class MemoryGroupConsumer:
    """A member; joins at its first poll. `crash()` leaves without committing, like SIGKILL after its session."""

    def __init__(self, log: MemoryLog, group: str, topics: tuple[str, ...], client: str) -> None:
        self._log = log
        self._client = client
        self._member = ""
        self._known: frozenset[PartitionId] = frozenset()
        self._positions: dict[PartitionId, int] = {}
        self._paused: set[PartitionId] = set()
        with log.condition:
            self._group = log.groups.setdefault(group, _Group())
        self._topics = topics
        self._parting: Parting = lambda _: {}

    def poll(self, timeout_s: float) -> Polled:
        deadline = time.monotonic() + timeout_s
        with self._log.condition:
            self._join()
            while True:
                gained, lost = self._changes()
                records = self._take()
                left = deadline - time.monotonic()
                if records or gained or lost or left <= 0:
                    return Polled(records=records, gained=gained, lost=lost)
                self._log.condition.wait(left)

    def _join(self) -> None:
        if self._member not in self._group.topics:
            self._member = self._log.next_member(self._client)
            self._group.topics[self._member] = self._topics
            self._group.clients[self._member] = self._client
            self._group.partings[self._member] = self._parting
            self._log.rebalance(self._group)

    def _changes(self) -> tuple[frozenset[PartitionId], frozenset[PartitionId]]:
        mine = self.assignment()
        gained, lost = mine - self._known, self._known - mine
        self._known = mine
        for partition in lost:
            self._positions.pop(partition, None)
            self._paused.discard(partition)
        for partition in gained:
            commit = self._group.commits.get(partition)
            self._positions[partition] = 0 if commit is None else commit.offset
        return gained, lost

    def _take(self, limit: int = 100) -> tuple[Record, ...]:
        taken: list[Record] = []
        for partition in sorted(self._known - self._paused):
            position = self._positions[partition]
            records = self._log.partitions.get(partition, [])[position : position + limit]
            self._positions[partition] = position + len(records)
            taken.extend(records)
        return tuple(taken)

    def commit(self, commits: Mapping[PartitionId, Commit]) -> bool:
        with self._log.condition:
            mine = self.assignment()
            if not commits.keys() <= mine:
                return False
            self._group.commits.update(commits)
            return True

    def committed(self, partitions: Iterable[PartitionId]) -> Mapping[PartitionId, Commit]:
        with self._log.condition:
            commits = self._group.commits
            return {p: commits[p] for p in partitions if p in commits}

    def part_with(self, parting: Parting) -> None:
        self._parting = parting

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Iterable[PartitionId]) -> None:
        self._paused.difference_update(partitions)

    def assignment(self) -> frozenset[PartitionId]:
        return frozenset(p for p, owner in self._group.owners.items() if owner == self._member)

    def close(self) -> None:
        with self._log.condition:
            self._group.topics.pop(self._member, None)
            self._group.clients.pop(self._member, None)
            self._log.rebalance(self._group)

    crash = close


class MemoryTail:
    """Reads without a group."""

    def __init__(
        self, log: MemoryLog, topics: tuple[str, ...], *, from_start: bool, partition: int | None
    ) -> None:
        self._log = log
        with log.condition:
            chosen = [
                each
                for topic in topics
                for each in log.partitions_of(topic)
                if partition is None or each.partition == partition
            ]
            self._ends = {each: log.end(each) for each in chosen}
            self._positions = {each: 0 if from_start else self._ends[each] for each in chosen}

    def poll(self, timeout_s: float) -> tuple[Record, ...]:
        deadline = time.monotonic() + timeout_s
        with self._log.condition:
            while True:
                taken: list[Record] = []
                for partition, position in self._positions.items():
                    records = self._log.partitions.get(partition, [])[position:]
                    self._positions[partition] = position + len(records)
                    taken.extend(records)
                left = deadline - time.monotonic()
                if taken or left <= 0:
                    return tuple(taken)
                self._log.condition.wait(left)

    def is_caught_up(self) -> bool:
        return all(self._positions[p] >= end for p, end in self._ends.items())

    def close(self) -> None:
        return None


class MemoryLagReader:
    """Offsets straight from the cluster."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def lags(
        self, groups: Mapping[str, tuple[str, ...]]
    ) -> Mapping[str, Mapping[PartitionId, Offsets]]:
        with self._log.condition:
            return {group: self._offsets(group, topics) for group, topics in groups.items()}

    def _offsets(self, group: str, topics: tuple[str, ...]) -> dict[PartitionId, Offsets]:
        commits = self._log.groups.get(group, _Group()).commits
        offsets: dict[PartitionId, Offsets] = {}
        for topic in topics:
            for partition in self._log.partitions_of(topic):
                commit = commits.get(partition)
                offsets[partition] = Offsets(
                    end=self._log.end(partition),
                    committed=None if commit is None else commit.offset,
                )
        return offsets

    def close(self) -> None:
        return None


class MemoryOffsetReader:
    """Offsets straight from the cluster."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def ends(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        with self._log.condition:
            return {
                topic: tuple(self._log.end(each) for each in self._log.partitions_of(topic))
                for topic in topics
            }

    def starts(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        with self._log.condition:
            return {topic: (0,) * len(self._log.partitions_of(topic)) for topic in topics}

    def commits(self, groups: Mapping[str, tuple[str, ...]]) -> Mapping[str, Mapping[str, Numbers]]:
        with self._log.condition:
            return {
                group: {topic: self._committed(group, topic) for topic in topics}
                for group, topics in groups.items()
            }

    def _committed(self, group: str, topic: str) -> Numbers:
        commits = self._log.groups.get(group, _Group()).commits
        offsets = (commits.get(partition) for partition in self._log.partitions_of(topic))
        return tuple(None if commit is None else commit.offset for commit in offsets)

    def refresh(self) -> None:
        return None

    def close(self) -> None:
        return None


class MemoryMembership:
    """Removes members at once."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def remove(self, group: str, clients: Collection[str]) -> int:
        with self._log.condition:
            known = self._log.groups.get(group, _Group())
            gone = [member for member, client in known.clients.items() if client in clients]
            for member in gone:
                del known.topics[member], known.clients[member]
            if gone:
                self._log.rebalance(known)
            return len(gone)

    def close(self) -> None:
        return None


class MemoryAdmin:
    """Creates topics."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def ensure_topics(self, topics: Iterable[TopicSpec], timeout_s: float) -> None:
        for topic in topics:
            self._log.create(topic.name, topic.partitions)


class MemoryBlobs:
    """Blobs in a dictionary."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        ref = f"blob:{hashlib.sha256(data).hexdigest()}"
        self._blobs[ref] = data
        return ref

    def put_file(self, source: BinaryIO) -> str:
        source.seek(0)
        ref = f"file:{hashlib.sha256(data := source.read()).hexdigest()}"
        self._blobs[ref] = data
        return ref

    def files(self, *, unused_s: float) -> Iterable[str]:
        return [ref for ref in self._blobs if ref.startswith("file:")]

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        yield self.get(ref, limit_bytes=limit_bytes)

    def get(self, ref: str, *, limit_bytes: int) -> bytes:
        data = self._blobs.get(ref)
        if data is None or len(data) > limit_bytes:
            raise BlobMissing(f"no blob of at most {limit_bytes} bytes under this reference")
        return data

    def delete(self, ref: str, *, unused_s: float = 0.0) -> bool:
        self._blobs.pop(ref, None)
        return True
