from dataclasses import replace

from events.names import State
from functions.ports.paging import PageQuery
from functions.ports.store import BatchRow, FileRow


def batch(clock, **fields):
    values = {
        "id": "b1",
        "tenant": "one",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "f1",
        "completion_window": "24h",
        "status": "validating",
        "created_at": clock.now(),
        "deadline": clock.now(),
        "metadata": {"a": "b"},
    }
    return BatchRow(**{**values, **fields})


def test_a_file_is_kept_listed_and_deleted(store, clock):
    row = FileRow(
        id="f1",
        tenant="one",
        filename="in.jsonl",
        purpose="batch",
        bytes=3,
        created_at=clock.now(),
        ref="blob:x",
    )
    store.add_file(row)
    store.add_file(row)
    assert store.file("f1") == row
    assert store.files("one", PageQuery()).rows == [row]
    assert store.files("two", PageQuery()).rows == []
    assert store.delete_file("f1")
    assert not store.delete_file("f1")


def test_a_batch_is_kept_with_all_it_has(store, clock):
    row = batch(clock, errors=({"line": 1, "code": "x"},))
    store.add_batch(row)
    assert store.batch("b1") == row
    store.update_batch(replace(row, status="completed", finished_at=clock.now()))
    assert store.batch("b1").status == "completed"
    assert list(store.open_batches()) == []
    assert [found.id for found in store.batches("one", PageQuery()).rows] == ["b1"]


def test_a_cancel_is_not_overwritten_by_whoever_read_the_batch_before_it(store, clock):
    row = batch(clock, status="in_progress")
    store.add_batch(row)
    store.update_batch(replace(row, status="cancelling", cancelled_at=clock.now()))
    store.update_batch(replace(row, submitted=5, completed=2))
    found = store.batch("b1")
    assert (found.status, found.submitted, found.completed) == ("cancelling", 5, 2)
    assert found.cancelled_at is not None


def test_the_lines_of_a_batch_are_counted_by_state(store, clock, facts):
    store.accept(facts.row("a", batch_id="b1"))
    store.accept(facts.row("b", batch_id="b1"))
    store.record_batch([facts.completed("b")])
    assert store.batch_counts("b1") == {State.ACCEPTED: 1, State.COMPLETED: 1}
    assert {row.id for row in store.batch_requests("b1")} == {"a", "b"}
