"""Metrics of a router between two models. Pure functions over arrays, one for each metric.

`scores` is any number that grows with the wish for the strong model, `weak` and `strong` are the scores in [0, 1] that
the models reached, all of shape [n]. PGR (performance gap recovered) = (accuracy - weak) / (strong - weak), after
RouteLLM (arXiv 2406.18665). Ties are broken at random and the result is the mean over `seeds` orders.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TIE_SEEDS: Final = 20


def apgr(scores: Array, weak: Array, strong: Array, seeds: int = TIE_SEEDS) -> float:
    """Area under PGR over the share of strong calls: random is 0.5. NaN where the strong model is not better."""
    return float(np.mean([_area(curve) for curve in _pgr_curves(scores, weak, strong, seeds)]))


def call_share(
    scores: Array, weak: Array, strong: Array, recovered: float, seeds: int = TIE_SEEDS
) -> float:
    """CPT: the least share of strong calls at which PGR reaches `recovered` (0.5, 0.8). Lower is better."""
    shares = []
    for curve in _pgr_curves(scores, weak, strong, seeds):
        if np.isnan(curve[-1]):
            return float("nan")
        shares.append(np.argmax(curve >= recovered - 1e-12) / (len(curve) - 1))
    return float(np.mean(shares))


def max_accuracy(scores: Array, weak: Array, strong: Array, seeds: int = TIE_SEEDS) -> float:
    """The highest accuracy over all shares of strong calls."""
    return float(np.mean([_accuracies(scores, weak, strong, seed).max() for seed in range(seeds)]))


def accuracy_curve(scores: Array, weak: Array, strong: Array, points: int = 101) -> Array:
    """Accuracy at `points` even shares of strong calls from 0 to 1, mean over the tie orders."""
    grid = np.linspace(0, 1, points)
    curves = (_accuracies(scores, weak, strong, seed) for seed in range(TIE_SEEDS))
    at = np.linspace(0, 1, len(scores) + 1)
    return np.mean([np.interp(grid, at, curve) for curve in curves], axis=0)


def area_regret(apgr_found: float, apgr_oracle: float, weak: Array, strong: Array) -> float:
    """Accuracy given up against the oracle, as the mean over all shares of strong calls."""
    return float((apgr_oracle - apgr_found) * (strong.mean() - weak.mean()))


def apgr_draws(scores: Array, weak: Array, strong: Array, weights: Array) -> Array:
    """APGR under each row of `weights` [draws, n]: how often a draw holds each question.

    Tied questions share one straight segment of the curve, which is the mean over all random orders. NaN for a draw in
    which the strong model is not better.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    chosen = weights[:, order]
    gained = np.cumsum(chosen * (strong - weak)[order], axis=1)[:, ends]
    called = np.cumsum(chosen, axis=1)[:, ends]
    total = gained[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        recovered = np.where(total > 0, gained / total, np.nan)
    start = np.zeros((len(weights), 1))
    heights = np.hstack([start, recovered])
    places = np.hstack([start, called / called[:, -1:]])
    return np.trapezoid(heights, places, axis=1)


def _pgr_curves(scores: Array, weak: Array, strong: Array, seeds: int) -> Iterator[Array]:
    gap = strong.mean() - weak.mean()
    for seed in range(seeds):
        gained = _accuracies(scores, weak, strong, seed) - weak.mean()
        yield gained / gap if gap > 0 else np.full(len(scores) + 1, np.nan)


def _accuracies(scores: Array, weak: Array, strong: Array, seed: int) -> Array:
    """Accuracy with the k most wanting questions sent to the strong model, for k = 0..n."""
    noise = np.random.default_rng(seed).random(len(scores))
    order = np.lexsort((noise, -scores))
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[order])])
    return weak.mean() + gained / len(scores)


def _area(curve: Array) -> float:
    return float(np.trapezoid(curve, np.linspace(0, 1, len(curve))))
