"""R, T and C: where each comes from, and that numbers which are none count as unknown."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from functions.worker.usage import compute_cost
from router_model.catalogue.loader import CatalogueRejected, load_catalogue
from router_model.catalogue.model import Catalogue, Model, Service
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification
from router_model.routing.candidates import Candidate, estimate
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.estimates import (
    DEFAULT_QUALITY,
    estimate_answer_length,
    estimate_cost_usd,
    estimate_finish,
    estimate_relevance,
)
from router_model.routing.no_route import ModelNotFound, NoHealthyService
from router_model.routing.select import decide
from router_model.service_registry import Registry, ServiceView

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUESTION = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=400, least_tokens=2)
MODEL = Model(id="m", tier="L2", learned_as="M", quality={"low": 0.7})
SERVICE = Service(
    model="m", slug="m", concurrency=2, price_per_hour_usd=3600.0, cold_start_s=30.0,
    tokens_per_s=50.0, ttft_s=0.5, prefill_tokens_per_s=200.0,
)  # fmt: skip
NOT_CHANCES = [math.nan, math.inf, -math.inf, -0.01, 1.01]
NOT_LENGTHS = [math.nan, math.inf, -math.inf, -1.0]


def view(**more: object) -> ServiceView:
    fields: dict[str, object] = {
        "slug": "m", "state": ReplicaState.READY, "ready": 1, "in_flight": 0, "capacity": 2, "lag": 0,
        "eta_s": 0.0, "progress": None, "tokens_per_s": None, "service_s": None, "message": None,
    }  # fmt: skip
    return ServiceView(**fields | more)  # type: ignore[arg-type]


def known(**more: object) -> Classification:
    return Classification(**{"route_class": "low", "reason": "test"} | more)  # type: ignore[arg-type]


def test_what_was_learned_of_the_model_wins() -> None:
    found = known(success={"M": 0.9, "m": 0.1}, tier_success={"L2": 0.2})
    assert estimate_relevance(MODEL, found) == (0.9, "learned", 0)


def test_then_what_the_catalogue_states_then_the_tier_then_a_prior() -> None:
    found = known(tier_success={"L2": 0.2})
    assert estimate_relevance(MODEL, found) == (0.7, "stated", 0)
    silent = Model(id="m", tier="L2")
    assert estimate_relevance(silent, found) == (0.2, "tier", 0)
    assert estimate_relevance(silent, known()) == (DEFAULT_QUALITY["L2"]["low"], "default", 0)


@pytest.mark.parametrize("bad", NOT_CHANCES)
def test_a_chance_that_is_none_counts_as_unknown(bad: float) -> None:
    assert estimate_relevance(MODEL, known(success={"M": bad})) == (0.7, "stated", 1)
    silent = Model(id="m", tier="L2")
    found = estimate_relevance(silent, known(success={"m": bad}, tier_success={"L2": bad}))
    assert found == (DEFAULT_QUALITY["L2"]["low"], "default", 2)


def test_the_length_of_an_answer_is_predicted_else_typical_else_a_default() -> None:
    found = known(answer_tokens={"M": 70.0}, typical_answer_tokens=90.0)
    assert estimate_answer_length(MODEL, QUESTION, found) == (70.0, 0)
    assert estimate_answer_length(Model(id="x"), QUESTION, found) == (90.0, 0)
    assert estimate_answer_length(MODEL, QUESTION, known()) == (float(QUESTION.answer_tokens), 0)


@pytest.mark.parametrize("bad", NOT_LENGTHS)
def test_a_length_that_is_none_counts_as_unknown(bad: float) -> None:
    found = known(answer_tokens={"M": bad}, typical_answer_tokens=90.0)
    assert estimate_answer_length(MODEL, QUESTION, found) == (90.0, 1)
    found = known(answer_tokens={"M": bad}, typical_answer_tokens=bad)
    assert estimate_answer_length(MODEL, QUESTION, found) == (float(QUESTION.answer_tokens), 2)


def test_a_length_is_within_the_callers_and_the_models_limit() -> None:
    long = known(answer_tokens={"M": 1e6})
    limited = PromptFeatures(
        operation=Operation.CHAT, text="", tokens=1, least_tokens=1, answer_limit=5
    )
    assert estimate_answer_length(MODEL, QUESTION, long).tokens == MODEL.max_tokens
    assert estimate_answer_length(MODEL, limited, long).tokens == 5
    assert estimate_answer_length(Model(id="m", max_tokens=3), limited, known()).tokens == 3


def test_embeddings_have_no_answer_to_decode() -> None:
    vectors = PromptFeatures(operation=Operation.EMBEDDINGS, text="", tokens=1, least_tokens=1)
    assert estimate_answer_length(MODEL, vectors, known(typical_answer_tokens=90.0)).tokens == 0


def test_time_is_queue_start_reading_first_token_and_decoding() -> None:
    warm = estimate_finish(SERVICE, view(), QUESTION, 100.0)
    assert (warm.queue_s, warm.cold_s, warm.prefill_s, warm.first_token_s, warm.decode_s) == (
        0.0, 0.0, 2.0, 0.5, 2.0,
    )  # fmt: skip
    assert warm.total_s == 4.5
    cold = estimate_finish(SERVICE, view(ready=0, eta_s=None), QUESTION, 100.0)
    assert cold.total_s == 34.5
    assert cold.start_eta_s == 30.0


def test_what_was_measured_wins_over_the_catalogue() -> None:
    measured = estimate_finish(SERVICE, view(tokens_per_s=10.0), QUESTION, 100.0)
    assert measured.decode_s == 10.0
    coming = estimate_finish(SERVICE, view(ready=0, eta_s=1.5), QUESTION, 100.0)
    assert coming.cold_s == 1.5


def test_what_waits_beyond_the_slots_is_waited_for() -> None:
    busy = estimate_finish(SERVICE, view(in_flight=2, lag=5), QUESTION, 100.0)
    assert busy.queue_s == (5 + 1 - 2) / 2 * 4.5
    measured = estimate_finish(SERVICE, view(lag=5, service_s=1.0), QUESTION, 100.0)
    assert measured.queue_s == 2.0


def test_cost_is_a_place_while_it_is_busy_and_a_share_of_the_start() -> None:
    cold = view(ready=0, eta_s=None, lag=2)
    finish = estimate_finish(SERVICE, cold, QUESTION, 100.0)
    assert estimate_cost_usd(SERVICE, finish) == pytest.approx(4.5 / 2 + 30.0 / 3)


def test_what_a_warm_service_expects_to_charge_is_what_its_worker_charges() -> None:
    finish = estimate_finish(SERVICE, view(in_flight=2, lag=5), QUESTION, 100.0)
    charged = compute_cost(SERVICE, finish.busy_s)
    assert estimate_cost_usd(SERVICE, finish) == pytest.approx(charged.usd)


def test_an_estimate_counts_every_value_that_was_passed_over() -> None:
    found = known(success={"M": math.nan}, answer_tokens={"M": math.nan})
    assert estimate(Candidate(MODEL, SERVICE, view()), QUESTION, found).unusable == 2


TEXT = """
models:
  - {id: one, learned_as: ONE, weights: {url: "http://a"}}
  - {id: two, tier: L3, weights: {url: "http://b"}}
