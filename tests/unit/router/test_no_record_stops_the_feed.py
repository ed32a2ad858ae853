"""Whatever lies on the request topic, every record is ended and the one behind it is routed, by both bindings."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from events import names
from events.builders import parse_terminal
from events.codecs.kafka_codec import from_record, to_record
from events.event import Event, PartitionId, Record
from events.request_identity import read_request_id
from functions.router.consumer_loop import ConsumerLoop, LoopLimits
from functions.router.kafka_binding import LogBinding
from functions.router.router import Router
from functions.runtime.errors import AppendFailed
from functions.runtime.shutdown import StopFlag
from functions.testing.fake_clock import FakeClock
from tests.unit.router.test_both_bindings_agree import FlaskSource

Make = Callable[..., Event]
OVER = 950 * 1024
"""More than a record of ours may have, less than a broker takes from others."""


def poison(request_event: Make, topic: str) -> dict[str, Record]:
    good = to_record(request_event(id="bad", model="real"), topic=topic, key="k")

    def with_header(name: str, value: bytes | None) -> Record:
        kept = tuple(header for header in good.headers if header[0] != name)
        return replace(good, headers=(*kept, (name, value)))  # type: ignore[arg-type]

    ours = (names.ROUTED, names.COMPLETED, names.PROGRESS, names.CHUNK, names.STATUS, names.CANCEL)
    return {
        "nothing at all": Record(topic=topic, value=None),
        "too large": replace(good, value=b"x" * OVER),
        "too large, no event": Record(topic=topic, value=b"x" * OVER, key=b"k"),
        "a header too large": with_header("note", b"x" * OVER),
        "a header without value": with_header("ce_note", None),
        "a source that is none": with_header("ce_source", b"not a uri"),
        "a time that is none": with_header("ce_time", b"yesterday"),
        "a subject that is none": with_header("ce_subject", b"a\x00b"),
        "a reason of its own": with_header("ce_deadletterreason", b"forged"),
        "a reply partition that is not there": with_header("ce_replypartition", b"77"),
        **{kind: with_header("ce_type", kind.encode()) for kind in ours},
    }


RUNS = {"a reason of its own", "a reply partition that is not there"}
NAMES = sorted(
    {"nothing at all", "too large", "too large, no event", "a header too large",
     "a header without value", "a source that is none", "a time that is none",
     "a subject that is none", "a reason of its own", "a reply partition that is not there",
     names.ROUTED, names.COMPLETED,
     names.PROGRESS, names.CHUNK, names.STATUS, names.CANCEL}
)  # fmt: skip


def drive(bench: Any, begin: Callable[[Record], "Future[None]"]) -> None:
    """Pumps until everything on the request topic is committed; fails where that never comes."""
    group = bench.topics.router_group
    consumer = bench.log.group(group=group, topics=(bench.topics.requests,), client="c")
    stop, clock = StopFlag(), FakeClock()
    limits = LoopLimits(in_flight=4)
    pump = ConsumerLoop(
        consumer, begin, give_up=bench.router.abandon, clock=clock, stop=stop, limits=limits
    )
    reader = bench.log.lag_reader(client="t")
    for _ in range(300):
        clock.advance(0.25)
        pump.step()
        lags = reader.lags({group: (bench.topics.requests,)})[group]
        if not any(found.lag for found in lags.values()):
            break
    stop.set()
    pump.run()
    assert not any(found.lag for found in lags.values())


@pytest.mark.parametrize("binding", ["log", "http"])
@pytest.mark.parametrize("name", NAMES)
def test_the_record_behind_a_bad_one_is_routed(
    make_bench: Any, request_event: Make, name: str, binding: str
) -> None:
    bench = make_bench()
    topic = bench.topics.requests
    bench.log.store(replace(poison(request_event, topic)[name], partition=0))
    after = to_record(request_event(id="after", model="real"), topic=topic, key="k", partition=0)
    bench.log.store(after)
    source = FlaskSource(bench)
    drive(bench, LogBinding(bench.router).begin if binding == "log" else source.begin)
    source.close()
    routed = [from_record(found) for found in bench.log.records(bench.topics.model("real"))]
    assert "after" in [event.get(names.CORRELATION_ID) for event in routed]
    letters = bench.log.records(bench.topics.dlq)
    # A forged reason is an attribute like any other; an address that is not there costs its own replies alone.
    assert len(letters) == int(name not in RUNS)


@pytest.mark.parametrize(
    "name",
    [
        "too large",
        "a header too large",
        "a source that is none",
        "a time that is none",
        "a subject that is none",
    ],
)
def test_a_request_that_can_be_told_of_fails_at_its_address(
    bench: Any, request_event: Make, name: str
) -> None:
    record = poison(request_event, bench.topics.requests)[name]
    LogBinding(bench.router).begin(record).result(0)
    for topic in (bench.topics.responses, bench.topics.replies):
        (found,) = bench.log.records(topic)
        terminal = parse_terminal(from_record(found))
        assert (terminal.correlation_id, terminal.epoch) == ("bad", "e1")


def test_what_is_too_large_is_kept_by_reference(bench: Any, request_event: Make) -> None:
    record = poison(request_event, bench.topics.requests)["too large"]
    LogBinding(bench.router).begin(replace(record, partition=3, offset=12)).result(0)
    (letter,) = bench.log.records(bench.topics.dlq)
    assert letter.size_bytes < 1024
    assert b'"partition":3,"offset":12' in letter.value
    assert b'"id":"bad"' in letter.value


def test_an_end_that_cannot_be_told_is_kept_and_the_rest_is_published(
    bench: Any, request_event: Make
) -> None:
    lost = {names.REPLY_PARTITION: "77"}
    bench.router.route(request_event(id="nobody", model="nothing", ext=lost)).result(0)
    bench.router.route(request_event(id="routed", model="real", ext=lost)).result(0)
    assert len(bench.log.records(bench.topics.responses)) == 1
    assert len(bench.log.records(bench.topics.model("real"))) == 1
    assert bench.log.records(bench.topics.replies) == ()
    (letter,) = bench.log.records(bench.topics.dlq)
    assert dict(letter.headers)["ce_deadletterreason"] == b"undeliverable"
    assert from_record(letter).get(names.CORRELATION_ID) == "nobody"


def test_an_address_that_is_known_not_to_be_there_is_refused_at_once(
    bench: Any, request_event: Make
) -> None:
    parts = bench.router._dependencies
    rules = replace(parts.rules, has_partition=lambda topic, partition: partition < 4)
    router = Router(replace(parts, rules=rules))
    router.route(request_event(id="lost", model="real", ext={names.REPLY_PARTITION: "4"})).result(0)
    router.route(request_event(id="good", model="real", ext={names.REPLY_PARTITION: "3"})).result(0)
    (failed,) = bench.log.records(bench.topics.responses)
    assert parse_terminal(from_record(failed)).request_id == "lost"
    (routed,) = bench.log.records(bench.topics.model("real"))
    assert from_record(routed).get(names.CORRELATION_ID) == "good"
    (letter,) = bench.log.records(bench.topics.dlq)
    assert dict(letter.headers)["ce_deadletterreason"] == b"invalid_event:replypartition"


def test_a_service_without_its_topic_fails_the_request(bench: Any, request_event: Make) -> None:
    bench.log.fail_next(bench.topics.model("real"), AppendFailed("no topic", is_unroutable=True))
    bench.router.route(request_event(model="real")).result(0)
    (found,) = bench.log.records(bench.topics.replies)[-1:]
    assert b'"no_healthy_service"' in found.value
    assert len(bench.log.records(bench.topics.dlq)) == 1


def test_a_broker_that_is_away_is_waited_for(bench: Any, request_event: Make) -> None:
    bench.log.fail_next(bench.topics.model("real"), AppendFailed("away", is_unknown=True))
    with pytest.raises(AppendFailed):
        bench.router.route(request_event(model="real")).result(0)
    bench.log.fail_next(bench.topics.replies, AppendFailed("away", is_unknown=True))
    with pytest.raises(AppendFailed):
        bench.router.route(request_event(model="nobody")).result(0)
    assert bench.log.records(bench.topics.dlq) == ()


def test_a_caller_that_cannot_hear_of_its_progress_is_routed_all_the_same(
    bench: Any, request_event: Make
) -> None:
    bench.log.fail_next(bench.topics.replies, AppendFailed("no rights", is_unknown=True))
    bench.router.route(request_event(model="real")).result(0)
    assert len(bench.log.records(bench.topics.model("real"))) == 1


def test_who_is_given_up_is_not_waited_for_at_its_address(bench: Any, request_event: Make) -> None:
    record = to_record(request_event(id="lost"), topic=bench.topics.requests, key="k")
    bench.log.fail_next(bench.topics.replies, AppendFailed("no rights", is_unknown=True))
    LogBinding(bench.router).abandon(record).result(0)
    (told,) = bench.log.records(bench.topics.responses)
    assert parse_terminal(from_record(told)).request_id == read_request_id(from_record(record))
    reasons = {
        dict(letter.headers)["ce_deadletterreason"]
        for letter in bench.log.records(bench.topics.dlq)
    }
    assert reasons == {b"given_up", b"undeliverable"}


class Raising:
    """An appender that raises for one topic, where the port says that it never does."""

    def __init__(self, inner: Any, topic: str) -> None:
        self._inner, self._topic = inner, topic

    def append(self, record: Record) -> "Future[PartitionId]":
        if record.topic == self._topic:
            raise TypeError("odd bytes")
        found: Future[PartitionId] = self._inner.append(record)
        return found


@pytest.mark.parametrize("part", ["deciding", "counting", "publishing"])
def test_a_fault_anywhere_in_routing_ends_that_event_alone(
    bench: Any, request_event: Make, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    if part == "deciding":
        bench.registry = None
    elif part == "counting":
        monkeypatch.setattr(bench.metrics.decisions, "labels", lambda *_: 1 / 0)
    else:
        raising = Raising(bench.log.appender(client="r"), bench.topics.model("real"))
        monkeypatch.setattr(bench.router._publisher, "_appender", raising)
    bench.router.route(request_event(model="real")).result(0)
    (found,) = bench.log.records(bench.topics.replies)
    assert b'"internal"' in found.value
    (letter,) = bench.log.records(bench.topics.dlq)
    assert dict(letter.headers)["ce_deadletterreason"].startswith(b"internal:")


@pytest.mark.parametrize("source", ["/ingress/0", "/shop"])
@pytest.mark.parametrize("way", ["rejected", "given up", "a fault"])
def test_the_end_is_of_the_request_that_its_door_knows(
    bench: Any, request_event: Make, monkeypatch: pytest.MonkeyPatch, source: str, way: str
) -> None:
    event = request_event(id="one", source=source)
    record = to_record(event, topic=bench.topics.requests, key="k")
    binding = LogBinding(bench.router)
    if way == "rejected":
        record = replace(record, headers=(*record.headers, ("ce_note", b"\xff")))
        binding.begin(record).result(0)
    elif way == "given up":
        binding.abandon(record).result(0)
    else:
        monkeypatch.setattr(bench.router, "decide", lambda _event: 1 / 0)
        binding.begin(record).result(0)
    (told,) = bench.log.records(bench.topics.responses)
    terminal = parse_terminal(from_record(told))
    assert (terminal.request_id, terminal.correlation_id) == (read_request_id(event), "one")
