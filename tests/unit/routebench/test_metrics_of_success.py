import numpy as np
import pytest

from benchmarks.routebench.success_metrics import (
    balanced_accuracy,
    calibration_error,
    needed_tier,
    predicted_tier,
)


def test_calibration_error_is_the_distance_of_what_was_said_from_what_happened():
    happened = np.array([1.0, 0.0, 1.0, 0.0])
    assert calibration_error(np.full(4, 0.5), happened) == 0
    assert calibration_error(np.full(4, 0.9), happened) == pytest.approx(0.4)
    assert calibration_error(happened, happened) == 0
    assert calibration_error(1 - happened, happened) == 1


def test_the_needed_tier_is_the_cheapest_that_is_right_else_the_lowest():
    scores = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], float)
    assert needed_tier(scores).tolist() == [0, 1, 2, 0]


def test_perfect_knowledge_finds_every_needed_tier():
    scores = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], float)
    found = predicted_tier(scores, np.full(3, 1 / 3))
    assert found.tolist() == needed_tier(scores).tolist()


def test_a_rare_tier_is_predicted_when_its_chance_exceeds_its_prior():
    success = np.array([[0.7, 0.9]])
    assert predicted_tier(success, np.array([0.5, 0.5])).tolist() == [0]
    assert predicted_tier(success, np.array([0.9, 0.1])).tolist() == [1]


def test_always_small_has_balanced_accuracy_of_one_in_the_number_of_tiers():
    needed = np.array([0] * 90 + [1] * 10)
    assert balanced_accuracy(np.zeros(100, int), needed) == 0.5
