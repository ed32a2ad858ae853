"""The consumer loop: nothing is skipped, failures come round again, commits never pass unfinished work."""

from concurrent.futures import Future
from typing import Any

import pytest

from events.record import PartitionId, Record
from functions.adapters.clock import FakeClock
from functions.adapters.memory import MemoryLog
from functions.lifecycle import StopFlag
from functions.router.pumping import Pump
from functions.router.retrying import LONGEST_DELAY_S, delay_s

TOPIC, GROUP = "in", "g"


class Work:
    """Futures that the test resolves by hand."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.futures: dict[int, Future[None]] = {}

    def begin(self, record: Record) -> "Future[None]":
        future: Future[None] = Future()
        self.begun.append(record.offset)
        self.futures[record.offset] = future
        return future


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(partitions=1)
    for number in range(6):
        log.store(Record(topic=TOPIC, value=str(number).encode()))
    return log


def pump_of(
    log: MemoryLog, work: Any, clock: FakeClock, in_flight: int = 3
) -> tuple[Pump, StopFlag]:
    stop = StopFlag()
    consumer = log.group(group=GROUP, topics=(TOPIC,), client="c")
    return Pump(consumer, work.begin, clock=clock, stop=stop, in_flight=in_flight), stop


def committed(log: MemoryLog) -> int:
    found = log.groups[GROUP].commits.get(PartitionId(TOPIC, 0))
    return 0 if found is None else found.offset


def turn(pump: Pump, clock: FakeClock, times: int = 3) -> None:
    for _ in range(times):
        clock.advance(0.25)
        pump.step()


def test_no_more_than_the_limit_is_begun(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, _ = pump_of(log, work, clock)
    turn(pump, clock)
    assert work.begun == [0, 1, 2]
    work.futures[1].set_result(None)
    turn(pump, clock)
    assert work.begun == [0, 1, 2, 3]


def test_commits_stop_at_the_first_unfinished_record(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, _ = pump_of(log, work, clock)
    turn(pump, clock)
    work.futures[1].set_result(None)
    work.futures[2].set_result(None)
    turn(pump, clock)
    assert committed(log) == 0
    work.futures[0].set_result(None)
    turn(pump, clock)
    assert committed(log) == 3


def test_a_failed_record_comes_round_until_it_is_done(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, _ = pump_of(log, work, clock)
    turn(pump, clock)
    for _ in range(12):
        work.futures.pop(0).set_exception(RuntimeError("down"))
        for _ in range(40):
            clock.advance(0.25)
            if 0 in work.futures:
                break
            pump._settle(block=False)
            pump._retry_due()
        assert 0 in work.futures
    work.futures[0].set_result(None)
    turn(pump, clock)
    assert committed(log) == 1


def test_a_waiting_retry_does_not_stop_the_others(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, _ = pump_of(log, work, clock, in_flight=2)
    pump.step()
    work.futures[0].set_exception(RuntimeError("down"))
    work.futures[1].set_result(None)
    pump.step()
    pump.step()
    assert work.begun == [0, 1, 2]


def test_a_restarted_member_begins_where_commits_ended(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, stop = pump_of(log, work, clock)
    turn(pump, clock)
    work.futures[0].set_result(None)
    work.futures[2].set_result(None)
    for offset in (1,):
        work.futures[offset].set_exception(RuntimeError("down"))
    turn(pump, clock, 1)
    stop.set()
    for offset in set(work.futures) - {0, 1, 2}:
        work.futures[offset].set_result(None)
    work.futures[1] = Future()
    assert committed(log) == 1
    again = Work()
    second, _ = pump_of(log, again, clock, in_flight=9)
    pump._consumer.close()
    turn(second, clock)
    assert again.begun[0] == 1
    assert 2 not in again.begun


def test_stopping_waits_for_what_is_in_flight(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, stop = pump_of(log, work, clock, in_flight=9)
    turn(pump, clock)
    stop.set()
    for future in work.futures.values():
        future.set_result(None)
    pump.run()
    assert committed(log) == 6


def test_a_lost_partition_is_forgotten(log: MemoryLog) -> None:
    work, clock = Work(), FakeClock()
    pump, _ = pump_of(log, work, clock)
    turn(pump, clock)
    log.groups[GROUP].owners.clear()
    turn(pump, clock)
    for future in work.futures.values():
        future.set_exception(RuntimeError("down"))
    begun = list(work.begun)
    turn(pump, clock)
    assert work.begun == begun
    assert committed(log) == 0


def test_delays_grow_and_are_bounded() -> None:
    delays = [delay_s(attempt) for attempt in range(1, 50)]
    assert delays == sorted(delays)
    assert delays[0] == 0.1
    assert delays[-1] == LONGEST_DELAY_S
