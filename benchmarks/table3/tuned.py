"""The profile of the multi-objective row: found on the tune part, never on the questions that are reported."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.table3.pool import Limits
from router_model.catalogue import Catalogue
from router_model.classifier import Classifier
from router_model.outcomes import OutcomeRow
from router_model.tuning import Objective, Replay, Trial, best, grid, replay, search


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The most accurate profile within the limits (USD for 1,000 prompts, seconds of the service's clock)."""

    trial: Trial
    max_cost_usd_per_1k: float
    max_latency_s: float
    prompts: int


def tune(
    rows: Sequence[OutcomeRow], catalogue: Catalogue, classifier: Classifier, limits: Limits
) -> Tuned:
    """As `pickspin tune --max-cost-usd-per-1k .. --max-latency-s ..`; limits are shares of random allocation's means.

    Raises:
        NothingToTune: no profile keeps the limits.
    """
    found = replay(rows, catalogue, classifier)
    cost, latency = means_of_random(found)
    objective = Objective(
        max_cost_usd_per_1k=1000 * cost * limits.cost_of_random,
        max_latency_s=latency * limits.latency_of_random,
    )
    trial = best(search(found, grid()), objective)
    return Tuned(
        trial=trial,
        max_cost_usd_per_1k=1000 * cost * limits.cost_of_random,
        max_latency_s=latency * limits.latency_of_random,
        prompts=found.prompts,
    )


def means_of_random(found: Replay) -> tuple[float, float]:
    """(USD, seconds) of a call when every candidate is as likely as any other."""
    each = found.is_there.sum(axis=1)
    cost = (found.cost_usd * found.is_there).sum(axis=1) / each
    seconds = (found.seconds * found.is_there).sum(axis=1) / each
    return float(np.mean(cost)), float(np.mean(seconds))
