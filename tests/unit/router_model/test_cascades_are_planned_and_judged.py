"""Cascades: what a catalogue may say of them, which services a decision plans, and what a step does with its answer."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation, ReplicaState
from events.payloads import CascadePlace, CascadeState, CascadeUsed, Cost, StatusData
from router_model.cascade.confidence import TokenConfidence
from router_model.cascade.plan import Judge, make_judge, sum_costs, summarise_cascade
from router_model.catalogue.loader import (
    CatalogueRejected,
    dump_catalogue,
    finish_catalogue,
    load_catalogue,
)
from router_model.catalogue.model import Catalogue, Tenant
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision
from router_model.routing.no_route import CapabilityMissing, ModelNotAllowed, NoHealthyService
from router_model.routing.select import decide
from router_model.service_registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TEXT = """
models:
  - {id: large, weights: {path: /l.gguf}, context_length: 100000}
  - {id: small, weights: {path: /s.gguf}}
  - {id: middle, weights: {path: /m.gguf}, context_length: 8000}
  - {id: vectors, weights: {path: /v.gguf}, capabilities: [embeddings]}
services:
  - {model: large, price_per_hour_usd: 9}
  - {model: small, price_per_hour_usd: 2}
  - {model: small, backend: {kind: vllm}, price_per_hour_usd: 1}
  - {model: middle, price_per_hour_usd: 4}
  - {model: vectors}
aliases: {nick: small}
tasks: {chores: {}}
cascades:
  frugal:
    steps: [small, middle, large]
    min_confidence: 0.6
    hold_tokens: 12
    judging:
      middle: {min_confidence: 0.8, measure: min_probability, calibration: [[0.2, 0.1], [0.9, 0.7]]}
