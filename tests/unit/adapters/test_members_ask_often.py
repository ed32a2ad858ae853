"""A rebalance lasts until the slowest member has asked: those with work ask often, idle ones cost little."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from functions.adapters import kafka_reading
from functions.adapters.kafka_heartbeats import SETTLING_S, Heartbeats
from functions.adapters.kafka_reading import KafkaGroupConsumer
from functions.settings import BrokerSettings


class Asked:
    """Stands where the client would be: what it was given."""

    options: ClassVar[dict[str, object]] = {}
    generation: ClassVar[int] = -1

    def __init__(self, **options):
        Asked.options = options
        interval = {"heartbeat_interval_ms": options["heartbeat_interval_ms"]}
        self._coordinator = SimpleNamespace(
            heartbeat=SimpleNamespace(config=interval), _join_task=None
        )
        self._fetcher = SimpleNamespace(config={})

    def subscribe(self, topics, listener):
        self.names = set(topics)

    def topics(self):
        return self.names

    def poll(self, *_args, **_options):
        return {}

    def group_metadata(self):
        return SimpleNamespace(member_id="", generation_id=Asked.generation)


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


SESSION_MS = 10_000


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def settled(clock):
    """Heartbeats of a member whose group was last rebalanced long ago."""

    def open_settled(session_ms=SESSION_MS, **settings):
        heartbeats = Heartbeats(BrokerSettings(**settings), session_ms, clock)
        heartbeats.interval_ms(7)
        clock.now_s += SETTLING_S
        return heartbeats

    return open_settled


@pytest.mark.parametrize(
    ("settings", "session_ms", "idle_ms", "busy_ms"),
    [
        ({}, 10_000, 1000, 300),
        ({"heartbeat_s": 1.5, "heartbeat_idle_s": 2.0}, 10_000, 2000, 1500),
        ({"heartbeat_s": 1.5, "heartbeat_idle_s": 1.0}, 10_000, 1500, 1500),
        ({"heartbeat_s": 60.0, "heartbeat_idle_s": 60.0}, 8000, 2000, 2000),
        ({"kind": "embedded"}, 3000, 750, 750),
    ],
)
def test_members_ask_as_often_as_told_and_several_times_in_a_session(
    settled, settings, session_ms, idle_ms, busy_ms
):
    heartbeats = settled(session_ms, **settings)
    assert heartbeats.interval_ms() == idle_ms
    heartbeats.expect(soon=True)
    assert heartbeats.interval_ms() == busy_ms
    heartbeats.expect(soon=False)
    assert heartbeats.interval_ms() == idle_ms


def test_a_member_asks_often_while_its_group_settles_and_seldom_after(settled, clock):
    heartbeats = settled()
    assert heartbeats.interval_ms(7) == 1000
    assert heartbeats.interval_ms(8) == 300
    clock.now_s += SETTLING_S - 0.1
    assert heartbeats.interval_ms(8) == 300
    clock.now_s += 0.2
    assert heartbeats.interval_ms(8) == 1000


def test_a_member_that_has_not_joined_yet_asks_often_however_long_it_takes(clock):
    heartbeats = Heartbeats(BrokerSettings(), SESSION_MS, clock)
    for _ in range(3):
        assert heartbeats.interval_ms(-1) == 300
        clock.now_s += 0.9 * SETTLING_S
    assert heartbeats.interval_ms(1) == 300


def test_the_client_starts_to_ask_often_and_is_told_again_at_every_poll(member, monkeypatch, clock):
    monkeypatch.setattr(kafka_reading, "Heartbeats", lambda *args: Heartbeats(*args, clock))
    found = member()
    assert Asked.options["session_timeout_ms"] == SESSION_MS
    assert interval_ms(found) == 300
    monkeypatch.setattr(Asked, "generation", 1)
    found.poll(0.0)
    clock.now_s += SETTLING_S
    assert interval_ms(found) == 300
    found.poll(0.0)
    assert interval_ms(found) == 1000
    found.expect(soon=True)
    assert interval_ms(found) == 300
