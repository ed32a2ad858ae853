import json
from dataclasses import replace
from datetime import timedelta

import pytest

from events import builders
from events.codecs.kafka_codec import from_record
from events.names import Priority
from events.payloads import PickspinData
from events.requests import parse_request
from functions.ports.store import BatchRow, FileRow
from functions.recorder.batch_format import line_request_id, read_lines
from functions.recorder.batch_runner import BatchLimits, BatchRunner
from functions.recorder.expiry_rules import SETTLE_S
from functions.runtime.telemetry import Metrics
from tests.unit.recorder.conftest import START, TOPICS

CHAT = "/v1/chat/completions"


def line(number, **fields):
    values = {
        "custom_id": f"c{number}",
        "method": "POST",
        "url": CHAT,
        "body": {"model": "auto", "messages": [{"role": "user", "content": f"say {number}"}]},
    }
    return json.dumps({**values, **fields})


class Desk:
    """A batch runner on a stage, and a model that answers when told."""

    def __init__(self, stage):
        self.stage = stage
        self.store = stage.store
        self.runner = self.new_runner()

    def new_runner(self, in_flight=3, tenant_batches=4, tenant_lines=400):
        return BatchRunner(
            store=self.store,
            blobs=self.stage.blobs,
            appender=self.stage.appender,
            clock=self.stage.clock,
            topics=TOPICS,
            limits=BatchLimits(
                wait_s=3600.0,
                append_s=1.0,
                inline_bytes=1000,
                max_file_bytes=1_000_000,
                in_flight=in_flight,
                tenant_batches=tenant_batches,
                tenant_lines=tenant_lines,
            ),
            metrics=Metrics(),
        )

    def submit(self, *lines, number=1, **fields):
        """A file and a batch of it; both carry `number`."""
        data = "\n".join(lines).encode()
        now = self.stage.clock.now()
        self.store.add_file(
            FileRow(
                id=f"f{number}",
                tenant=fields.get("file_tenant", fields.get("tenant", "one")),
                filename="in.jsonl",
                purpose="batch",
                bytes=len(data),
                created_at=now,
                ref=self.stage.blobs.put(data),
            )
        )
        values = {
            "id": f"batch_{number}",
            "tenant": "one",
            "endpoint": CHAT,
            "input_file_id": f"f{number}",
            "completion_window": "24h",
            "status": "validating",
            "created_at": now,
            "deadline": now + timedelta(hours=24),
        }
        fields.pop("file_tenant", None)
        self.store.add_batch(BatchRow(**{**values, **fields}))

    def batch(self, number=1):
        return self.store.batch(f"batch_{number}")

    def tick(self):
        self.runner.tick()
        self.stage.record_all()

    def requests(self):
        """Ids of request records on the log, in no order."""
        return [from_record(record).id for record in self.stage.log.records(TOPICS.requests)]

    def answer(self, *, fail=(), number=1):
        """The model answers everything of a batch that is on the log and unfinished."""
        known = set(self.requests())
        for row in self.store.batch_requests(f"batch_{number}"):
            if row.state.is_terminal or row.id not in known:
                continue
            origin = builders.Origin(request_id=row.id)
            now = self.stage.clock.now()
            if row.id in fail:
                failure = builders.Failure(
                    code="backend_failed", message="m", type="server_error", status=502
                )
                event = builders.build_failed(origin, failure, source="/models/slug", now=now)
            else:
                event = builders.build_completed(
                    origin,
                    {"object": "chat.completion", "for": row.id},
                    PickspinData(request_id=row.id, state="completed"),
                    source="/models/slug",
                    generation="g",
                    now=now,
                )
            (out,) = builders.terminal_outgoing(event, topics=TOPICS, reply=None)
            self.stage.send(out)
        self.stage.record_all()

    def run_to_end(self, **options):
        for _ in range(50):
            self.tick()
            self.answer(**options)
            if not self.store.open_batches():
                return
        raise AssertionError(f"still open: {self.batch()}")

    def file(self, file_id):
        row = self.store.file(file_id)
        data = self.stage.blobs.get(row.ref, limit_bytes=10**9)
        assert len(data) == row.bytes
        assert row.tenant == "one"
        return [json.loads(text) for text in data.decode().splitlines()]


