"""Limits of one request: who breaks one is out, a named model too, and where nobody is left the nearest is named."""

from datetime import UTC, datetime

import msgspec
import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from events.requests import Fallback
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.model import Catalogue
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.constraints import Constraints, Miss, find_worst_miss, refuse_unmet
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision, Dropped
from router_model.routing.no_route import ConstraintsUnmet, NoHealthyService
from router_model.routing.select import decide
from router_model.service_registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUESTION = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=10, least_tokens=2)
FLEET = load_catalogue(
    """
models:
  - {id: small, weights: {url: "http://a"}, quality: {medium: 0.4}}
  - {id: large, tier: L3, weights: {url: "http://b"}, quality: {medium: 0.9}}
services:
  - {model: small, backend: {kind: openai}, price_per_hour_usd: 1, cold_start_s: 0}
  - {model: large, backend: {kind: openai}, price_per_hour_usd: 36, cold_start_s: 60}
aliases: {nick: large}
fallbacks: {large: [small]}
"""
)
EXPECTED = {
    one.service: one
    for one in decide(
        RouteRequest(model="auto", features=QUESTION),
        RoutingContext(
            catalogue=FLEET, registry=Registry(), now=NOW, classifier=KeywordClassifier()
        ),
    ).candidates
}


def choose(
    model: str = "auto",
    registry: Registry | None = None,
    catalogue: Catalogue = FLEET,
    repeat: str | None = None,
    fallback: Fallback | None = None,
    **limits: float,
) -> Decision:
    ask = RouteRequest(
        model=model,
        features=QUESTION,
        repeat=repeat,
        fallback=fallback,
        limits=Constraints(**limits),
    )
    return decide(
        ask,
        RoutingContext(
            catalogue=catalogue,
            registry=registry or Registry(),
            now=NOW,
            classifier=KeywordClassifier(),
        ),
    )


def failed(slug: str) -> Registry:
    return Registry().apply(
        StatusData(service=slug, replica="0", state=ReplicaState.FAILED, at=NOW)
    )


@pytest.mark.parametrize(
    ("limits", "chosen", "broken"),
    [
        ({"max_latency_s": 30.0}, "small", "max_latency"),
        ({"max_cost_usd": 0.01}, "small", "max_cost"),
        ({"min_quality": 0.5}, "large", "min_quality"),
    ],
)
def test_who_breaks_a_limit_is_out_and_the_decision_says_so(
    limits: dict[str, float], chosen: str, broken: str
) -> None:
    found = choose(**limits)
    assert found.service == chosen
    other = next(slug for slug in EXPECTED if slug != chosen)
    terms = EXPECTED[other]
    value = {
        "max_latency": terms.finish_s,
        "max_cost": terms.cost_usd,
        "min_quality": terms.relevance,
    }[broken]
    (limit,) = limits.values()
    dropped = Dropped(service=other, model=other, reason=broken, value=value, limit=limit)
    assert found.dropped == (dropped,)


def test_a_value_at_its_limit_keeps_it() -> None:
    exact = EXPECTED["large"]
    found = choose(
        "large",
        max_cost_usd=exact.cost_usd,
        max_latency_s=exact.finish_s,
        min_quality=exact.relevance,
    )
    assert found.service == "large"


@pytest.mark.parametrize("name", ["large", "nick"])
def test_a_model_that_is_named_obeys_too_and_is_not_replaced(name: str) -> None:
    with pytest.raises(ConstraintsUnmet) as caught:
        choose(name, max_latency_s=30.0)
    assert "large: expected time 65" in caught.value.message
    assert "max_latency is 30 s" in caught.value.message
    assert (caught.value.code, caught.value.param) == ("constraints_unmet", "maxlatency")


def test_a_request_that_allows_stand_ins_gets_one_within_its_limits() -> None:
    found = choose("large", fallback="allow", max_latency_s=30.0)
    assert (found.service, found.reason) == ("small", "fallback")
    assert [(one.service, one.reason) for one in found.dropped] == [("large", "max_latency")]


def test_the_nearest_miss_is_named() -> None:
    with pytest.raises(ConstraintsUnmet) as caught:
        choose(max_latency_s=4.0, min_quality=0.8)
    assert "nearest is small: expected quality 0.4, min_quality is 0.8" in caught.value.message
    assert caught.value.param == "minquality"


def test_the_worst_of_several_misses_counts() -> None:
    limits = Constraints(max_cost_usd=1.0, max_latency_s=10.0)
    miss = find_worst_miss(limits, "s", finish_s=11.0, cost_usd=3.0, relevance=0.0)
    assert miss == Miss(service="s", bound="max_cost", value=3.0, limit=1.0)
    assert find_worst_miss(limits, "s", finish_s=10.0, cost_usd=1.0, relevance=0.0) is None


def test_a_limit_of_zero_is_missed_by_infinitely_much() -> None:
    free = Miss(service="a", bound="max_cost", value=0.1, limit=0.0)
    near = Miss(service="b", bound="max_cost", value=9.0, limit=1.0)
    assert "nearest is b" in refuse_unmet([free, near]).message


def test_free_services_keep_a_cost_limit_of_zero() -> None:
    free = msgspec.structs.replace(
        FLEET,
        services=tuple(msgspec.structs.replace(s, price_per_hour_usd=0.0) for s in FLEET.services),
    )
    assert choose(catalogue=free, max_cost_usd=0.0).service in {"small", "large"}


def test_what_is_not_healthy_is_told_apart_from_what_breaks_a_limit() -> None:
    found = choose(registry=failed("large"), min_quality=0.1)
    assert found.dropped == (Dropped(service="large", model="large", reason="unhealthy"),)
    with pytest.raises(ConstraintsUnmet):
        choose(registry=failed("large"), min_quality=0.5)
    with pytest.raises(NoHealthyService):
        choose("small", registry=failed("small"), min_quality=0.1)


def test_a_named_model_that_is_down_is_stood_in_for_within_the_limits() -> None:
    assert choose("large", registry=failed("large"), min_quality=0.1).service == "small"
    with pytest.raises(NoHealthyService):
        choose("large", registry=failed("large"), min_quality=0.5)


def test_a_decision_that_was_made_is_repeated_whatever_the_limits() -> None:
    found = choose(repeat="large", max_latency_s=1.0)
    assert (found.service, found.reason) == ("large", "replay")
