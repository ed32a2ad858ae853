"""The group consumer on librdkafka, where a broker misbehaves: nothing is worked on without its commit, nothing waits
for ever.
"""

import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from events.event import PartitionId, Record
from functions.kafka import consumer as kafka_consumer
from functions.kafka.consumer import KafkaGroupConsumer
from functions.kafka.embedded.librdkafka_mock import MockCluster
from functions.kafka.librdkafka import client_config
from functions.kafka.record_log import KafkaLog
from functions.ports.kafka import Commit, TopicSpec
from functions.runtime.settings import BrokerSettings

PATIENCE_S = 60.0
TOPIC = "read"

pytestmark = pytest.mark.timeout(3 * PATIENCE_S)


@pytest.fixture
def broker() -> Iterator[MockCluster]:
    with MockCluster([TopicSpec(name=TOPIC, partitions=4)]) as cluster:
        yield cluster


def settings_of(broker: MockCluster) -> BrokerSettings:
    return BrokerSettings(bootstrap=broker.bootstrap, kind="embedded")


def opened(broker: MockCluster, client: str = "test", **more) -> KafkaGroupConsumer:
    settings = settings_of(broker)
    config = client_config(settings, client)
    return KafkaGroupConsumer(settings, config, group="g", topics=(TOPIC,), **more)


def append(broker: MockCluster, count: int) -> None:
    appender = KafkaLog(settings_of(broker)).appender(client="test")
    futures = [
        appender.append(Record(topic=TOPIC, value=b"%d" % n, partition=n % 4)) for n in range(count)
    ]
    for future in futures:
        future.result(PATIENCE_S)
    appender.close(1.0)


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not seen in time"


def test_no_record_comes_before_the_commits_of_its_partition_are_known(broker: MockCluster) -> None:
    append(broker, 8)
    consumer = opened(broker)
    failed = []
    ask = consumer._ask_committed

    def ask_later(partitions):
        if len(failed) < 3:
            failed.append(polled)
            raise kafka_consumer.KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE))
        return ask(partitions)

    consumer._ask_committed = ask_later
    polled, records = None, []

    def read() -> bool:
        nonlocal polled
        polled = consumer.poll(0.05)
        records.extend(polled.records)
        if len(failed) < 3:
            assert not polled.records
            assert not polled.gained
            assert not consumer.assignment()
        return len(records) == 8

    until(read)
    assert len(failed) == 3
    consumer.close()


def test_a_commit_that_nobody_answers_is_refused_in_time_and_the_consumer_closes(
    broker: MockCluster, monkeypatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "COMMIT_S", 0.3)
    consumer = opened(broker)
    until(lambda: consumer.poll(0.05).gained)
    broker.close()
    started = time.monotonic()
    assert not consumer.commit({PartitionId(TOPIC, 0): Commit(1)})
    consumer.poll(0.05)
    consumer.close()
    assert time.monotonic() - started < PATIENCE_S / 2


def test_records_that_come_while_a_commit_is_answered_are_handed_over(broker: MockCluster) -> None:
    consumer = opened(broker)
    until(lambda: consumer.poll(0.05).gained)
    append(broker, 40)
    values: list[bytes] = []
    committed = 0

    def read() -> bool:
        nonlocal committed
        polled = consumer.poll(0.05)
        values.extend(one.value for one in polled.records)
        for one in polled.records:
            assert consumer.commit({one.partition_id: Commit(one.offset + 1, "m")})
            committed += 1
        return committed >= 40

    until(read)
    assert sorted(values) == sorted(b"%d" % n for n in range(40))
    consumer.close()


class Reader:
    """A member that keeps what it was given until it is taken away, and commits it when it is told to."""

    def __init__(self, consumer: KafkaGroupConsumer, seen: set[bytes | None]) -> None:
        self.consumer = consumer
        self.seen = seen
        self.kept: list[Record] = []
        self.has_lost = False

    def read(self) -> None:
        polled = self.consumer.poll(0.05)
        self.has_lost = self.has_lost or bool(polled.lost)
        self.kept = [one for one in self.kept if one.partition_id not in polled.lost]
        self.kept.extend(polled.records)

    def finish(self, count: int | None = None) -> None:
        for one in self.kept[:count]:
            if self.consumer.commit({one.partition_id: Commit(one.offset + 1)}):
                self.seen.add(one.value)
        del self.kept[:count]


@pytest.mark.parametrize("assignor", ["cooperative-sticky", "range"])
def test_what_is_given_back_after_a_rebalance_is_read_from_its_commit(
    broker: MockCluster, assignor: str
) -> None:
    """Fetched, paused and not worked on when another member joins: it is read again, there or here."""
    append(broker, 40)
    seen: set[bytes | None] = set()
    one = Reader(opened(broker, "one", assignor=assignor), seen)
    until(lambda: one.read() or len(one.kept) >= 4)
    one.consumer.pause(one.consumer.assignment())
    one.finish(1)
    two = Reader(opened(broker, "two", assignor=assignor), seen)
    is_enough = threading.Event()

    def work() -> None:
        while not is_enough.is_set():
            two.read()
            two.finish()

    second = threading.Thread(target=work, daemon=True)
    second.start()
    until(lambda: one.read() or (one.has_lost and two.consumer.assignment()))
    one.consumer.resume(one.consumer.assignment())
    until(lambda: one.read() or one.finish() or len(seen) == 40)
    is_enough.set()
    second.join(PATIENCE_S)
    one.consumer.close()
    two.consumer.close()
