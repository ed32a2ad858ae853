"""The HTTP function and the log binding write the same bytes for the same records, good and bad."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from events import names as types
from events.codecs.kafka_codec import to_record
from events.event import Event, Record
from functions.router.consumer_loop import ConsumerLoop, LoopLimits
from functions.router.flask_app import create_app
from functions.router.kafka_binding import LogBinding
from functions.router.kafka_source import RouterAddress, Source
from functions.router.retry_policy import judge_status
from functions.runtime.shutdown import StopFlag
from functions.testing.fake_clock import FakeClock

Make = Callable[..., Event]
Rows = list[tuple[str, bytes | None, tuple[tuple[str, bytes], ...], bytes | None, int]]


class FlaskSource(Source):
    """The source with the Flask test client instead of a socket."""

    def __init__(self, bench: Any) -> None:
        address = RouterAddress(host="test", port=1, timeout_s=5.0)
        super().__init__(address, bench.publisher, in_flight=1)
        self._client = create_app(
            bench.router,
            is_ready=lambda: True,
            metrics=bench.metrics,
            append_wait_s=5.0,
            requests_topic=bench.topics.requests,
        ).test_client()

    def _post(self, headers: dict[str, str], body: bytes) -> int | None:
        return self._client.post("/", headers=headers, data=body).status_code


def written(bench: Any) -> Rows:
    names = {partition.topic for partition in bench.log.partitions} - {bench.topics.requests}
    rows = (
        (topic, record.key, record.headers, record.value, record.partition)
        for topic in names
        for record in bench.log.records(topic)
    )
    return sorted(rows, key=repr)


def drive(
    bench: Any, records: list[Record], begin: Callable[[Record], Any], close: Callable[[], None]
) -> None:
    for record in records:
        bench.log.store(record)
    stop = StopFlag()
    consumer = bench.log.group(
        group=bench.topics.router_group, topics=(bench.topics.requests,), client="c"
    )
    pump = ConsumerLoop(
        consumer,
        begin,
        give_up=bench.router.abandon,
        clock=FakeClock(),
        stop=stop,
        limits=LoopLimits(in_flight=4),
    )
    group = bench.log.groups[bench.topics.router_group]
    for _ in range(200):
        pump.step()
        pump._commit(force=True)
        if sum(commit.offset for commit in group.commits.values()) == len(records):
            break
    stop.set()
    pump.run()
    close()
    assert sum(commit.offset for commit in group.commits.values()) == len(records)


@pytest.fixture
def records(request_event: Make, topics: Any) -> list[Record]:
    events = [
        request_event(model="real"),
        request_event(id="req_2"),
        request_event(id="req_3", model="nobody"),
        request_event(id="req_4", data=b"["),
        request_event(id="req_5", data=b'{"prompt":"x","n":0}'),
        request_event(id="req_6", ext={types.REPLY_TOPIC: "t.infer.requests"}),
        request_event(id="req_7", ext={types.EXPIRY_TIME: "2020-01-01T00:00:00Z"}),
        request_event(id="req_8", type="com.example.other.v1"),
        request_event(
            id="req_9", data='{"prompt":"é “ü” 漢字"}'.encode(), ext={"note": "é “ü” 漢字 100%"}
        ),
        request_event(id="req_10", data=None, ext={types.DATA_REF: "blob:" + "0" * 64}),
        request_event(id="req_11", ext={types.PRIORITY: "batch", types.PARTITION_KEY: "s"}),
        request_event(id="req_12", time=None, ext={types.EXPIRY_TIME: None}),
    ]
    found = [to_record(event, topic=topics.requests, key=event.id) for event in events]
    good = found[0]
    return [
        *found,
        Record(topic=topics.requests, value=b"plain text", key=b"k"),
        Record(topic=topics.requests, value=None, key=None),
        replace(good, headers=tuple(h for h in good.headers if h[0] != "ce_id")),
        replace(good, headers=(*good.headers, ("ce_id", b"other"))),
        replace(good, headers=(*good.headers, ("ce_note", b"\xff"))),
    ]


def test_both_bindings_write_identical_records(make_bench: Any, records: list[Record]) -> None:
    by_log, by_http = make_bench(), make_bench()
    drive(by_log, records, LogBinding(by_log.router).begin, lambda: None)
    source = FlaskSource(by_http)
    drive(by_http, records, source.begin, source.close)
    assert written(by_log) == written(by_http)
    assert len(by_log.log.records(by_log.topics.dlq)) >= 5


def test_every_record_is_handled_with_success(make_bench: Any, records: list[Record]) -> None:
    bench = make_bench()
    source = FlaskSource(bench)
    for record in records:
        source.deliver(record)
    source.close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "done"), (204, "done"), (None, "again"), (404, "again"), (408, "again"), (409, "again"),
     (429, "again"), (500, "again"), (503, "again"), (301, "hopeless"), (400, "hopeless"),
     (403, "hopeless"), (413, "hopeless")],
)  # fmt: skip
def test_statuses_mean_what_they_mean_to_knative(status: int | None, expected: str) -> None:
    assert judge_status(status) == expected
