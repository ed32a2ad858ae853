"""Bytes that the in-memory broker must not forget yet.

The embedded broker forgets the oldest records of a partition above about 5 MB.
What is accepted and unfinished, or not recorded yet, must stay below that in each partition.
A real cluster has no such bound.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from functions.runtime.errors import ApiError


@dataclass(frozen=True, slots=True)
class _Entry:
    partition: int
    size_bytes: int
    until_s: float


@dataclass(frozen=True, slots=True)
class TerminalPosition:
    """A terminal on `infer.responses`: where it lies, and how large it is."""

    request_id: str
    partition: int
    offset: int
    size_bytes: int


class BrokerRoom:
    """Bytes that the in-memory broker must not forget yet: of accepted requests by request partition, until their end
    was seen and the recorder has read it; of ends that the recorder has not read. Event loop only.

    `limit_bytes` None switches the count off (a durable broker). `partition_of` is the producer's partitioner.
    """

    def __init__(self, limit_bytes: int | None, partition_of: Callable[[bytes], int]) -> None:
        self._limit_bytes = limit_bytes
        self._partition_of = partition_of
        self._entries: dict[str, _Entry] = {}
        self._sums: Counter[int] = Counter()
        self._unread: dict[int, deque[TerminalPosition]] = defaultdict(deque)
        self._unread_sums: Counter[int] = Counter()

    @property
    def total_bytes(self) -> int:
        return sum(self._sums.values())

    @property
    def unread_bytes(self) -> int:
        """Of ends that the recorder has not read. From any thread."""
        return sum(tuple(self._unread_sums.values()))

    def hold(
        self, request_id: str, key: bytes, size_bytes: int, *, until_s: float, now_s: float
    ) -> bool:
        """Counts a request until `release`, or until `until_s` (monotonic) if its end is never seen.

        Returns whether it is counted now and was not before.

        Raises:
            ApiError: `overloaded` when its partition is full, or the recorder is too far behind.
        """
        if self._limit_bytes is None or request_id in self._entries:
            return False
        partition = self._partition_of(key)
        if self._sums[partition] + size_bytes > self._limit_bytes:
            self._prune(now_s)
        if self._sums[partition] + size_bytes > self._limit_bytes:
            raise ApiError(
                "overloaded", "The in-memory broker is full of unfinished work; try again shortly."
            )
        if max(self._unread_sums.values(), default=0) > self._limit_bytes:
            raise ApiError(
                "overloaded", "Answers are not recorded as fast as they come; try again shortly."
            )
        self._entries[request_id] = _Entry(partition, size_bytes, until_s)
        self._sums[partition] += size_bytes
        return True

    def release(self, request_id: str) -> None:
        """It was never appended, or everything of it was read. Unknown ids are fine."""
        entry = self._entries.pop(request_id, None)
        if entry is not None:
            self._sums[entry.partition] -= entry.size_bytes

    def note_ends(self, ends: Iterable[TerminalPosition]) -> None:
        """These are on the log, in the order of their partitions."""
        if self._limit_bytes is None:
            return
        for end in ends:
            self._unread[end.partition].append(end)
            self._unread_sums[end.partition] += end.size_bytes

    def note_read(self, positions: Mapping[int, int]) -> None:
        """The recorder has read so far (the next offset of each partition): what it has read is counted no more."""
        for partition, position in positions.items():
            ends = self._unread[partition]
            while ends and ends[0].offset < position:
                end = ends.popleft()
                self._unread_sums[partition] -= end.size_bytes
                self.release(end.request_id)

    def _prune(self, now_s: float) -> None:
        for request_id in [key for key, entry in self._entries.items() if entry.until_s <= now_s]:
            self.release(request_id)
