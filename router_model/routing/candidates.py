"""Services that may answer a prompt, and what is expected of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from router_model.catalogue.model import Catalogue, Model, Service
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification
from router_model.routing.estimates import (
    FinishEstimate,
    Relevance,
    estimate_answer_length,
    estimate_cost_usd,
    estimate_finish,
    estimate_relevance,
)
from router_model.service_registry import Registry, ServiceView

Patience = Literal["none", "short", "long"]
"""What a request that has nowhere else to go waits for: nothing, a model that starts again, or also (`long`: nobody
holds the line) a running one to recover."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One cell of the service matrix with what the registry knows of it."""

    model: Model
    service: Service
    view: ServiceView

    def obstacle(self, patience: Patience = "none") -> Literal["unhealthy", "no_capacity"] | None:
        """Why it cannot be chosen now. None: it is healthy (cold counts), or ill in a way that `patience` outlasts,
        and, when warm, has slots at all.
        """
        view = self.view
        is_bearable = (view.is_coming_back and patience != "none") or (
            view.is_resting and patience == "long"
        )
        if not (view.is_healthy or is_bearable):
            return "unhealthy"
        return "no_capacity" if view.is_warm and view.capacity <= 0 else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A candidate with its R, T (`finish`) and C. `unusable`: values of the classifier that were passed over."""

    candidate: Candidate
    finish: FinishEstimate
    finish_s: float
    cost_usd: float
    relevance: Relevance
    unusable: int = 0


def find_candidates(
    catalogue: Catalogue, registry: Registry, models: Iterable[Model], now: datetime
) -> list[Candidate]:
    """Every enabled service of the models, with its view at `now`."""
    return [
        Candidate(model, service, registry.view(service.slug, now))
        for model in models
        for service in catalogue.services_of(model.id)
    ]


def estimate(candidate: Candidate, features: PromptFeatures, found: Classification) -> Estimate:
    """What is expected of a candidate for a prompt."""
    length = estimate_answer_length(candidate.model, features, found)
    finish = estimate_finish(candidate.service, candidate.view, features, length.tokens)
    chance = estimate_relevance(candidate.model, found)
    return Estimate(
        candidate,
        finish,
        finish.total_s,
        estimate_cost_usd(candidate.service, finish),
        chance,
        chance.unusable + length.unusable,
    )
