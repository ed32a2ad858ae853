"""Fallback chains, task preferences and capabilities: who is asked first, and who answers when that one cannot."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from router_model.catalogue.loader import finish_catalogue, load_catalogue
from router_model.catalogue.model import Task, Tenant
from router_model.classifier.features import PromptFeatures, extract_features
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.constraints import Constraints
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision
from router_model.routing.no_route import (
    CapabilityMissing,
    ConstraintsUnmet,
    ContextTooLong,
    ModelNotAllowed,
    NoHealthyService,
)
from router_model.routing.select import decide
from router_model.service_registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FLEET = load_catalogue(
    """
models:
  - {id: plain, weights: {path: /p.gguf}, quality: {low: 0.9, medium: 0.9, high: 0.9}}
  - {id: coder, weights: {path: /c.gguf}, capabilities: [chat, completions, code, tools],
     quality: {low: 0.2, medium: 0.2, high: 0.2}}
  - {id: seer, weights: {path: /s.gguf}, capabilities: [chat, vision, long_context], context_length: 100000,
     quality: {low: 0.1, medium: 0.1, high: 0.1}}
  - {id: vectors, weights: {path: /v.gguf}, capabilities: [embeddings]}
services:
  - {model: plain}
  - {model: coder, price_per_hour_usd: 1}
  - {model: seer, price_per_hour_usd: 1}
  - {model: vectors}
aliases: {nick: plain}
fallbacks: {plain: [vectors, coder, seer], coder: [seer]}
tasks:
  coding: {}
  chores: {models: [plain]}
  summarize: {models: [coder]}