"""
FLEET = load_catalogue(TEXT)


def decided(registry: Registry | None = None, catalogue: Catalogue = FLEET, **ask: Any) -> Decision:
    text = ask.pop("text", "hello there")
    operation = ask.pop("operation", Operation.CHAT)
    messages = {"messages": [{"role": "user", "content": text}], "input": text}
    features = extract_features(operation, messages)
    asked = RouteRequest(model="frugal", features=features, **ask)
    return decide(
        asked,
        RoutingContext(
            catalogue=catalogue,
            registry=registry or Registry(),
            now=NOW,
            classifier=KeywordClassifier(),
        ),
    )


def failed(*services: str) -> Registry:
    registry = Registry()
    for slug in services:
        status = StatusData(service=slug, replica="0", state=ReplicaState.FAILED, at=NOW)
        registry = registry.apply(status)
    return registry


def plan_of(decision: Decision) -> list[str]:
    assert decision.cascade is not None
    return [place.service for place in decision.cascade.plan]


def test_the_first_step_is_chosen_and_the_rest_planned_each_by_algorithm_2() -> None:
    found = decided(profile="cost")
    assert (found.service, found.model, found.reason) == ("small--vllm", "small", "cascade")
    assert plan_of(found) == ["small--vllm", "middle", "large"]
    assert found.cascade is not None
    assert [place.min_confidence for place in found.cascade.plan] == [0.6, 0.8, 0.6]
    assert {terms.model for terms in found.candidates} == {"small"}


def test_a_step_without_a_healthy_service_is_left_out() -> None:
    assert plan_of(decided(failed("small", "small--vllm"))) == ["middle", "large"]
    assert plan_of(decided(failed("middle"), profile="cost")) == ["small--vllm", "large"]
    assert plan_of(decided(failed("large", "middle"), profile="cost")) == ["small--vllm"]
    with pytest.raises(NoHealthyService):
        decided(failed("small", "small--vllm", "middle", "large"))


def test_a_step_that_cannot_hold_the_prompt_or_is_not_allowed_is_left_out() -> None:
    assert plan_of(decided(text="word " * 3000)) == ["middle", "large"]
    limited = finish_catalogue(
        load_catalogue(TEXT.replace("aliases:", "tenants: {t: {models: [large]}}\naliases:"))
    )
    assert limited.tenants["t"] == Tenant(models=("large",))
    assert plan_of(decided(catalogue=limited, tenant="t")) == ["large"]
    other = load_catalogue(TEXT.replace("aliases:", "tenants: {t: {models: [vectors]}}\naliases:"))
    with pytest.raises(ModelNotAllowed):
        decided(catalogue=other, tenant="t")


def test_an_earlier_decision_is_repeated_with_the_steps_after_it() -> None:
    found = decided(repeat="small", profile="cost")
    assert found.reason == "replay"
    assert plan_of(found) == ["small", "middle", "large"]
    assert plan_of(decided(repeat="middle")) == ["middle", "large"]


def test_a_cascade_offers_no_embeddings() -> None:
    with pytest.raises(CapabilityMissing):
        decided(operation=Operation.EMBEDDINGS)


def test_a_catalogue_with_cascades_is_written_and_read_again() -> None:
    assert load_catalogue(dump_catalogue(FLEET)) == FLEET


@pytest.mark.parametrize(
    ("cascade", "said"),
    [
        ("f: {steps: [small]}", "cascades.f.steps (line 16): must be 2 to 4 models"),
        ("f: {steps: [small, large, small]}", "cascades.f.steps (line 16): 'small' is there twice"),
        ("f: {steps: [small, nobody]}", "cascades.f.steps (line 16): there is no model 'nobody'"),
        ("f: {steps: [small, vectors]}", "neither chat nor completions in common"),
        ("f: {}", "cascades.f (line 16): the key 'steps' is missing"),
        ("small: {steps: [small, large]}", "cascades.small (line 16): hides a model"),
        ("nick: {steps: [small, large]}", "cascades.nick (line 16): hides a model, alias or task"),
        ("chores: {steps: [small, large]}", "cascades.chores (line 16): hides"),
        ("auto: {steps: [small, large]}", "cascades.auto (line 16): 'auto' is a reserved word"),
        ("f: {steps: [small, large], min_confidence: 1.5}", "min_confidence (line 16): must be from"),
        ("f: {steps: [small, large], hold_tokens: 0}", "hold_tokens (line 16): must be at least 1"),
        ("f: {steps: [small, large], measure: mean}", "cascades.f.measure (line 16): 'mean' is not"),
        (
            "f: {steps: [small, large], judging: {large: {}}}",
            "cascades.f.judging.large (line 16): is not a step, or the last one",
        ),
        (
            "f: {steps: [small, large], judging: {small: {min_confidence: -1}}}",
            "cascades.f.judging.small.min_confidence (line 16): must be from 0 to 1",
        ),
        (
            "f: {steps: [small, large], judging: {small: {calibration: [[0.5, 0.9], [0.6, 0.1]]}}}",
            "cascades.f.judging.small.calibration (line 16): must be [raw, chance] pairs",
        ),
        (
            "f: {steps: [small, large], judging: {small: {calibration: [[0.5]]}}}",
            "cascades.f.judging.small.calibration (line 16): must be [raw, chance] pairs",
        ),
    ],
)  # fmt: skip
def test_a_cascade_that_cannot_work_is_refused_with_its_place(cascade: str, said: str) -> None:
    head = TEXT.partition("cascades:")[0]
    with pytest.raises(CatalogueRejected) as refused:
        load_catalogue(f"{head}cascades:\n  {cascade}\n")
    assert said in str(refused.value)


def state(*used: CascadeUsed) -> CascadeState:
    places = (("small", 0.6), ("middle", 0.8), ("large", 0.6))
    return CascadeState(
        name="frugal",
        plan=tuple(CascadePlace(service=n, model=n, min_confidence=c) for n, c in places),
        used=used,
    )


def used(service: str, usd: float = 0.0, **more: Any) -> CascadeUsed:
    return CascadeUsed(
        **({"outcome": "unsure"} | more),
        service=service,
        model=service,
        cost=Cost(usd=usd, gpu_s=usd),
    )


def test_a_step_judges_as_the_catalogue_says_and_the_last_one_not_at_all() -> None:
    cascades = FLEET.cascades
    assert make_judge(state(), cascades) == Judge(min_confidence=0.6, hold_tokens=12)
    assert make_judge(state(used("small")), cascades) == Judge(
        min_confidence=0.8,
        measure="min_probability",
        points=((0.2, 0.1), (0.9, 0.7)),
        hold_tokens=12,
    )
    assert make_judge(state(used("small"), used("middle")), cascades) is None
    assert make_judge(None, cascades) is None
    # A worker whose catalogue does not know the cascade still keeps to the threshold that came with the request.
    assert make_judge(state(), {}) == Judge(min_confidence=0.6)


LOGPROBS = st.lists(st.floats(-20, 0), min_size=1, max_size=12)


@given(st.lists(LOGPROBS, min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_answers_what_a_lower_one_hands_on(
    choices: list[list[float]], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    tokens = [TokenConfidence(logprobs) for logprobs in choices]
    lenient, strict = Judge(min_confidence=low), Judge(min_confidence=high)
    confidence = lenient.confidence(tokens)
    assert confidence == strict.confidence(tokens)
    assert confidence is not None
    assert 0 <= confidence <= 1
    assert lenient.verdict(confidence) == "answer" or strict.verdict(confidence) == "escalate"


@given(LOGPROBS, LOGPROBS)
def test_the_least_sure_choice_decides(one: list[float], other: list[float]) -> None:
    judge = Judge(min_confidence=0.5)
    alone = [judge.confidence([TokenConfidence(logprobs)]) for logprobs in (one, other)]
    together = judge.confidence([TokenConfidence(one), TokenConfidence(other)])
    assert together == min(confidence or 0.0 for confidence in alone)


def test_what_is_not_known_is_unsure() -> None:
    judge = Judge(min_confidence=0.0)
    assert judge.confidence([]) is None
    assert judge.confidence([TokenConfidence([-0.1]), TokenConfidence()]) is None
    assert judge.verdict(None) == "escalate"


def test_a_stream_is_released_after_enough_sure_tokens_of_every_choice() -> None:
    judge = Judge(min_confidence=0.9, hold_tokens=3)
    sure, unsure = [-0.01] * 3, [-0.01, -0.01, -5.0]
    assert judge.may_release([TokenConfidence(sure)])
    assert not judge.may_release([TokenConfidence(sure[:2])])
    assert not judge.may_release([TokenConfidence(sure), TokenConfidence(sure[:2])])
    assert not judge.may_release([TokenConfidence(unsure)])
    assert not judge.may_release([])
    assert not Judge(min_confidence=0.0).may_release([TokenConfidence(sure)])


def test_the_costs_of_all_steps_are_added_and_told() -> None:
    at = state(used("small", 1.0), used("middle", 2.0))
    assert sum_costs(at, Cost(usd=4.0, gpu_s=1.0)) == Cost(usd=7.0, gpu_s=4.0)
    assert sum_costs(None, Cost(usd=4.0)) == Cost(usd=4.0)
    info = summarise_cascade(at, used("large", outcome="answered"))
    assert [step.service for step in info.steps] == ["small", "middle", "large"]
    assert info.escalated
    assert info.confidence is None
    first = summarise_cascade(state(), used("small", outcome="answered", confidence=0.9))
    assert (first.confidence, first.escalated) == (0.9, False)
    assert [step.service for step in summarise_cascade(at).steps] == ["small", "middle"]
