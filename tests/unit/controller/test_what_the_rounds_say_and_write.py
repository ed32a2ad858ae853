from concurrent.futures import Future
from datetime import UTC, datetime

import pytest

from events import builders
from events.codecs import kafka_codec
from events.event import PartitionId
from events.names import Topics
from functions.autoscaling.weekly_pattern import HOURS_A_WEEK, HabitThresholds, count_hours
from functions.controller.knative_class.revision_announcer import AGAIN_S, RevisionAnnouncer
from functions.controller.maintenance.offset_keeper import ABSENT_S, RETRY_S, OffsetKeeper
from functions.controller.maintenance.prewarmer import ArrivalHistory, choose_warm, plan_annotations
from functions.ports.kafka import Offsets
from functions.ports.kubernetes import POD_AUTOSCALERS
from functions.runtime.errors import AppendFailed
from functions.runtime.missing_offsets import find_missing_offsets, list_work_groups
from functions.runtime.telemetry import ControllerMetrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog
from router_model.catalogue.model import Catalogue, Model, Service, WarmHours

TOPICS = Topics()
TERMS = HabitThresholds(weeks=4, share=0.75, requests=3)
NOW = datetime(2026, 11, 20, 9, 50, tzinfo=UTC)


def autoscalers(knative):
    return [each for key, each in knative.api.everything().items() if key[0] == POD_AUTOSCALERS]


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def announcer(log, bench):
    return RevisionAnnouncer(lambda: log.appender(client="c"), TOPICS, bench.clock)


def said(log):
    events = [kafka_codec.from_record(each) for each in log.records(TOPICS.control)]
    return [(found.service, found.revision) for found in map(builders.parse_revision, events)]


def test_the_holder_is_told_at_every_change_and_again_now_and_then(log, announcer, bench, knative):
    first = knative.revision(1)
    bench.start(first)
    assert announcer.tick(autoscalers(knative)) == 0
    knative.route(first)
    assert announcer.tick(autoscalers(knative)) == 1
    for _ in range(20):
        bench.clock.advance(1)
        assert announcer.tick(autoscalers(knative)) == 0
    bench.clock.advance(AGAIN_S)
    assert announcer.tick(autoscalers(knative)) == 1
    assert said(log) == [("tiny", first)] * 2


def test_a_new_leader_tells_everything_again(log, announcer, bench, knative):
    name = knative.revision(1)
    bench.start(name)
    knative.route(name)
    announcer.tick(autoscalers(knative))
    announcer.tick(autoscalers(knative))
    announcer.forget()
    assert announcer.tick(autoscalers(knative)) == 1


def test_a_record_that_was_not_written_is_told_again(log, announcer, bench, knative):
    name = knative.revision(1)
    bench.start(name)
    knative.route(name)
    log.fail_next(TOPICS.control, AppendFailed("no leader"))
    announcer.tick(autoscalers(knative))
    assert said(log) == []
    bench.clock.advance(1)
    announcer.tick(autoscalers(knative))
    bench.clock.advance(5)
    announcer.tick(autoscalers(knative))
    assert said(log) == [("tiny", name)]


def test_a_broker_that_is_away_or_slow_holds_nobody_up(bench, knative):
    name = knative.revision(1)
    bench.start(name)
    knative.route(name)
    tries = []

    class Slow:
        def append(self, record):
            return Future()

    def open_appender():
        tries.append(bench.clock.monotonic_s())
        if len(tries) < 3:
            raise OSError
        return Slow()

    announcer = RevisionAnnouncer(open_appender, TOPICS, bench.clock)
    for _ in range(60):
        announcer.tick(autoscalers(knative))
        bench.clock.advance(0.2)
    assert len(tries) == 3


def test_missing_offsets_are_those_that_nobody_committed():
    offsets = {
        PartitionId("t", 0): Offsets(end=9, committed=None, start=4),
        PartitionId("t", 1): Offsets(end=9, committed=0),
    }
    assert find_missing_offsets(offsets) == {PartitionId("t", 0): 4}


class Reader:
    def __init__(self, found):
        self.found = found

    def lags(self, groups):
        if isinstance(self.found, Exception):
            raise self.found
        return dict.fromkeys(groups, self.found)

    def close(self):
        pass


