"""Services that may answer a prompt, and what is expected of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from router_model.catalogue import Catalogue, Model, Service
from router_model.classifier import Classification
from router_model.estimating import (
    FinishEstimate,
    Relevance,
    answer_length,
    expected_cost_usd,
    expected_finish,
    relevance,
)
from router_model.features import PromptFeatures
from router_model.registry import Registry, ServiceView


@dataclass(frozen=True, slots=True)
class Candidate:
    """One cell of the service matrix with what the registry knows of it."""

    model: Model
    service: Service
    view: ServiceView

    @property
    def obstacle(self) -> Literal["unhealthy", "no_capacity"] | None:
        """Why it cannot be chosen now. None: it is healthy (cold counts) and, when warm, has slots at all."""
        if not self.view.is_healthy:
            return "unhealthy"
        return "no_capacity" if self.view.is_warm and self.view.capacity <= 0 else None

    @property
    def is_eligible(self) -> bool:
        return self.obstacle is None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A candidate with its R, T (`finish`) and C. `unusable`: values of the classifier that were passed over."""

    candidate: Candidate
    finish: FinishEstimate
    finish_s: float
    cost_usd: float
    relevance: Relevance
    unusable: int = 0


def candidates_of(
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
    length = answer_length(candidate.model, features, found)
    finish = expected_finish(candidate.service, candidate.view, features, length.tokens)
    chance = relevance(candidate.model, found)
    return Estimate(
        candidate,
        finish,
        finish.total_s,
        expected_cost_usd(candidate.service, finish),
        chance,
        chance.unusable + length.unusable,
    )
