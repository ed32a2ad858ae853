"""The appender on librdkafka: every record ends, a fault of one is no fault of the others."""

import ctypes
import logging
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from events.event import Record
from functions.kafka import producer
from functions.kafka.embedded.librdkafka_mock import MockCluster
from functions.kafka.librdkafka import client_config
from functions.kafka.producer import MAX_SENDS, KafkaAppender
from functions.ports.kafka import TopicSpec
from functions.runtime.errors import AppendFailed
from functions.runtime.settings import BrokerSettings

PATIENCE_S = 30.0
TOPIC = "appended"
PRODUCE = 0
"""Kafka's number of the Produce request."""


@pytest.fixture(scope="module")
def broker() -> Iterator[MockCluster]:
    with MockCluster([TopicSpec(name=TOPIC, partitions=4)]) as cluster:
        yield cluster


def opened(bootstrap: str, **more) -> KafkaAppender:
    settings = BrokerSettings(bootstrap=bootstrap, **more)
    return KafkaAppender(settings, client_config(settings, "test"))


@pytest.fixture
def appender(broker: MockCluster) -> Iterator[KafkaAppender]:
    found = opened(broker.bootstrap)
    found.append(record()).result(PATIENCE_S)
    yield found
    found.close(2.0)


def record(value: bytes = b"x", **fields) -> Record:
    return Record(topic=TOPIC, value=value, **fields)


def answer_produce_with(broker: MockCluster, *errors: int) -> None:
    """The next Produce requests are answered with these errors, one each."""
    push = broker._library.rd_kafka_mock_push_request_errors_array
    push.argtypes = [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)]
    push(broker._cluster, PRODUCE, len(errors), (ctypes.c_int * len(errors))(*errors))


def failure(future) -> AppendFailed:
    found = future.exception(PATIENCE_S)
    assert isinstance(found, AppendFailed)
    return found


def test_a_partition_that_does_not_exist_fails_its_record_alone(appender: KafkaAppender) -> None:
    bad = [appender.append(record(partition=77)) for _ in range(5)]
    good = [appender.append(record(partition=n % 4)) for n in range(20)]
    assert {future.result(PATIENCE_S).partition for future in good} == {0, 1, 2, 3}
    assert all(failure(future).is_unroutable for future in bad)
    assert appender.rebuilds == 0


def test_a_record_that_the_broker_finds_too_large_fails_alone(
    broker: MockCluster, appender: KafkaAppender
) -> None:
    answer_produce_with(broker, KafkaError.MSG_SIZE_TOO_LARGE)
    assert failure(appender.append(record())).is_too_large
    assert appender.append(record()).result(PATIENCE_S).topic == TOPIC
    assert appender.rebuilds == 0


def test_a_refusal_of_one_record_says_its_reason(
    broker: MockCluster, appender: KafkaAppender
) -> None:
    answer_produce_with(broker, KafkaError.POLICY_VIOLATION)
    assert "POLICY_VIOLATION" in failure(appender.append(record())).reason
    assert appender.append(record()).result(PATIENCE_S).topic == TOPIC


def test_after_a_fatal_error_a_new_producer_sends_what_the_old_one_held(
    broker: MockCluster, appender: KafkaAppender
) -> None:
    answer_produce_with(broker, KafkaError.INVALID_PRODUCER_EPOCH)
    answer_produce_with(broker, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
    futures = [appender.append(record(partition=n % 4)) for n in range(40)]
    assert {future.result(PATIENCE_S).topic for future in futures} == {TOPIC}
    assert appender.append(record()).result(PATIENCE_S).topic == TOPIC


class Fatal:
    """A producer that answers every record with a fatal error."""

    def __init__(self, config) -> None:
        self._callbacks = []

    def produce(self, topic, value, key, partition, callback, headers) -> None:
        self._callbacks.append(callback)

    def poll(self, timeout_s) -> int:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(KafkaError(KafkaError._FATAL, "gone", True), None)
        time.sleep(0 if callbacks else 0.01)
        return len(callbacks)

    def flush(self, timeout_s) -> int:
        self.poll(0)
        return 0

    def purge(self) -> None:
        return None

    def __len__(self) -> int:
        return 0


def test_a_record_that_only_fatal_errors_answer_fails_after_some_producers(monkeypatch) -> None:
    monkeypatch.setattr(producer, "Producer", Fatal)
    appender = opened("127.0.0.1:1")
    assert failure(appender.append(record())).is_unknown
    assert MAX_SENDS - 1 <= appender.rebuilds <= MAX_SENDS
    appender.close(1.0)


def test_without_a_broker_a_record_fails_in_time_and_the_caller_never_waits() -> None:
    appender = opened("127.0.0.1:1", delivery_timeout_s=0.3)
    started = time.monotonic()
    futures = [appender.append(record()) for _ in range(100)]
    assert time.monotonic() - started < PATIENCE_S / 10
    assert all(failure(future).is_unknown for future in futures)
    appender.close(0.1)


def test_what_waits_for_the_broker_has_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(producer, "MAX_PENDING_RECORDS", 10)
    appender = opened("127.0.0.1:1", delivery_timeout_s=5.0)
    futures = [appender.append(record()) for _ in range(11)]
    assert "too many bytes wait" in failure(futures[-1]).reason
    appender.close(0.1)
    assert all(failure(future).is_unknown for future in futures[:10])


def test_what_cannot_be_flushed_is_a_warning_and_its_records_fail(caplog) -> None:
    appender = opened("127.0.0.1:1", delivery_timeout_s=60.0)
    future = appender.append(record())
    with caplog.at_level(logging.WARNING):
        appender.close(0.1)
    assert failure(future).is_unknown
    assert "not all was flushed" in caplog.text
    assert "closed" in failure(appender.append(record())).reason


@pytest.mark.parametrize("value", ["text", 7])
def test_what_is_no_record_fails_and_raises_nothing(appender: KafkaAppender, value) -> None:
    odd = record(headers=(("a", value),)) if isinstance(value, int) else record(key=object())
    try:
        found = appender.append(odd).exception(PATIENCE_S)
    except TypeError:
        return  # its size cannot even be told: refused where the record is made
    assert isinstance(found, AppendFailed)
