import json
from datetime import timedelta

from events.names import State
from functions.sql.requests import UNSTORED_KEEP


def test_a_forgotten_request_leaves_nothing_to_read(store, facts, clock):
    store.accept(facts.row(), facts.record())
    store.record_batch([facts.requested(), facts.streamed(0), facts.completed()])
    assert store.forget("r1")
    assert store.request("r1") is None
    assert store.events_after("r1", 0) == []
    assert not store.forget("r1")
    assert not store.forget("unknown")


def test_a_forgotten_request_does_not_come_back_when_its_events_are_read_again(store, facts, clock):
    changes = [facts.requested(), facts.streamed(0), facts.completed()]
    store.record_batch(changes)
    store.forget("r1")
    assert store.record_batch(changes).ended == ()
    assert store.request("r1") is None
    assert store.events_after("r1", 0) == []


def test_the_answer_to_a_forgotten_request_is_not_kept(store, facts):
    store.accept(facts.row())
    store.forget("r1")
    assert store.record_batch([facts.requested(), facts.completed()]).ended == ("r1",)
    with store._db.read() as connection:
        found = connection.exec_driver_sql("SELECT result, record, state FROM requests").one()
    assert tuple(found) == (None, None, "completed")


def test_a_request_taken_back_before_it_reached_the_log_is_never_overdue(store, facts, clock):
    store.accept(facts.row(), facts.record())
    store.forget("r1")
    assert store.overdue(clock.now() + timedelta(days=1)) == []
    assert store.unfinished() == 0
    store.record_batch([facts.requested(offset=3)])
    assert [row.id for row in store.overdue(clock.now() + timedelta(days=1))] == ["r1"]


def test_a_waiting_call_with_store_false_keeps_no_answer(store, facts):
    store.accept(facts.row(is_stored=False, is_background=False))
    store.record_batch([facts.completed()])
    row = store.request("r1")
    assert (row.state, row.result) == (State.COMPLETED, None)
    (_, terminal) = store.events_after("r1", 0)
    assert json.loads(terminal.data) == {"state": "completed", "status": 200}


def test_a_terminal_before_its_request_with_store_false_loses_its_answer(store, facts):
    store.record_batch([facts.completed()])
    store.record_batch([facts.requested(is_stored=False, is_background=False)])
    assert store.request("r1").result is None


def test_a_background_answer_with_store_false_is_kept_for_a_while(store, facts, clock):
    store.accept(facts.row(is_stored=False))
    store.record_batch([facts.completed()])
    assert store.request("r1").result is not None
    clock.advance(UNSTORED_KEEP.total_seconds() + 1)
    store.purge(clock.now() - timedelta(days=7))
    assert store.request("r1").result is None
    assert store.request("r1").state is State.COMPLETED


def test_old_requests_are_purged_and_unfinished_ones_stay(store, facts, clock):
    store.accept(facts.row("done"))
    store.accept(facts.row("going"))
    store.record_batch([facts.completed("done"), facts.completed("stub")])
    clock.advance(10)
    assert store.purge(clock.now()) == 2
    assert store.request("done") is None
    assert store.request("going") is not None
