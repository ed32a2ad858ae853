from dataclasses import replace

import pytest

from benchmarks.table3.comparing import find
from benchmarks.table3.driving import Answered
from benchmarks.table3.figures import Draws, row_of
from benchmarks.table3.markdown import markdown
from benchmarks.table3.pool import load_pool
from benchmarks.table3.strategies import LATENCY_ONLY, MULTI_OBJECTIVE, RANDOM, alone


def run(*results):
    """(success, seconds, usd) of one request after the other."""
    return [
        Answered(
            qkey=f"k{number}",
            success=success,
            seconds=seconds,
            model_s=seconds,
            usd=usd,
            expected_success=0.25,
            expected_usd=0.2,
            busy_usd=usd,
            model="m",
            stage="keyword",
            status=200,
        )
        for number, (success, seconds, usd) in enumerate(results)
    ]


HALF = run(*[(number % 2, 2.0, 0.2) for number in range(100)])
GOOD = run(*[(1, 1.0, 0.1) for _ in range(100)])
POOR = run(*[(0, 1.0, 0.1) for _ in range(100)])
DEAR = run(*[(1, 3.0, 0.3) for _ in range(100)])


def test_changes_are_points_of_success_and_shares_of_time_and_money():
    draws = Draws(GOOD, seed=1)
    assert draws.change(GOOD, HALF, "success").value == pytest.approx(0.5)
    assert draws.change(GOOD, HALF, "seconds").value == pytest.approx(-0.5)
    assert draws.change(GOOD, HALF, "usd").value == pytest.approx(-0.5)


def test_better_means_that_the_whole_interval_is():
    draws = Draws(GOOD, seed=1)
    assert draws.change(GOOD, HALF, "success").is_better("success")
    assert draws.change(GOOD, HALF, "usd").is_better("usd")
    assert not draws.change(HALF, GOOD, "usd").is_better("usd")
    assert not draws.change(GOOD, GOOD, "success").is_better("success")


def test_the_mean_of_all_random_draws_has_no_noise_of_its_own():
    found = Draws(GOOD, seed=1).against_expected(GOOD)
    assert (found["success"].low, found["success"].high) == (pytest.approx(0.75),) * 2
    assert found["usd"].value == pytest.approx(-0.5)


def test_a_mixture_of_single_models_is_on_their_hull():
    above = Draws(HALF, seed=1).above_hull(HALF, [POOR, DEAR], "usd")
    assert above.value == pytest.approx(0.0)
    assert above.low < 0 < above.high


def test_what_is_right_at_the_price_of_the_cheap_model_is_above_the_hull():
    assert Draws(GOOD, seed=1).above_hull(GOOD, [POOR, DEAR], "seconds").low == pytest.approx(1.0)


def test_requests_of_one_question_are_drawn_together():
    twice = [*GOOD, *HALF]
    changes = Draws(twice, seed=1).means(twice, "success")
    assert len(changes) == 2000
    assert changes.mean() == pytest.approx(0.75, abs=0.02)


def test_a_row_counts_what_nobody_answered():
    unanswered = [replace(one, model=None, success=0.0, status=504) for one in GOOD[:25]]
    row = row_of("name", [*unanswered, *GOOD[25:]])
    assert (row.requests, row.failed, row.success) == (100, 25, 0.75)
    assert row.shares == {"m": 0.75, "none": 0.25}


def test_the_page_has_every_comparison_of_a_whole_run():
    chosen = alone(load_pool())
    singles = dict(zip((one.name for one in chosen), (POOR, POOR, POOR, POOR, DEAR), strict=True))
    runs = {MULTI_OBJECTIVE: GOOD, RANDOM: HALF, LATENCY_ONLY: POOR, **singles}
    page = markdown(find(runs, chosen, seed=1))
    assert f"| {MULTI_OBJECTIVE} | +75.0 [+75.0, +75.0] | -50.0 % [-50.0, -50.0] |" in page
    assert f"| {MULTI_OBJECTIVE} | +100.0 [+100.0, +100.0] | +100.0 [+100.0, +100.0] |" in page
    assert page.count(f"| {RANDOM} |") == 5
