"""Reading with librdkafka: from polled messages to records.

Apache Kafka is polled plainly, the embedded broker by its doorbell. Group consumers and tails share
it. What cannot be read is never in the way: it becomes a record that says so.
"""

import logging
import operator
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError

from events.event import PartitionId, Record
from functions.kafka.assigned_partitions import AssignedPartitions
from functions.kafka.embedded.doorbell import Ear, bell_directory
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings

log = logging.getLogger(__name__)

MAX_RECORDS: Final = 100
"""Most records of one poll, and of what librdkafka fetches ahead for a partition."""
MAX_BYTES: Final = 8 * 1024 * 1024
KAFKA_WAIT_MS: Final = 500
"""Apache Kafka answers a waiting fetch the moment a record comes."""
EMBEDDED_WAIT_MS: Final = 1
"""The embedded broker answers an empty fetch after its whole wait, and nothing before."""
LOOK_S: Final = 0.004
"""A fetch that finds something has come back by then; a machine that is too busy finds it at the next look."""
TOPIC_WAIT_S: Final = 15.0
_METADATA_S: Final = 5.0
_RETRY_S: Final = 0.1
_UNREADABLE: Final = frozenset(
    {
        KafkaError._BAD_MSG,  # noqa: SLF001 - public names of the library's own errors
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001
        KafkaError.INVALID_MSG,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)
"""Errors that repeat at one offset for ever: librdkafka fetches the same batch again and again."""
_headers_of = operator.methodcaller("headers")
"""`Message.headers()` leaves an exception behind a name that is not UTF-8. A direct call may be specialised by the
interpreter, which then does not look for it: it would come out of whatever is called next.
"""
_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001


def reader_config(settings: BrokerSettings) -> dict[str, Any]:
    """Librdkafka's options that every consumer has beside those of every client."""
    is_embedded = settings.kind == "embedded"
    return {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
        "check.crcs": True,
        "fetch.wait.max.ms": EMBEDDED_WAIT_MS if is_embedded else KAFKA_WAIT_MS,
        "fetch.max.bytes": MAX_BYTES,
        "fetch.error.backoff.ms": 20,
        # What is fetched ahead, and how soon fetching goes on once less than that is left.
        "queued.min.messages": 5 * MAX_RECORDS,
        "queued.max.messages.kbytes": 2 * MAX_BYTES // 1024,
        "fetch.queue.backoff.ms": 5,
    }


def await_topics(consumer: Any, topics: tuple[str, ...]) -> dict[str, list[int]]:
    """Partition numbers of each topic, once every topic is there.

    Raises:
        StartupFailed: not within `TOPIC_WAIT_S`; names what is missing.
    """
    deadline = time.monotonic() + TOPIC_WAIT_S
    problem = "Kafka does not answer"
    while True:
        try:
            partitions = {topic: _partitions(consumer, topic) for topic in topics}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said once the time is over
            problem = f"Kafka cannot be asked for topics: {error}"
        else:
            missing = sorted(topic for topic, numbers in partitions.items() if not numbers)
            if not missing:
                return partitions
            problem = "no such topic: " + ", ".join(missing)
        if time.monotonic() > deadline:
            raise StartupFailed(problem)
        time.sleep(_RETRY_S)


def _partitions(consumer: Any, topic: str) -> list[int]:
    known = consumer.list_topics(topic, timeout=_METADATA_S).topics.get(topic)
    return [] if known is None or known.error is not None else sorted(known.partitions)


class RecordBuffer:
    """Records polled and not handed over yet, in the order in which they were polled.

    Args:
        consumer: librdkafka's.
        partitions: told how far they were read.
        say: what is done with an error that belongs to no record.
    """

    def __init__(
        self, consumer: Any, partitions: AssignedPartitions, say: Callable[[Any], None]
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._say = say
        self._records: list[Record] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def is_full(self) -> bool:
        return len(self._records) >= MAX_RECORDS or self._bytes >= MAX_BYTES

    def poll(self, timeout_s: float) -> bool:
        """Takes in what comes next, a record or an event of the client; whether something did in that time."""
        message = self._consumer.poll(timeout_s)
        if message is None:
            return False
        error = message.error()
        if error is None:
            self._take(message)
        elif error.code() == _END:
            place = PartitionId(message.topic(), message.partition())
            self._partitions.advance(place, message.offset())
        elif error.code() in _UNREADABLE and message.topic() is not None:
            self._step_over(message, error.name())
        else:
            self._say(error)
        return True

    def drain(self, timeout_s: float) -> bool:
        """Waits for a record and takes in what else is there already; whether there was any."""
        before, left_s = len(self._records), timeout_s
        deadline = time.monotonic() + timeout_s
        while not self.is_full and self.poll(left_s):
            is_found = len(self._records) > before
            left_s = 0.0 if is_found else max(0.0, deadline - time.monotonic())
        return len(self._records) > before

    def drop(self, partitions: set[PartitionId]) -> None:
        """Forgets records of revoked partitions. Their new owner reads them again."""
        self._records = [one for one in self._records if one.partition_id not in partitions]

    def take(self) -> tuple[Record, ...]:
        """Everything, which is then forgotten."""
        records, self._records, self._bytes = tuple(self._records), [], 0
        return records

    def _take(self, message: Any) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        unreadable = None
        try:
            headers = tuple(_headers_of(message) or ())
        except (SystemError, UnicodeDecodeError):
            headers, unreadable = (), "a header's name is not UTF-8"
        record = Record(
            topic=topic,
            value=message.value(),
            key=message.key(),
            headers=headers,
            partition=partition,
            offset=offset,
            timestamp_ms=message.timestamp()[1],
            unreadable=unreadable,
        )
        self._add(record)

    def _step_over(self, message: Any, reason: str) -> None:
        place = PartitionId(message.topic(), message.partition())
        # The error names the start of its batch, also where the position is in the middle of it.
        offset = max(message.offset(), self._partitions.positions.get(place, 0))
        extra = {"topic": place.topic, "partition": place.partition, "offset": offset}
        log.error("record cannot be read", extra=extra | {"reason": reason})
        self._partitions.step_over(place, offset)
        self._add(
            Record(
                topic=place.topic,
                value=None,
                partition=place.partition,
                offset=offset,
                unreadable=f"{reason} at {place.topic}/{place.partition}/{offset}",
            )
        )

    def _add(self, record: Record) -> None:
        self._records.append(record)
        self._bytes += record.size_bytes
        self._partitions.advance(record.partition_id, record.offset + 1)


class RecordReader(Protocol):
    """How a consumer is polled."""

    def read(self, timeout_s: float) -> None:
        """Gathers what there is, waiting for the first record at most that long."""
        ...

    def look_again(self) -> None:
        """Something may be there without a ring: partitions were gained or resumed."""
        ...

    def close(self) -> None: ...


class PlainReader:
    """On Apache Kafka: a poll waits until a record comes."""

    def __init__(self, gathered: RecordBuffer, partitions: AssignedPartitions) -> None:
        self._gathered = gathered
        self._partitions = partitions

    def read(self, timeout_s: float) -> None:
        self._partitions.wake()
        self._gathered.drain(0.0 if len(self._gathered) else timeout_s)

    def look_again(self) -> None:
        return

    def close(self) -> None:
        return


class EmbeddedReader:
    """On the embedded broker (ADR 0003).

    Fetches while something comes, rests until it rings, and looks at intervals.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        topics: tuple[str, ...],
        gathered: RecordBuffer,
        partitions: AssignedPartitions,
        *,
        is_awaited: bool,
    ) -> None:
        self._gathered = gathered
        self._partitions = partitions
        self._ear = Ear(bell_directory(settings.bootstrap), topics)
        regular_ms = settings.poll_idle_ms if is_awaited else settings.poll_lazy_ms
        self._regular_s = regular_ms / 1000
        self._is_lazy = not is_awaited
        self._has_more = True

    def read(self, timeout_s: float) -> None:
        if not self._partitions.positions:
            # Then a poll drives the joining of the group, which takes its time.
            self._has_more = True
            self._gathered.drain(timeout_s)
            return
        # Regular fetches find what did not ring: a plain producer's records.
        is_due = self._has_more or self._ear.wait(min(timeout_s, self._regular_s))
        if not is_due and timeout_s <= 0:
            self._gathered.drain(0)  # callbacks of a rebalance come in polls
            return
        self._partitions.wake()
        self._has_more = self._look()
        if not self._has_more:
            self._partitions.rest()

    def _look(self) -> bool:
        has_records = self._gathered.drain(LOOK_S)
        if has_records and self._is_lazy:
            # One poll's worth together: lazy readers pause between their polls.
            while self._gathered.drain(LOOK_S):
                pass
        # What rang meanwhile may have been read already; it costs one more look.
        return has_records or self._ear.wait(0)

    def look_again(self) -> None:
        self._has_more = True

    def close(self) -> None:
        self._ear.close()


def open_reader(
    settings: BrokerSettings,
    topics: tuple[str, ...],
    gathered: RecordBuffer,
    partitions: AssignedPartitions,
    *,
    is_awaited: bool,
) -> RecordReader:
    """The way of reading that suits the broker. `is_awaited`: a waiting caller depends on this reader."""
    if settings.kind == "embedded":
        return EmbeddedReader(settings, topics, gathered, partitions, is_awaited=is_awaited)
    return PlainReader(gathered, partitions)
