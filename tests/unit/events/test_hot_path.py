"""Each request passes about five encodes and decodes: they must stay far below a millisecond together."""

import timeit
from collections.abc import Callable, Mapping

import pytest

from events import names
from events.codecs import kafka_codec
from events.event import Event

BUDGET_S = 60e-6
CALLS = 100


@pytest.mark.parametrize("event_type", [names.REQUEST, names.ROUTED, names.CHUNK, names.COMPLETED])
def test_an_encode_and_a_decode_stay_below_their_budget(
    event_type: str, samples: Mapping[str, Event]
) -> None:
    """The best of many rounds: what the code costs, not what the machine was busy with."""
    event = samples[event_type]
    record = kafka_codec.to_record(event, topic="t", key="k")
    works: list[Callable[[], object]] = [
        lambda: kafka_codec.to_record(event, topic="t", key="k"),
        lambda: kafka_codec.from_record(record),
    ]
    for work in works:
        assert min(timeit.repeat(work, number=CALLS, repeat=20)) / CALLS < BUDGET_S
