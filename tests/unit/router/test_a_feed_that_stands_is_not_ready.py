"""Around a pump: its probe says whether the router's group gets anywhere, and whether the pump turns."""

import threading
from typing import Any

from events.event import PartitionId, Record
from functions.ports.kafka import Commit
from functions.router import consumer_watch
from functions.router.consumer_watch import watched_feed
from functions.runtime.settings import BrokerSettings, Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics
from functions.testing.memory_broker import MemoryLog


def eventually(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never came")


def test_a_feed_that_does_not_advance_is_not_ready(topics: Any, monkeypatch: Any) -> None:
    asked: dict[str, Any] = {}

    class Probes:
        def __init__(self, **named: Any) -> None:
            asked.update(named)

    class NoProbes:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(consumer_watch, "ProbeServer", Probes)
    monkeypatch.setattr(consumer_watch, "probed", lambda *_: NoProbes())
    log, metrics, stop = MemoryLog(partitions=1), Metrics(), StopFlag()
    consumer = log.group(group=topics.router_group, topics=(topics.requests,), client="c")
    consumer.poll(0)
    settings = Settings(broker=BrokerSettings(stalled_s=0.1))
    with watched_feed(settings, log, topics, metrics, stop) as looked_at:
        assert asked["is_ready"]()
        for _ in range(20):
            log.store(Record(topic=topics.requests, value=b"x"))
        eventually(lambda: not asked["is_ready"]())
        assert asked["is_live"]()
        consumer.commit({PartitionId(topics.requests, 0): Commit(20)})
        eventually(asked["is_ready"])
        stop.set()
        assert looked_at.is_set()
    consumer.close()
