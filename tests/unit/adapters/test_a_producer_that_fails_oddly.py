"""Whatever a producer raises at a send, its record is sent again or fails, and the appender lives on."""

from types import SimpleNamespace

import pytest
from kafka.future import Future

from events.record import Record
from functions.adapters import kafka_appender
from functions.adapters.kafka_appender import MAX_SENDS, KafkaAppender
from functions.errors import AppendFailed
from functions.settings import BrokerSettings

RECORD = Record(topic="infer.requests", value=b"{}", key=b"k", headers=(), partition=0)


class Producer:
    """Raises what it is told to raise, a send each, and then answers."""

    def __init__(self, errors):
        self.errors = list(errors)

    def send(self, topic, **_):
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return Future().success(SimpleNamespace(topic=topic, partition=0))

    def close(self, timeout):
        pass


@pytest.fixture
def appender_over(monkeypatch):
    opened = []

    def open_appender(*errors):
        # One list for all producers: what is raised does not depend on which of them it is.
        shared = Producer(errors)
        monkeypatch.setattr(kafka_appender, "KafkaProducer", lambda **_: shared)
        opened.append(KafkaAppender(BrokerSettings(), {}))
        return opened[-1]

    yield open_appender
    for appender in opened:
        appender.close(1.0)


def closed():
    return RuntimeError("NetworkSelector closed!")


def test_a_producer_that_was_closed_meanwhile_costs_a_second_send(appender_over):
    appender = appender_over(closed())
    assert appender.append(RECORD).result(5.0).partition == 0
    assert appender.rebuilds == 1


def test_closed_under_a_caller_that_sends_by_itself_the_record_is_sent_again(appender_over):
    appender = appender_over(None, closed())
    appender.append(RECORD).result(5.0)
    assert appender.append(RECORD).result(5.0).partition == 0


def test_one_that_never_takes_it_fails_that_record_alone(appender_over):
    appender = appender_over(*(closed() for _ in range(MAX_SENDS)))
    with pytest.raises(AppendFailed) as failed:
        appender.append(RECORD).result(5.0)
    assert failed.value.is_unknown
    assert appender.append(RECORD).result(5.0).partition == 0


def test_what_cannot_connect_for_a_strange_reason_is_tried_again(appender_over, monkeypatch):
    appender = appender_over()
    working, errors = kafka_appender.KafkaProducer, [RuntimeError("odd"), None]

    def connect(**options):
        if (error := errors.pop(0)) is not None:
            raise error
        return working(**options)

    monkeypatch.setattr(kafka_appender, "KafkaProducer", connect)
    assert appender.append(RECORD).result(5.0).partition == 0
