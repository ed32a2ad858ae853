"""Rounds against a log in memory: what counts as lag, how often what is read, what is told to the status topic."""

from typing import Any

import pytest

from events.event import Record
from events.names import ReplicaState
from functions.ports.kafka import Numbers
from functions.runtime.settings import ScalerSettings, SpinSettings
from functions.scaler.poll_interval import RoundCost, compute_pause_s
from functions.testing.memory_broker import MemoryOffsetReader
from tests.unit.scaler.conftest import (
    TOPICS,
    Watch,
    catalogue_of,
    enqueue,
    finish_all,
    service,
    told_by_scaler,
)


def is_active(decision: Any) -> bool:
    return decision.is_active(holds_idle=True)


def test_a_record_wakes_a_service_whose_group_never_committed(watch: Watch) -> None:
    assert not is_active(watch.round())
    enqueue(watch.log)
    found = watch.round(0.05)

    assert (found.lag, is_active(found), found.desired.replicas) == (1, True, 1)


@pytest.mark.parametrize("topic", TOPICS.of_service("tiny"))
def test_interactive_work_batch_work_and_retries_count_alike(watch: Watch, topic: str) -> None:
    enqueue(watch.log, topic)

    assert watch.round().lag == 1


def test_it_stays_active_while_anything_is_uncommitted_then_for_the_idle_time(watch: Watch) -> None:
    enqueue(watch.log)
    assert is_active(watch.round())
    assert is_active(watch.round(3600.0))
    finish_all(watch.log)
    found = watch.round(1.0)
    assert (found.lag, found.desired.is_needed, is_active(found)) == (0, False, True)
    assert is_active(watch.round(58.0))
    assert not is_active(watch.round(2.0))


def test_a_call_in_flight_keeps_it_active_without_lag(watch: Watch) -> None:
    for _ in range(20):
        watch.report(in_flight=1)
        found = watch.round(10.0)
        assert (found.lag, found.desired.is_needed, is_active(found)) == (0, True, True)


def test_a_warm_pool_keeps_it_active(watch: Watch) -> None:
    watch.catalogue = catalogue_of(service(min_warm=1))

    assert is_active(watch.round())
    assert is_active(watch.round(10_000.0))


def test_the_idle_time_of_the_settings_replaces_the_catalogue_s() -> None:
    watch = Watch(spin=SpinSettings(idle_s=5.0))
    enqueue(watch.log)
    watch.round()
    finish_all(watch.log)
    watch.round(1.0)

    assert not is_active(watch.round(5.5))


def test_a_disabled_service_is_unknown(watch: Watch) -> None:
    watch.catalogue = catalogue_of(service(enabled=False))

    assert watch.round() is None
    assert not watch.decisions.is_known("tiny")


def test_work_that_comes_anew_counts_as_another_waking(watch: Watch) -> None:
    watch.round()
    for expected in (1, 2):
        enqueue(watch.log)
        assert watch.round(1.0).wakings == expected
        assert watch.round(1.0).wakings == expected
        finish_all(watch.log)
        assert watch.round(1.0).wakings == expected


class Counted(MemoryOffsetReader):
    """Says how often it was asked what; `hidden` partitions do not answer, `first` is the first offset left."""

    def __init__(self, log: Any) -> None:
        super().__init__(log)
        self.asked: list[tuple[str, int]] = []
        self.is_hidden, self.first = False, 0

    def ends(self, topics: tuple[str, ...]) -> dict[str, Numbers]:
        self.asked.append(("ends", len(topics)))
        found = super().ends(topics)
        return {t: (None, *n[1:]) for t, n in found.items()} if self.is_hidden else found

    def commits(self, groups: Any) -> Any:
        self.asked.append(("commits", len(groups)))
        return super().commits(groups)

    def starts(self, topics: tuple[str, ...]) -> dict[str, Numbers]:
        self.asked.append(("starts", len(topics)))
        return {topic: (self.first,) * len(n) for topic, n in super().starts(topics).items()}

    def taken(self) -> list[tuple[str, int]]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def counted(watch: Watch) -> Counted:
    reader = Counted(watch.log)
    watch.log.offset_reader = lambda client: reader
    return reader


def test_idle_services_cost_one_request_of_ends_a_round_and_commits_now_and_then(
    watch: Watch, counted: Counted
) -> None:
    watch.catalogue = catalogue_of(*(service(f"s{number}") for number in range(50)))
    watch.round()
    assert counted.taken() == [("ends", 100), ("commits", 50)]
    for _ in range(99):
        watch.round(0.1)
    assert counted.taken() == [("ends", 100)] * 99
    watch.round(0.2)
    assert counted.taken() == [("ends", 100), ("commits", 50)]


def test_commits_are_read_again_only_where_there_is_lag(watch: Watch, counted: Counted) -> None:
    watch.catalogue = catalogue_of(*(service(f"s{number}") for number in range(50)), service())
    watch.round()
    counted.taken()
    enqueue(watch.log)
    assert is_active(watch.round(0.1))
    assert counted.taken() == [("ends", 102)], "a new end needs no commit to be seen"
    watch.round(0.5)
    assert counted.taken() == [("ends", 102), ("commits", 1), ("starts", 2)]


def test_what_retention_deleted_before_it_was_read_is_nobody_s_lag(
    watch: Watch, counted: Counted
) -> None:
    enqueue(watch.log, count=5)
    counted.first = 5

    assert watch.round().lag == 0


