"""A rebalance lasts until the slowest member has asked: how often members of a group ask."""

from typing import ClassVar

import pytest

from functions.adapters import kafka_reading
from functions.adapters.kafka_reading import KafkaGroupConsumer
from functions.settings import BrokerSettings


class Asked:
    """Stands where the client would be: what it was given."""

    options: ClassVar[dict[str, object]] = {}

    def __init__(self, **options):
        Asked.options = options

    def subscribe(self, topics, listener):
        self.names = set(topics)

    def topics(self):
        return self.names


def asked(monkeypatch, **settings):
    monkeypatch.setattr(kafka_reading, "KafkaConsumer", Asked)
    KafkaGroupConsumer(BrokerSettings(**settings), {}, group="g", topics=("t",))
    return Asked.options["heartbeat_interval_ms"], Asked.options["session_timeout_ms"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (300, 10_000)),
        ({"heartbeat_s": 1.5}, (1500, 10_000)),
        ({"heartbeat_s": 60.0, "session_timeout_s": 8.0}, (2000, 8000)),
        ({"kind": "embedded"}, (750, 3000)),
    ],
)
def test_members_ask_as_often_as_told_and_several_times_in_a_session(
    monkeypatch, settings, expected
):
    assert asked(monkeypatch, **settings) == expected
