import json
from dataclasses import replace

from events import builders
from events.names import State
from functions.recorder.expiry_rules import build_terminal
from functions.runtime.errors import ApiError, StoreFailed
from functions.runtime.telemetry import Metrics
from tests.unit.recorder.conftest import START, TOPICS


def test_a_request_is_recorded_from_accepted_to_completed(stage):
    stage.request(tenant="one", batchid="b1", callbackid="c1")
    stage.record_all()
    row = stage.store.request("r1")
    assert (row.state, row.tenant, row.batch_id, row.callback_id) == (
        State.ACCEPTED,
        "one",
        "b1",
        "c1",
    )
    assert (row.operation, row.asked_model, row.is_background) == ("chat", "auto", True)
    stage.routed()
    stage.record_all()
    assert stage.store.request("r1").state is State.ROUTED
    stage.answered()
    stage.record_all()
    assert json.loads(stage.store.request("r1").result)["text"] == "hello"


def test_a_reply_address_and_store_false_are_recorded(stage):
    stage.request(
        replytopic=TOPICS.replies,
        replypartition="1",
        replyepoch="e1",
        body={"messages": [{"role": "user", "content": "x"}], "store": False},
    )
    stage.record_all()
    row = stage.store.request("r1")
    assert (row.reply_topic, row.reply_partition, row.reply_epoch) == (TOPICS.replies, 1, "e1")
    assert (row.is_background, row.is_stored) == (False, False)


def test_an_answer_by_reference_is_fetched(stage):
    stage.request()
    stage.answered(ref=True)
    stage.record_all()
    assert json.loads(stage.store.request("r1").result)["text"] == "hello"


def test_a_record_that_cannot_be_read_holds_nothing_up(stage):
    good = stage.request("good")
    stage.appender.append(replace(good, headers=(("ce_id", b"x"),))).result(0)
    stage.appender.append(replace(good, value=b"\xff")).result(0)
    stage.request("later", body={"nothing": "to do"})
    stage.answered("good")
    stage.record_all()
    assert stage.store.request("good").state is State.COMPLETED
    assert stage.consumer_lag() == 0


def test_killed_after_the_transaction_and_before_the_commit_nothing_changes_twice(stage):
    stage.request()
    stage.routed()
    stage.answered()
    stage.consumer.commit = lambda commits: False
    while stage.recorder.step(stage.stop, 0.0):
        pass
    before = (stage.store.request("r1"), stage.store.events_after("r1", 0))
    stage.consumer.crash()
    consumer = stage.group()
    stage.recorder = stage.new_recorder(consumer)
    stage.record_all()
    assert (stage.store.request("r1"), stage.store.events_after("r1", 0)) == before


class FailingStore:
    """A store that is out of reach for a while, and refuses some changes for ever."""

    def __init__(self, store, *, outages=0, poison=()):
        self.store = store
        self.outages = outages
        self.poison = poison

    def record_batch(self, changes):
        if self.outages:
            self.outages -= 1
            raise StoreFailed("down", is_transient=True)
        if any(change.event.id in self.poison for change in changes):
            raise StoreFailed("bad value", is_transient=False)
        return self.store.record_batch(changes)


def test_nothing_is_committed_while_the_store_is_out_of_reach(stage, monkeypatch):
    monkeypatch.setattr("functions.runtime.log_consumer.RETRY_S", 0.0)
    stage.request()
    failing = FailingStore(stage.store, outages=3)
    committed = []
    commit = stage.consumer.commit
    stage.consumer.commit = lambda commits: committed.append(failing.outages) or commit(commits)
    stage.recorder = stage.new_recorder(stage.consumer, failing)
    stage.record_all()
    assert set(committed) == {0}
    assert stage.store.request("r1") is not None


def test_stopped_while_the_store_is_out_of_reach_nothing_is_committed(stage):
    stage.request()
    stage.recorder = stage.new_recorder(stage.consumer, FailingStore(stage.store, outages=99))
    stage.stop.set()
    stage.recorder.step(stage.stop, 0.0)
    assert stage.consumer_lag() == 1


def test_one_change_that_the_store_refuses_does_not_hold_up_the_others(stage):
    for number in range(4):
        stage.request(f"r{number}")
    stage.recorder = stage.new_recorder(stage.consumer, FailingStore(stage.store, poison=("r2",)))
    stage.record_all()
    assert [stage.store.request(f"r{number}") is not None for number in range(4)] == [
        True,
        True,
        False,
        True,
    ]


def test_ends_after_the_end_are_counted_by_what_differs(stage):
    metrics = Metrics()
    stage.recorder = stage.new_recorder(stage.consumer, metrics=metrics)
    stage.request("r1", wait_s=1)
    stage.answered("r1")
    stage.record_all()
    stage.answered("r1")
    expired = build_terminal(stage.store.request("r1"), ApiError("deadline_exceeded", "m"), START)
    (out,) = builders.terminal_outgoing(expired, topics=TOPICS, reply=None)
    stage.send(out)
    stage.record_all()
    count = metrics.registry.get_sample_value
    assert count("pickspin_other_ends_total", {"differs": "state"}) == 1
    assert count("pickspin_other_ends_total", {"differs": "answer"}) is None
    assert stage.store.request("r1").state is State.COMPLETED
