"""Which job runs next: lanes, tenants, retries, and crash suspects. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.event import Event, PartitionId, Record
from events.names import Operation
from events.payloads import DecisionInfo
from events.requests import RoutedRequest
from functions.worker.fair_queue import FairQueue
from functions.worker.job import Job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = Event(id="e", source="/router", type="x")


def job(offset: int, tenant: str = "a", **more: Any) -> Job:
    request = RoutedRequest(
        event=EVENT,
        request_id=f"r{offset}",
        operation=Operation.CHAT,
        body={},
        asked_model="auto",
        stream=False,
        deadline=NOW + timedelta(seconds=10),
        accepted_at=NOW,
        routed_at=NOW,
        tenant=tenant,
        service="small",
        model="small",
        decision=DecisionInfo(route_class="", score=0.0, reason="", catalogue=""),
    )
    record = Record(topic="t", value=b"", partition=0, offset=offset)
    return Job(**({"record": record, "is_batch": False, "request": request} | more))


def offsets_of(schedule: FairQueue, count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        chosen = schedule.next(0.0)
        if chosen is not None:
            found.append(chosen.offset)
            schedule.ended(chosen)
    return found


def test_tenants_take_turns_however_many_records_one_has() -> None:
    schedule = FairQueue(concurrency=1, max_attempts=3)
    for offset in range(10):
        schedule.add(job(offset, "loud"))
    schedule.add(job(10, "quiet"))
    schedule.add(job(11, "quiet"))
    assert offsets_of(schedule, 4) == [0, 10, 1, 11]


def test_what_waits_is_counted_in_bytes_with_bodies_that_came_by_reference() -> None:
    schedule = FairQueue(concurrency=1, max_attempts=3)
    record = Record(topic="t", value=b"x" * 1000, partition=0, offset=0)
    schedule.add(job(0, record=record))
    one = schedule.queued_bytes
    assert 1000 <= one < 1200
    schedule.add(job(1, is_batch=True, body_bytes=5000))
    assert schedule.queued_bytes >= one + 5000
    while (chosen := schedule.next(0.0)) is not None:
        schedule.ended(chosen)
    assert schedule.queued_bytes == 0


def test_what_comes_back_counts_again_and_what_is_taken_out_does_not() -> None:
    schedule = FairQueue(concurrency=2, max_attempts=3)
    for offset in range(3):
        schedule.add(job(offset, body_bytes=100))
    first = schedule.next(0.0)
    assert first is not None
    assert schedule.queued_bytes == 200
    schedule.put_back(first)
    assert schedule.queued_bytes == 300
    assert schedule.sweep(NOW, lambda request_id: request_id == "r2")
    assert schedule.queued_bytes == 200
    schedule.drop(frozenset({PartitionId("t", 0)}))
    assert (schedule.queued, schedule.queued_bytes) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 5))
def test_every_job_is_started_once_and_never_more_than_fit(
    arrivals: list[tuple[str, bool]], concurrency: int
) -> None:
    schedule = FairQueue(concurrency=concurrency, max_attempts=3)
    for offset, (tenant, is_batch) in enumerate(arrivals):
        schedule.add(job(offset, tenant, is_batch=is_batch))
    running: list[Job] = []
    started: list[int] = []
    while schedule.queued or running:
        while (found := schedule.next(0.0)) is not None:
            running.append(found)
            started.append(found.offset)
        assert 0 < len(running) <= concurrency
        assert schedule.running == len(running)
        schedule.ended(running.pop(0))
    assert sorted(started) == list(range(len(arrivals)))


def test_batch_leaves_a_place_for_interactive() -> None:
    schedule = FairQueue(concurrency=2, max_attempts=3)
    for offset in range(3):
        schedule.add(job(offset, is_batch=True))
    first = schedule.next(0.0)
    assert first is not None
    assert schedule.next(0.0) is None
    schedule.add(job(9))
    found = schedule.next(0.0)
    assert found is not None
    assert found.offset == 9


def test_a_retry_waits_for_its_time_and_goes_first() -> None:
    schedule = FairQueue(concurrency=1, max_attempts=3)
    first = job(0)
    schedule.add(first)
    assert schedule.next(0.0) is first
    schedule.add(job(1))
    first.not_before_s = 5.0
    schedule.put_back(first)
    assert schedule.due_s(2.0) == 3.0
    other = schedule.next(2.0)
    assert other is not None
    assert other.offset == 1
    schedule.ended(other)
    schedule.add(job(2))
    assert schedule.next(5.0) is first


def test_a_crash_suspect_runs_alone() -> None:
    schedule = FairQueue(concurrency=3, max_attempts=3)
    neighbour = job(0)
    schedule.add(neighbour)
    assert schedule.next(0.0) is neighbour
    suspect = job(1, prior=2)
    schedule.add(suspect)
    schedule.add(job(2))
    assert schedule.next(0.0) is None
    schedule.ended(neighbour)
    assert schedule.next(0.0) is suspect
    assert schedule.next(0.0) is None
    schedule.ended(suspect)
    last = schedule.next(0.0)
    assert last is not None
    assert last.offset == 2


def test_what_is_over_is_swept_out_wherever_it_waits() -> None:
    schedule = FairQueue(concurrency=1, max_attempts=3)
    for offset in range(3):
        schedule.add(job(offset))
    delayed = schedule.next(0.0)
    assert delayed is not None
    delayed.not_before_s = 9.0
    schedule.put_back(delayed)
    assert {j.offset for j in schedule.sweep(NOW, lambda rid: rid in {"r0", "r2"})} == {0, 2}
    assert schedule.queued == 1
    assert [j.offset for j in schedule.sweep(NOW + timedelta(seconds=10), lambda _: False)] == [1]


def test_jobs_of_a_lost_partition_are_forgotten() -> None:
    schedule = FairQueue(concurrency=1, max_attempts=3)
    schedule.add(job(0))
    schedule.drop(frozenset({PartitionId("t", 0)}))
    assert schedule.queued == 0
