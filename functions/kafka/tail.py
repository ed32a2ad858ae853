"""`RecordTail` with librdkafka: partitions read by assignment, without a group."""

from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from events.event import PartitionId, Record
from functions.kafka.assigned_partitions import AssignedPartitions
from functions.kafka.librdkafka import close_consumer, open_client
from functions.kafka.record_reader import RecordBuffer, await_topics, open_reader, reader_config
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings

_WATERMARKS_S: Final = 10.0


class KafkaTail:
    """All partitions of `topics`, or the one given; from the start, or from the end as it is now.

    Raises:
        StartupFailed: a topic, or the partition, does not exist.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        config: dict[str, Any],
        topics: tuple[str, ...],
        *,
        from_start: bool,
        partition: int | None,
        is_awaited: bool = False,
    ) -> None:
        # librdkafka asks for a group's name also where there is none; nothing is committed under it.
        more = {
            "group.id": f"{settings.prefix}tail-{config['client.id']}",
            "enable.partition.eof": True,
        }
        self._consumer: Any = open_client(Consumer, config | reader_config(settings) | more)
        numbers = await_topics(self._consumer, topics)
        places = [
            PartitionId(topic, number)
            for topic in topics
            for number in numbers[topic]
            if partition is None or number == partition
        ]
        if not places:
            close_consumer(self._consumer)
            raise StartupFailed(f"{topics[0]} has no partition {partition}")
        marks = {
            place: self._consumer.get_watermark_offsets(
                TopicPartition(*place), timeout=_WATERMARKS_S
            )
            for place in places
        }
        self._ends = {place: high for place, (_, high) in marks.items()}
        # By number: "to the end" is resolved at the first poll, and misses what is appended until then.
        begin = {place: low if from_start else high for place, (low, high) in marks.items()}
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in begin.items()])
        self._partitions = AssignedPartitions(self._consumer)
        self._partitions.add(begin)
        self._gathered = RecordBuffer(self._consumer, self._partitions, config["error_cb"])
        self._reading = open_reader(
            settings, topics, self._gathered, self._partitions, is_awaited=is_awaited
        )

    def poll(self, timeout_s: float) -> tuple[Record, ...]:
        self._reading.read(timeout_s)
        return self._gathered.take()

    def is_caught_up(self) -> bool:
        positions = self._partitions.positions
        return all(positions[place] >= end for place, end in self._ends.items())

    def close(self) -> None:
        self._reading.close()
        close_consumer(self._consumer)
