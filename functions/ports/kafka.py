"""What the processes need of the outside world: small Protocols, each with an in-memory adapter in
`functions.testing.memory_broker` and a real one beside it. Decisions never import an adapter, only these.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from events.event import PartitionId, Record


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for waiting."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


@dataclass(frozen=True, slots=True)
class Commit:
    """A group's position in a partition: the next offset to read, and up to 4096 bytes of metadata."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """One poll: records in partition order, and what the group rebalance changed since the last poll.

    A partition in `lost` was revoked or lost: its work may go on, its commits will not be accepted.
    `gained` partitions were assigned since the last poll, before any of their records is returned.
    """

    records: tuple[Record, ...] = ()
    gained: frozenset[PartitionId] = frozenset()
    lost: frozenset[PartitionId] = frozenset()


class RecordAppender(Protocol):
    """Appends records durably (acks=all)."""

    def append(self, record: Record) -> "Future[PartitionId]":
        """Hands one record over; never blocks, thread-safe.

        The future resolves when every in-sync replica has it. It fails with `functions.runtime.errors.AppendFailed`
        (too large, not writable, outcome unknown at the delivery timeout).
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Flushes within `timeout_s` and closes."""
        ...


Parting = Callable[[Collection[PartitionId]], Mapping[PartitionId, Commit]]
"""What to commit last of partitions that are taken away; those that it leaves out are not committed."""


class GroupConsumer(Protocol):
    """A member of a consumer group. One thread owns it; only `wake` may be called from others."""

    def poll(self, timeout_s: float) -> Polled: ...

    def commit(self, commits: Mapping[PartitionId, Commit]) -> bool:
        """Commits synchronously. False when the group refused (partition lost, rebalance): expected, not fatal."""
        ...

    def committed(self, partitions: Iterable[PartitionId]) -> Mapping[PartitionId, Commit]:
        """The last commit of each partition that has one."""
        ...

    def part_with(self, parting: Parting) -> None:
        """Partitions that a rebalance takes from this living member are committed with what `parting` says of them,
        before another has them, where the group still takes it. Called in any thread; it must not wait. Closing asks
        for nothing: who leaves has committed what it wanted to.
        """
        ...

    def pause(self, partitions: Iterable[PartitionId]) -> None: ...

    def resume(self, partitions: Iterable[PartitionId]) -> None: ...

    def assignment(self) -> frozenset[PartitionId]: ...

    def close(self) -> None: ...


class RecordTail(Protocol):
    """Reads partitions without a group: registry, control, replies. One thread owns it."""

    def poll(self, timeout_s: float) -> tuple[Record, ...]: ...

    def is_caught_up(self) -> bool:
        """True once everything that was there when the tail was opened has been returned."""
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
        """`groups` maps a consumer group to its topics; the result maps it to offsets by partition."""
        ...

    def close(self) -> None: ...


Numbers = tuple[int | None, ...]
"""Offsets of one topic by partition number; None: not known now, or never committed."""


class OffsetReader(Protocol):
    """Offsets of many topics, read many times a second. One thread owns it."""

    def ends(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        """End offsets in one ListOffsets a broker, however many topics there are.

        A topic that does not exist is left out; None where its leader did not answer. Raises whatever the client
        library raises when no broker answers.
        """
        ...

    def starts(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        """First offsets, as `ends`."""
        ...

    def commits(self, groups: Mapping[str, tuple[str, ...]]) -> Mapping[str, Mapping[str, Numbers]]:
        """Committed offsets by group and topic, in one OffsetFetch a coordinator (before Kafka 3.0: one a group)."""
        ...

    def refresh(self) -> None:
        """Makes the next reading ask for partitions and leaders again."""
        ...

    def close(self) -> None: ...


class GroupMembership(Protocol):
    """Lets members leave that cannot do so themselves: who was killed holds partitions until its session ends."""

    def remove(self, group: str, clients: Collection[str]) -> int:
        """Removes the members whose client name is one of `clients`; returns how many there were.

        A member that lives in spite of it loses its partitions and joins again. The embedded broker does not tell who
        is in a group. Raises whatever the client library raises when no broker answers.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic that the product needs. `retention_s` None means the broker's default."""

    name: str
    partitions: int
    compacted: bool = False
    retention_s: int | None = None


class BrokerAdmin(Protocol):
    """Creates what is missing; never deletes."""

    def ensure_topics(self, topics: Iterable[TopicSpec], timeout_s: float) -> None: ...


class RecordLog(Protocol):
    """One Kafka-protocol cluster: opens what processes use. Wiring code receives this."""

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
        """`is_awaited`: a caller waits for what this reader does; the embedded broker is looked at more often then
        (ADR 0003).

        `member_file` outlives a process that is killed: the next one that is given the same file removes the member
        named there from the group at once. None: its partitions wait for the end of its session.
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
        """All partitions of `topics`, or the one given; from the start, or from the end as of now. `is_awaited` as in
        `group`.
        """
        ...

    def lag_reader(self, *, client: str) -> LagReader: ...

    def offset_reader(self, *, client: str) -> OffsetReader: ...

    def membership(self, *, client: str) -> GroupMembership: ...

    def admin(self, *, client: str) -> BrokerAdmin: ...

    def reach(self, *, client: str, timeout_s: float) -> None:
        """Returns once a broker answers.

        Raises:
            StartupFailed: none within `timeout_s`; says why.
        """
        ...


class BlobStore(Protocol):
    """Bodies too large for a record, files of batches. Content is addressed by its SHA-256."""

    def put(self, data: bytes) -> str:
        """Stores the bytes and returns a `dataref` (`blob:<sha256>`); storing twice is the same reference."""
        ...

    def put_file(self, source: BinaryIO) -> str:
        """Everything that `source` has from its start, piece by piece, as a file of `/v1/files`: `file:<sha256>`.

        Apart from what `put` stores: only rows of files name it, so that it can be known when nobody does any more.
        """
        ...

    def files(self, *, unused_s: float) -> Iterable[str]:
        """References of files that were not put for that long."""
        ...

    def get(self, ref: str, *, limit_bytes: int) -> bytes:
        """Raises `functions.runtime.errors.BlobMissing` (absent, hash differs, over the limit)."""
        ...

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        """As `get`, piece by piece; the last one comes only when the hash is right. Whoever stops early closes it."""
        ...

    def delete(self, ref: str, *, unused_s: float = 0.0) -> bool:
        """Whether it is gone: not where it was put less than `unused_s` ago."""
        ...
