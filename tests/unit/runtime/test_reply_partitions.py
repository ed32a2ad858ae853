"""Which partitions a reply topic has is asked of the broker only when somebody names one that is not known."""

import pytest

from functions.ports.kafka import OffsetReader
from functions.runtime.reply_partitions import LOOK_S, ReplyPartitions
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog, MemoryOffsetReader

TOPIC = "replies"


class Cluster:
    """A log whose topic may grow or be out of reach; counts how often it was asked."""

    def __init__(self, partitions: int) -> None:
        self.log = MemoryLog()
        self.log.create(TOPIC, partitions)
        self.asked = 0
        self.is_away = False

    def open(self) -> OffsetReader:
        self.asked += 1
        if self.is_away:
            raise ConnectionError
        return MemoryOffsetReader(self.log)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_partitions_are_told_from_those_that_are_not_there(clock: FakeClock) -> None:
    cluster = Cluster(3)
    partitions = ReplyPartitions(cluster.open, (TOPIC,), clock)
    assert [partitions.has(TOPIC, number) for number in range(5)] == [True] * 3 + [False] * 2
    assert cluster.asked == 1


def test_partitions_that_were_added_are_found(clock: FakeClock) -> None:
    cluster = Cluster(3)
    partitions = ReplyPartitions(cluster.open, (TOPIC,), clock)
    assert not partitions.has(TOPIC, 3)
    cluster.log._counts[TOPIC] = 4
    assert not partitions.has(TOPIC, 3)
    clock.advance(LOOK_S)
    assert partitions.has(TOPIC, 3)
    assert not partitions.has(TOPIC, 4)


def test_while_the_broker_is_away_nobody_is_refused(clock: FakeClock) -> None:
    cluster = Cluster(3)
    cluster.is_away = True
    partitions = ReplyPartitions(cluster.open, (TOPIC,), clock)
    for _ in range(9):
        assert partitions.has(TOPIC, 77)
    assert cluster.asked == 1
    cluster.is_away = False
    clock.advance(LOOK_S)
    assert not partitions.has(TOPIC, 77)


def test_topics_that_replies_may_not_go_to_are_not_asked_about(clock: FakeClock) -> None:
    cluster = Cluster(3)
    assert ReplyPartitions(cluster.open, (TOPIC,), clock).has("other", 99)
    assert cluster.asked == 0