"""
)
HELLO = "hello there"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]


def features(text: str = HELLO, **body: Any) -> PromptFeatures:
    messages = [{"role": "user", "content": text}]
    return extract_features(Operation.CHAT, {"messages": messages, **body})


def failed(*services: str) -> Registry:
    registry = Registry()
    for service in services:
        registry = registry.apply(
            StatusData(service=service, replica="0", state=ReplicaState.FAILED, at=NOW)
        )
    return registry


def choose(
    model: str,
    registry: Registry | None = None,
    asked: PromptFeatures | None = None,
    catalogue: Any = FLEET,
    **more: Any,
) -> Decision:
    ask = RouteRequest(model=model, features=features() if asked is None else asked, **more)
    return decide(
        ask,
        RoutingContext(
            catalogue=catalogue,
            registry=registry or Registry(),
            now=NOW,
            classifier=KeywordClassifier(),
        ),
    )


@pytest.mark.parametrize("named", ["plain", "nick"])
def test_the_first_healthy_model_of_the_chain_answers_and_says_so(named: str) -> None:
    healthy = choose(named)
    assert (healthy.model, healthy.stands_in_for) == ("plain", None)
    found = choose(named, failed("plain"))
    assert (found.model, found.reason, found.stands_in_for) == ("coder", "fallback", "plain")
    found = choose(named, failed("plain", "coder"))
    assert (found.model, found.reason) == ("seer", "fallback")
    assert {"plain", "coder"} == {one.service for one in found.dropped}


def test_a_chain_is_followed_one_way_and_not_beyond_its_end() -> None:
    with pytest.raises(NoHealthyService):
        choose("coder", failed("coder", "seer"))


def test_without_a_chain_an_explicit_model_stays_explicit() -> None:
    with pytest.raises(NoHealthyService):
        choose("seer", failed("seer"))


def test_a_request_may_refuse_the_chain() -> None:
    with pytest.raises(NoHealthyService):
        choose("plain", failed("plain"), fallback="none")


def test_a_request_may_allow_any_model_that_can_do_the_operation() -> None:
    found = choose("seer", failed("seer"), fallback="allow")
    assert (found.model, found.reason, found.stands_in_for) == ("plain", "fallback", "seer")
    assert "vectors" not in {terms.model for terms in found.candidates}


def test_allowing_any_model_asks_the_chain_first() -> None:
    assert "seer" == choose("coder", failed("coder"), fallback="allow").model


def test_a_replay_of_a_stand_in_goes_to_it_again() -> None:
    found = choose("plain", repeat="coder")
    assert (found.model, found.reason, found.stands_in_for) == ("coder", "replay", "plain")


def test_what_a_tenant_may_not_use_never_stands_in() -> None:
    fleet = msgspec.structs.replace(
        FLEET,
        tenants={"few": Tenant(models=("plain", "seer")), "other": Tenant(models=("coder",))},
    )
    assert "seer" == choose("plain", failed("plain"), catalogue=fleet, tenant="few").model
    with pytest.raises(ModelNotAllowed):
        choose("plain", catalogue=fleet, tenant="other")


def test_a_chain_also_serves_prompts_too_long_for_the_model_named() -> None:
    long = features("word " * 3000)
    found = choose("plain", asked=long)
    assert (found.model, found.reason) == ("seer", "fallback")
    with pytest.raises(ContextTooLong):
        choose("plain", asked=long, fallback="none")


def test_a_named_model_that_breaks_a_limit_is_replaced_only_where_the_request_allows_it() -> None:
    costly = Constraints(max_cost_usd=0.0)
    chained = msgspec.structs.replace(FLEET, fallbacks={"coder": ("plain",)})
    with pytest.raises(ConstraintsUnmet):
        choose("coder", limits=costly, catalogue=chained)
    allowed = choose("coder", limits=costly, catalogue=chained, fallback="allow")
    assert (allowed.model, allowed.reason) == ("plain", "fallback")


def test_the_refusal_is_the_one_of_the_model_that_was_named() -> None:
    with pytest.raises(ContextTooLong):
        choose("plain", failed("coder", "seer"), features("word " * 3000))


def test_a_model_that_lists_traits_is_taken_at_its_word() -> None:
    assert "coder" == choose("coder", asked=features(tools=TOOLS)).model
    with pytest.raises(CapabilityMissing, match="tools"):
        choose("seer", asked=features(tools=TOOLS))
    with pytest.raises(CapabilityMissing, match="vision"):
        choose("coder", asked=features(messages=IMAGE), fallback="none")
    assert "seer" == choose("coder", asked=features(messages=IMAGE)).model


def test_a_model_that_lists_no_trait_gets_tools_when_it_is_named() -> None:
    found = choose("plain", asked=features(tools=TOOLS))
    assert (found.model, found.reason) == ("plain", "explicit")


def test_auto_prefers_models_that_have_what_is_asked_for() -> None:
    assert "plain" == choose("auto", profile="quality").model
    assert "coder" == choose("auto", asked=features(tools=TOOLS), profile="quality").model
    assert "seer" == choose("auto", asked=features(messages=IMAGE), profile="quality").model


def test_tools_that_may_not_be_called_need_no_capability() -> None:
    assert "seer" == choose("seer", asked=features(tools=TOOLS, tool_choice="none")).model


def test_nobody_with_both_capabilities_falls_to_those_that_say_nothing() -> None:
    both = features(tools=TOOLS, messages=IMAGE)
    assert "plain" == choose("auto", asked=both).model
    silent = finish_catalogue(msgspec.structs.replace(
        FLEET, services=FLEET.services[1:], tasks={}, aliases={}, fallbacks={}
    ))  # fmt: skip
    with pytest.raises(CapabilityMissing, match="tools and vision"):
        choose("auto", asked=both, catalogue=silent)


def test_a_task_without_models_prefers_those_made_for_it() -> None:
    found = choose("coding", profile="quality")
    assert (found.model, found.reason) == ("coder", "task")
    again = choose("coding", failed("coder"), profile="quality")
    assert (again.model, again.reason, again.stands_in_for) == ("plain", "task", None)


def test_a_task_with_models_has_no_others() -> None:
    with pytest.raises(NoHealthyService):
        choose("chores", failed("plain"))


def test_a_tasks_limit_bounds_the_expected_answer() -> None:
    short = finish_catalogue(msgspec.structs.replace(FLEET, tasks={"chores": Task(max_tokens=5)}))
    assert 5 == choose("chores", catalogue=short).chosen.parts.answer_tokens
    asked = features(max_tokens=3)
    assert 3 == choose("chores", asked=asked, catalogue=short).chosen.parts.answer_tokens


def test_auto_looks_for_a_task_only_where_the_catalogue_says_so() -> None:
    code = features("Write a Python function that adds two numbers.")
    tldr = features("Summarize: the cat sat on the mat.")
    knowing = msgspec.structs.replace(FLEET, auto_tasks=True)
    assert "plain" == choose("auto", asked=code, profile="quality").model
    for asked in (code, tldr):
        found = choose("auto", asked=asked, profile="quality", catalogue=knowing)
        assert (found.model, found.reason) == ("coder", "auto")
    hello = choose("auto", profile="quality", catalogue=knowing)
    assert "plain" == hello.model


def test_auto_goes_to_any_model_when_those_of_the_task_cannot() -> None:
    knowing = msgspec.structs.replace(FLEET, auto_tasks=True)
    code = features("Write a Python function that adds two numbers.")
    found = choose("auto", failed("coder"), code, knowing, profile="quality")
    assert (found.model, found.reason) == ("plain", "auto")
    with pytest.raises(ContextTooLong):
        choose("auto", None, features("word " * 200_000), knowing)


def standing_by(decision: Decision) -> list[str]:
    """Services that take over should the chosen one fail."""
    state = decision.cascade
    if state is None:
        return []
    assert state.on == "failure"
    assert state.plan[0].service == decision.service
    return [place.service for place in state.plan[1:]]


def test_the_chain_of_a_named_model_stands_by() -> None:
    assert standing_by(choose("plain")) == ["coder", "seer"]
    assert standing_by(choose("coder")) == ["seer"]
    assert standing_by(choose("seer")) == []
    assert standing_by(choose("plain", fallback="none")) == []


def test_the_next_best_stands_by_where_no_model_was_named() -> None:
    found = choose("auto")
    (second,) = standing_by(found)
    assert second == found.candidates[1].service


def test_what_has_failed_already_does_not_stand_by() -> None:
    assert standing_by(choose("plain", failed("coder"))) == ["seer"]


def test_another_service_of_the_same_model_stands_by_without_any_chain() -> None:
    fleet = load_catalogue(
        """
models: [{id: one, weights: {path: /o.gguf}}, {id: two, weights: {path: /t.gguf}}]
services: [{model: one}, {model: one, backend: {kind: vllm}}, {model: two}]
"""
    )
    found = decide(
        RouteRequest(model="one", features=features(), fallback="none"),
        RoutingContext(
            catalogue=fleet, registry=Registry(), now=NOW, classifier=KeywordClassifier()
        ),
    )
    assert {found.service, *standing_by(found)} == {"one", "one--vllm"}
