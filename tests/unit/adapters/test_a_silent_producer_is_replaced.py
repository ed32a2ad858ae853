"""A producer that neither sends nor expires anything is found out: its records fail in time, later ones go through."""

from types import SimpleNamespace

import pytest
from kafka.future import Future

from events.record import Record
from functions.adapters import kafka_appender
from functions.adapters.kafka_appender import KafkaAppender
from functions.errors import AppendFailed
from functions.settings import BrokerSettings

RECORD = Record(topic="infer.requests", value=b"{}", key=b"k", headers=(), partition=0)


class Silent:
    """Takes everything and settles nothing."""

    def __init__(self):
        self.sent, self.is_closed = [], False

    def send(self, topic, **_):
        self.sent.append(Future())
        return self.sent[-1]

    def close(self, timeout):
        self.is_closed = True


class Answering(Silent):
    def send(self, topic, **_):
        future = super().send(topic)
        future.success(SimpleNamespace(topic=topic, partition=0))
        return future


@pytest.fixture
def producers(monkeypatch):
    made = [Silent(), Answering()]
    coming = iter(made)
    monkeypatch.setattr(kafka_appender, "KafkaProducer", lambda **_: next(coming))
    monkeypatch.setattr(kafka_appender, "SILENCE_S", 0.05)
    monkeypatch.setattr(kafka_appender, "_LOOK_S", 0.02)
    return made


def test_what_a_silent_producer_holds_fails_and_the_next_record_goes_through_another(producers):
    appender = KafkaAppender(BrokerSettings(delivery_timeout_s=0.05), {})
    lost = appender.append(RECORD)
    with pytest.raises(AppendFailed) as failed:
        lost.result(5.0)
    assert failed.value.is_unknown
    assert appender.append(RECORD).result(5.0).partition == 0
    assert appender.rebuilds == 1
    late = producers[0].sent[0]
    late.success(SimpleNamespace(topic="infer.requests", partition=0))
    assert failed.value is lost.exception(), "the first end counts"
    appender.close(1.0)


def test_callers_that_gave_up_meanwhile_do_not_end_the_appender(producers):
    appender = KafkaAppender(BrokerSettings(delivery_timeout_s=0.05), {})
    appender.append(RECORD).cancel()
    appender.append(RECORD).exception(5.0)
    assert appender.append(RECORD).result(5.0).partition == 0
    appender.close(1.0)
