"""Tuning: rows of the tune part only, the same choices as the router's, objectives kept, a front nothing beats."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.model import Catalogue, Profile
from router_model.classifier.features import PromptFeatures, extract_features
from router_model.classifier.keyword_rules import Classification
from router_model.replay.outcome_dataset import EVALUATION_ONLY, OutcomeRow, assign_part
from router_model.replay.profile_search import (
    NothingToTune,
    Objective,
    Trial,
    make_grid,
    score_outcomes,
    search,
    select_best,
    select_pareto,
    select_tuning_rows,
    try_profile,
)
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.estimate_history import start_history
from router_model.routing.select import decide
from router_model.service_registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TEXT = """
models:
  - {id: small, learned_as: S, weights: {url: "http://a"}}
  - {id: large, learned_as: L, tier: L3, weights: {url: "http://b"}}
  - {id: other, weights: {url: "http://c"}}
  - {id: vectors, capabilities: [embeddings], weights: {url: "http://d"}}
services:
  - {model: small, backend: {kind: openai}, price_per_hour_usd: 1, tokens_per_s: 100}
  - {model: large, backend: {kind: openai}, price_per_hour_usd: 8, tokens_per_s: 25}
  - {model: large, backend: {kind: vllm}, price_per_hour_usd: 8, tokens_per_s: 30}
  - {model: other, backend: {kind: openai}, price_per_hour_usd: 2, tokens_per_s: 60}
  - {model: vectors, backend: {kind: openai}}
