"""Scores every router on every case: values of the metrics, the bootstrap's draws of the primary one, and the curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench import pair_metrics, pool_metrics, success_metrics
from benchmarks.routebench.pool_metrics import Curve
from benchmarks.routebench.predictors import Predictor
from benchmarks.routebench.questions import Questions
from benchmarks.routebench.suites import Case

Array = NDArray[np.float64]
RANDOM_DRAWS: Final = 200
_POINTS: Final = 101


@dataclass(frozen=True, slots=True)
class Task:
    """One case with its data. `weights` [draws, scored questions] are those of the bootstrap."""

    case: Case
    train: Questions
    scored: Questions
    weights: Array


@dataclass(frozen=True, slots=True)
class Score:
    """One router on one case.

    `metrics` hold `apgr` or `aiq` first of all; None: cannot be said. `draws` are of that one; empty where it has no
    value. `curve` is (share of strong calls, accuracy) of a pair, (USD a question, accuracy) of a pool.
    """

    case: str
    router: str
    is_honest: bool
    metrics: Mapping[str, float | None]
    draws: Array
    curve: tuple[tuple[float, float], ...]

    @property
    def primary(self) -> float | None:
        return self.metrics.get("apgr", self.metrics.get("aiq"))


def score_routers(task: Task, routers: Sequence[Predictor], oracle: Predictor) -> list[Score]:
    """Every router that can take the case, then the fixed choices. The routers must have been fitted."""
    one = _score_pair if task.case.kind == "pair" else _score_pool
    best = one(task, oracle)
    found = [one(task, router) for router in (*routers, oracle)]
    fixed = _fixed_of_pair(task) if task.case.kind == "pair" else _fixed_of_pool(task)
    scores = [score for score in (*found, *fixed) if score is not None]
    return [_with_regret(task, score, best) for score in scores]


def _score_pair(task: Task, router: Predictor) -> Score:
    weak_name, strong_name = task.case.models
    weak, strong = task.scored.scores.T
    scores = router.pair_scores(task.scored.prompts, weak_name, strong_name)
    seeds = RANDOM_DRAWS if np.ptp(scores) == 0 else pair_metrics.TIE_SEEDS
    metrics = {
        "apgr": pair_metrics.apgr(scores, weak, strong, seeds),
        "cpt50": pair_metrics.call_share(scores, weak, strong, 0.5, seeds),
        "cpt80": pair_metrics.call_share(scores, weak, strong, 0.8, seeds),
        "max_accuracy": pair_metrics.max_accuracy(scores, weak, strong, seeds),
        **_success_metrics(task, router, task.train.models),
    }
    heights = pair_metrics.accuracy_curve(scores, weak, strong, _POINTS)
    return Score(
        task.case.name,
        router.name,
        router.is_honest,
        metrics,
        pair_metrics.apgr_draws(scores, weak, strong, task.weights),
        tuple(zip(np.linspace(0, 1, _POINTS).tolist(), heights.tolist(), strict=True)),
    )


def _score_pool(task: Task, router: Predictor) -> Score | None:
    success = router.success(task.scored.prompts, task.case.models)
    if success is None:
        return None
    if router.name == "random":
        return _random_pool(task)
    predicted = task.train.costs.mean(axis=0)
    curve = pool_metrics.routed(success, predicted, task.scored.scores, task.scored.costs)
    order = [task.case.models[column] for column in np.argsort(predicted)]
    more = _success_metrics(task, router, order)
    return _pool_score(task, router.name, curve, more, is_honest=router.is_honest)


def _pool_score(
    task: Task,
    name: str,
    curve: Curve,
    more: Mapping[str, float | None],
    *,
    is_honest: bool = True,
) -> Score:
    singles = Curve(task.scored.scores, task.scored.costs)
    points, single_points = pool_metrics.means(curve), pool_metrics.means(singles)
    aiq = pool_metrics.aiq(points, single_points)
    metrics = {
        "aiq": aiq,
        "aiq_over_hull": aiq - pool_metrics.aiq(single_points, single_points),
        "max_accuracy": max(accuracy for _, accuracy in points),
        "qnc95": pool_metrics.cost_to_reach(points, single_points, 0.95),
        "qnc100": pool_metrics.cost_to_reach(points, single_points, 1.0),
        **more,
    }
    draws = pool_metrics.aiq_draws(curve, singles, task.weights)
    return Score(task.case.name, name, is_honest, metrics, draws, tuple(pool_metrics.hull(points)))


def _random_pool(task: Task) -> Score:
    """A model at random for each question: AIQ is the mean of 200 draws, its bootstrap takes the expected values."""
    scores, costs = task.scored.scores, task.scored.costs
    singles = pool_metrics.means(Curve(scores, costs))
    generator, rows = np.random.default_rng(0), np.arange(len(scores))
    found = []
    for _ in range(RANDOM_DRAWS):
        pick = generator.integers(scores.shape[1], size=len(scores))
        found.append(
            pool_metrics.aiq([(costs[rows, pick].mean(), scores[rows, pick].mean())], singles)
        )
    expected = Curve(scores.mean(axis=1, keepdims=True), costs.mean(axis=1, keepdims=True))
    score = _pool_score(task, "random", expected, {})
    value = float(np.mean(found))
    over = value - pool_metrics.aiq(singles, singles)
    return replace(score, metrics={**score.metrics, "aiq": value, "aiq_over_hull": over})


def _fixed_of_pair(task: Task) -> list[Score]:
    """One model for everything has an accuracy, but no area."""
    found = task.scored.scores.mean(axis=0)
    return [
        Score(
            case=task.case.name,
            router=name,
            is_honest=True,
            metrics={"apgr": None, "max_accuracy": float(found[column])},
            draws=np.empty(0),
            curve=(),
        )
        for name, column in (("always small", 0), ("always large", 1))
    ]


def _fixed_of_pool(task: Task) -> list[Score]:
    """Small, large and best are chosen on the training questions; the hull mixes single models at random."""
    cost, right = task.train.costs.mean(axis=0), task.train.scores.mean(axis=0)
    singles = Curve(task.scored.scores, task.scored.costs)
    columns = {
        "always small": np.argmin(cost),
        "always large": np.argmax(cost),
        "best single": np.argmax(right),
    }
    curves = {
        name: Curve(singles.score[:, [column]], singles.cost[:, [column]])
        for name, column in columns.items()
    }
    curves["hull of singles"] = singles
    return [_pool_score(task, name, curve, {}) for name, curve in curves.items()]


def _success_metrics(
    task: Task, router: Predictor, order: Sequence[str]
) -> dict[str, float | None]:
    """Calibration, and balanced accuracy over tiers, `order` being the models by rising price."""
    if router.name == "random":
        return {}
    success = router.success(task.scored.prompts, order)
    if success is None:
        return {"ece": None, "tier_accuracy": None}
    columns = [task.scored.models.index(model) for model in order]
    scores, seen = task.scored.scores[:, columns], task.train.scores[:, columns]
    prior = np.bincount(success_metrics.needed_tier(seen), minlength=len(order)) / len(seen)
    predicted = success_metrics.predicted_tier(success, prior)
    return {
        "ece": success_metrics.calibration_error(success, scores),
        "tier_accuracy": success_metrics.balanced_accuracy(
            predicted, success_metrics.needed_tier(scores)
        ),
    }


def _with_regret(task: Task, score: Score, best: Score | None) -> Score:
    """Mean accuracy given up against the oracle over all budgets."""
    if score.primary is None or best is None or best.primary is None:
        return score
    regret = best.primary - score.primary
    if task.case.kind == "pair":
        weak, strong = task.scored.scores.T
        regret = pair_metrics.area_regret(score.primary, best.primary, weak, strong)
    return replace(score, metrics={**score.metrics, "regret": regret})
