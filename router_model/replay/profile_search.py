"""Finding a profile: grid search of (alpha, lambda, mu) over recorded outcomes, replayed through Eq. 2.

Each prompt is scored once, by the same functions that decide requests; then every point of the grid is one pass of
arithmetic over arrays. Services are taken to be warm and idle. What a choice would have cost and taken is reckoned
from the catalogue's speeds and prices and from the length of the answer that the model really gave, where recorded.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from events.names import Operation, ReplicaState
from router_model.catalogue.model import Catalogue, Profile, Service
from router_model.classifier.features import CHARS_PER_TOKEN, PromptFeatures, extract_features
from router_model.classifier.keyword_rules import Classifier
from router_model.replay.outcome_dataset import EVALUATION_ONLY, OutcomeRow, assign_part
from router_model.routing.candidates import Candidate, Estimate, estimate
from router_model.routing.estimate_history import NO_HISTORY, EstimateHistory
from router_model.routing.estimates import estimate_cost_usd, estimate_finish
from router_model.routing.scoring import ScoreWeights, normalise_weights, score_candidates
from router_model.service_registry import ServiceView

MAX_PROMPTS: Final = 3000
"""The paper searched over this many validation prompts."""
LEAST_MODELS: Final = 2
"""With fewer models there is nothing to choose."""
_EVEN: Final = ScoreWeights(1 / 3, 1 / 3, 1 / 3)

Array = np.ndarray[Any, np.dtype[np.float64]]
Goal = Literal["accuracy", "utility"]


class NothingToTune(Exception):
    """No prompt can be replayed, or no profile keeps the limits; the message says which and what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What the best profile is. Limits are on means over prompts; None: no limit.

    `utility` is accuracy - `usd_weight` x USD per 1,000 prompts - `second_weight` x seconds.
    """

    maximise: Goal = "accuracy"
    max_cost_usd_per_1k: float | None = None
    max_latency_s: float | None = None
    usd_weight: float = 0.0
    second_weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A profile and what it would have got: mean score in [0, 1], USD for 1,000 prompts, mean seconds, and the share of
    prompts for each service.
    """

    profile: Profile
    accuracy: float
    cost_usd_per_1k: float
    latency_s: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredOutcomes:
    """Prompts x candidates. Row by row the candidates stand in the order that breaks ties; where a row has
    fewer, `is_there` is False. `got`, `cost_usd` and `seconds` are what a choice leads to;
    `service` indexes `services`.
    """

    services: tuple[str, ...]
    is_there: "np.ndarray[Any, np.dtype[np.bool_]]"
    relevance: Array
    latency: Array
    cost: Array
    got: Array
    cost_usd: Array
    seconds: Array
    service: "np.ndarray[Any, np.dtype[np.int64]]"

    @property
    def prompts(self) -> int:
        return int(self.relevance.shape[0])


def select_tuning_rows(
    rows: Iterable[OutcomeRow], catalogue: Catalogue, *, limit: int = MAX_PROMPTS, seed: int = 0
) -> list[OutcomeRow]:
    """Rows of the tune part that at least two of the catalogue's models answered, at most `limit`.

    Which ones depends on the seed and the rows' names only, not on their order.
    """
    names = {model.learned_name for model in _chat_models(catalogue)}
    kept = [
        row
        for row in rows
        if row.source not in EVALUATION_ONLY
        and assign_part(row.qkey) == "tune"
        and len(names & row.outcomes.keys()) >= LEAST_MODELS
    ]
    return sorted(kept, key=lambda row: _lot(row, seed))[:limit]


def score_outcomes(
    rows: Sequence[OutcomeRow],
    catalogue: Catalogue,
    classifier: Classifier,
    history: EstimateHistory = NO_HISTORY,
) -> ScoredOutcomes:
    """The rows with every term of Eq. 2, as the router would find them one after the other.

    Raises:
        NothingToTune: there is no row.
    """
    if not rows:
        names = ", ".join(model.learned_name for model in _chat_models(catalogue))
        raise NothingToTune(
            f"no prompt of the tune part was answered by two of the catalogue's models ({names})"
        )
    services = [s for m in _chat_models(catalogue) for s in catalogue.services_of(m.id)]
    places = {service.slug: n for n, service in enumerate(services)}
    shape = (len(rows), len(services))
    terms, gains = np.zeros((3, *shape)), np.zeros((3, *shape))
    place, is_there = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for n, row in enumerate(rows):
        features = extract_features(
            Operation.CHAT, {"messages": [{"role": "user", "content": row.prompt}]}
        )
        estimates = _estimates(row, catalogue, features, classifier)
        ranked = score_candidates(estimates, _EVEN, catalogue.norm, history)
        history = history.observe(ranked)
        by_slug = {one.candidate.service.slug: one for one in estimates}
        ordered = sorted(ranked, key=lambda t: (t.cost_usd, t.finish_s, t.service))
        for k, found in enumerate(ordered):
            terms[:, n, k] = found.relevance, found.latency, found.cost
            gains[:, n, k] = _gain(row, by_slug[found.service], features)
            place[n, k] = places[found.service]
            is_there[n, k] = True
    return ScoredOutcomes(
        services=tuple(places), is_there=is_there, relevance=terms[0], latency=terms[1], cost=terms[2],
        got=gains[0], cost_usd=gains[1], seconds=gains[2], service=place,
    )  # fmt: skip