"""


class KnowsHard:
    """A classifier that knows both models: prompts with `hard` in them are beyond the small one."""

    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
        is_hard = "hard" in features.text
        known = {"S": 0.2 if is_hard else 0.9, "L": 0.95}
        return Classification(
            "high" if is_hard else "low",
            "test",
            success={name: known[name] for name in models if name in known},
            answer_tokens={"S": 50.0, "L": 80.0},
        )


def catalogue(norm: str = "minmax") -> Catalogue:
    return load_catalogue(f"{TEXT}norm: {norm}\n")


def keys(part: str) -> list[str]:
    return [key for key in map(str, range(2000)) if assign_part(key) == part]


def row(key: str, *, is_hard: bool = False, **more: object) -> OutcomeRow:
    fields: dict[str, object] = {
        "id": f"set/{key}",
        "source": "set",
        "benchmark": "set",
        "qkey": key,
        "prompt": f"a {'hard' if is_hard else 'plain'} question {key}",
        "outcomes": {"S": 0.0 if is_hard else 1.0, "L": 1.0},
    }
    return OutcomeRow(**fields | more)  # type: ignore[arg-type]


@pytest.fixture
def rows() -> list[OutcomeRow]:
    return [row(key, is_hard=n % 4 == 0) for n, key in enumerate(keys("tune")[:80])]


def warm(found: Catalogue) -> Registry:
    registry = Registry()
    for service in found.services:
        registry = registry.apply(
            StatusData(service=service.slug, replica="0", state=ReplicaState.READY, at=NOW,
                          concurrency=service.concurrency)
        )  # fmt: skip
    return registry


def test_only_answered_rows_of_the_tune_part_count(rows: list[OutcomeRow]) -> None:
    others = [row(key) for part in ("train", "dev") for key in keys(part)[:20]]
    tune = keys("tune")[100]
    alone = row(tune, outcomes={"S": 1.0, "unknown": 1.0})
    barred = row(tune, source=min(EVALUATION_ONLY))
    found = select_tuning_rows([*others, alone, barred, *rows], catalogue())
    assert {one.qkey for one in found} == {one.qkey for one in rows}


def test_the_sample_depends_on_the_seed_and_not_on_the_order(rows: list[OutcomeRow]) -> None:
    first = select_tuning_rows(rows, catalogue(), limit=10, seed=1)
    assert select_tuning_rows(rows[::-1], catalogue(), limit=10, seed=1) == first
    assert select_tuning_rows(rows, catalogue(), limit=10, seed=2) != first
    assert len(first) == 10


@pytest.mark.parametrize("norm", ["minmax", "distributional"])
def test_a_replay_chooses_what_the_router_chooses(rows: list[OutcomeRow], norm: str) -> None:
    found = catalogue(norm)
    registry, history = warm(found), start_history(found.norm, 40)
    for profile in make_grid(0.25):
        counts: dict[str, float] = {}
        seen = history
        for each in rows:
            features = extract_features(
                Operation.CHAT, {"messages": [{"role": "user", "content": each.prompt}]}
            )
            made = decide(
                RouteRequest(model="auto", features=features, profile="p"),
                RoutingContext(
                    catalogue=only(found, profile),
                    registry=registry,
                    now=NOW,
                    classifier=KnowsHard(),
                    history=seen,
                ),
            )
            seen = seen.observe(made.candidates)
            counts[made.service] = counts.get(made.service, 0) + 1 / len(rows)
        got = try_profile(score_outcomes(rows, found, KnowsHard(), history), profile)
        assert got.shares == pytest.approx(counts)


def only(found: Catalogue, profile: Profile) -> Catalogue:
    """The catalogue without the model that no row knows, and with one profile."""
    import msgspec  # noqa: PLC0415

    services = tuple(s for s in found.services if s.model != "other")
    return msgspec.structs.replace(
        found, services=services, profiles={"p": profile}, default_profile="p"
    )


def test_gains_are_reckoned_from_what_was_really_answered() -> None:
    key = keys("tune")[0]
    measured = row(key, tokens={"S": (10, 400)}, out_chars={"S": 4, "L": 400})
    found = score_outcomes([measured], catalogue(), KnowsHard())
    cheapest = try_profile(found, Profile(alpha=0, latency=0, cost=1))
    assert cheapest.shares == {"small": 1.0}
    seconds = 0.2 + 400 / 100
    assert cheapest.latency_s == pytest.approx(seconds, abs=0.02)
    (small,) = (service for service in catalogue().services if service.slug == "small")
    place_usd_per_s = small.price_per_hour_usd / 3600 / small.concurrency
    assert cheapest.cost_usd_per_1k == pytest.approx(1000 * seconds * place_usd_per_s, rel=0.01)
    best_quality = Profile(alpha=1, latency=0, cost=0)
    assert try_profile(found, best_quality).accuracy == 1.0


def test_the_grid_holds_every_proportion_once() -> None:
    found = make_grid(0.05)
    assert len(found) == 231
    assert len({(p.alpha, p.latency, p.cost) for p in found}) == 231
    assert all(math.isclose(p.alpha + p.latency + p.cost, 1) for p in found)
    for step in (0.0, -1.0, 0.3):
        with pytest.raises(ValueError, match="divide"):
            make_grid(step)


def test_the_best_profile_keeps_small_prompts_small(rows: list[OutcomeRow]) -> None:
    trials = search(score_outcomes(rows, catalogue(), KnowsHard()), make_grid(0.05))
    everything = select_best(trials, Objective())
    assert everything.accuracy == 1.0
    dear = max(one.cost_usd_per_1k for one in trials if one.accuracy == 1.0)
    assert everything.cost_usd_per_1k < dear
    assert 0.7 < everything.shares["small"] < 0.8


def test_limits_are_kept(rows: list[OutcomeRow]) -> None:
    trials = search(score_outcomes(rows, catalogue(), KnowsHard()), make_grid(0.05))
    free = select_best(trials, Objective())
    frugal = select_best(trials, Objective(max_cost_usd_per_1k=free.cost_usd_per_1k * 0.9))
    assert frugal.cost_usd_per_1k <= free.cost_usd_per_1k * 0.9
    assert frugal.accuracy < free.accuracy
    with pytest.raises(NothingToTune, match="cheapest costs"):
        select_best(trials, Objective(max_latency_s=1e-6))


def test_utility_trades_accuracy_for_dollars_and_seconds(rows: list[OutcomeRow]) -> None:
    trials = search(score_outcomes(rows, catalogue(), KnowsHard()), make_grid(0.05))
    chosen = [
        select_best(trials, Objective(maximise="utility", usd_weight=weight)).cost_usd_per_1k
        for weight in (0.0, 0.5, 100.0)
    ]
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[-1] == min(one.cost_usd_per_1k for one in trials)
    hurried = select_best(trials, Objective(maximise="utility", second_weight=100.0))
    assert hurried.latency_s == min(one.latency_s for one in trials)


def made(accuracy: float, cost: float, latency: float) -> Trial:
    return Trial(profile=Profile(alpha=1, latency=0, cost=0), accuracy=accuracy,
                 cost_usd_per_1k=cost, latency_s=latency, shares={})  # fmt: skip


def test_the_front_is_what_nothing_beats() -> None:
    random = np.random.default_rng(7)
    trials = [made(*point) for point in random.integers(0, 5, (60, 3)).tolist()]

    def beats(one: Trial, other: Trial) -> bool:
        mine = (-one.accuracy, one.cost_usd_per_1k, one.latency_s)
        theirs = (-other.accuracy, other.cost_usd_per_1k, other.latency_s)
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    expected = {
        (one.accuracy, one.cost_usd_per_1k, one.latency_s)
        for one in trials
        if not any(beats(other, one) for other in trials)
    }
    front = select_pareto(trials)
    assert {(one.accuracy, one.cost_usd_per_1k, one.latency_s) for one in front} == expected
    assert len(front) == len(expected)


def test_of_equals_the_middle_one_is_chosen() -> None:
    profiles = [Profile(alpha=a / 10, latency=0, cost=1 - a / 10) for a in range(3, 8)]
    equals = [
        Trial(profile=p, accuracy=1.0, cost_usd_per_1k=1.0, latency_s=1.0, shares={})
        for p in profiles
    ]
    assert select_best(equals, Objective()).profile.alpha == 0.5


def test_nothing_to_replay_is_said() -> None:
    with pytest.raises(NothingToTune, match="S, L, other"):
        score_outcomes([], catalogue(), KnowsHard())
