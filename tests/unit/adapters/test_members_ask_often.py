"""A rebalance lasts until the slowest member has asked: those with work ask often, idle ones cost little."""

from types import SimpleNamespace
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
        interval = {"heartbeat_interval_ms": options["heartbeat_interval_ms"]}
        self._coordinator = SimpleNamespace(heartbeat=SimpleNamespace(config=interval))
        self._fetcher = SimpleNamespace(config={})

    def subscribe(self, topics, listener):
        self.names = set(topics)

    def topics(self):
        return self.names


@pytest.fixture
def member(monkeypatch, tmp_path):
    monkeypatch.setattr(kafka_reading, "KafkaConsumer", Asked)
    monkeypatch.setattr(kafka_reading, "bell_directory", lambda _bootstrap: tmp_path)
    opened = []

    def open_member(**settings):
        found = KafkaGroupConsumer(BrokerSettings(**settings), {}, group="g", topics=("t",))
        opened.append(found)
        return found

    yield open_member
    for found in opened:
        found._fetching.close()


def interval_ms(member):
    return member._consumer._coordinator.heartbeat.config["heartbeat_interval_ms"]


@pytest.mark.parametrize(
    ("settings", "idle_ms", "busy_ms", "session_ms"),
    [
        ({}, 1000, 300, 10_000),
        ({"heartbeat_s": 1.5, "heartbeat_idle_s": 2.0}, 2000, 1500, 10_000),
        (
            {"heartbeat_s": 60.0, "heartbeat_idle_s": 60.0, "session_timeout_s": 8.0},
            2000,
            2000,
            8000,
        ),
        ({"kind": "embedded"}, 750, 750, 3000),
    ],
)
def test_members_ask_as_often_as_told_and_several_times_in_a_session(
    member, settings, idle_ms, busy_ms, session_ms
):
    found = member(**settings)
    assert Asked.options["session_timeout_ms"] == session_ms
    assert interval_ms(found) == idle_ms
    found.expect(soon=True)
    assert interval_ms(found) == busy_ms
    found.expect(soon=False)
    assert interval_ms(found) == idle_ms
