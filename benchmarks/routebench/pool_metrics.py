"""Metrics of a router among several models, by money. Pure functions over arrays, one for each metric.

A router's `Curve` holds, for each of its settings (columns), what every question scored and cost. Settings are points
(cost, accuracy); the non-decreasing convex hull over them is what a mixture of settings reaches (RouterBench, arXiv
2403.12031).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Points = list[tuple[float, float]]
WEIGHTS: Final = np.concatenate([[0.0], np.geomspace(1e-3, 1e5, 80)])
"""Settings of every router: the weight of cost against success, cost being a share of the dearest model's."""


@dataclass(frozen=True, slots=True)
class Curve:
    """`score` and `cost` (USD), both [n, settings]."""

    score: Array
    cost: Array


def routed(success: Array, predicted_cost: Array, scores: Array, costs: Array) -> Curve:
    """What choosing argmax(success - weight * cost) gets at each weight.

    `success` is predicted, [n, models]; `predicted_cost` USD, [models] or [n, models]; `scores` and `costs` are what
    really happened. Equal candidates go to the cheaper one, then to the first.
    """
    share = np.broadcast_to(predicted_cost / np.max(predicted_cost), success.shape)
    rows = np.arange(len(success))
    tie = 1e-9 * share
    picks = [np.argmax(success - weight * share - tie, axis=1) for weight in WEIGHTS]
    return Curve(
        np.stack([scores[rows, pick] for pick in picks], axis=1),
        np.stack([costs[rows, pick] for pick in picks], axis=1),
    )


def hull(points: Points) -> Points:
    """The non-decreasing convex hull of (cost, accuracy), from the cheapest point to the most accurate one."""
    rising: Points = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not rising or accuracy > rising[-1][1]:
            rising.append((cost, accuracy))
    kept: Points = []
    for point in rising:
        while len(kept) > 1 and _is_below(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return kept


def aiq(points: Points, singles: Points) -> float:
    """Mean accuracy of the hull over the costs from the cheapest to the dearest single model.

    The cheapest single model counts as a setting of every router: each could always use it.
    """
    low, high = min(singles), max(cost for cost, _ in singles)
    found = hull([*points, low])
    if high <= low[0]:
        return max(accuracy for cost, accuracy in found if cost <= high)
    places, heights = zip(*found, strict=True)
    inside = [place for place in places if low[0] < place < high]
    grid = np.array([low[0], *inside, high])
    return float(np.trapezoid(np.interp(grid, places, heights), grid) / (high - low[0]))


def cost_to_reach(points: Points, singles: Points, share: float) -> float | None:
    """QNC: cost of reaching `share` of the best single model's accuracy, over that model's cost; None: never."""
    best_cost, best = max(singles, key=lambda point: (point[1], -point[0]))
    found = hull([*points, min(singles)])
    wanted = share * best
    for index, (cost, accuracy) in enumerate(found):
        if accuracy >= wanted - 1e-12:
            if index == 0 or accuracy == found[index - 1][1]:
                return cost / best_cost
            before_cost, before = found[index - 1]
            part = (wanted - before) / (accuracy - before)
            return (before_cost + max(0.0, part) * (cost - before_cost)) / best_cost
    return None


def means(curve: Curve) -> Points:
    """The settings of a curve as points."""
    return list(
        zip(curve.cost.mean(axis=0).tolist(), curve.score.mean(axis=0).tolist(), strict=True)
    )


def aiq_draws(curve: Curve, singles: Curve, weights: Array) -> Array:
    """AIQ under each row of `weights` [draws, n]: how often a draw holds each question."""
    share = weights / weights.sum(axis=1, keepdims=True)
    costs, scores = share @ curve.cost, share @ curve.score
    single_costs, single_scores = share @ singles.cost, share @ singles.score
    return np.array(
        [
            aiq(
                list(zip(costs[draw], scores[draw], strict=True)),
                list(zip(single_costs[draw], single_scores[draw], strict=True)),
            )
            for draw in range(len(weights))
        ]
    )


def _is_below(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether the middle point lies on or under the line from left to right."""
    run, rise = right[0] - left[0], right[1] - left[1]
    return (middle[1] - left[1]) * run <= rise * (middle[0] - left[0])
