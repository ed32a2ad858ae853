"""What processes need of Kafka: small Protocols.

`functions.kafka` implements them; `functions.testing.memory_broker` does in memory. Decisions import
only these, never an adapter.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from events.event import PartitionId, Record


@dataclass(frozen=True, slots=True)
class Commit:
    """Position of a group in a partition: next offset, and up to 4096 bytes of metadata."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """Result of a poll: records in partition order, and what a rebalance has changed.

    `gained`: assigned since the last poll, before any of their records is returned.
    `lost`: revoked or lost. Their work may go on, but their commits are not accepted.
    """

    records: tuple[Record, ...] = ()
    gained: frozenset[PartitionId] = frozenset()
    lost: frozenset[PartitionId] = frozenset()


class RecordAppender(Protocol):
    """Appends records durably (acks=all)."""

    def append(self, record: Record) -> "Future[PartitionId]":
        """Queues one record. Never blocks; thread-safe.

        The future resolves when every in-sync replica has the record.
        It fails with `functions.runtime.errors.AppendFailed`: too large, not writable, or unknown
        outcome at the delivery timeout.
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Flushes within `timeout_s` and closes."""
        ...


Parting = Callable[[Collection[PartitionId]], Mapping[PartitionId, Commit]]
"""Returns the last commits of revoked partitions. Partitions without one are not committed."""


class GroupConsumer(Protocol):
    """A member of a consumer group. One thread owns it; only `wake` may be called from others."""

    def poll(self, timeout_s: float) -> Polled: ...

    def commit(self, commits: Mapping[PartitionId, Commit]) -> bool:
        """Commits synchronously. False: the group refused (lost, rebalance); not an error."""
        ...

    def committed(self, partitions: Iterable[PartitionId]) -> Mapping[PartitionId, Commit]:
        """The last commit of each partition that has one."""
        ...

    def part_with(self, parting: Parting) -> None:
        """Sets the function that is called before a rebalance revokes partitions.

        Its commits are made before another member gets the partitions, if the group still accepts
        commits. It may be called in any thread and must not wait. `close` does not call it.
        """
        ...

    def pause(self, partitions: Iterable[PartitionId]) -> None: ...

    def resume(self, partitions: Iterable[PartitionId]) -> None: ...

    def assignment(self) -> frozenset[PartitionId]: ...

    def close(self) -> None: ...


class RecordTail(Protocol):
    """Reads partitions without a group (registry, control, replies). One thread owns it."""

    def poll(self, timeout_s: float) -> tuple[Record, ...]: ...

    def is_caught_up(self) -> bool:
        """Whether everything that existed when the tail was opened has been returned."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """End offset and committed offset (None: the group never committed) of one partition."""

    end: int
    committed: int | None
    start: int = 0

    @property
    def lag(self) -> int:
        return max(0, self.end - (self.start if self.committed is None else self.committed))


class LagReader(Protocol):
    """Lag of many groups in two requests a broker (ListOffsets, OffsetFetch)."""

    def lags(
        self, groups: Mapping[str, tuple[str, ...]]
    ) -> Mapping[str, Mapping[PartitionId, Offsets]]:
        """`groups`: topics by consumer group. Returns offsets by group and partition."""
        ...

    def close(self) -> None: ...


Numbers = tuple[int | None, ...]
"""Offsets of one topic by partition number; None: not known now, or never committed."""


class OffsetReader(Protocol):
    """Offsets of many topics, read many times a second. One thread owns it."""

    def ends(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        """End offsets, in one ListOffsets a broker.

        A topic that does not exist is left out. None: its leader did not answer.
        Raises the client library's error if no broker answers.
        """
        ...

    def starts(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        """First offsets, as `ends`."""
        ...

    def commits(self, groups: Mapping[str, tuple[str, ...]]) -> Mapping[str, Mapping[str, Numbers]]:
        """Committed offsets by group and topic, in one OffsetFetch a coordinator.

        Before Kafka 3.0: one a group.
        """
        ...

    def refresh(self) -> None:
        """Lets the next call fetch partitions and leaders again."""
        ...

    def close(self) -> None: ...


class GroupMembership(Protocol):
    """Removes killed members, which would hold their partitions until the session ends."""

    def remove(self, group: str, clients: Collection[str]) -> int:
        """Removes the members whose client name is one of `clients`. Returns how many there were.

        A member that is still alive loses its partitions and joins again.
        The embedded broker does not report the members of a group.
        Raises the client library's error if no broker answers.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic that the product needs. `retention_s` None: the broker's default."""

    name: str
    partitions: int
    compacted: bool = False
    retention_s: int | None = None


class BrokerAdmin(Protocol):
    """Creates missing topics. Never deletes any."""

    def ensure_topics(self, topics: Iterable[TopicSpec], timeout_s: float) -> None: ...


class RecordLog(Protocol):
    """One Kafka cluster: opens consumers, producers and the like. Only factories use it."""

    def appender(self, *, client: str) -> RecordAppender: ...

    def group(
        self,
        *,
        group: str,
        topics: tuple[str, ...],
        client: str,
        member_file: Path | None = None,
        is_awaited: bool = False,
    ) -> GroupConsumer:
        """Joins a consumer group.

        `is_awaited`: a caller waits for this consumer. It fetches more often from the embedded
        broker (ADR 0003).
        `member_file`: survives a killed process. The next process with the same file removes the
        member that it names. None: the partitions wait for the end of the session.
        """
        ...

    def tail(
        self,
        *,
        topics: tuple[str, ...],
        client: str,
        from_start: bool,
        partition: int | None = None,
        is_awaited: bool = False,
    ) -> RecordTail:
        """Reads all partitions of `topics`, or one, from the start or from the current end.

        `is_awaited`: as in `group`.
        """
        ...

    def lag_reader(self, *, client: str) -> LagReader: ...

    def offset_reader(self, *, client: str) -> OffsetReader: ...

    def membership(self, *, client: str) -> GroupMembership: ...

    def admin(self, *, client: str) -> BrokerAdmin: ...

    def reach(self, *, client: str, timeout_s: float) -> None:
        """Returns once a broker answers.

        Raises:
            StartupFailed: none did within `timeout_s`; the message says why.
        """
        ...
