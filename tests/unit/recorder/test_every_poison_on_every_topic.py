"""Whatever lies on a topic of recorder or callbacks process: both read to its end, and record what is good."""

from dataclasses import replace

import pytest

from events import names
from events.event import Record
from events.names import State
from functions.callbacks.terminal_consumer import make_terminal_consumer
from functions.recorder.event_recorder import recorded_topics
from functions.runtime.telemetry import Metrics
from functions.testing.fake_clock import FakeClock
from tests.unit.recorder.conftest import START, TOPICS

JUNK = [None, b"", b"{", b"[]", b"null", b"0", b'"x"', b"\xff\xfe", b"{}" * 3, b"[" * 9000, b"{}"]
NAMES = ["ce_id", "ce_type", "ce_source", "ce_specversion", "ce_correlationid", "ce_time"]
VALUES = [None, b"", b" ", b"\x00", b"\xff", b"x" * 300, b"a b", b"9999-12-31T23:59:59Z", b"0"]


def bare(value):
    """A record that is no event."""
    return Record(topic="", value=value)


def spoilt(record):
    """An event with each of its parts broken in each of these ways."""
    yield from (replace(record, value=value) for value in JUNK)
    for name in NAMES:
        others = tuple(pair for pair in record.headers if pair[0] != name)
        yield replace(record, headers=others)
        yield from (replace(record, headers=(*others, (name, value))) for value in VALUES)
    yield replace(record, headers=record.headers * 2)
    yield replace(record, headers=(*record.headers, ("ce_dataref", b"blob:" + b"0" * 64)))
    yield replace(record, headers=(*record.headers, ("ce_dataref", b"file:///etc/passwd")))
    yield replace(record, headers=(*record.headers, ("content-type", b"application/cloudevents")))
    yield replace(record, headers=(("content-type", b"application/cloudevents+json"),))


def events_of_every_kind(stage):
    """One good record of each kind that is on the log of a request's life."""
    stage.request("seed", callbackid="c1")
    stage.routed("seed")
    stage.answered("seed")
    stage.cancelled("seed")
    found = [record for topic in recorded_topics(TOPICS) for record in stage.log.records(topic)]
    stage.log.partitions.clear()
    return found


def callbacks(stage):
    group = stage.log.group(
        group=TOPICS.callbacks_group, topics=(TOPICS.responses,), client="callbacks"
    )
    return make_terminal_consumer(
        consumer=group,
        store=stage.store,
        blobs=stage.blobs,
        clock=FakeClock(START),
        metrics=Metrics(),
        wake=lambda: None,
    )


def lag_of(stage, group, topics):
    lags = stage.log.lag_reader(client="test").lags({group: topics})[group]
    return sum(offsets.lag for offsets in lags.values())


@pytest.mark.parametrize("topic", recorded_topics(TOPICS))
def test_poison_holds_up_neither_recorder_nor_callbacks(stage, topic):
    good = events_of_every_kind(stage)
    poison = [*map(bare, JUNK), *good, *(bad for one in good for bad in spoilt(one))]
    foreign = [
        replace(one, headers=tuple((n, b"x" if n == "ce_type" else v) for n, v in one.headers))
        for one in good
    ]
    for record in (*poison, *foreign):
        stage.appender.append(replace(record, topic=topic, partition=0, offset=-1)).result(0)
    enqueuer = callbacks(stage)
    stage.request("good")
    stage.answered("good")
    stage.record_all()
    while lag_of(stage, TOPICS.callbacks_group, (TOPICS.responses,)):
        enqueuer.step(stage.stop, 0.0)
    assert stage.store.request("good").state is State.COMPLETED
    assert lag_of(stage, TOPICS.recorder_group, recorded_topics(TOPICS)) == 0


def test_the_poison_holds_events_of_every_kind_that_is_recorded(stage):
    kinds = {dict(record.headers)["ce_type"].decode() for record in events_of_every_kind(stage)}
    assert kinds == {names.REQUEST, names.PROGRESS, names.COMPLETED, names.CANCEL}
