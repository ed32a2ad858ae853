from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, inspect, text

from functions.ports.store import MAX_RESULT_BYTES, FeedbackRow, FinishedQuery
from functions.sql.sql_store import SqlStore

EVERYTHING = FinishedQuery()


def opinion(clock, request_id="r1", **fields):
    values = {"source": "user", "model": "model", "score": 1.0, "at": clock.now()}
    return FeedbackRow(request_id=request_id, **{**values, **fields})


@pytest.fixture
def finish(store, facts):
    def finish(request_id="r1", **fields):
        store.record_batch([facts.requested(request_id, **fields), facts.completed(request_id)])

    return finish


def test_the_last_opinion_of_a_source_judge_and_model_is_kept(store, clock, finish):
    finish()
    first = opinion(clock)
    assert store.add_feedback(first, limit=9)
    clock.advance(1)
    again = opinion(clock, score=0.0, comment="no")
    judged = opinion(clock, source="judge", judge="j", score=0.5)
    assert store.add_feedback(again, limit=9)
    assert store.add_feedback(judged, limit=9)
    assert store.feedback("r1") == [judged, again]


def test_opinions_are_bounded_and_replacing_one_is_always_possible(store, clock, finish):
    finish()
    assert store.add_feedback(opinion(clock), limit=1)
    assert not store.add_feedback(opinion(clock, model="other"), limit=1)
    assert store.add_feedback(opinion(clock, score=0.25), limit=1)
    assert [one.score for one in store.feedback("r1")] == [0.25]


def test_nothing_is_said_about_what_is_unknown_or_deleted(store, clock, finish):
    assert not store.add_feedback(opinion(clock), limit=9)
    finish()
    store.add_feedback(opinion(clock), limit=9)
    store.forget("r1")
    assert store.feedback("r1") == []
    assert not store.add_feedback(opinion(clock), limit=9)
    assert store.finished(EVERYTHING) == []


def test_feedback_goes_when_its_request_is_purged(store, clock, finish):
    finish()
    store.add_feedback(opinion(clock), limit=9)
    clock.advance(10)
    assert store.purge(clock.now()) == 1
    assert store.feedback("r1") == []


def test_ended_requests_come_with_prompt_answer_and_feedback(store, facts, clock, finish):
    store.accept(facts.row("going"), facts.record())
    finish()
    said = opinion(clock)
    store.add_feedback(said, limit=9)
    (found,) = store.finished(EVERYTHING)
    assert found.row == store.request("r1")
    assert found.record == facts.record(0, 0)
    assert list(found.feedback) == [said]


def test_a_prompt_is_kept_whichever_of_request_and_end_is_read_first(store, facts):
    store.record_batch([facts.completed("early")])
    store.record_batch([facts.requested("early")])
    (found,) = store.finished(EVERYTHING)
    assert found.record is not None


def test_no_prompt_is_kept_of_a_call_with_store_false(store, facts):
    unstored = {"is_stored": False, "is_background": False}
    store.record_batch([facts.completed("early")])
    for request_id in ("early", "late"):
        store.record_batch([facts.requested(request_id, **unstored)])
    store.record_batch([facts.completed("late")])
    assert [one.record for one in store.finished(EVERYTHING)] == [None, None]


def test_a_store_that_keeps_no_prompts_keeps_none(url, facts, clock):
    store = SqlStore(url, clock, keeps_prompts=False)
    store.record_batch([facts.completed("early")])
    for request_id in ("early", "late"):
        store.record_batch([facts.requested(request_id)])
    store.record_batch([facts.completed("late")])
    assert [one.record for one in store.finished(EVERYTHING)] == [None, None]
    store.close()


def test_pages_follow_each_other_newest_first_without_gap_or_repetition(store, clock, finish):
    for number in range(7):
        finish(f"r{number}")
        clock.advance(number % 2)
    seen, query = [], EVERYTHING
    while page := store.finished(query, limit=2):
        seen += [one.row.id for one in page]
        last = page[-1].row
        query = replace(query, before=(last.finished_at, last.id))
    assert seen == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]


def test_ended_requests_are_chosen_by_tenant_time_and_rating(store, clock, finish):
    start = clock.now()
    finish("old")
    clock.advance(60)
    finish("other", tenant="t2")
    finish("rated")
    store.add_feedback(opinion(clock, "rated"), limit=9)

    def ids(**fields):
        return [one.row.id for one in store.finished(FinishedQuery(**fields))]

    assert ids() == ["rated", "other", "old"]
    assert ids(tenant="t2") == ["other"]
    assert ids(since=start + timedelta(seconds=1)) == ["rated", "other"]
    assert ids(is_rated=True) == ["rated"]


def test_a_large_answer_is_left_out_of_pages(store, facts):
    store.record_batch([facts.requested(), facts.completed(text="x" * MAX_RESULT_BYTES)])
    (found,) = store.finished(EVERYTHING)
    assert found.row.result is None
    assert store.request("r1").result is not None


def test_a_database_of_before_gets_the_new_table_and_keeps_its_rows(tmp_path, facts, clock):
    url = f"sqlite:///{tmp_path / 'before.sqlite3'}"
    store = SqlStore(url, clock)
    store.record_batch([facts.requested(), facts.completed()])
    store.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE feedback"))
    engine.dispose()
    store = SqlStore(url, clock)
    assert store.add_feedback(opinion(clock), limit=9)
    assert [one.row.id for one in store.finished(EVERYTHING)] == ["r1"]
    store.close()
    engine = create_engine(url)
    assert "feedback" in inspect(engine).get_table_names()
    engine.dispose()
