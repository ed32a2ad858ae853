"""The consumer loop: nothing is skipped, failures come round again, commits never pass unfinished work."""

from concurrent.futures import Future
from typing import Any

import pytest

from events.event import PartitionId, Record
from functions.router import consumer_loop
from functions.router.consumer_loop import PROBE_S, ConsumerLoop, LoopLimits
from functions.router.give_up import GiveUpRule
from functions.router.retry_policy import BACKOFF
from functions.runtime.shutdown import StopFlag
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog

TOPIC, GROUP = "in", "g"


@pytest.fixture(autouse=True)
def _no_real_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by the clock of the test alone."""
    monkeypatch.setattr(consumer_loop, "BUSY_POLL_S", 0.0)
    monkeypatch.setattr(consumer_loop, "IDLE_POLL_S", 0.0)


class Work:
    """Futures that the test resolves by hand."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.futures: dict[int, Future[None]] = {}
        self.given_up: list[int] = []
        self.can_give_up = True

    def begin(self, record: Record) -> "Future[None]":
        future: Future[None] = Future()
        self.begun.append(record.offset)
        self.futures[record.offset] = future
        return future

    def give_up(self, record: Record) -> "Future[None]":
        self.given_up.append(record.offset)
        future: Future[None] = Future()
        if self.can_give_up:
            future.set_result(None)
        else:
            future.set_exception(RuntimeError("down"))
        return future


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(partitions=1)
    for number in range(6):
        log.store(Record(topic=TOPIC, value=str(number).encode()))
    return log


def pump_of(
    log: MemoryLog, work: Any, clock: FakeClock, in_flight: int = 3
) -> tuple[ConsumerLoop, StopFlag]:
    stop = StopFlag()
    consumer = log.group(group=GROUP, topics=(TOPIC,), client="c")
    limits = LoopLimits(in_flight=in_flight, give_up=GiveUpRule(tries=3, bound_s=10.0))
    pump = ConsumerLoop(
        consumer, work.begin, give_up=work.give_up, clock=clock, stop=stop, limits=limits
    )
    return pump, stop


def committed(log: MemoryLog) -> int:
    found = log.groups[GROUP].commits.get(PartitionId(TOPIC, 0))
    return 0 if found is None else found.offset


def turn(pump: ConsumerLoop, clock: FakeClock, times: int = 3) -> None:
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
    delays = [BACKOFF.delay_s(attempt) for attempt in range(1, 50)]
    assert delays == sorted(delays)
    assert delays[0] == 0.1
    assert delays[-1] == BACKOFF.most_s


class Judged:
    """Work that ends at once: records in `bad` fail, the others get through unless the world is away."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.is_away = False
        self.can_give_up = True
        self.begun: list[int] = []
        self.given_up: list[int] = []

    def begin(self, record: Record) -> "Future[None]":
        self.begun.append(record.offset)
        return self._ended(is_bad=self.is_away or record.offset in self.bad)

    def give_up(self, record: Record) -> "Future[None]":
        self.given_up.append(record.offset)
        return self._ended(is_bad=not self.can_give_up)

    def _ended(self, *, is_bad: bool) -> "Future[None]":
        future: Future[None] = Future()
        if is_bad:
            future.set_exception(RuntimeError("bad"))
        else:
            future.set_result(None)
        return future


def feed(log: MemoryLog, pump: ConsumerLoop, clock: FakeClock, seconds: float) -> None:
    """One new record a second."""
    for _ in range(int(seconds)):
        log.store(Record(topic=TOPIC, value=b"new"))
        turn(pump, clock, 4)


def test_a_record_that_fails_while_others_get_through_is_given_up(log: MemoryLog) -> None:
    work, clock = Judged(bad={0, 2}), FakeClock()
    pump, _ = pump_of(log, work, clock)
    feed(log, pump, clock, 9)
    assert work.given_up == []
    assert committed(log) == 0
    feed(log, pump, clock, 20)
    assert sorted(work.given_up) == [0, 2]
    assert committed(log) == len(log.records(TOPIC))


def test_while_nothing_gets_through_everything_waits(log: MemoryLog) -> None:
    work, clock = Judged(bad=set()), FakeClock()
    pump, _ = pump_of(log, work, clock)
    work.is_away = True
    feed(log, pump, clock, 200)
    assert work.given_up == []
    assert committed(log) == 0
    work.is_away = False
    turn(pump, clock, 200)
    assert work.given_up == []
    assert committed(log) == len(log.records(TOPIC))


def test_a_bad_record_alone_waits_for_others_to_tell(log: MemoryLog) -> None:
    for number in range(6):
        assert log.records(TOPIC)[number].offset == number
    work, clock = Judged(bad=set(range(6))), FakeClock()
    pump, _ = pump_of(log, work, clock, in_flight=20)
    turn(pump, clock, 800)
    assert work.given_up == []
    feed(log, pump, clock, 60)
    assert sorted(work.given_up) == list(range(6))
    assert committed(log) == len(log.records(TOPIC))


def test_as_many_bad_records_as_may_be_begun_keep_nobody_out_for_ever(log: MemoryLog) -> None:
    work, clock = Judged(bad=set(range(6))), FakeClock()
    pump, _ = pump_of(log, work, clock, in_flight=3)
    log.store(Record(topic=TOPIC, value=b"good"))
    for _ in range(40):
        log.store(Record(topic=TOPIC, value=b"good"))
    turn(pump, clock, int(60 * PROBE_S))
    assert sorted(work.given_up) == list(range(6))
    assert committed(log) == len(log.records(TOPIC))


def test_the_end_of_a_record_is_tried_again_while_it_cannot_be_written(log: MemoryLog) -> None:
    work, clock = Judged(bad={0}), FakeClock()
    work.can_give_up = False
    pump, _ = pump_of(log, work, clock)
    feed(log, pump, clock, 30)
    assert set(work.given_up) == {0}
    assert committed(log) == 0
    work.can_give_up = True
    feed(log, pump, clock, 8)
    assert committed(log) == len(log.records(TOPIC))


def test_work_that_raises_at_once_is_a_failure_like_any_other(log: MemoryLog) -> None:
    class Raising(Judged):
        def begin(self, record: Record) -> "Future[None]":
            if record.offset in self.bad:
                raise ValueError("odd")
            return super().begin(record)

    work, clock = Raising(bad={0}), FakeClock()
    pump, _ = pump_of(log, work, clock)
    feed(log, pump, clock, 30)
    assert work.given_up == [0]
    assert committed(log) == len(log.records(TOPIC))
