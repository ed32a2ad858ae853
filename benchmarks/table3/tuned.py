"""Profiles of the multi-objective rows: found on the tune part, never on the questions that are reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.table3.pool import Limits
from router_model.catalogue.model import Catalogue
from router_model.classifier.keyword_rules import Classifier
from router_model.replay.outcome_dataset import OutcomeRow
from router_model.replay.profile_search import (
    Objective,
    ScoredOutcomes,
    Trial,
    make_grid,
    score_outcomes,
    search,
    select_best,
)


@dataclass(frozen=True, slots=True)
class Tuned:
    """The most accurate profile within limits, and the limits, in seconds of the service's clock."""

    trial: Trial
    objective: Objective
    prompts: int


def tune(
    rows: Sequence[OutcomeRow],
    catalogue: Catalogue,
    classifier: Classifier,
    limits: Mapping[str, Limits],
) -> dict[str, Tuned]:
    """A profile for each set of limits, which are shares of random allocation's means.

    As `pickspin tune --max-cost-usd-per-1k .. --max-latency-s ..`.

    Raises:
        NothingToTune: no profile keeps the limits.
    """
    found = score_outcomes(rows, catalogue, classifier)
    cost, latency = means_of_random(found)
    trials = search(found, make_grid())
    tuned = {}
    for name, limit in limits.items():
        objective = Objective(
            max_cost_usd_per_1k=1000 * cost * limit.cost_of_random,
            max_latency_s=latency * limit.latency_of_random,
        )
        tuned[name] = Tuned(select_best(trials, objective), objective, found.prompts)
    return tuned


def means_of_random(found: ScoredOutcomes) -> tuple[float, float]:
    """(USD, seconds) of a call when every candidate is as likely as any other."""
    each = found.is_there.sum(axis=1)
    cost = (found.cost_usd * found.is_there).sum(axis=1) / each
    seconds = (found.seconds * found.is_there).sum(axis=1) / each
    return float(np.mean(cost)), float(np.mean(seconds))
