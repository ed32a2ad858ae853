"""A recorder's surroundings in memory: one broker, one store, one clock that stands still."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from events import builders, names
from events.builders import parse_terminal
from events.codecs.kafka_codec import from_record, outgoing_record, to_record
from events.event import Event
from events.names import Topics
from events.payloads import CancelData, PickspinData, ProgressData
from events.requests import Origin, ReplyAddress
from events.timestamps import to_rfc3339
from functions.recorder.event_recorder import make_recorder, recorded_topics
from functions.recorder.reaper import Reaper, ReaperLimits, Republisher
from functions.recorder.recorded_until import RecordedUntil
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics
from functions.sql.sql_store import SqlStore
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics()
LIMITS = ReaperLimits(route_bound_s=30.0, append_s=1.0)


class Stage:
    """Everything, with short words for what other processes do to the log."""

    def __init__(self, url="sqlite://", boot_id=""):
        self.clock = FakeClock(START)
        self.log = MemoryLog(partitions=2)
        self.blobs = MemoryBlobs()
        self.store = SqlStore(url, self.clock, boot_id=boot_id)
        self.appender = self.log.appender(client="test")
        self.stop = StopFlag()
        self.consumer = self.group()
        self.recorder = self.new_recorder(self.consumer)
        self.reaper = self.new_reaper(self.store)
        self.republisher = Republisher(
            store=self.store,
            appender=self.appender,
            lags=self.log.lag_reader(client="test"),
            clock=self.clock,
            topics=TOPICS,
            limits=LIMITS,
        )

    def group(self):
        return self.log.group(
            group=TOPICS.recorder_group, topics=recorded_topics(TOPICS), client="recorder"
        )

    def new_recorder(self, consumer, store=None, metrics=None):
        return make_recorder(
            consumer=consumer,
            store=store or self.store,
            blobs=self.blobs,
            clock=self.clock,
            metrics=metrics or Metrics(),
            wait_s=3600.0,
        )

    def new_reaper(self, store):
        return Reaper(
            store=store,
            appender=self.appender,
            clock=self.clock,
            topics=TOPICS,
            limits=LIMITS,
            metrics=Metrics(),
            recorded=RecordedUntil(
                lags=self.log.lag_reader(client="test"), clock=self.clock, topics=TOPICS
            ),
        )

    def send(self, out):
        self.appender.append(outgoing_record(out)).result(0)

    def request(self, request_id="r1", wait_s=60.0, source="/ingress/0", **extensions):
        """A producer's request, as a record on the log."""
        extensions.setdefault(
            names.EXPIRY_TIME, to_rfc3339(self.clock.now() + timedelta(seconds=wait_s))
        )
        body = extensions.pop("body", {"messages": [{"role": "user", "content": "hello"}]})
        event = Event(
            id=request_id,
            source=source,
            type=names.REQUEST,
            subject="auto",
            time=to_rfc3339(self.clock.now()),
            data=json.dumps(body).encode(),
            extensions=extensions,
        )
        record = to_record(event, topic=TOPICS.requests, key=request_id)
        self.appender.append(record).result(0)
        return record

    def routed(self, request_id="r1", state="routed"):
        data = ProgressData(state=state, service="slug", model="model")
        event = builders.build_progress(
            Origin(request_id=request_id), data, source="/router", now=self.clock.now()
        )
        (out,) = builders.progress_outgoing(event, topics=TOPICS, reply=None)
        self.send(out)

    def answered(self, request_id="r1", ref=False):
        event = builders.build_completed(
            Origin(request_id=request_id),
            {"text": "hello"},
            PickspinData(request_id=request_id, state="completed"),
            source="/models/slug",
            generation="g",
            now=self.clock.now(),
        )
        if ref:
            event = builders.by_reference(event, self.blobs.put(event.data))
        (out,) = builders.terminal_outgoing(event, topics=TOPICS, reply=None)
        self.send(out)

    def cancelled(self, request_id="r1", reason="client"):
        event = builders.build_cancel(
            Origin(request_id=request_id),
            CancelData(reason=reason),
            source="/t",
            now=self.clock.now(),
        )
        self.send(builders.cancel_outgoing(event, topics=TOPICS))

    def record_all(self):
        """Until nothing is left to read."""
        while self.recorder.step(self.stop, 0.0) or self.consumer_lag():
            pass

    def consumer_lag(self):
        reader = self.log.lag_reader(client="test")
        group = TOPICS.recorder_group
        lags = reader.lags({group: recorded_topics(TOPICS)})[group]
        return sum(offsets.lag for offsets in lags.values())

    def terminals(self, topic=None):
        """(request id, state) of every terminal on a topic, in order within its partitions."""
        records = self.log.records(topic or TOPICS.responses)
        found = [parse_terminal(from_record(record)) for record in records]
        return [(terminal.request_id, terminal.state.value) for terminal in found]


@pytest.fixture
def stage():
    found = Stage()
    yield found
    found.store.close()


@pytest.fixture
def reply_address():
    return ReplyAddress