def make_grid(step: float = 0.05) -> list[Profile]:
    """Every (alpha, lambda, mu) that is a multiple of `step` and sums to 1: only their proportions matter.

    Raises:
        ValueError: `step` does not divide 1.
    """
    parts = round(1 / step) if step > 0 else 0
    if parts < 1 or abs(parts * step - 1) > 1e-9:
        raise ValueError("the step must divide 1")
    return [
        Profile(alpha=a / parts, latency=b / parts, cost=(parts - a - b) / parts)
        for a in range(parts + 1)
        for b in range(parts + 1 - a)
    ]


def try_profile(found: ScoredOutcomes, profile: Profile) -> Trial:
    """What a profile would have got over the prompts."""
    weights = normalise_weights(profile)
    scores = (
        weights.relevance * found.relevance
        + weights.latency * found.latency
        + weights.cost * found.cost
    )
    chosen = np.argmax(np.where(found.is_there, np.clip(scores, 0.0, 1.0), -np.inf), axis=1)
    rows = np.arange(found.prompts)
    counts = np.bincount(found.service[rows, chosen], minlength=len(found.services))
    return Trial(
        profile=profile,
        accuracy=float(found.got[rows, chosen].mean()),
        cost_usd_per_1k=float(found.cost_usd[rows, chosen].mean() * 1000),
        latency_s=float(found.seconds[rows, chosen].mean()),
        shares={
            slug: float(count) / found.prompts
            for slug, count in zip(found.services, counts, strict=True)
            if count
        },
    )


def search(found: ScoredOutcomes, profiles: Iterable[Profile]) -> list[Trial]:
    """A trial of every profile."""
    return [try_profile(found, profile) for profile in profiles]


def select_pareto(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that no other beats in accuracy, cost and latency at once, most accurate first; one of equals."""
    distinct: dict[tuple[float, float, float], Trial] = {}
    for one in trials:
        distinct.setdefault((-one.accuracy, one.cost_usd_per_1k, one.latency_s), one)
    points = np.array(sorted(distinct)).reshape(-1, 3)
    front = []
    for point in points:
        beats = (points <= point).all(axis=1) & (points < point).any(axis=1)
        if not beats.any():
            front.append(distinct[tuple(point.tolist())])
    return front


def select_best(trials: Sequence[Trial], objective: Objective) -> Trial:
    """The trial that keeps the limits and gets most; of equals the cheaper, then the sooner, then the one in the middle
    of those that choose alike: other choices are farthest from it.

    Raises:
        NothingToTune: none keeps the limits; the message says how near they come.
    """
    allowed = [one for one in trials if _keeps(one, objective)]
    if not allowed:
        cheapest = min(one.cost_usd_per_1k for one in trials)
        soonest = min(one.latency_s for one in trials)
        raise NothingToTune(
            f"no profile keeps the limits: the cheapest costs {cheapest:.4g} USD per 1,000 prompts, "
            f"the fastest takes {soonest:.4g} s"
        )
    keys = [
        (-evaluate_trial(one, objective), one.cost_usd_per_1k, one.latency_s) for one in allowed
    ]
    least = min(keys)
    equals = [one for one, key in zip(allowed, keys, strict=True) if key == least]
    points = np.array([[p.alpha, p.latency, p.cost] for p in (one.profile for one in equals)])
    return equals[int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]


def evaluate_trial(one: Trial, objective: Objective) -> float:
    """What the objective makes of a trial; higher is better."""
    if objective.maximise == "accuracy":
        return one.accuracy
    return (
        one.accuracy
        - objective.usd_weight * one.cost_usd_per_1k
        - objective.second_weight * one.latency_s
    )


def _keeps(one: Trial, objective: Objective) -> bool:
    dollars, seconds = objective.max_cost_usd_per_1k, objective.max_latency_s
    return (dollars is None or one.cost_usd_per_1k <= dollars) and (
        seconds is None or one.latency_s <= seconds
    )


def _chat_models(catalogue: Catalogue) -> list[Any]:
    return [model for model in catalogue.models if "chat" in model.capabilities]


def _lot(row: OutcomeRow, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{row.source}:{row.id}".encode()).hexdigest()


def _estimates(
    row: OutcomeRow, catalogue: Catalogue, features: PromptFeatures, classifier: Classifier
) -> list[Estimate]:
    models = [m for m in _chat_models(catalogue) if m.learned_name in row.outcomes]
    found = classifier.classify(features, tuple(dict.fromkeys(m.learned_name for m in models)))
    return [
        estimate(Candidate(model, service, _idle(service)), features, found)
        for model in models
        for service in catalogue.services_of(model.id)
    ]


def _idle(service: Service) -> ServiceView:
    """One warm replica without work."""
    return ServiceView(
        slug=service.slug, state=ReplicaState.READY, ready=1, in_flight=0,
        capacity=service.concurrency, lag=0, eta_s=0.0, progress=None, tokens_per_s=None,
        service_s=None, message=None,
    )  # fmt: skip


def _gain(
    row: OutcomeRow, chosen: Estimate, features: PromptFeatures
) -> tuple[float, float, float]:
    """Score, dollars and seconds if this candidate answers."""
    candidate = chosen.candidate
    name = candidate.model.learned_name
    tokens = chosen.finish.answer_tokens
    if name in row.tokens:
        tokens = float(row.tokens[name][1])
    elif name in row.out_chars:
        tokens = row.out_chars[name] / CHARS_PER_TOKEN
    finish = estimate_finish(candidate.service, candidate.view, features, tokens)
    return (
        row.outcomes[name],
        estimate_cost_usd(candidate.service, finish),
        finish.total_s,
    )
