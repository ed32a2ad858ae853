"""Batches of many tenants share one runner: nobody's batches keep another's from running."""

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.ports.store import BatchRow
from functions.recorder.batch_runner import LEAST_IN_FLIGHT, WAITS_S, concurrency_of
from functions.recorder.batch_turns import choose_turns
from functions.runtime.errors import BlobMissing
from tests.unit.recorder.conftest import START
from tests.unit.recorder.test_batches_run_to_their_files import Desk, line


def row(name, tenant="one"):
    return BatchRow(
        id=name,
        tenant=tenant,
        endpoint="/v1/chat/completions",
        input_file_id="f",
        completion_window="24h",
        status="in_progress",
        created_at=START,
        deadline=START + timedelta(hours=24),
    )


def picked(batches, *, waiting=(), per_tenant=2, most=64, last=None):
    chosen = choose_turns(
        batches, waiting=waiting, per_tenant=per_tenant, most=most, last=last or {}
    )
    return [batch.id for batch in chosen]


@pytest.fixture
def desk(stage):
    return Desk(stage)


def test_every_tenant_has_its_share_whoever_came_first():
    batches = [*(row(f"a{n}", "a") for n in range(9)), row("b0", "b"), row("c0", "c")]
    assert sorted(picked(batches)) == ["a0", "a1", "b0", "c0"]


def test_who_waits_takes_no_share_and_is_looked_at_all_the_same():
    batches = [row(f"a{n}") for n in range(6)]
    assert sorted(picked(batches, waiting={"a0", "a1", "a2"})) == ["a0", "a1", "a2", "a3", "a4"]


def test_of_more_than_one_round_takes_all_get_their_turn():
    batches = [*(row(f"a{n}", "a") for n in range(40)), row("b0", "b")]
    last, seen = {}, set()
    for number in range(20):
        chosen = picked(batches, per_tenant=40, most=4, last=last)
        assert "b0" in chosen
        seen |= set(chosen)
        last |= dict.fromkeys(chosen, number)
    assert seen == {batch.id for batch in batches}


def test_batches_for_a_model_that_sleeps_keep_no_other_waiting(desk):
    for number in range(1, 7):
        desk.submit(line(number), number=number, tenant="sleeper")
    desk.tick()
    desk.stage.clock.advance(WAITS_S)
    desk.submit(line(7), number=7, tenant="other")
    desk.submit(line(8), number=8, tenant="sleeper")
    for _ in range(4):
        desk.tick()
        desk.stage.clock.advance(WAITS_S)
        desk.answer(number=7)
        desk.answer(number=8)
    assert desk.batch(7).status == "completed"
    assert desk.batch(8).status == "completed"
    assert {desk.batch(number).submitted for number in range(1, 7)} == {1}


def test_a_batch_that_waited_goes_on_when_its_model_is_there(desk):
    desk.submit(*(line(number) for number in range(8)))
    desk.tick()
    desk.stage.clock.advance(WAITS_S * 3)
    desk.tick()
    desk.run_to_end()
    assert (desk.batch().status, desk.batch().completed) == ("completed", 8)


def test_lines_of_a_tenant_on_the_log_are_bounded_and_each_batch_has_some(desk):
    desk.runner = desk.new_runner(in_flight=30, tenant_lines=40)
    for number in (1, 2, 3):
        desk.submit(*(line(n) for n in range(50)), number=number)
    for _ in range(5):
        desk.tick()
    assert [desk.batch(n).submitted for n in (1, 2, 3)] == [30, LEAST_IN_FLIGHT, LEAST_IN_FLIGHT]
    desk.answer()
    for _ in range(3):
        desk.tick()
    assert desk.batch(1).submitted == 50


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, 100), ({"pickspin_concurrency": "8"}, 8), ({"pickspin_concurrency": "5000"}, 100),
     ({"pickspin_concurrency": "0"}, 1), ({"pickspin_concurrency": "many"}, 100)],
)  # fmt: skip
def test_a_batch_has_as_many_lines_on_the_log_as_its_metadata_asks_for(asked, expected):
    assert concurrency_of(replace(row("b"), metadata=asked), 100) == expected


def test_a_batch_keeps_to_its_concurrency(desk):
    desk.submit(*(line(n) for n in range(20)), metadata={"pickspin_concurrency": "3"})
    for _ in range(5):
        desk.tick()
    assert desk.batch(1).submitted == 3
    desk.answer()
    desk.tick()
    assert desk.batch(1).submitted == 6


def test_an_input_file_that_cannot_be_read_loses_no_answer(desk, monkeypatch):
    desk.submit(*(line(number) for number in range(6)))
    desk.tick()
    desk.answer()
    real = desk.stage.blobs.get

    def gone(ref, *, limit_bytes):
        raise BlobMissing("not there now")

    monkeypatch.setattr(desk.stage.blobs, "get", gone)
    desk.runner = desk.new_runner()
    for _ in range(10):
        desk.tick()
    assert desk.batch().status == "in_progress"
    monkeypatch.setattr(desk.stage.blobs, "get", real)
    desk.run_to_end()
    assert (desk.batch().status, desk.batch().completed) == ("completed", 6)


def test_a_file_is_kept_while_a_batch_reads_it(desk):
    desk.submit(line(1))
    assert not desk.store.delete_file("f1")
    desk.tick()
    assert not desk.store.delete_file("f1")
    desk.runner = desk.new_runner()
    desk.run_to_end()
    assert desk.batch().status == "completed"
    assert desk.store.delete_file("f1")


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_a_file_of_a_batch_that_has_ended_is_deleted(desk, status):
    desk.submit(line(1))
    desk.store.update_batch(replace(desk.batch(), status=status))
    assert desk.store.delete_file("f1")
    assert not desk.store.delete_file("f1")