@pytest.fixture
def desk(stage):
    return Desk(stage)


def test_every_line_is_answered_in_the_order_of_the_input(desk):
    desk.submit(*(line(number) for number in range(8)))
    desk.run_to_end()
    batch = desk.batch()
    assert (batch.status, batch.total, batch.completed, batch.failed) == ("completed", 8, 8, 0)
    assert batch.error_file_id is None
    output = desk.file(batch.output_file_id)
    assert [entry["custom_id"] for entry in output] == [f"c{number}" for number in range(8)]
    first = output[0]
    assert first["id"].startswith("batch_req_")
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    assert first["response"]["request_id"] == line_request_id("batch_1", 1)
    assert first["response"]["body"]["object"] == "chat.completion"


def test_lines_travel_as_batch_requests_of_their_tenant(desk):
    desk.submit(line(1))
    desk.tick()
    (record,) = desk.stage.log.records(TOPICS.requests)
    request = parse_request(from_record(record), default_wait_s=1.0)
    assert request.request_id == line_request_id("batch_1", 1)
    assert (request.tenant, request.priority) == ("one", Priority.BATCH)
    assert (request.batch_id, request.operation.value) == ("batch_1", "chat")
    assert request.deadline == START + timedelta(hours=1)


def test_a_large_line_travels_by_reference(desk):
    body = {"messages": [{"role": "user", "content": "x" * 2000}]}
    desk.submit(line(1, body=body))
    desk.tick()
    (record,) = desk.stage.log.records(TOPICS.requests)
    assert record.value is None
    desk.run_to_end()
    assert desk.batch().status == "completed"


def test_few_lines_are_in_flight_at_once(desk):
    desk.submit(*(line(number) for number in range(8)))
    desk.tick()
    desk.tick()
    assert len(desk.requests()) == 3
    assert desk.batch().submitted == 3
    desk.answer()
    desk.tick()
    assert len(desk.requests()) == 6
    assert desk.batch().completed == 3


def test_failed_lines_go_to_the_error_file(desk):
    desk.submit(line(1), line(2), line(3, body={"messages": []}), line(4, body={"stream": True}))
    desk.run_to_end(fail={line_request_id("batch_1", 2)})
    batch = desk.batch()
    assert (batch.status, batch.completed, batch.failed) == ("completed", 1, 3)
    assert [entry["custom_id"] for entry in desk.file(batch.output_file_id)] == ["c1"]
    errors = desk.file(batch.error_file_id)
    assert [(e["custom_id"], e["response"]["status_code"]) for e in errors] == [
        ("c2", 502),
        ("c3", 400),
        ("c4", 400),
    ]
    assert errors[0]["response"]["body"]["error"]["code"] == "backend_failed"
    assert errors[1]["response"]["body"]["error"]["param"] == "messages"
    assert len(desk.requests()) == 2


def test_a_runner_killed_at_any_point_repeats_no_line(desk):
    desk.submit(*(line(number) for number in range(8)))
    for _ in range(30):
        desk.runner = desk.new_runner()
        desk.tick()
        desk.answer()
        if not desk.store.open_batches():
            break
    assert desk.batch().status == "completed"
    assert sorted(desk.requests()) == sorted(line_request_id("batch_1", n) for n in range(1, 9))


class Killed(BaseException):
    """SIGKILL, as far as a thread can feel it."""


