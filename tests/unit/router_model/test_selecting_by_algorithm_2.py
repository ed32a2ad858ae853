"""Algorithm 2: the best-scored healthy service with capacity, whatever the order; cold is healthy."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from router_model.catalogue.loader import finish_catalogue, load_catalogue
from router_model.catalogue.merge import with_demo_fleet
from router_model.catalogue.model import PROFILES, Catalogue, Model, Service, Task, Tenant
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification, KeywordClassifier, RouteClass
from router_model.routing.candidates import Candidate, Estimate, estimate
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision
from router_model.routing.no_route import (
    CapabilityMissing,
    ContextTooLong,
    ModelNotAllowed,
    ModelNotFound,
    NoHealthyService,
    NoRoute,
    ProfileUnknown,
)
from router_model.routing.scoring import normalise_weights, score_candidates
from router_model.routing.select import decide
from router_model.service_registry import Registry, ServiceView

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUESTION = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=10, least_tokens=2)
BASE = load_catalogue(
    """
models:
  - {id: real, weights: {path: /m.gguf}, context_length: 2048}
  - {id: vectors, capabilities: [embeddings], weights: {path: /v.gguf}}
services:
  - {model: real}
  - {model: real, backend: {kind: vllm}, price_per_hour_usd: 2}
  - {model: vectors}
