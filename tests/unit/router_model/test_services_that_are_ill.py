"""A service whose starts or calls fail: who goes elsewhere, who waits, who is refused, and with which words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from events.names import BreakerState, Operation, ReplicaState
from events.payloads import StatusData
from router_model.catalogue.model import Catalogue, Model, Service
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.candidates import Patience
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.no_route import NoHealthyService
from router_model.routing.select import decide
from router_model.service_registry import SCALER, STALE_AFTER, Registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FEATURES = extract_features(
    Operation.CHAT, {"messages": [{"role": "user", "content": "Name a colour."}]}
)
WHY = "the model server cannot be reached: connection refused"
CATALOGUE = Catalogue(
    models=(Model(id="ill"), Model(id="well")),
    services=(
        Service(model="ill", slug="ill", price_per_hour_usd=0.0, cold_start_s=0.1),
        Service(model="well", slug="well", price_per_hour_usd=9.0, cold_start_s=60.0),
    ),
    fallbacks={"ill": ("well",)},
)


def status(state: ReplicaState, **more: Any) -> StatusData:
    known = {"service": "ill", "replica": "r1", "at": NOW, "message": WHY} | more
    return StatusData(state=state, **known)


def registry(*statuses: StatusData) -> Registry:
    found = Registry()
    for one in statuses:
        found = found.apply(one)
    return found


COMING_BACK = registry(status(ReplicaState.FAILED, failed_starts=1))
LOADING_AGAIN = registry(status(ReplicaState.LOADING, failed_starts=1))
GIVEN_UP = registry(
    status(
        ReplicaState.FAILED,
        failed_starts=3,
        breaker=BreakerState.OPEN,
        retry_at=NOW + timedelta(seconds=30),
    )
)
RESTING = registry(
    status(ReplicaState.READY, breaker=BreakerState.OPEN, retry_at=NOW + timedelta(seconds=30))
)


def chosen(found: Registry, model: str = "auto", patience: Patience = "short", **more: Any) -> str:
    now = more.pop("now", NOW)
    ask = RouteRequest(model=model, features=FEATURES, patience=patience, **more)
    return decide(
        ask,
        RoutingContext(
            catalogue=CATALOGUE, registry=found, now=now, classifier=KeywordClassifier()
        ),
    ).service


@pytest.mark.parametrize("found", [COMING_BACK, LOADING_AGAIN, GIVEN_UP, RESTING])
@pytest.mark.parametrize("patience", ["short", "long"])
def test_who_has_a_choice_goes_elsewhere(found: Registry, patience: Patience) -> None:
    assert chosen(Registry()) == "ill"
    assert chosen(found, patience=patience) == "well"
    assert chosen(found, "ill", patience) == "well"


@pytest.mark.parametrize("found", [COMING_BACK, LOADING_AGAIN])
@pytest.mark.parametrize("patience", ["short", "long"])
def test_who_has_no_choice_waits_for_a_model_that_starts_again(
    found: Registry, patience: Patience
) -> None:
    assert chosen(found, "ill", patience, fallback="none") == "ill"


@pytest.mark.parametrize("patience", ["short", "long"])
def test_nobody_waits_for_a_model_that_was_given_up(patience: Patience) -> None:
    with pytest.raises(NoHealthyService, match=WHY):
        chosen(GIVEN_UP, "ill", patience, fallback="none")


def test_only_what_has_time_waits_for_a_model_that_fails_its_calls() -> None:
    with pytest.raises(NoHealthyService):
        chosen(RESTING, "ill", "short", fallback="none")
    assert chosen(RESTING, "ill", "long", fallback="none") == "ill"


def test_without_patience_nothing_waits() -> None:
    with pytest.raises(NoHealthyService, match=WHY):
        chosen(COMING_BACK, "ill", "none", fallback="none")


def test_a_model_that_was_given_up_is_tried_again_with_one_request() -> None:
    later = NOW + timedelta(seconds=31)
    assert chosen(GIVEN_UP, "ill", now=later, fallback="none") == "ill"
    half_open = status(
        ReplicaState.COLD, replica=SCALER, failed_starts=3, breaker=BreakerState.HALF_OPEN, lag=0
    )
    assert chosen(registry(half_open), "ill", fallback="none") == "ill"
    probing = status(
        ReplicaState.COLD, replica=SCALER, failed_starts=3, breaker=BreakerState.HALF_OPEN, lag=1
    )
    with pytest.raises(NoHealthyService):
        chosen(registry(probing), "ill", fallback="none")


def test_an_open_breaker_outlives_who_told_of_it() -> None:
    """The pod that failed says nothing while it waits for its next start."""
    later = NOW + STALE_AFTER + timedelta(seconds=5)
    assert GIVEN_UP.view("ill", later).breaker is BreakerState.OPEN
    assert GIVEN_UP.view("ill", later).message == WHY
    assert COMING_BACK.view("ill", later).is_healthy
    assert GIVEN_UP.view("ill", NOW + timedelta(seconds=31)).is_healthy


def test_one_replica_that_answers_is_enough() -> None:
    found = registry(
        status(ReplicaState.READY, replica="r0", message=None),
        status(ReplicaState.FAILED, replica="r1", failed_starts=4, breaker=BreakerState.OPEN),
        status(ReplicaState.READY, replica=SCALER, failed_starts=4, breaker=BreakerState.OPEN),
    )
    view = found.view("ill", NOW)
    assert (view.is_healthy, view.breaker, view.failed_starts) == (True, BreakerState.CLOSED, 0)