@pytest.mark.parametrize("method", ["accept", "update_batch", "add_file"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_runner_killed_around_a_write_still_answers_every_line_once(desk, method, when):
    desk.submit(*(line(number) for number in range(4)))
    real = getattr(desk.store, method)
    calls = 0

    def deadly(*args):
        nonlocal calls
        calls += 1
        if calls == 2 and when == "before":
            raise Killed
        found = real(*args)
        if calls == 2:
            raise Killed
        return found

    setattr(desk.store, method, deadly)
    for _ in range(60):
        try:
            desk.tick()
        except Killed:
            desk.runner = desk.new_runner()
        # A line accepted and not appended is published by the reaper.
        desk.stage.clock.advance(31)
        desk.stage.republisher.tick()
        desk.stage.record_all()
        desk.answer()
        if not desk.store.open_batches():
            break
    batch = desk.batch()
    assert (batch.status, batch.completed, batch.failed) == ("completed", 4, 0)
    assert len(desk.file(batch.output_file_id)) == 4
    assert len(set(desk.requests())) == len(desk.requests()) == 4


def test_a_cancelled_batch_stops_and_says_which_lines_were_not_executed(desk):
    desk.submit(*(line(number) for number in range(5)))
    desk.tick()
    desk.answer()
    desk.tick()
    desk.store.update_batch(replace(desk.batch(), status="cancelling"))
    for _ in range(5):
        desk.tick()
        desk.stage.reaper.tick()
        desk.stage.record_all()
    batch = desk.batch()
    assert (batch.status, batch.completed, batch.failed) == ("cancelled", 3, 2)
    assert batch.cancelled_at is not None
    assert len(desk.file(batch.output_file_id)) == 3
    assert {entry["error"]["code"] for entry in desk.file(batch.error_file_id)} == {
        "batch_cancelled"
    }


def test_a_batch_past_its_window_ends_expired(desk):
    desk.submit(*(line(n) for n in range(5)), deadline=START + timedelta(minutes=10))
    desk.tick()
    desk.stage.clock.advance(600 + SETTLE_S)
    for _ in range(5):
        desk.tick()
        desk.stage.reaper.tick()
        desk.stage.record_all()
    batch = desk.batch()
    assert (batch.status, batch.completed, batch.failed) == ("expired", 0, 5)
    assert batch.output_file_id is None
    assert {entry["error"]["code"] for entry in desk.file(batch.error_file_id)} == {"batch_expired"}


def test_answers_with_store_false_are_only_in_the_output_file(desk):
    body = {"messages": [{"role": "user", "content": "x"}], "store": False}
    desk.submit(line(1, body=body))
    desk.run_to_end()
    assert len(desk.file(desk.batch().output_file_id)) == 1
    assert desk.store.request(line_request_id("batch_1", 1)) is None


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[]", "invalid_json_line", None),
        (line(1, custom_id=5), "invalid_custom_id", "custom_id"),
        (line(1, method="GET"), "invalid_method", "method"),
        (line(1, url="/v1/embeddings"), "invalid_url", "url"),
        (line(1, body="text"), "invalid_body", "body"),
        (line(0), "duplicate_custom_id", "custom_id"),
    ],
)
def test_a_file_with_a_bad_line_is_refused_whole(desk, text, code, param):
    desk.submit(line(0), text)
    desk.tick()
    batch = desk.batch()
    assert batch.status == "failed"
    (error,) = batch.errors
    assert (error["code"], error["line"], error["param"]) == (code, 2, param)
    assert desk.requests() == []


def test_an_empty_or_missing_file_is_refused(desk):
    desk.submit("", "  ", "")
    desk.tick()
    assert [error["code"] for error in desk.batch().errors] == ["empty_file"]


def test_another_tenants_file_is_not_read(desk):
    desk.submit(line(1), tenant="two", file_tenant="one")
    desk.tick()
    assert [error["code"] for error in desk.batch().errors] == ["file_not_found"]


def test_all_bad_lines_are_named_and_too_many_end_it():
    lines, errors = read_lines(b"{\n{\n\n{", CHAT)
    assert (lines, [error.line for error in errors]) == ((), [1, 2, 4])
    _, errors = read_lines(b"{\n" * 1000, CHAT)
    assert len(errors) == 100
    _, errors = read_lines(b"", "/v1/images")
    assert [error.code for error in errors] == ["invalid_endpoint"]
