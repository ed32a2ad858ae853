"""A service with a long queue: whoever else may answer takes over, and where nobody may, it is waited for."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from events.requests import Fallback
from router_model.catalogue.model import Cascade, Catalogue, Model, Service
from router_model.catalogue.validation import check_catalogue
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.constraints import Constraints
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision
from router_model.routing.no_route import ConstraintsUnmet
from router_model.routing.select import decide
from router_model.service_registry import SCALER, Registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FEATURES = extract_features(
    Operation.CHAT, {"messages": [{"role": "user", "content": "Name a colour."}]}
)
CATALOGUE = Catalogue(
    models=(Model(id="busy"), Model(id="free")),
    services=(
        Service(model="busy", slug="busy", concurrency=2, queue_mark_s=60.0),
        Service(model="free", slug="free", price_per_hour_usd=50.0),
    ),
    fallbacks={"busy": ("free",)},
    cascades={"thrifty": Cascade(steps=("busy", "free"))},
)


def queued(slug: str, lag: int, registry: Registry | None = None) -> Registry:
    """A warm service, two seconds a call, with so many records before it."""
    found = registry or Registry()
    for replica, more in (("r0", {"concurrency": 2, "service_s": 2.0}), (SCALER, {"lag": lag})):
        status = StatusData(service=slug, replica=replica, state=ReplicaState.READY, at=NOW, **more)
        found = found.apply(status)
    return found


LONG, SHORT = queued("busy", 5000), queued("busy", 50)


def choose(registry: Registry, model: str, **more: Any) -> Decision:
    ask = RouteRequest(model=model, features=FEATURES, **more)
    return decide(
        ask,
        RoutingContext(
            catalogue=CATALOGUE, registry=registry, now=NOW, classifier=KeywordClassifier()
        ),
    )


@pytest.mark.parametrize(("model", "reason"), [("busy", "fallback"), ("thrifty", "cascade")])
def test_beyond_the_mark_whoever_is_allowed_takes_over(model: str, reason: str) -> None:
    assert choose(SHORT, model).service == "busy"
    found = choose(LONG, model)
    assert (found.service, found.reason) == ("free", reason)
    (left,) = [one for one in found.dropped if one.service == "busy"]
    assert (left.reason, left.limit) == ("queue", 60.0)
    assert (left.value or 0) > 4000


def test_nobody_takes_over_where_the_request_forbids_it() -> None:
    assert choose(LONG, "busy", fallback="none").service == "busy"


@pytest.mark.parametrize("fallback", [None, "allow"])
def test_a_queue_is_joined_where_every_other_is_as_long(fallback: Fallback | None) -> None:
    both = queued("free", 90_000, LONG)
    assert choose(both, "busy", fallback=fallback).service == "busy"


def test_a_limit_of_the_request_still_refuses() -> None:
    with pytest.raises(ConstraintsUnmet):
        choose(LONG, "busy", fallback="none", limits=Constraints(max_latency_s=10.0))


def test_what_was_decided_before_is_not_decided_again_for_its_queue() -> None:
    assert choose(LONG, "busy", repeat="busy").service == "busy"


def test_a_mark_is_above_zero() -> None:
    service = msgspec.structs.replace(CATALOGUE.services[0], queue_mark_s=0.0)
    bad = msgspec.structs.replace(CATALOGUE, services=(service, CATALOGUE.services[1]))
    assert "services[0].queue_mark_s" in {problem.path for problem in check_catalogue(bad)}