aliases: {nick: real}
"""
)
FLEET = finish_catalogue(
    msgspec.structs.replace(
        with_demo_fleet(BASE),
        tasks={"chores": Task(models=("sim-small", "real")), "anything": Task()},
        tenants={"interns": Tenant(models=("sim-small",))},
    )
)


def choose(
    asked: str = "auto",
    registry: Registry | None = None,
    features: PromptFeatures = QUESTION,
    **more: str,
) -> Decision:
    ask = RouteRequest(model=asked, features=features, **more)
    return decide(
        ask,
        RoutingContext(
            catalogue=FLEET,
            registry=registry or Registry(),
            now=NOW,
            classifier=KeywordClassifier(),
        ),
    )


def status(service: str, state: ReplicaState, **more: float) -> StatusData:
    return StatusData(service=service, replica="0", state=state, at=NOW, **more)


def registry_of(*found: StatusData) -> Registry:
    registry = Registry()
    for one in found:
        registry = registry.apply(one)
    return registry


views = st.builds(
    ServiceView,
    slug=st.just("x"),
    state=st.sampled_from(ReplicaState),
    ready=st.integers(0, 3),
    in_flight=st.integers(0, 50),
    capacity=st.integers(0, 20),
    lag=st.integers(0, 500),
    eta_s=st.none() | st.floats(0, 600),
    progress=st.none(),
    tokens_per_s=st.none() | st.floats(1, 500),
    service_s=st.none() | st.floats(0.01, 60),
    message=st.none(),
)
services = st.builds(
    Service,
    model=st.just("m"),
    concurrency=st.integers(1, 64),
    price_per_hour_usd=st.floats(0, 50),
    cold_start_s=st.floats(0, 300),
    tokens_per_s=st.floats(1, 500),
    ttft_s=st.floats(0, 5),
)
models = st.builds(Model, id=st.just("m"), tier=st.sampled_from(["L1", "L2", "L3"]))
candidates = st.lists(st.tuples(models, services, views), min_size=1, max_size=6).map(
    lambda rows: [
        Candidate(model, msgspec.structs.replace(service, slug=f"s{n}"), view)
        for n, (model, service, view) in enumerate(rows)
    ]
)
classes = st.sampled_from(["low", "medium", "high"])
profiles = st.sampled_from(sorted(PROFILES))


def estimates_of(found: list[Candidate], route_class: RouteClass) -> list[Estimate]:
    known = Classification(route_class, "test")
    return [estimate(one, QUESTION, known) for one in found]


@given(candidates, classes, profiles)
def test_the_choice_is_the_argmax_of_brute_force(
    found: list[Candidate], route_class: RouteClass, profile: str
) -> None:
    chosen = PROFILES[profile]
    total = chosen.alpha + chosen.latency + chosen.cost
    expected = estimates_of(found, route_class)
    seconds = [one.finish_s for one in expected]
    dollars = [one.cost_usd for one in expected]

    def norm(value: float, values: list[float]) -> float:
        width = max(values) - min(values)
        return 0.0 if width == 0 else (value - min(values)) / width

    best = max(
        (
            chosen.alpha * one.relevance.chance
            + chosen.latency * (1 - norm(one.finish_s, seconds))
            + chosen.cost * (1 - norm(one.cost_usd, dollars))
        )
        / total
        for one in expected
    )
    ranked = score_candidates(expected, normalise_weights(chosen))
    assert ranked[0].score == pytest.approx(best)


@given(candidates, classes)
def test_dearer_rivals_never_worsen_the_cost_term_of_the_best(
    found: list[Candidate], route_class: RouteClass
) -> None:
    weights = normalise_weights(PROFILES["cost"])
    best = score_candidates(estimates_of(found, route_class), weights)[0]
    dearer = [
        one if one.service.slug == best.service else at_three_times_the_price(one) for one in found
    ]
    ranked = score_candidates(estimates_of(dearer, route_class), weights)
    again = {terms.service: terms.cost for terms in ranked}
    assert again[best.service] >= best.cost - 1e-9


def at_three_times_the_price(one: Candidate) -> Candidate:
    price = one.service.price_per_hour_usd * 3 + 1
    return Candidate(
        one.model, msgspec.structs.replace(one.service, price_per_hour_usd=price), one.view
    )


def test_no_candidate_is_a_typed_refusal() -> None:
    assert score_candidates([], normalise_weights(PROFILES["balanced"])) == ()
    registry = Registry()
    for service in ("real", "real--vllm"):
        registry = registry.apply(status(service, ReplicaState.FAILED, failed_starts=1))
    with pytest.raises(NoHealthyService):
        choose("real", registry)


def test_equal_scores_are_broken_by_slug() -> None:
    twins = finish_catalogue(Catalogue(
        models=FLEET.models[:1],
        services=(Service(model="real", slug="b"), Service(model="real", slug="a")),
    ))  # fmt: skip
    ask = RouteRequest(model="real", features=QUESTION)
    assert (
        decide(
            ask,
            RoutingContext(
                catalogue=twins, registry=Registry(), now=NOW, classifier=KeywordClassifier()
            ),
        ).service
        == "a"
    )


def test_a_cold_service_is_a_candidate_and_pays_for_its_start() -> None:
    found = choose("sim-large")
    assert found.service == "sim-large"
    assert found.chosen.start_eta_s == FLEET.service("sim-large").cold_start_s


def test_the_reported_eta_replaces_the_estimate() -> None:
    registry = registry_of(status("sim-large", ReplicaState.LOADING, eta_s=1.5))
    assert choose("sim-large", registry).chosen.start_eta_s == 1.5


def test_a_warm_service_does_not_pay_for_a_start() -> None:
    registry = registry_of(status("sim-large", ReplicaState.READY, concurrency=8))
    assert choose("sim-large", registry).chosen.start_eta_s == 0


def test_a_long_queue_moves_auto_elsewhere() -> None:
    ready = [status(slug, ReplicaState.READY, concurrency=4) for slug in ("real", "sim-small")]
    before = choose("chores", registry_of(*ready), profile="speed").service
    busy = StatusData(service=before, replica="_scaler", state=ReplicaState.READY, at=NOW, lag=5000)
    after = choose("chores", registry_of(*ready, busy), profile="speed").service
    assert {before, after} <= {"real", "real--vllm", "sim-small"}
    assert after != before


def test_a_service_whose_last_start_failed_is_left_out() -> None:
    registry = registry_of(status("real", ReplicaState.FAILED))
    assert choose("real", registry).service == "real--vllm"


def test_no_healthy_service_is_a_typed_refusal() -> None:
    registry = registry_of(
        status("real", ReplicaState.FAILED), status("real--vllm", ReplicaState.FAILED)
    )
    with pytest.raises(NoHealthyService):
        choose("real", registry)


def test_a_failed_service_is_a_candidate_again_when_its_report_is_old() -> None:
    old = NOW - timedelta(seconds=11)
    failed = StatusData(service="real", replica="0", state=ReplicaState.FAILED, at=old)
    assert choose("real", registry_of(failed)).service in {"real", "real--vllm"}


@given(profiles, st.sampled_from(["prove it", "list it", "hm"]))
def test_an_explicit_model_is_never_overridden(profile: str, text: str) -> None:
    for model in ("real", "sim-small", "sim-medium", "sim-large"):
        features = PromptFeatures(operation=Operation.CHAT, text=text, tokens=5, least_tokens=2)
        found = choose(model, features=features, profile=profile)
        assert found.model == model
        assert found.reason == "explicit"


def test_names_resolve_in_the_order_of_the_contract() -> None:
    assert choose("nick").model == "real"
    assert choose("nick").reason == "alias"
    assert choose("chores").reason == "task"
    assert choose("auto").reason == "auto"


def test_a_task_is_limited_to_its_models() -> None:
    assert {terms.model for terms in choose("chores").candidates} == {"sim-small", "real"}


def test_auto_considers_every_model_with_the_capability() -> None:
    assert {terms.model for terms in choose().candidates} == {
        "real",
        "sim-small",
        "sim-medium",
        "sim-large",
    }


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: choose("nobody"), ModelNotFound),
        (lambda: choose("a\nb" * 5000), ModelNotFound),
        (lambda: choose("vectors"), CapabilityMissing),
        (lambda: choose("real", tenant="interns"), ModelNotAllowed),
        (lambda: choose("auto", profile="best"), ProfileUnknown),
        (
            lambda: choose(
                "real",
                features=PromptFeatures(
                    operation=Operation.CHAT, text="", tokens=9000, least_tokens=9000
                ),
            ),
            ContextTooLong,
        ),
    ],
)
def test_what_cannot_be_routed_is_refused_with_its_type(
    make: Callable[[], object], refusal: type[NoRoute]
) -> None:
    with pytest.raises(refusal) as caught:
        make()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_a_tenant_is_routed_among_its_models() -> None:
    assert choose("auto", tenant="interns").model == "sim-small"


def test_a_long_prompt_goes_to_a_model_with_room() -> None:
    long = PromptFeatures(operation=Operation.CHAT, text="", tokens=20_000, least_tokens=1000)
    assert choose("auto", features=long).model == "sim-large"


def test_a_known_decision_is_repeated() -> None:
    first = choose("auto").service
    other = next(terms.service for terms in choose("auto").candidates if terms.service != first)
    repeated = choose("auto", repeat=other)
    assert (repeated.service, repeated.reason) == (other, "replay")


def test_a_decision_for_a_service_that_is_gone_is_made_anew() -> None:
    assert choose("auto", repeat="gone").reason == "auto"


def test_a_decision_names_every_candidates_terms_best_first() -> None:
    found = choose("auto")
    scores = [terms.score for terms in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert found.chosen == found.candidates[0]
    assert found.catalogue == FLEET.version
