"""Each request passes about five encodes and decodes: they must stay far below a millisecond together."""

import json
import time
import timeit
from collections.abc import Callable, Mapping

import pytest

from events import names
from events.codecs import kafka_codec
from events.event import Event

BUDGET = 4.0
"""Times what the standard library's JSON takes there and back for the attributes: 60 microseconds where that is 15."""
CALLS, ROUNDS = 100, 50


@pytest.mark.parametrize("event_type", [names.REQUEST, names.ROUTED, names.CHUNK, names.COMPLETED])
def test_an_encode_and_a_decode_stay_below_their_budget(
    event_type: str, samples: Mapping[str, Event]
) -> None:
    """The best of many rounds in CPU time, beside a yardstick: what the code costs, not how fast and
    how busy the machine is.
    """
    event = samples[event_type]
    record = kafka_codec.to_record(event, topic="t", key="k")
    plain = {"id": event.id, "attributes": event.extensions, "numbers": list(range(20))}
    works: list[Callable[[], object]] = [
        lambda: json.loads(json.dumps(plain)),
        lambda: kafka_codec.to_record(event, topic="t", key="k"),
        lambda: kafka_codec.from_record(record),
    ]
    timers = [timeit.Timer(work, timer=time.thread_time) for work in works]
    rounds = [[timer.timeit(CALLS) for timer in timers] for _ in range(ROUNDS)]
    yardstick, *costs = map(min, zip(*rounds, strict=True))
    assert max(costs) < BUDGET * yardstick
