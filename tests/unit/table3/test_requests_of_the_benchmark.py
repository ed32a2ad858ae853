import httpx
import pytest

from benchmarks.table3.driving import answered
from benchmarks.table3.pool import load_pool
from benchmarks.table3.questions import Arrival, arrivals, lengths
from benchmarks.table3.simulated import Speed, as_recorded
from benchmarks.table3.strategies import RANDOM, alone, strategies
from functions.backends.simulated.answers import read_body
from router_model.replay.outcome_dataset import OutcomeRow

POOL = load_pool()
NAMES = {model.id: model.learned_as for model in POOL.models}
DEAR, CHEAP = POOL.best_single, POOL.cheapest


def question(number):
    return OutcomeRow(
        id=f"q/{number}",
        source="s",
        benchmark="b",
        qkey=f"k{number}",
        prompt="x" * 400,
        outcomes=dict.fromkeys(NAMES.values(), 0.0) | {NAMES[DEAR]: 1.0},
        out_chars=dict.fromkeys(NAMES.values(), 800),
    )


def reply(model, status=200):
    return httpx.Response(status, headers={"x-pickspin-model": model, "x-pickspin-cost": "0.001"})


ROWS = [question(number) for number in range(50)]


def test_every_pass_asks_every_question_once_in_rising_time():
    found = arrivals(ROWS, per_s=2.0, passes=2, seed=1)
    assert sorted(one.row.id for one in found[:50]) == sorted(row.id for row in ROWS)
    assert sorted(one.row.id for one in found[50:]) == sorted(row.id for row in ROWS)
    times = [one.at_s for one in found]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(50, rel=0.4)


def test_arrivals_are_the_same_for_the_same_seed_only():
    assert arrivals(ROWS, per_s=2.0, passes=1, seed=1) == arrivals(
        ROWS, per_s=2.0, passes=1, seed=1
    )
    assert arrivals(ROWS, per_s=2.0, passes=1, seed=1) != arrivals(
        ROWS, per_s=2.0, passes=1, seed=2
    )


def test_success_is_the_recorded_outcome_of_whoever_answered():
    one = Arrival(ROWS[0], 0.0)
    assert answered(POOL, one, reply(DEAR), 1.0).success == 1.0
    assert answered(POOL, one, reply(CHEAP), 1.0).success == 0.0


def test_random_allocation_is_expected_to_get_the_mean_of_the_pool():
    found = answered(POOL, Arrival(ROWS[0], 0.0), reply(CHEAP), 1.0)
    assert found.expected_success == pytest.approx(1 / len(POOL.models))
    assert found.usd < found.expected_usd


def test_a_right_answer_past_the_deadline_is_no_success_and_is_paid():
    late = answered(POOL, Arrival(ROWS[0], 0.0), reply(DEAR), POOL.deadline_s + 1)
    assert (late.success, late.usd) == (0.0, POOL.model(DEAR).usd(100, 200))


def test_a_refusal_is_no_success():
    refused = answered(POOL, Arrival(ROWS[0], 0.0), reply(DEAR, 504), 1.0)
    assert (refused.success, refused.model, refused.status) == (0.0, None, 504)


def test_simulated_answers_are_as_long_as_recorded_and_begin_once_the_prompt_is_read():
    known = lengths(ROWS, POOL)[CHEAP]
    speed = Speed(ttft_s=0.5, tokens_per_s=10, prefill_tokens_per_s=1000, lengths=known)
    body = {"model": "m", "messages": [{"role": "user", "content": ROWS[0].prompt}]}
    asked = as_recorded(
        read_body("/v1/chat/completions", body, tokens=16, ignores_limit=False), speed
    )
    assert asked.tokens == 200
    assert float(asked.directives["ttft"]) == pytest.approx(0.6)


def test_random_allocation_is_even_over_the_pool():
    random = next(one for one in strategies(POOL) if one.name == RANDOM)
    drawn = [random.model("any") for _ in range(2000)]
    for model in POOL.models:
        assert drawn.count(model.id) == pytest.approx(400, abs=80)


def test_every_model_serves_alone_once():
    assert [one.model("any") for one in alone(POOL)] == [model.id for model in POOL.models]
