import numpy as np
import pytest

from benchmarks.routebench.bootstrap import Difference, difference, draw_counts, row_weights
from benchmarks.routebench.scoring import Score
from benchmarks.routebench.verdicts import judge, summary


def score(router, value, draws, case="A", *, is_honest=True):
    return Score(case, router, is_honest, {"apgr": value}, np.asarray(draws, float), ())


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.1, "above"), (-0.1, 0.1, "tie"), (-0.1, -0.01, "below")]
)
def test_a_difference_counts_when_its_interval_leaves_zero(low, high, verdict):
    assert Difference(0.0, low, high).verdict == verdict


def test_differences_are_paired_draw_by_draw():
    ours, other = np.array([0.6, 0.7, 0.8]), np.array([0.5, 0.6, 0.7])
    found = difference(0.7, 0.6, ours, other)
    assert found.verdict == "above"
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_copies_of_a_question_are_drawn_together():
    counts = draw_counts(3, 200, seed=1)
    assert set(counts.sum(axis=1)) == {3}
    weights = row_weights(counts, ["a", "b", "c"], ["b", "a", "b"])
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == counts[:, 0]).all()


def test_above_means_above_every_honest_baseline():
    scores = [
        score("ours", 0.7, [0.70, 0.71]),
        score("random", 0.5, [0.5, 0.5]),
        score("length", 0.7, [0.69, 0.72]),
        score("oracle", 1.2, [1.2, 1.2], is_honest=False),
        score("ours keyword", 0.9, [0.9, 0.9]),
    ]
    judged = judge("A", ["A"], scores, 0.69)
    assert judged.verdict == "tie"
    assert judged.unbeaten == {"length": "tie"}
    assert judge("A", ["A"], scores[:2], None).verdict == "above"


def test_below_one_baseline_is_below():
    scores = [score("ours", 0.5, [0.5, 0.5]), score("length", 0.6, [0.6, 0.6])]
    judged = judge("A", ["A"], scores, None)
    assert judged.verdict == "below"
    assert summary([], 7, [judged])[1] == "significantly below a baseline in: A"


def test_a_suite_of_two_cases_has_their_mean_and_needs_both():
    scores = [
        score("ours", 0.7, [0.7, 0.8], "C1"),
        score("ours", 0.5, [0.5, 0.4], "C2"),
        score("random", 0.5, [0.5, 0.5], "C1"),
    ]
    judged = judge("C", ["C1", "C2"], scores, None)
    assert (judged.value, judged.low, judged.high) == (pytest.approx(0.6),) * 3
    assert not judged.differences
    assert judge("X", ["C1", "C3"], scores, None) is None
