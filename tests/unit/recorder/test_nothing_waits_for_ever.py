import json
from dataclasses import replace
from datetime import timedelta

import pytest

from events.codecs.kafka_codec import from_record
from events.names import State
from functions.recorder.event_to_change import build_change
from functions.recorder.expiry_rules import SETTLE_S, WORKER_S, judge_row
from functions.recorder.reaper import CHECK_S, REPEAT_S
from functions.recorder.recorded_until import BLIND_S, RecordedUntil
from functions.runtime.errors import AppendFailed
from functions.runtime.log_consumer import next_offsets
from tests.unit.recorder.conftest import START, TOPICS, Stage


def test_a_request_past_its_deadline_ends_expired_once(stage):
    stage.request(wait_s=10)
    stage.record_all()
    assert stage.reaper.tick() == 0
    stage.clock.advance(10 + SETTLE_S)
    assert stage.reaper.tick() == 1
    assert stage.reaper.tick() == 0
    stage.record_all()
    row = stage.store.request("r1")
    assert (row.state, row.status) == (State.EXPIRED, 504)
    assert json.loads(row.result)["error"]["code"] == "deadline_exceeded"
    stage.clock.advance(REPEAT_S * 2)
    assert stage.reaper.tick() == 0
    assert stage.terminals() == [("r1", "expired")]


def test_an_event_that_expires_is_told_under_its_senders_id(stage):
    stage.request("order-7", wait_s=10, source="/shop")
    stage.record_all()
    request_id = stage.store.find_sent("default", "order-7")
    stage.clock.advance(10 + SETTLE_S)
    assert stage.reaper.tick() == 1
    stage.record_all()
    assert stage.store.request(request_id).state is State.EXPIRED
    (told,) = [from_record(record) for record in stage.log.records(TOPICS.responses)]
    assert (told.get("correlationid"), told.get("requestid")) == ("order-7", request_id)


def test_a_foreign_request_that_names_no_deadline_gets_one(stage):
    record = stage.request()
    headers = tuple(pair for pair in record.headers if pair[0] != "ce_expirytime")
    stage.log.partitions.clear()
    stage.appender.append(replace(record, headers=headers)).result(0)
    stage.record_all()
    assert stage.store.request("r1").deadline == stage.clock.now() + timedelta(seconds=3600)


def test_the_waiting_caller_gets_the_expiry_on_its_own_partition(stage):
    stage.request(wait_s=1, replytopic=TOPICS.replies, replypartition="1", replyepoch="e1")
    stage.record_all()
    stage.clock.advance(1 + SETTLE_S)
    stage.reaper.tick()
    (record,) = stage.log.records(TOPICS.replies)
    event = from_record(record)
    assert (record.partition, event.get("replyepoch")) == (1, "e1")
    assert stage.terminals(TOPICS.replies) == stage.terminals() == [("r1", "expired")]


def test_an_expiry_that_cannot_be_told_at_its_address_is_public_and_kept(stage):
    stage.request(wait_s=1, replytopic=TOPICS.replies, replypartition="77")
    stage.record_all()
    stage.clock.advance(1 + SETTLE_S)
    assert stage.reaper.tick() == 1
    assert stage.terminals() == [("r1", "expired")]
    (letter,) = stage.log.records(TOPICS.dlq)
    assert dict(letter.headers)["ce_deadletterreason"] == b"undeliverable"


def test_a_reply_topic_that_is_not_allowed_gets_nothing(stage):
    stage.request(wait_s=1, replytopic="infer.requests")
    stage.record_all()
    stage.clock.advance(1 + SETTLE_S)
    assert stage.reaper.tick() == 1
    assert stage.terminals() == [("r1", "expired")]
    assert len(stage.log.records(TOPICS.requests)) == 1


def test_a_cancelled_request_that_nobody_works_on_ends_at_once(stage):
    stage.request()
    stage.cancelled()
    stage.record_all()
    assert stage.reaper.tick() == 1
    stage.record_all()
    assert stage.store.request("r1").state is State.CANCELLED


def test_a_cancel_at_the_deadline_is_an_expiry(stage):
    stage.request()
    stage.cancelled(reason="deadline")
    stage.record_all()
    stage.reaper.tick()
    assert stage.terminals() == [("r1", "expired")]


def test_a_cancel_of_a_second_generation_ends_no_request(stage):
    stage.request()
    stage.cancelled(reason="duplicate")
    stage.record_all()
    assert stage.reaper.tick() == 0


def test_an_answer_that_lies_unread_on_the_log_is_no_expiry(stage):
    stage.request(wait_s=1)
    stage.record_all()
    stage.answered()
    stage.clock.advance(100)
    assert stage.reaper.tick() == 0
    stage.record_all()
    assert stage.reaper.tick() == 0
    assert stage.store.request("r1").state is State.COMPLETED
    assert stage.terminals() == [("r1", "completed")]


def test_nothing_ends_before_the_recorder_has_read_up_to_its_deadline(stage):
    stage.request(wait_s=1)
    stage.record_all()
    for number in range(5):
        stage.request(f"other-{number}")
    stage.clock.advance(1 + SETTLE_S)
    assert stage.reaper.tick() == 0
    stage.clock.advance(30)
    assert stage.reaper.tick() == 0
    stage.record_all()
    # Under load there is always something unread: what was there at the deadline counts.
    stage.request("later")
    assert stage.reaper.tick() == 1
    assert stage.terminals() == [("r1", "expired")]


