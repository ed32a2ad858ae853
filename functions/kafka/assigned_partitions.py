"""The partitions that one consumer reads: how far it has read them, who has paused them."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition

from events.event import PartitionId

_ANY_TIME: Final = 1
"""A timestamp in milliseconds."""
_WAKE_S: Final = 0.5


class AssignedPartitions:
    """Positions and pauses of a consumer's partitions. Owned by the thread that polls.

    A partition is fetched unless its owner has paused it, or all of them rest: a reader of the embedded broker rests
    while it expects nothing, because an empty fetch costs both sides something there (ADR 0003).

    Args:
        consumer: librdkafka's; assignments are made by the caller.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._positions: dict[PartitionId, int] = {}
        self._paused: set[PartitionId] = set()
        self._is_resting = False

    @property
    def positions(self) -> Mapping[PartitionId, int]:
        """The next offset of each partition. Below 0: one of librdkafka's logical offsets, nothing was read yet."""
        return self._positions

    def add(self, positions: Mapping[PartitionId, int]) -> None:
        """Takes in partitions that the consumer has been assigned and that are paused until now."""
        self._positions |= positions
        if not self._is_resting:
            self._resume(positions.keys())

    def remove(self, partitions: Collection[PartitionId]) -> None:
        """Forgets partitions that were taken away."""
        for partition in partitions:
            self._positions.pop(partition, None)
            self._paused.discard(partition)

    def advance(self, partition: PartitionId, position: int) -> None:
        """Notes that everything below `position` was read."""
        if partition in self._positions:
            self._positions[partition] = position

    def step_over(self, partition: PartitionId, offset: int) -> None:
        """Goes on behind a record that cannot be read. A partition that was taken away meanwhile is left alone."""
        self.advance(partition, offset + 1)
        self._seek(partition, offset + 1)

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        """The owner wants nothing of these."""
        wanted = [one for one in partitions if one in self._positions]
        self._paused.update(wanted)
        if not self._is_resting:
            self._call(self._consumer.pause, wanted)

    def resume(self, partitions: Iterable[PartitionId]) -> None:
        """The owner wants these again."""
        wanted = [one for one in partitions if one in self._paused]
        self._paused.difference_update(wanted)
        if not self._is_resting:
            self._resume(wanted)

    def rest(self) -> None:
        """Fetches nothing until `wake`. What was fetched and not polled is fetched again."""
        if not self._is_resting:
            self._is_resting = True
            self._call(self._consumer.pause, self._open())

    def wake(self) -> None:
        if self._is_resting:
            self._is_resting = False
            wanted = self._open()
            self._call(self._consumer.resume, wanted)
            # Only readers of the embedded broker rest, and that is one broker.
            self._wake_brokers(wanted[:1])

    def _open(self) -> list[PartitionId]:
        return [one for one in self._positions if one not in self._paused]

    def _resume(self, partitions: Collection[PartitionId]) -> None:
        self._call(self._consumer.resume, partitions)
        self._wake_brokers(partitions)

    def _wake_brokers(self, partitions: Collection[PartitionId]) -> None:
        """Requests offsets of the leaders and ignores them: a resume alone does not wake their
        threads.

        See `librdkafka.py`. It does not wait for a broker that is down.
        """
        asked = [TopicPartition(*partition, _ANY_TIME) for partition in partitions]
        with suppress(KafkaException):
            if asked:
                self._consumer.offsets_for_times(asked, timeout=_WAKE_S)

    def _seek(self, partition: PartitionId, offset: int) -> None:
        try:
            self._consumer.seek(TopicPartition(*partition, offset))
        except KafkaException:
            return  # not assigned any more, or not yet: it begins where the group is

    @staticmethod
    def _call(change: Any, partitions: Iterable[PartitionId]) -> None:
        wanted = [TopicPartition(*one) for one in partitions]
        if wanted:
            change(wanted)
