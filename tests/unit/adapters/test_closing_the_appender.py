"""An appender whose broker is gone closes all the same, and says that something was left."""

import logging
from types import SimpleNamespace
from typing import Any

from kafka.errors import KafkaTimeoutError

from functions.adapters.kafka_appender import KafkaAppender
from functions.settings import BrokerSettings


class Stuck:
    """A producer that cannot flush any more."""

    _sender = SimpleNamespace(force_close=lambda: None)

    def close(self, timeout: float) -> None:
        raise KafkaTimeoutError("Timeout waiting for future")


def test_what_cannot_be_flushed_is_a_warning_and_no_failure(caplog: Any) -> None:
    appender = KafkaAppender(BrokerSettings(kind="kafka"), {})
    appender._producer = Stuck()
    with caplog.at_level(logging.WARNING):
        appender.close(1.0)
    assert [record.reason for record in caplog.records] == ["KafkaTimeoutError"]
