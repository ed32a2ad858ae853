import json
from dataclasses import replace

import pytest

from events import builders, names
from events.codecs.kafka_codec import outgoing_record
from events.names import State, Topics
from events.payloads import PickspinData
from events.requests import Origin
from functions.callbacks.terminal_consumer import make_terminal_consumer
from functions.ports.store import CallbackTarget, RequestRow
from functions.response_objects import build_meta
from functions.runtime.errors import StoreFailed
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics
from functions.sql.sql_store import SqlStore
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog

TOPICS = Topics()


class Desk:
    """An enqueuer on a broker and a store in memory."""

    def __init__(self):
        self.clock = FakeClock()
        self.log = MemoryLog(partitions=2)
        self.blobs = MemoryBlobs()
        self.store = SqlStore("sqlite://", self.clock)
        self.new = []
        self.enqueue = self.store.enqueue_delivery
        self.store.enqueue_delivery = self.note_new
        self.stop = StopFlag()
        self.woken = 0
        self.metrics = Metrics()
        self.start()
        target = CallbackTarget(id="t1", tenant="one", url="https://a.example.com", secret="x")
        self.store.add_target(target)

    def start(self, store=None):
        self.consumer = self.log.group(
            group=TOPICS.callbacks_group, topics=(TOPICS.responses,), client="c"
        )
        self.enqueuer = make_terminal_consumer(
            consumer=self.consumer,
            store=store or self.store,
            blobs=self.blobs,
            clock=self.clock,
            metrics=self.metrics,
            wake=self.wake,
        )

    def note_new(self, delivery):
        is_new = self.enqueue(delivery)
        self.new += [delivery] * is_new
        return is_new

    def wake(self):
        self.woken += 1

    def origin(self, request_id="r1", target="t1", tenant="one"):
        carried = {names.TENANT: tenant, names.CALLBACK_ID: target}
        return Origin(request_id=request_id, carried={k: v for k, v in carried.items() if v})

    def completed(self, *, ref=None, answer=None, **origin):
        found = self.origin(**origin)
        event = builders.build_completed(
            found,
            answer or {"object": "chat.completion", "text": "hello"},
            PickspinData(request_id=found.request_id, state="completed"),
            source="/models/slug",
            generation="g",
            now=self.clock.now(),
        )
        if ref is not None:
            event = builders.by_reference(event, ref or self.blobs.put(event.data))
        self.send(event)
        return event

    def failed(self, code, status, **origin):
        failure = builders.Failure(code=code, message="m", type="server_error", status=status)
        self.send(
            builders.build_failed(
                self.origin(**origin), failure, source="/recorder", now=self.clock.now()
            )
        )

    def send(self, event):
        (out,) = builders.terminal_outgoing(event, topics=TOPICS, reply=None)
        self.log.appender(client="t").append(outgoing_record(out)).result(0)

    def run(self):
        """Reads everything; returns how many deliveries are new."""
        before = len(self.new)
        for _ in range(10):
            self.enqueuer.step(self.stop, 0.0)
        return len(self.new) - before

    def skipped(self):
        labels = {"reader": "callbacks"}
        return self.metrics.registry.get_sample_value("pickspin_skipped_records_total", labels)

    def body(self, request_id="r1"):
        (found,) = self.store.deliveries(request_id)
        return json.loads(found.body)

    def committed(self):
        lags = self.log.lag_reader(client="t").lags({TOPICS.callbacks_group: (TOPICS.responses,)})
        return sum(o.lag for o in lags[TOPICS.callbacks_group].values()) == 0


@pytest.fixture
def desk():
    found = Desk()
    yield found
    found.store.close()


def test_a_completed_request_becomes_one_delivery(desk):
    event = desk.completed()
    assert desk.run() == 1
    (found,) = desk.store.deliveries("r1")
    assert (found.id, found.target_id, found.attempt) == (event.id, "t1", 0)
    body = desk.body()
    assert (body["type"], body["timestamp"]) == ("inference.completed", event.time)
    assert body["data"]["request_id"] == "r1"
    assert body["data"]["response"]["text"] == "hello"
    assert desk.woken == 1
    assert desk.committed()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("backend_failed", 502, "inference.failed"),
        ("deadline_exceeded", 504, "inference.expired"),
        ("cancelled", 409, "inference.cancelled"),
    ],
)
def test_an_unhappy_end_says_why(desk, code, status, kind):
    desk.failed(code, status)
    desk.run()
    body = desk.body()
    assert body["type"] == kind
    assert (body["data"]["status"], body["data"]["error"]["code"]) == (status, code)


def test_a_sender_of_events_hears_the_id_that_it_gave(desk):
    origin = replace(desk.origin("req_1"), event_id="order-7")
    failure = builders.Failure(code="backend_failed", message="m", type="server_error", status=502)
    desk.send(builders.build_failed(origin, failure, source="/recorder", now=desk.clock.now()))
    assert desk.enqueuer.step(desk.stop, 0.0) == 1
    (delivery,) = desk.store.deliveries("req_1")
    assert json.loads(delivery.body)["data"]["request_id"] == "order-7"