def test_a_request_that_runs_is_left_to_its_worker_for_a_moment(stage):
    stage.request(wait_s=10)
    stage.routed(state="running")
    stage.record_all()
    stage.clock.advance(10 + SETTLE_S)
    assert stage.reaper.tick() == 0
    stage.clock.advance(WORKER_S)
    assert stage.reaper.tick() == 1


def test_a_cancelled_request_that_runs_is_left_to_its_worker_for_a_moment(stage):
    stage.request()
    stage.routed(state="running")
    stage.cancelled()
    stage.record_all()
    assert stage.reaper.tick() == 0
    stage.clock.advance(WORKER_S)
    assert stage.reaper.tick() == 1
    assert stage.terminals() == [("r1", "cancelled")]


class Blind:
    """A lag reader of a broker that tells nothing."""

    def __init__(self, error):
        self.error = error

    def lags(self, groups):
        if self.error is not None:
            raise self.error
        return {group: {} for group in groups}


@pytest.mark.parametrize("error", [RuntimeError("away"), ValueError("odd"), None])
def test_offsets_that_cannot_be_read_hold_ends_up_only_for_a_while(stage, error):
    recorded = RecordedUntil(lags=Blind(error), clock=stage.clock, topics=TOPICS)
    assert recorded.look() < stage.clock.now()
    stage.clock.advance(BLIND_S)
    assert recorded.look() == stage.clock.now()


def test_a_terminal_that_was_not_appended_is_tried_again(stage):
    stage.request(wait_s=1)
    stage.record_all()
    stage.clock.advance(1 + SETTLE_S)
    stage.log.fail_next(TOPICS.responses, AppendFailed("down"))
    assert stage.reaper.tick() == 0
    assert stage.reaper.tick() == 1


def test_a_terminal_that_never_comes_back_is_repeated_under_the_same_id(stage):
    stage.request(wait_s=1)
    stage.record_all()
    stage.clock.advance(1 + SETTLE_S)
    stage.reaper.tick()
    stage.clock.advance(REPEAT_S + 0.1)
    assert stage.reaper.tick() == 1
    first, second = (from_record(record) for record in stage.log.records(TOPICS.responses))
    assert first.id == second.id
    stage.record_all()
    assert stage.store.request("r1").state is State.EXPIRED


def test_requests_of_an_earlier_in_memory_broker_end_as_lost(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    first = Stage(url, boot_id="one")
    first.request(wait_s=3600)
    first.record_all()
    first.store.close()
    second = Stage(url, boot_id="two")
    second.request("new", wait_s=3600)
    second.record_all()
    assert second.reaper.tick() == 1
    second.record_all()
    row = second.store.request("r1")
    assert (row.state, row.status) == (State.FAILED, 502)
    assert json.loads(row.result)["error"]["code"] == "lost_on_restart"
    assert second.store.request("new").state is State.ACCEPTED
    second.store.close()


def test_a_finished_request_never_ends_again(stage):
    stage.request(wait_s=1)
    stage.answered()
    stage.record_all()
    row = stage.store.request("r1")
    assert judge_row(row, stage.clock.now() + timedelta(days=1), is_lost=True) is None


def routers_read(stage, offset_after):
    """The router's group has committed this far on every partition of the request topic."""
    group = stage.log.group(group=TOPICS.router_group, topics=(TOPICS.requests,), client="router")
    polled = group.poll(0.0)
    if offset_after:
        group.commit(next_offsets(polled.records))
    group.close()


def wait_and_check(stage, seconds=31.0):
    stage.clock.advance(seconds)
    published = stage.republisher.tick()
    stage.clock.advance(CHECK_S)
    return published + stage.republisher.tick()


def test_a_request_the_router_read_and_dropped_is_published_again(stage):
    record = stage.request(wait_s=600)
    stage.record_all()
    routers_read(stage, offset_after=True)
    assert wait_and_check(stage) == 1
    _, second = stage.log.records(TOPICS.requests)
    assert (second.key, second.value, second.headers) == (record.key, record.value, record.headers)
    stage.record_all()
    assert wait_and_check(stage, 1.0) == 0, "its bound starts anew"
    routers_read(stage, offset_after=True)
    assert wait_and_check(stage) == 1


def test_a_request_that_only_waits_for_the_router_is_not_published_again(stage):
    stage.request(wait_s=600)
    stage.record_all()
    routers_read(stage, offset_after=False)
    assert wait_and_check(stage) == 0
    assert wait_and_check(stage) == 0


def test_a_request_that_never_reached_the_log_is_published(stage):
    record = stage.request(wait_s=600)
    stage.log.partitions.clear()
    change = build_change(record, stage.blobs, wait_s=1.0, now=START)
    stage.store.accept(change.row, record)
    assert wait_and_check(stage) == 1
    stage.record_all()
    assert stage.store.request("r1").state is State.ACCEPTED
    assert wait_and_check(stage) == 0


def test_nothing_is_published_again_while_recording_is_behind(stage):
    stage.request(wait_s=600)
    stage.record_all()
    routers_read(stage, offset_after=True)
    stage.routed()
    assert wait_and_check(stage) == 0
    stage.record_all()
    assert wait_and_check(stage) == 0
    assert len(stage.log.records(TOPICS.requests)) == 1


@pytest.mark.parametrize("state", ["routed", "cancelled", "overdue"])
def test_only_requests_that_may_still_be_routed_are_published_again(stage, state):
    stage.request(wait_s=20 if state == "overdue" else 600)
    routers_read(stage, offset_after=True)
    if state == "routed":
        stage.routed()
    if state == "cancelled":
        stage.cancelled()
    stage.record_all()
    assert wait_and_check(stage) == 0
