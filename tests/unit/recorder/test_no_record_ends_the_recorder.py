"""Whatever a record, a line of a batch or a row holds: its reader ends it, says so and goes on."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from events import names
from events.codecs.kafka_codec import to_record
from events.event import Event
from events.names import State
from functions.recorder import reaper
from functions.recorder.batch_format import line_request_id, read_lines
from functions.recorder.event_to_change import limit_timestamp
from functions.runtime.errors import StoreFailed
from functions.runtime.telemetry import Metrics
from tests.unit.recorder.conftest import START, TOPICS
from tests.unit.recorder.test_batches_run_to_their_files import CHAT, Desk, line

GOOD = [{"role": "user", "content": "hello"}]
ODD = [
    None, True, False, 0, -1, 1.5, 10**30, -0.0, "", " ", "my model", "a\tb", "a\nb", "modèle", "名",
    "\x00", "\x7f", "\u2028", "\ufffe", "😀", "m" * 129, "m" * 300, "m" * 5000, "a/b", "..", "%00",
    [], {}, [[]], [None], [GOOD], {"a": {}}, {"": ""}, GOOD,
]  # fmt: skip
FIELDS = ["model", "messages", "store", "stream", "n", "stop", "user", "tools", "pickspin", "", "é"]
TIMESTAMPS = [
    -(2**63), -(10**15), -2, -1, 0, 1, 253_402_300_799_999, 253_402_300_800_000, 10**15, 2**63 - 1,
]  # fmt: skip


def series(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def desk(stage):
    return Desk(stage)


@pytest.mark.parametrize("field", FIELDS)
def test_a_line_with_an_odd_body_is_answered_or_refused_and_the_others_go_on(desk, field):
    odd = [
        line(number, body={"messages": GOOD, field: value})
        for number, value in enumerate(ODD, start=1)
    ]
    desk.submit(line(0), *odd, line(999))
    desk.run_to_end()
    batch = desk.batch()
    assert (batch.status, batch.total) == ("completed", len(odd) + 2)
    output = desk.file(batch.output_file_id)
    errors = [] if batch.error_file_id is None else desk.file(batch.error_file_id)
    assert {"c0", "c999"} <= {entry["custom_id"] for entry in output}
    assert len(output) + len(errors) == batch.total
    assert all(entry["response"]["status_code"] in {400, 404} for entry in errors)


@pytest.mark.parametrize("name", ["my model", "modèle", "m" * 300])
def test_a_name_that_no_model_can_have_is_refused_as_unknown(desk, name):
    desk.submit(line(1, body={"model": name, "messages": GOOD}), line(2))
    desk.run_to_end()
    (entry,) = desk.file(desk.batch().error_file_id)
    assert entry["response"]["status_code"] == 404
    assert entry["response"]["body"]["error"]["code"] == "model_not_found"
    assert desk.requests() == [line_request_id("batch_1", 2)]


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"[]", b"0", b"{", b"{}", b'{"a":1,"a":2}', b"NaN",
        b'{"custom_id":"\\ud800"}', b"[" * 5000, b'{"a":' * 5000, b"9" * 500, b"\x00", b"1e999",
        *(
            json.dumps({"custom_id": value, "method": value, "url": value, "body": value}).encode()
            for value in ODD
        ),
    ],
)  # fmt: skip
def test_whatever_a_line_holds_a_file_is_read_or_refused(raw):
    lines, errors = read_lines(line(1).encode() + b"\n" + raw, CHAT)
    assert lines[0].custom_id == "c1"
    assert [error.line for error in errors] == [2]


def test_a_line_that_cannot_be_sent_fails_alone(desk, monkeypatch):
    real = desk.store.accept

    def picky(row, record=None):
        if row.id == line_request_id("batch_1", 2):
            raise OverflowError("no database takes it")
        return real(row, record)

    monkeypatch.setattr(desk.store, "accept", picky)
    desk.submit(line(1), line(2), line(3))
    desk.run_to_end()
    batch = desk.batch()
    assert (batch.status, batch.completed, batch.failed) == ("completed", 2, 1)
    (entry,) = desk.file(batch.error_file_id)
    assert (entry["custom_id"], entry["response"]["body"]["error"]["code"]) == ("c2", "internal")


def test_a_batch_that_cannot_be_run_ends_and_others_go_on(desk, monkeypatch):
    desk.submit(line(1))
    desk.store.add_batch(
        replace(desk.batch(), id="batch_0", created_at=START - timedelta(minutes=1))
    )
    real = desk.store.batch_counts

    def broken(batch_id):
        if batch_id == "batch_0":
            raise KeyError("a state that nobody knows")
        return real(batch_id)

    monkeypatch.setattr(desk.store, "batch_counts", broken)
    desk.run_to_end()
    assert desk.batch().status == "completed"
    ended = desk.store.batch("batch_0")
    assert (ended.status, ended.errors[0]["code"]) == ("failed", "internal")


def test_blobs_out_of_reach_hold_up_only_who_needs_them(desk, monkeypatch):
    real, outages = desk.stage.blobs.put, [3]

    def full(data):
        if outages[0] and len(data) > 1000:
            outages[0] -= 1
            raise OSError(28, "no space left on device")
        return real(data)

    large = {"messages": [{"role": "user", "content": "x" * 2000}]}
    desk.submit(line(1, body=large), line(2))
    monkeypatch.setattr(desk.stage.blobs, "put", full)
    desk.run_to_end()
    batch = desk.batch()
    assert (outages, batch.status, batch.completed) == ([0], "completed", 2)


@pytest.mark.parametrize("timestamp_ms", TIMESTAMPS)
def test_a_record_of_any_time_is_recorded_or_passed_over(stage, timestamp_ms):
    stage.request("before")
    stage.routed("before")
    stage.answered("before")
    stage.cancelled("before")
    stage.record_all()
    for topic in (TOPICS.requests, TOPICS.progress, TOPICS.responses, TOPICS.control):
        for record in stage.log.records(topic):
            dated(stage, record, timestamp_ms)
    dated(stage, untimed_request(stage), timestamp_ms)
    stage.request("after")
    stage.record_all()
    assert stage.store.request("before").state is State.COMPLETED
    assert stage.store.request("after").state is State.ACCEPTED
    row = stage.store.request("untimed")
    assert (row.accepted_at, row.deadline) == (START, START + timedelta(hours=1))


def dated(stage, record, timestamp_ms):
    """The record once more, as the log holds it of a producer that says this time."""
    place = stage.appender.append(replace(record, partition=0, offset=-1)).result(0)
    records = stage.log.partitions[place]
    records[-1] = replace(records[-1], timestamp_ms=timestamp_ms)


def untimed_request(stage):
    """Of a producer that says neither when it was made nor until when it may take."""
    event = Event(
        id="untimed",
        source="/ingress/0",
        type=names.REQUEST,
        data=json.dumps({"messages": GOOD}).encode(),
    )
    return to_record(event, topic=TOPICS.requests, key="untimed")


def test_a_possible_time_of_a_record_is_believed():
    minute_ago = START - timedelta(minutes=1)
    assert limit_timestamp(int(minute_ago.timestamp() * 1000), START) == minute_ago
    assert limit_timestamp(int((START + timedelta(hours=1)).timestamp() * 1000), START) == START


class Breaking:
    """A store that breaks in ways that no database is known to, over changes of one request."""

    def __init__(self, store, error, poison):
        self.store, self.error, self.poison = store, error, poison

    def record_batch(self, changes):
        if any(change.event.id == self.poison for change in changes):
            raise self.error
        return self.store.record_batch(changes)


@pytest.mark.parametrize(
    "error",
    [OverflowError("int too large"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), KeyError()],
)
def test_a_change_that_breaks_the_store_is_passed_over_and_counted(stage, error):
    for name in ("one", "poison", "two"):
        stage.request(name)
    metrics = Metrics()
    broken = Breaking(stage.store, error, "poison")
    stage.recorder = stage.new_recorder(stage.consumer, broken, metrics)
    stage.record_all()
    assert [stage.store.request(name) is not None for name in ("one", "poison", "two")] == [
        True,
        False,
        True,
    ]
    assert series(metrics, "pickspin_skipped_records_total", reader="recorder") == 1


def test_a_record_that_breaks_its_reader_is_passed_over_and_counted(stage, monkeypatch):
    real = stage.blobs.get

    def broken(ref, *, limit_bytes):
        raise RecursionError(ref)

    stage.request("good")
    stage.answered("good", ref=True)
    stage.request("later")
    monkeypatch.setattr(stage.blobs, "get", broken)
    metrics = Metrics()
    stage.recorder = stage.new_recorder(stage.consumer, metrics=metrics)
    stage.record_all()
    monkeypatch.setattr(stage.blobs, "get", real)
    assert stage.store.request("later") is not None
    assert series(metrics, "pickspin_skipped_records_total", reader="recorder") == 1


def test_one_row_that_cannot_be_ended_holds_no_other_up(stage, monkeypatch):
    for name in ("a", "b", "c"):
        stage.request(name, wait_s=1.0)
    stage.record_all()
    stage.clock.advance(2)
    real = stage.store.overdue

    def with_bad(now, limit=500):
        return [replace(row, tenant="\n" if row.id == "a" else row.tenant) for row in real(now)]

    monkeypatch.setattr(stage.store, "overdue", with_bad)
    stage.reaper.tick()
    stage.record_all()
    assert [stage.store.request(name).state for name in ("a", "b", "c")] == [
        State.ACCEPTED,
        State.EXPIRED,
        State.EXPIRED,
    ]


def test_ends_that_never_come_back_do_not_hide_the_others(stage, monkeypatch):
    monkeypatch.setattr(reaper, "ROUND", 3)
    for number in range(6):
        stage.request(f"r{number}", wait_s=1.0 + number / 10)
    stage.record_all()
    stage.clock.advance(3)
    assert stage.reaper.tick() == 3
    # Nobody records them; the next round goes on behind them.
    stage.consumer.crash()
    stage.recorder = stage.new_recorder(stage.group(), Deaf(stage.store))
    stage.record_all()
    assert stage.reaper.tick() == 3
    assert {request_id for request_id, _ in stage.terminals()} == {f"r{n}" for n in range(6)}


class Deaf:
    """A store that refuses every change."""

    def __init__(self, store):
        self.store = store

    def record_batch(self, changes):
        raise StoreFailed("bad value", is_transient=False)


def test_the_store_out_of_reach_ends_a_round_of_the_batches(desk, monkeypatch):
    def away(batch_id):
        raise StoreFailed("down", is_transient=True)

    desk.submit(line(1))
    real = desk.store.batch_counts
    monkeypatch.setattr(desk.store, "batch_counts", away)
    for _ in range(20):
        with pytest.raises(StoreFailed):
            desk.runner.tick()
    monkeypatch.setattr(desk.store, "batch_counts", real)
    desk.run_to_end()
    assert desk.batch().status == "completed"
