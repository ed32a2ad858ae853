"""Platt scaling, calibration error, mixtures, answer lengths and gates, each on data whose answer is known."""

import numpy as np
import pytest

from router_model.classifier.heads import OutlierGate
from router_model.training import calibration


def drawn(seed: int, odds: np.ndarray) -> np.ndarray:
    """0 or 1 with these log odds."""
    chance = 1 / (1 + np.exp(-odds))
    return (np.random.default_rng(seed).random(odds.shape) < chance).astype(np.float32)


@pytest.fixture
def odds() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1.5, (6000, 3)).astype(np.float32)


def test_a_known_scale_and_shift_are_found_again() -> None:
    """With so many labels that what all models have in common counts little."""
    odds = np.random.default_rng(0).normal(0, 1.5, (150_000, 3)).astype(np.float32)
    labels = drawn(1, odds)
    raw = (odds - np.array([0.5, 0.0, -1.0])) * np.array([4.0, 1.0, 0.5])
    found = calibration.calibrate(raw.astype(np.float32), labels)
    np.testing.assert_allclose(found.scale, [0.25, 1.0, 2.0], rtol=0.1)
    np.testing.assert_allclose(found.shift, [0.5, 0.0, -1.0], atol=0.15)
    assert calibration.log_loss(found.apply(raw), labels) < calibration.log_loss(raw, labels)


def test_a_model_with_few_labels_is_calibrated_like_all(odds: np.ndarray) -> None:
    labels = drawn(1, odds)
    labels[3:, 2] = np.nan
    found = calibration.calibrate(odds * 3, labels)
    np.testing.assert_allclose(found.scale[:2], 1 / 3, rtol=0.1)
    assert 0.2 < found.scale[2] < 0.5


def test_a_handful_of_right_answers_moves_nothing_far() -> None:
    """All right, perfectly apart: without a prior the scale would run away."""
    logits = np.array([[2.0], [1.0], [-1.0]], np.float32)
    found = calibration.calibrate(logits, np.array([[1.0], [1.0], [0.0]], np.float32))
    assert 0.5 < found.scale[0] < 2
    assert abs(found.shift[0]) < 1


def test_a_scale_never_turns_a_head_over() -> None:
    logits = np.linspace(-3, 3, 2000, dtype=np.float32)[:, None]
    assert calibration.calibrate(logits, drawn(2, -logits)).scale[0] > 0


def test_right_chances_have_next_to_no_calibration_error(odds: np.ndarray) -> None:
    labels = drawn(3, odds)
    labels[::2, 0] = np.nan
    assert calibration.expected_calibration_error(odds, labels) < 0.02
    assert calibration.expected_calibration_error(odds * 4, labels) > 0.1


def test_calibration_error_of_a_coin_called_sure_is_a_half() -> None:
    labels = np.array([[0.0], [1.0]] * 10)
    found = calibration.expected_calibration_error(np.full((20, 1), 30.0), labels)
    assert found == pytest.approx(0.5)


def test_a_mixture_takes_what_is_right_and_leaves_noise(odds: np.ndarray) -> None:
    noise = np.random.default_rng(9).normal(0, 2, odds.shape)
    shares = calibration.best_mixture([noise, odds, noise[::-1]], drawn(4, odds))
    assert sum(shares) == pytest.approx(1)
    assert shares[1] >= 0.8


def test_two_halves_of_the_truth_are_mixed_in_halves() -> None:
    parts = np.random.default_rng(5).normal(0, 2, (2, 20000, 1))
    assert calibration.best_mixture(list(parts), drawn(5, parts.mean(axis=0))) == (0.5, 0.5)


def test_answer_lengths_and_verbosity_are_found_again() -> None:
    latent = np.random.default_rng(6).normal(0, 1, (3000, 4)).astype(np.float32)
    usual = latent @ [0.5, 0.0, -0.25, 0.0] + 5
    lengths = np.stack([usual - 0.5, usual + 0.5, np.full(3000, np.nan)], axis=1)
    weight, bias, verbosity = calibration.length_head(latent, lengths, ("short", "long", "unknown"))
    np.testing.assert_allclose(weight, [0.5, 0, -0.25, 0], atol=0.01)
    assert bias == pytest.approx(5, abs=0.01)
    assert verbosity["long"] - verbosity["short"] == pytest.approx(1, abs=0.01)
    assert "unknown" not in verbosity


def test_without_any_length_an_answer_is_of_usual_length() -> None:
    weight, bias, verbosity = calibration.length_head(
        np.ones((5, 4), np.float32), np.full((5, 2), np.nan), ("a", "b")
    )
    assert (weight == 0).all()
    assert np.exp(bias) == pytest.approx(256)
    assert verbosity == {}


def around(seed: int, count: int) -> np.ndarray:
    """Points near the first four axes of eight."""
    draw = np.random.default_rng(seed)
    found = np.eye(8)[draw.integers(0, 4, count)] + draw.normal(0, 0.1, (count, 8))
    return (found * draw.uniform(1, 5, (count, 1))).astype(np.float32)


def test_a_gate_lets_the_like_in_and_turns_the_unlike_away() -> None:
    gate = OutlierGate(*calibration.gate_of(around(1, 2000), around(2, 500), seed=0))
    assert np.mean([gate.is_outlier(point) for point in around(3, 1000)]) < 0.04
    assert all(gate.is_outlier(point) for point in np.eye(8, dtype=np.float32)[4:])
    np.testing.assert_allclose(np.linalg.norm(gate.centroids, axis=1), 1, rtol=1e-5)


def test_a_gate_of_fewer_prompts_than_centroids_still_works() -> None:
    gate = OutlierGate(*calibration.gate_of(around(1, 30), around(2, 3), seed=0))
    assert len(gate.centroids) == 30
    assert np.mean([gate.is_outlier(point) for point in around(3, 200)]) < 0.02
    assert gate.is_outlier(np.eye(8, dtype=np.float32)[7])


def test_the_low_end_of_few_values_lies_below_them_and_of_many_within() -> None:
    values = np.linspace(0.5, 1, 1000, dtype=np.float32)
    assert calibration.low_end(values, 0.01) == pytest.approx(0.505, abs=1e-3)
    assert calibration.low_end(values[:2], 0.01) == pytest.approx(0.255, abs=1e-3)
    assert calibration.low_end(np.array([-0.5]), 0.01) == -0.5


def test_a_band_holds_its_share_of_prompts() -> None:
    logits = np.random.default_rng(8).normal(0, 1, (1000, 3)).astype(np.float32)
    band = calibration.band_of(logits, share=0.35)
    raised = np.exp(logits)
    chances = np.sort(raised / raised.sum(axis=1, keepdims=True), axis=1)
    assert np.mean(chances[:, 2] - chances[:, 1] < band) == pytest.approx(0.35, abs=0.002)