class Committer:
    def __init__(self):
        self.groups = []

    def commit(self, group, offsets):
        self.groups.append(group)
        return group != "busy"


def test_offsets_are_looked_at_at_start_daily_and_soon_after_a_failure():
    clock, committer = FakeClock(), Committer()
    reader = Reader({PartitionId("t", 0): Offsets(end=9, committed=None)})
    groups = {"idle": ("t",), "busy": ("t",)}
    keeper = OffsetKeeper(lambda: reader, committer, groups, clock, 86400, ControllerMetrics())
    assert keeper.tick() == 1
    assert keeper.tick() == 0
    clock.advance(86400)
    reader.found = OSError()
    assert keeper.tick() == 0
    reader.found = {}
    clock.advance(RETRY_S)
    keeper.tick()
    assert committer.groups == ["idle", "busy"]
    clock.advance(ABSENT_S)  # a topic that was not there yet
    reader.found = {PartitionId("t", 0): Offsets(end=9, committed=3)}
    assert keeper.tick() == 0


def catalogue(**service):
    return Catalogue(models=(Model(id="m"),), services=(Service(model="m", slug="m", **service),))


def test_every_group_that_may_sleep_is_kept():
    assert list_work_groups(catalogue(), TOPICS) == {
        "infer-router": ("infer.requests",),
        "infer-model-m": TOPICS.of_service("m"),
    }
    assert set(list_work_groups(catalogue(enabled=False), TOPICS)) == {"infer-router"}


def history(hour, *counts):
    found = {hour - HOURS_A_WEEK * back: n for back, n in enumerate(counts, start=1)}
    return ArrivalHistory(arrivals={"m": found}, first_hour=hour - 10 * HOURS_A_WEEK)


def test_services_are_held_warm_by_the_clock_and_by_habit():
    office = WarmHours(start="0 9 * * *", end="0 17 * * *")
    busy = history(count_hours(NOW), 5, 5, 5, 5)
    assert choose_warm(catalogue(warm_hours=(office,)), NOW, None, TERMS) == {"m": "schedule"}
    assert choose_warm(catalogue(warm_by_habit=True), NOW, busy, TERMS) == {"m": "habit"}
    assert choose_warm(catalogue(), NOW, busy, TERMS) == {}
    assert choose_warm(catalogue(warm_by_habit=True), NOW, None, TERMS) == {}
    assert choose_warm(catalogue(warm_hours=(office,), enabled=False), NOW, None, TERMS) == {}


def test_a_service_is_held_warm_before_its_hour_for_as_long_as_it_takes_to_load():
    soon = history(count_hours(NOW) + 1, 5, 5, 5, 5)
    quick, slow = ({"cold_start_s": s, "start_timeout_s": 900.0} for s in (5.0, 600.0))
    assert choose_warm(catalogue(warm_by_habit=True, **quick), NOW, soon, TERMS) == {}
    assert choose_warm(catalogue(warm_by_habit=True, **slow), NOW, soon, TERMS) == {"m": "habit"}


def scaled(**notes):
    names = {"paused": "autoscaling.keda.sh/paused-replicas",
             "forced": "autoscaling.keda.sh/force-activation"}  # fmt: skip
    found = {names[key]: text for key, text in notes.items()}
    return "m", {"metadata": {"name": "s", "namespace": "n", "annotations": found}}


@pytest.mark.parametrize(
    ("notes", "warm", "expected"),
    [
        ({}, {"m": "habit"}, "true"),
        ({"forced": "true"}, {}, None),
        ({"forced": "true", "paused": "0"}, {"m": "habit"}, None),
    ],
)
def test_keda_is_told_by_an_annotation(notes, warm, expected):
    (write,) = plan_annotations([scaled(**notes)], warm)
    assert write.body["metadata"]["annotations"] == {
        "autoscaling.keda.sh/force-activation": expected
    }


@pytest.mark.parametrize(
    ("notes", "warm"),
    [({}, {}), ({"forced": "true"}, {"m": "schedule"}), ({"paused": "0"}, {"m": "habit"})],
)
def test_what_is_as_it_should_be_is_not_written(notes, warm):
    assert list(plan_annotations([scaled(**notes)], warm)) == []