def test_a_leader_that_does_not_answer_leaves_what_was_known(
    watch: Watch, counted: Counted
) -> None:
    enqueue(watch.log, count=3)
    assert watch.round().lag == 3
    counted.is_hidden = True
    enqueue(watch.log, count=4)
    found = watch.round(0.1)
    assert found.lag >= 3
    assert is_active(found)
    watch.round(7.0)
    assert watch.watcher.age_s() == pytest.approx(7.1)
    counted.is_hidden = False
    assert watch.round(0.1).lag == 7
    assert watch.watcher.age_s() == 0.0


def test_a_log_that_was_made_anew_is_read_anew(watch: Watch) -> None:
    enqueue(watch.log, count=9)
    finish_all(watch.log)
    assert watch.round().lag == 0
    watch.log.partitions.clear()
    watch.log.groups.clear()
    enqueue(watch.log, count=2)

    assert watch.round(0.1).lag == 2


def test_a_reading_that_fails_keeps_the_truth_and_opens_a_new_connection(watch: Watch) -> None:
    class Broken:
        is_closed = False

        def ends(self, topics: Any) -> Any:
            raise ConnectionError("no broker")

        def refresh(self) -> None:
            pass

        def close(self) -> None:
            Broken.is_closed = True

    enqueue(watch.log)
    watch.round()
    watch.watcher._reader = Broken()
    with pytest.raises(ConnectionError):
        watch.round(600.0)
    assert Broken.is_closed
    assert is_active(watch.decisions.get("tiny"))
    assert watch.round(0.1).lag == 1


def test_a_coordinator_that_is_away_delays_no_waking(watch: Watch, counted: Counted) -> None:
    def away(groups: Any) -> Any:
        raise ConnectionError("no coordinator")

    watch.round()
    counted.commits = away
    enqueue(watch.log)
    with pytest.raises(ConnectionError):
        watch.round(10.0)

    assert is_active(watch.decisions.get("tiny"))


def test_nothing_is_said_of_a_service_whose_commits_were_never_read(
    watch: Watch, counted: Counted
) -> None:
    def away(groups: Any) -> Any:
        raise ConnectionError("no coordinator")

    counted.commits = away
    with pytest.raises(ConnectionError):
        watch.round()

    assert watch.decisions.get("tiny") is None


def test_a_catalogue_that_changes_keeps_the_memory_of_services_that_stay(watch: Watch) -> None:
    enqueue(watch.log)
    watch.round()
    finish_all(watch.log)
    watch.catalogue = catalogue_of(service(max_replicas=1), service("new"))
    found = watch.round(1.0)

    assert is_active(found), "the idle time goes on"
    assert watch.decisions.get("new").lag == 0


def test_a_warm_pool_that_the_new_catalogue_asks_for_is_there_in_the_next_round(
    watch: Watch,
) -> None:
    assert not is_active(watch.round())
    watch.catalogue = catalogue_of(service(min_warm=1))

    assert is_active(watch.round(0.05))


def test_a_replica_that_reports_at_a_service_at_rest_is_seen_in_the_next_round(
    watch: Watch,
) -> None:
    watch.round()
    watch.report(in_flight=1)

    assert is_active(watch.round(0.05))


def test_a_service_that_is_gone_leaves_no_metric(watch: Watch) -> None:
    watch.round()
    assert ("tiny",) in watch.metrics.lag._metrics
    watch.catalogue = catalogue_of(service("other"))
    watch.round()

    assert ("tiny",) not in watch.metrics.lag._metrics


def test_the_status_says_cold_then_starting_with_eta_then_ready(watch: Watch) -> None:
    watch.round()
    enqueue(watch.log)
    watch.round(0.1)
    watch.round(3.0)
    watch.report()
    watch.round(1.0)
    finish_all(watch.log)
    watch.round(61.0)

    told = told_by_scaler(watch.log)
    assert [(s.state, s.eta_s, s.lag, s.desired, s.replicas) for s in told] == [
        (ReplicaState.COLD, 4.0, 0, 0, 0),
        (ReplicaState.STARTING, 4.0, 1, 1, 0),
        (ReplicaState.STARTING, pytest.approx(1.0), 1, 1, 0),
        (ReplicaState.READY, 0.0, 1, 1, 1),
        (ReplicaState.COLD, pytest.approx(4.0), 0, 0, 0),
    ]


def test_a_standby_tells_nothing(watch: Watch) -> None:
    watch.is_writer = False
    enqueue(watch.log)

    assert is_active(watch.round())
    assert told_by_scaler(watch.log) == []


def test_records_that_nobody_understands_are_lag_until_they_are_committed(watch: Watch) -> None:
    watch.log.store(Record(topic=TOPICS.model("tiny"), value=b"\xff", key=b"k"))
    assert watch.round().lag == 1
    finish_all(watch.log)

    assert watch.round(1.0).lag == 0


@pytest.mark.parametrize(
    ("took", "is_listened_to", "expected_s"),
    [
        (RoundCost(wall_s=0.01, cpu_s=0.005, has_failed=False), True, 0.04),
        (RoundCost(wall_s=0.01, cpu_s=0.005, has_failed=False), False, 0.99),
        (RoundCost(wall_s=0.04, cpu_s=0.04, has_failed=False), True, 0.12),
        (RoundCost(wall_s=0.9, cpu_s=0.005, has_failed=False), True, 0.0),
        (RoundCost(wall_s=3.0, cpu_s=0.005, has_failed=True), True, 0.3),
    ],
)
def test_rounds_come_often_but_never_take_more_than_their_share(
    took: RoundCost, *, is_listened_to: bool, expected_s: float
) -> None:
    settings = ScalerSettings(poll_s=0.05, quiet_poll_s=1.0, max_share=0.25)

    assert compute_pause_s(took, settings, is_listened_to=is_listened_to) == pytest.approx(
        expected_s
    )