def asked_as_a_response(desk, **meta):
    """The row of a call of `/v1/responses`."""
    body = {"input": "hi", "instructions": "be brief", **meta}
    row = RequestRow(
        id="r1",
        tenant="one",
        operation="chat",
        state=State.ACCEPTED,
        asked_model="smol",
        accepted_at=desk.clock.now(),
        deadline=desk.clock.now(),
        meta=build_meta(body, is_background=True),
    )
    desk.store.accept(row)


def test_whoever_called_responses_is_sent_a_response(desk):
    asked_as_a_response(desk)
    choice = {"index": 0, "finish_reason": "length", "message": {"content": "hel"}}
    desk.completed(answer={"object": "chat.completion", "model": "smol", "choices": [choice]})
    assert desk.run() == 1
    found = desk.body()["data"]["response"]
    assert (found["object"], found["id"], found["status"]) == ("response", "r1", "incomplete")
    assert found["output"][0]["content"][0]["text"] == "hel"
    assert found["instructions"] == "be brief"
    assert desk.body()["data"]["request_id"] == "r1"


def test_so_is_whoever_called_it_in_vain(desk):
    asked_as_a_response(desk)
    desk.failed("backend_failed", 502)
    assert desk.run() == 1
    data = desk.body()["data"]
    assert (data["status"], data["error"]["code"]) == (502, "backend_failed")
    assert data["response"]["status"] == "failed"
    assert data["response"]["error"] == {"code": "server_error", "message": "m"}


def test_of_two_terminals_the_first_is_delivered(desk):
    desk.completed()
    desk.failed("deadline_exceeded", 504)
    assert desk.run() == 1
    assert desk.body()["type"] == "inference.completed"


def test_read_twice_it_is_enqueued_once(desk):
    desk.completed()
    desk.consumer.commit = lambda commits: False
    desk.run()
    desk.consumer.crash()
    desk.start()
    assert desk.run() == 0
    assert len(desk.store.deliveries("r1")) == 1


@pytest.mark.parametrize(
    "origin", [{"target": None}, {"target": "unknown"}, {"tenant": "two"}, {"tenant": None}]
)
def test_nobody_else_hears_of_it(desk, origin):
    desk.completed(**origin)
    assert desk.run() == 0
    assert desk.committed()


def test_a_disabled_target_hears_nothing(desk):
    desk.store.disable_target("t1")
    desk.completed()
    assert desk.run() == 0


def test_an_answer_by_reference_is_fetched_and_a_missing_one_is_said(desk):
    desk.completed(ref="")
    desk.completed(request_id="r2", ref="blob:" + "0" * 64)
    assert desk.run() == 2
    assert desk.body("r1")["data"]["response"]["text"] == "hello"
    assert desk.body("r2")["data"]["error"]["code"] == "not_found"


def test_a_record_that_cannot_be_read_holds_nothing_up(desk):
    desk.completed()
    (record,) = desk.log.records(TOPICS.responses)
    desk.log.appender(client="t").append(replace(record, headers=(), partition=None)).result(0)
    desk.completed(request_id="r2")
    assert desk.run() == 2
    assert desk.committed()


class Down:
    """A store that is out of reach."""

    def __init__(self, store, outages):
        self.store = store
        self.outages = outages

    def target(self, target_id):
        return self.store.target(target_id)

    def request(self, request_id):
        return self.store.request(request_id)

    def enqueue_delivery(self, delivery):
        if self.outages:
            self.outages -= 1
            raise StoreFailed("down", is_transient=True)
        return self.store.enqueue_delivery(delivery)


def test_nothing_is_committed_before_it_is_in_the_store(desk, monkeypatch):
    monkeypatch.setattr("functions.runtime.log_consumer.RETRY_S", 0.0)
    desk.consumer.close()
    desk.start(Down(desk.store, 3))
    desk.completed()
    assert desk.run() == 1
    assert desk.committed()


def test_stopped_while_the_store_is_out_of_reach_it_is_left_on_the_log(desk):
    desk.consumer.close()
    desk.start(Down(desk.store, 99))
    desk.completed()
    desk.stop.set()
    assert desk.run() == 0
    assert not desk.committed()


class Picky:
    """A store that never takes the delivery of one request, each time for another reason."""

    def __init__(self, store, errors):
        self.store, self.errors = store, list(errors)

    def target(self, target_id):
        return self.store.target(target_id)

    def request(self, request_id):
        return self.store.request(request_id)

    def enqueue_delivery(self, delivery):
        if delivery.request_id.startswith("bad"):
            raise self.errors.pop(0)
        return self.store.enqueue_delivery(delivery)


def test_what_cannot_become_a_delivery_is_passed_over_and_counted(desk):
    errors = [
        StoreFailed("bad value", is_transient=False),
        OverflowError("too large"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"),
    ]
    desk.consumer.close()
    desk.start(Picky(desk.store, errors))
    for number in range(len(errors)):
        desk.completed(request_id=f"bad{number}")
    desk.completed(request_id="good")
    assert desk.run() == 1
    assert desk.committed()
    assert desk.skipped() == len(errors)


@pytest.mark.parametrize("timestamp_ms", [-(2**63), -1, 0, 10**15, 2**63 - 1])
def test_a_terminal_of_any_time_becomes_a_delivery(desk, timestamp_ms):
    desk.completed(request_id="one")
    for records in desk.log.partitions.values():
        records[:] = [replace(record, timestamp_ms=timestamp_ms) for record in records]
    desk.completed(request_id="two")
    assert desk.run() == 2
