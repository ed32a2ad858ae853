"""A group that has lag and commits nothing new for long makes no progress, and that is seen from outside."""

import threading
from collections.abc import Callable

import pytest

from events.event import PartitionId, Record
from functions.ports.kafka import Commit, Offsets
from functions.runtime.group_progress import GroupProgress, ProgressWatch, run_watch
from functions.runtime.telemetry import Metrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog

A, B = PartitionId("in", 0), PartitionId("in", 1)
GROUP = "g"


def at(committed: int | None, end: int) -> Offsets:
    return Offsets(end=end, committed=committed)


def test_a_commit_that_does_not_move_while_records_come_is_a_stall_after_its_time() -> None:
    progress = GroupProgress(10.0)
    for now_s, end in ((0.0, 3), (3.0, 5), (6.0, 6), (9.0, 7)):
        progress.look({A: at(3, end)}, now_s)
        assert not progress.stalled
    progress.look({A: at(3, 7)}, 10.0)
    assert progress.stalled == {A}


def test_a_burst_that_nobody_reads_is_a_stall_too() -> None:
    progress = GroupProgress(10.0)
    progress.look({A: at(3, 23)}, 0.0)
    progress.look({A: at(3, 23)}, 10.0)
    assert progress.stalled == {A}


@pytest.mark.parametrize("marks", [1, 8])
def test_the_end_marks_of_transactions_are_no_stall(marks: int) -> None:
    progress = GroupProgress(10.0)
    progress.look({A: at(3, 9)}, 0.0)
    progress.look({A: at(9, 9)}, 5.0)
    for now_s in (10.0, 20.0, 1000.0):
        progress.look({A: at(9, 9 + marks)}, now_s)
        assert not progress.stalled


@pytest.mark.parametrize("later", [at(4, 99), at(99, 99)], ids=["moved a little", "caught up"])
def test_whoever_moves_is_not_stalled(later: Offsets) -> None:
    progress = GroupProgress(10.0)
    progress.look({A: at(3, 99)}, 0.0)
    progress.look({A: later}, 9.0)
    progress.look({A: later}, 12.0)
    assert not progress.stalled


def test_a_group_that_never_committed_may_be_stalled_too() -> None:
    progress = GroupProgress(10.0)
    for now_s in (0.0, 10.0):
        progress.look({A: at(None, 20)}, now_s)
    assert progress.stalled == {A}


def test_time_without_lag_does_not_count() -> None:
    progress = GroupProgress(10.0)
    progress.look({A: at(3, 3)}, 0.0)
    progress.look({A: at(3, 3)}, 100.0)
    progress.look({A: at(3, 99)}, 101.0)
    assert not progress.stalled


def test_a_group_is_stopped_only_where_nothing_that_waits_moves() -> None:
    progress = GroupProgress(10.0)
    progress.look({A: at(3, 99), B: at(1, 99)}, 0.0)
    progress.look({A: at(3, 99), B: at(2, 99)}, 10.0)
    assert progress.stalled == {A}
    assert not progress.is_stopped
    progress.look({A: at(3, 99), B: at(99, 99)}, 11.0)
    assert progress.is_stopped


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never came")


def test_the_watch_tells_and_counts_and_takes_it_back() -> None:
    log, clock, metrics = MemoryLog(partitions=2), FakeClock(), Metrics()
    for _ in range(20):
        log.store(Record(topic="in", value=b"x", partition=0))
    consumer = log.group(group=GROUP, topics=("in",), client="c")
    consumer.poll(0)
    watch = ProgressWatch(
        lambda: log.lag_reader(client="t"),
        {GROUP: ("in",)},
        stalled_s=0.02,
        clock=clock,
        metrics=metrics,
    )
    gauge = metrics.stalled.labels(GROUP)
    with run_watch(watch):
        eventually(lambda: bool(watch._progress[GROUP].lagging))
        assert watch.is_moving(GROUP)
        clock.advance(1.0)
        eventually(lambda: not watch.is_moving(GROUP))
        eventually(lambda: gauge._value.get() == 1)
        assert watch.is_stopped(GROUP)
        consumer.commit({A: Commit(20)})
        eventually(lambda: watch.is_moving(GROUP))
        eventually(lambda: gauge._value.get() == 0)
    consumer.close()


def test_a_broker_that_is_away_changes_no_verdict() -> None:
    opened: list[int] = []

    def away() -> object:
        opened.append(1)
        raise ConnectionError

    watch = ProgressWatch(
        away,  # type: ignore[arg-type]
        {GROUP: ("in",)},
        stalled_s=0.02,
        clock=FakeClock(),
        metrics=Metrics(),
    )
    with run_watch(watch):
        eventually(lambda: len(opened) > 2)
        assert watch.is_moving(GROUP)
