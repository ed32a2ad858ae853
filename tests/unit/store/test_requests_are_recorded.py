import json
from dataclasses import replace
from datetime import timedelta

from events.names import State
from functions.ports.paging import PageQuery


def test_a_request_is_accepted_once(store, facts):
    assert store.accept(facts.row(), facts.record()).kind == "new"
    assert store.accept(facts.row(asked_model="other"), facts.record()).kind == "joined"
    assert store.request("r1").asked_model == "auto"


def test_an_unknown_request_is_none(store):
    assert store.request("r1") is None


def test_progress_moves_a_request_on(store, facts, clock):
    store.accept(facts.row(meta={"door": "responses"}))
    clock.advance(1)
    store.record_batch([facts.progressed("routed")])
    assert store.request("r1").state is State.ROUTED
    store.record_batch([facts.progressed("running", attempt=1)])
    row = store.request("r1")
    assert (row.state, row.service, row.model, row.attempt) == (State.RUNNING, "slug", "model", 1)
    assert row.started_at == clock.now()
    assert row.meta == {"door": "responses"}


def test_a_state_never_moves_back(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.progressed("running", attempt=1), facts.progressed("routed")])
    assert store.request("r1").state is State.RUNNING


def test_the_first_terminal_wins(store, facts):
    store.accept(facts.row())
    assert store.record_batch([facts.completed()]).ended == ("r1",)
    assert store.record_batch([facts.failed("deadline_exceeded", 504)]).ended == ()
    row = store.request("r1")
    assert (row.state, row.status) == (State.COMPLETED, 200)
    assert (row.usage_prompt, row.usage_completion, row.cost_usd) == (3, 5, 0.25)
    assert json.loads(row.result)["text"] == "hello"


def test_two_terminals_in_one_poll_are_taken_in_their_order(store, facts):
    store.accept(facts.row())
    assert store.record_batch([facts.failed("cancelled", 409), facts.completed()]).ended == ("r1",)
    assert store.request("r1").state is State.CANCELLED


def test_a_terminal_that_comes_before_its_request_is_kept(store, facts):
    store.record_batch([facts.completed()])
    assert store.request("r1") is None
    assert store.overdue(facts.clock.now() + timedelta(days=1)) == []
    store.record_batch([facts.requested()])
    row = store.request("r1")
    assert (row.state, row.asked_model) == (State.COMPLETED, "auto")
    assert store.unfinished() == 0


def test_a_request_read_again_after_its_end_stays_ended(store, facts):
    store.record_batch([facts.requested(), facts.completed()])
    store.record_batch([facts.requested(offset=7)])
    assert store.request("r1").state is State.COMPLETED
    assert store.unrouted(facts.clock.now() + timedelta(days=1)) == []


def test_the_request_record_is_kept_until_the_end(store, facts, clock):
    store.accept(facts.row(), facts.record())
    clock.advance(31)
    later = clock.now()
    ((row, record),) = store.unrouted(later)
    assert (row.id, record.value, record.offset) == ("r1", b'{"messages":[]}', -1)
    assert record.headers == (("ce_id", b"r1"),)
    store.record_batch([facts.requested(offset=5)])
    clock.advance(31)
    ((_, record),) = store.unrouted(clock.now())
    assert (record.partition, record.offset) == (0, 5)
    store.note_republished(["r1"], clock.now())
    assert store.unrouted(clock.now()) == []
    store.record_batch([facts.completed()])
    clock.advance(31)
    assert store.unrouted(clock.now()) == []


def test_a_routed_request_is_not_unrouted(store, facts, clock):
    store.accept(facts.row(), facts.record())
    store.record_batch([facts.progressed("routed")])
    clock.advance(31)
    assert store.unrouted(clock.now()) == []


def test_overdue_and_cancelled_requests_are_found(store, facts, clock):
    store.accept(facts.row("late", deadline=clock.now() + timedelta(seconds=1)))
    store.accept(facts.row("cancelled"))
    store.accept(facts.row("going"))
    store.record_batch([facts.cancel(request_id="cancelled"), facts.cancel("duplicate", "going")])
    clock.advance(1)
    assert [row.id for row in store.overdue(clock.now())] == ["late", "cancelled"]
    assert store.request("cancelled").cancel_reason == "client"


def test_a_cancel_that_comes_before_its_request_is_remembered(store, facts):
    store.record_batch([facts.cancel()])
    store.record_batch([facts.requested()])
    assert [row.cancel_reason for row in store.overdue(facts.clock.now())] == ["client"]


def test_what_cannot_be_read_is_skipped(store, facts):
    store.accept(facts.row())
    good = facts.progressed("routed")
    bad = replace(good, event=replace(good.event, data=b"\xff{"))
    store.record_batch([bad, facts.completed()])
    assert store.request("r1").state is State.COMPLETED


def test_unfinished_requests_are_counted_by_tenant(store, facts):
    store.accept(facts.row("a", tenant="one"))
    store.accept(facts.row("b", tenant="two"))
    store.record_batch([facts.completed("b")])
    assert (store.unfinished(), store.unfinished(tenant="one"), store.unfinished(tenant="two")) == (
        1,
        1,
        0,
    )


def test_requests_are_listed_newest_first(store, facts, clock):
    for number in range(3):
        store.accept(facts.row(f"r{number}", tenant="one"))
        clock.advance(1)
    store.record_batch([facts.completed("r1")])
    assert [row.id for row in store.requests(PageQuery(limit=2), tenant="one").rows] == ["r2", "r1"]
    done = store.requests(PageQuery(), tenant=None, states=[State.COMPLETED]).rows
    assert [row.id for row in done] == ["r1"]


def test_a_boot_is_new_once(store):
    assert [store.boot("one"), store.boot("one"), store.boot("two")] == [True, False, True]


def test_an_end_after_the_end_is_told_apart_by_what_differs(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.completed()])
    assert store.record_batch([facts.completed()]).other_ends == ()
    assert store.record_batch([facts.completed(text="another")]).other_ends == (("r1", "answer"),)
    late = facts.failed("deadline_exceeded", 504)
    assert store.record_batch([late]).other_ends == (("r1", "state"),)
    assert json.loads(store.request("r1").result)["text"] == "hello"


def test_two_different_ends_in_one_poll_are_told_apart(store, facts):
    store.accept(facts.row())
    changes = [facts.completed(), facts.completed(text="another"), facts.failed("cancelled", 409)]
    found = store.record_batch(changes)
    assert found.ended == ("r1",)
    assert found.other_ends == (("r1", "answer"), ("r1", "state"))


def test_answers_that_are_not_kept_are_not_compared(store, facts):
    store.accept(facts.row(is_stored=False, is_background=False))
    store.record_batch([facts.completed()])
    assert store.record_batch([facts.completed(text="another")]).other_ends == ()


def test_marks_say_how_far_requests_are(store, facts):
    store.accept(facts.row())
    store.accept(facts.row(id="r2"))
    before = store.marks(["r1", "r2", "unknown"])
    assert set(before) == {"r1", "r2"}
    assert before["r1"].state is State.ACCEPTED
    store.record_batch([facts.progressed("running", attempt=1)])
    store.record_batch([facts.completed()])
    after = store.marks(["r1", "r2"])
    assert after["r1"].state is State.COMPLETED
    assert after["r1"].next_cursor == store.events_after("r1", 0)[-1].cursor + 1
    assert after["r2"] == before["r2"]
    store.forget("r2")
    assert set(store.marks(["r1", "r2"])) == {"r1"}