services: [{model: one, backend: {kind: openai}}, {model: two, backend: {kind: openai}}]
"""


class Says:
    """A classifier that says the same of every prompt, and remembers which models it was asked about."""

    def __init__(self, success: Mapping[str, float]) -> None:
        self.success = success
        self.asked: Sequence[str] = ()

    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
        self.asked = models
        return Classification("high", "encoder", success=self.success)


def choose(says: Says, model: str = "auto", registry: Registry | None = None) -> object:
    ask = RouteRequest(model=model, features=QUESTION, profile="quality")
    return decide(
        ask,
        RoutingContext(
            catalogue=load_catalogue(TEXT),
            registry=registry or Registry(),
            now=NOW,
            classifier=says,
        ),
    )


def test_the_classifier_is_asked_about_the_candidates_by_learned_name() -> None:
    says = Says({"ONE": 0.9, "two": 0.1})
    found = choose(says)
    assert tuple(says.asked) == ("ONE", "two")
    assert found.service == "one"
    assert {terms.basis for terms in found.candidates} == {"learned"}
    assert (found.stage, found.unusable) == ("encoder", 0)


def test_one_candidate_still_gets_a_class() -> None:
    says = Says({})
    found = choose(says, "one")
    assert (found.service, found.route_class, found.tier) == ("one", "high", "L3")
    assert tuple(says.asked) == ("ONE",)
    assert 0 <= found.score <= 1


def test_scores_that_are_no_numbers_leave_a_decision_that_says_so() -> None:
    found = choose(Says({"ONE": math.nan, "two": math.inf}))
    assert found.service == "two"
    assert found.unusable == 2
    assert {terms.basis for terms in found.candidates} == {"default"}
    assert all(math.isfinite(terms.score) for terms in found.candidates)


def test_every_raw_and_normalised_term_is_in_the_decision() -> None:
    for terms in choose(Says({"ONE": 0.9})).candidates:
        assert terms.finish_s == terms.parts.total_s
        assert terms.parts.cold_s == 5.0
        assert 0 <= terms.latency <= 1
        assert 0 <= terms.cost <= 1


def test_no_healthy_service_is_a_typed_refusal_and_a_failed_one_is_listed() -> None:
    def down(*slugs: str) -> Registry:
        registry = Registry()
        for slug in slugs:
            registry = registry.apply(
                StatusData(service=slug, replica="0", state=ReplicaState.FAILED, at=NOW)
            )
        return registry

    found = choose(Says({}), registry=down("one"))
    assert [(one.service, one.reason) for one in found.dropped] == [("one", "unhealthy")]
    with pytest.raises(NoHealthyService):
        choose(Says({}), registry=down("one", "two"))


def test_a_warm_service_without_slots_is_dropped_for_that() -> None:
    full = StatusData(service="one", replica="0", state=ReplicaState.READY, at=NOW, concurrency=0)
    found = choose(Says({}), registry=Registry().apply(full))
    assert [(one.service, one.reason) for one in found.dropped] == [("one", "no_capacity")]


def test_an_empty_catalogue_is_refused_by_its_loader_and_by_the_router() -> None:
    with pytest.raises(CatalogueRejected, match="at least one model"):
        load_catalogue("{models: [], services: []}")
    with pytest.raises(ModelNotFound):
        decide(
            RouteRequest(model="auto", features=QUESTION),
            RoutingContext(
                catalogue=Catalogue(models=(), services=()),
                registry=Registry(),
                now=NOW,
                classifier=Says({}),
            ),
        )
