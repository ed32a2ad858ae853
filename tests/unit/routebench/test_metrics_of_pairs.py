import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.routebench.pair_metrics import (
    accuracy_curve,
    apgr,
    apgr_draws,
    area_regret,
    call_share,
    max_accuracy,
)

WEAK = np.array([1.0, 0.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 1.0])


def test_random_scores_recover_half_of_the_area():
    dice = np.random.default_rng(0)
    weak = (dice.random(2000) < 0.4).astype(float)
    strong = (dice.random(2000) < 0.7).astype(float)
    assert apgr(np.zeros(2000), weak, strong, seeds=50) == pytest.approx(0.5, abs=0.02)


def test_asking_the_strong_model_first_where_it_helps_is_best():
    gap_first = np.array([0.0, 1.0, 1.0, 0.0])
    # Gained after 0..4 calls: 0, 1/2, 1, 1, 1.
    assert apgr(gap_first, WEAK, STRONG) == pytest.approx((0.25 + 0.75 + 1 + 1) / 4)
    assert call_share(gap_first, WEAK, STRONG, 0.5) == 0.25
    assert call_share(gap_first, WEAK, STRONG, 0.8) == 0.5
    assert apgr(-gap_first, WEAK, STRONG) == pytest.approx(0.25)


def test_a_router_may_be_more_accurate_than_the_strong_model():
    weak, strong = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0])
    assert max_accuracy(np.array([0.0, 1.0, 1.0]), weak, strong) == 1.0
    assert apgr(np.array([0.0, 1.0, 1.0]), weak, strong) > 1


def test_the_curve_runs_from_the_weak_to_the_strong_model():
    curve = accuracy_curve(np.arange(4.0), WEAK, STRONG, points=5)
    assert (curve[0], curve[-1]) == (0.5, 1.0)
    assert curve.tolist() == [0.5, 0.5, 0.75, 1.0, 1.0]


def test_there_is_no_gap_to_recover_where_the_strong_model_is_not_better():
    assert np.isnan(apgr(np.arange(4.0), STRONG, WEAK))
    assert np.isnan(call_share(np.arange(4.0), STRONG, WEAK, 0.5))


def test_regret_is_in_accuracy():
    assert area_regret(0.6, 1.0, WEAK, STRONG) == pytest.approx(0.4 * 0.5)


@given(arrays(float, 12, elements=st.sampled_from([0.0, 1.0, 2.0])))
def test_the_bootstrap_of_the_data_itself_is_the_metric(scores):
    dice = np.random.default_rng(7)
    weak, strong = (dice.random(12) < 0.3).astype(float), np.ones(12)
    (drawn,) = apgr_draws(scores, weak, strong, np.ones((1, 12)))
    assert drawn == pytest.approx(apgr(scores, weak, strong, seeds=400), abs=0.05)


def test_a_weight_of_two_is_the_question_twice():
    scores = np.array([0.1, 0.9, 0.4, 0.2])
    (drawn,) = apgr_draws(scores, WEAK, STRONG, np.array([[1.0, 2.0, 1.0, 0.0]]))
    rows = [0, 1, 1, 2]
    (plain,) = apgr_draws(scores[rows], WEAK[rows], STRONG[rows], np.ones((1, 4)))
    assert drawn == pytest.approx(plain)


def test_a_draw_without_a_gap_has_no_value():
    assert np.isnan(apgr_draws(np.arange(4.0), WEAK, STRONG, np.array([[1.0, 0, 0, 1.0]]))[0])
