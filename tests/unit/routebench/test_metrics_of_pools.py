import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.routebench.pool_metrics import (
    Curve,
    aiq,
    aiq_draws,
    cost_to_reach,
    hull,
    means,
    routed,
)

SINGLES = [(1.0, 0.4), (2.0, 0.5), (3.0, 0.8), (5.0, 0.7)]


def test_the_hull_drops_what_is_dearer_and_no_better_or_under_a_mixture():
    assert hull(SINGLES) == [(1.0, 0.4), (3.0, 0.8)]
    assert hull([(1.0, 0.4), (1.0, 0.6), (1.0, 0.6)]) == [(1.0, 0.6)]


def test_aiq_is_the_mean_height_of_the_hull_over_the_costs_of_single_models():
    # From 1 to 3 it rises from .4 to .8, from 3 to 5 it stays at .8.
    assert aiq(SINGLES, SINGLES) == pytest.approx((0.6 * 2 + 0.8 * 2) / 4)
    assert aiq([(1.0, 0.9)], SINGLES) == pytest.approx(0.9)


def test_a_setting_beyond_the_dearest_model_counts_only_as_far_as_the_range_goes():
    assert aiq([(9.0, 1.2)], SINGLES) == pytest.approx((0.4 + 0.8) / 2)


@given(
    st.lists(st.tuples(st.floats(0.1, 9), st.floats(0, 1)), min_size=1, max_size=8),
    st.tuples(st.floats(0.1, 9), st.floats(0, 1)),
)
def test_another_setting_never_lowers_the_aiq(points, more):
    assert aiq([*points, more], SINGLES) >= aiq(points, SINGLES) - 1e-9


def test_the_cost_to_reach_a_share_is_relative_to_the_best_single_model():
    points = [(1.0, 0.4), (2.0, 0.8)]
    assert cost_to_reach(points, SINGLES, 1.0) == pytest.approx(2 / 3)
    assert cost_to_reach(points, SINGLES, 0.75) == pytest.approx(1.5 / 3)
    assert cost_to_reach([(1.0, 0.5)], SINGLES, 1.0) is None
    assert cost_to_reach([], SINGLES, 0.5) == pytest.approx(1 / 3)


def test_without_weight_on_cost_the_likeliest_wins_and_with_much_the_cheapest():
    success = np.array([[0.2, 0.9], [0.8, 0.1]])
    scores, costs = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 9.0], [1.5, 7.0]])
    curve = routed(success, np.array([1.0, 8.0]), scores, costs)
    assert (curve.score[:, 0].tolist(), curve.cost[:, 0].tolist()) == ([1, 1], [9, 1.5])
    assert (curve.score[:, -1].tolist(), curve.cost[:, -1].tolist()) == ([0, 1], [1, 1.5])


def test_of_equal_candidates_the_cheaper_is_taken():
    curve = routed(
        np.full((1, 2), 0.5), np.array([8.0, 1.0]), np.eye(2)[:1], np.array([[8.0, 1.0]])
    )
    assert curve.cost[0, 0] == 1.0


def test_the_bootstrap_of_the_data_itself_is_the_metric():
    dice = np.random.default_rng(1)
    singles = Curve(
        (dice.random((40, 3)) < [0.3, 0.5, 0.7]).astype(float),
        dice.random((40, 3)) + np.array([1, 3, 5]),
    )
    picked = routed(dice.random((40, 3)), singles.cost.mean(axis=0), singles.score, singles.cost)
    (drawn,) = aiq_draws(picked, singles, np.ones((1, 40)))
    assert drawn == pytest.approx(aiq(means(picked), means(singles)))
