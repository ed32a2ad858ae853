"""Who answers a question, by strategy: what the client asks the service for."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.table3.pool import Pool
from events.names import Operation
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import KeywordClassifier, RouteClass

MULTI_OBJECTIVE: Final = "multi-objective (tuned)"
RANDOM: Final = "random"
LATENCY_ONLY: Final = "latency only"
BEST_SINGLE: Final = "best single"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """`model` gives the name for a prompt (`auto`: the router chooses), `profile` the router's preference.

    `is_alone`: the model serves alone, with the places of the whole pool.
    """

    name: str
    model: Callable[[str], str]
    profile: str | None = None
    is_alone: bool = False


def strategies(pool: Pool) -> list[Strategy]:
    """All that share the pool: the router's profiles, then those that name a model themselves."""
    routed = {
        MULTI_OBJECTIVE: "tuned",
        "multi-objective (tuned-tight)": "tuned-tight",
        "balanced (default)": "balanced",
        "quality": "quality",
        "cost": "cost",
        LATENCY_ONLY: "latency-only",
    }
    return [
        *(Strategy(name=name, model=_auto, profile=profile) for name, profile in routed.items()),
        Strategy(name=RANDOM, model=_drawn(pool)),
        Strategy(name="static by keyword", model=_static(pool.static)),
    ]


def alone(pool: Pool) -> list[Strategy]:
    """Every model by itself: the points of the hull of single models."""
    names = {pool.best_single: BEST_SINGLE, pool.cheapest: "cheapest"}
    return [
        Strategy(
            name=f"{names.get(model.id, 'single')}: {model.id}",
            model=lambda _, chosen=model.id: chosen,  # type: ignore[misc]
            is_alone=True,
        )
        for model in pool.models
    ]


def _auto(_: str) -> str:
    return "auto"


def _drawn(pool: Pool) -> Callable[[str], str]:
    ids, lots = [model.id for model in pool.models], random.Random(pool.seed)
    return lambda _: lots.choice(ids)


def _static(by_class: Mapping[RouteClass, str]) -> Callable[[str], str]:
    classifier = KeywordClassifier()

    def choose(prompt: str) -> str:
        body = {"messages": [{"role": "user", "content": prompt}]}
        return by_class[classifier.classify(extract_features(Operation.CHAT, body)).route_class]

    return choose
