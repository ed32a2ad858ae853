"""What a service is chosen for, and by: the request, and all that is known when it is decided. Frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from events.requests import Fallback
from router_model.catalogue.model import Catalogue
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classifier
from router_model.routing.candidates import Patience
from router_model.routing.constraints import NO_CONSTRAINTS, Constraints
from router_model.routing.estimate_history import NO_HISTORY, EstimateHistory
from router_model.service_registry import Registry

if TYPE_CHECKING:
    from router_model.routing.policy import LoadedPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What a request wants of Pick.

    `profile` None: the catalogue's default.
    `repeat`: the service of an earlier decision about the same request, which is repeated while it still exists.
    `fallback` None: as the catalogue says.
    """

    model: str
    features: PromptFeatures
    tenant: str = ""
    profile: str | None = None
    repeat: str | None = None
    session: str | None = None
    home: str | None = None
    """The service that the session has been with, where that is remembered."""
    fallback: Fallback | None = None
    limits: Constraints = NO_CONSTRAINTS
    patience: Patience = "none"
    """What it waits for where no service is healthy."""
    heeds_queue: bool = False
    """Whether a service whose queue is beyond its mark is left out."""

    @property
    def impatient(self) -> "RouteRequest":
        """The same, which waits for nobody."""
        return replace(self, patience="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingContext:
    """What one decision is made from, beside the request.

    `history` is of earlier decisions; the caller folds the new one in.
    """

    catalogue: Catalogue
    registry: Registry
    now: datetime
    classifier: Classifier
    history: EstimateHistory = NO_HISTORY
    policies: Mapping[str, "LoadedPolicy"] = field(default_factory=dict)
    """Those that the catalogue names, by name (`load_policies`)."""
