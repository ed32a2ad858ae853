"""Limits of a request in the router: kept, or one failed reply that says what came nearest; scores keep a history."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import pytest

from events import names
from events.codecs.kafka_codec import to_record
from events.event import Event
from functions.router.handler import RouterRules
from functions.router.router import Router
from router_model.catalogue.model import Catalogue
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification
from router_model.routing.decision import CandidateTerms
from router_model.routing.estimate_history import start_history
from router_model.routing.policy import LoadedPolicy, PolicyContext
from router_model.service_registry import Registry
from tests.unit.router.conftest import handle

Make = Callable[..., Event]


def test_a_limit_moves_the_request(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    hard = b'{"model":"auto","messages":[{"role":"user","content":"Prove it."}]}'
    found = {}
    for limit in (None, "0.001"):
        event = request_event(data=hard, ext={names.PROFILE: "quality", names.MAX_COST: limit})
        found[limit] = handle(event, catalogue, Registry(), now, rules=rules)[0].event.subject
    assert found[None] == "sim-large"
    assert found["0.001"] != "sim-large"


def test_what_nobody_keeps_is_a_failed_reply_to_the_caller(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    event = request_event(model="sim-large", ext={names.MAX_LATENCY: "0.5"})
    out = handle(event, catalogue, Registry(), now, rules=rules)
    assert {one.event.type for one in out} == {names.FAILED}
    assert any(one.topic.endswith("infer.replies") and one.partition == 1 for one in out)
    failure = json.loads(out[0].event.data)
    assert (failure["status"], failure["error"]["code"]) == (422, "constraints_unmet")
    assert failure["error"]["param"] == "maxlatency"
    assert "nearest is sim-large" in failure["error"]["message"]


def test_a_limit_that_is_no_number_is_a_failed_reply_and_no_dead_letter(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    out = handle(
        request_event(ext={names.MAX_COST: "cheap"}), catalogue, Registry(), now, rules=rules
    )
    assert {one.event.type for one in out} == {names.FAILED}
    assert json.loads(out[0].event.data)["error"]["code"] == "invalid_value"


def test_limits_go_on_with_the_routed_event(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    event = request_event(ext={names.MAX_COST: "5"})
    routed = handle(event, catalogue, Registry(), now, rules=rules)[0].event
    assert routed.get(names.MAX_COST) == "5"


class SaysNothingUsable:
    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
        return Classification("low", "test", success=dict.fromkeys(models, float("nan")))


def test_scores_that_are_no_numbers_still_route_and_are_counted(
    make_bench: Callable[[], Any], request_event: Make
) -> None:
    bench = make_bench()
    parts = bench.router._dependencies
    context = replace(parts.context, classifier=SaysNothingUsable())
    router = Router(replace(parts, context=context))
    assert router.decide(request_event())[0].event.type == names.ROUTED
    assert bench.metrics.unusable_scores._value.get() >= 4


@pytest.mark.parametrize("norm", ["minmax", "distributional"])
def test_the_router_remembers_recent_terms_where_norm_asks_for_it(
    make_bench: Callable[[], Any], request_event: Make, norm: str
) -> None:
    bench = make_bench()
    parts = bench.router._dependencies
    catalogue = msgspec.structs.replace(parts.context.catalogue, norm=norm)
    context = replace(parts.context, catalogue=catalogue, history=start_history(norm))
    router = Router(replace(parts, context=context))
    for number in range(3):
        router.decide(request_event(id=f"req_{number}", model="real"))
    seen = router._history.finish_s.recent
    assert len(seen) == (6 if norm == "distributional" else 0)


def test_the_same_events_give_the_same_bytes_with_history_too(
    make_bench: Callable[[], Any], request_event: Make, topics: Any
) -> None:
    written = []
    for _ in range(2):
        parts = make_bench().router._dependencies
        catalogue = msgspec.structs.replace(parts.context.catalogue, norm="distributional")
        history = start_history("distributional")
        context = replace(parts.context, catalogue=catalogue, history=history)
        router = Router(replace(parts, context=context))
        events = [request_event(id=f"req_{number}") for number in range(5)]
        written.append(
            [to_record(out.event, topic=out.topic, key=out.key)
             for event in events for out in router.decide(event)]
        )  # fmt: skip
    assert written[0] == written[1]


class Fails:
    def rank(
        self, candidates: Sequence[CandidateTerms], context: PolicyContext
    ) -> Sequence[CandidateTerms]:
        raise ZeroDivisionError


def test_a_policy_that_fails_is_logged_and_counted_and_costs_no_request(
    make_bench: Callable[[], Any], request_event: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    parts = bench.router._dependencies
    plain = bench.router.decide(request_event())
    catalogue = msgspec.structs.replace(parts.context.catalogue, policy="mine:Fails")
    policies = {"mine:Fails": LoadedPolicy(Fails(), catalogue)}
    context = replace(parts.context, catalogue=catalogue, policies=policies)
    router = Router(replace(parts, context=context))
    assert router.decide(request_event()) == plain
    labels = {"policy": "mine:Fails"}
    failures = bench.metrics.registry.get_sample_value("pickspin_policy_failures_total", labels)
    assert failures == 1.0
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.getMessage() == "the policy failed, equation 2 decided"
    assert vars(record)["policy"] == "mine:Fails"
    assert vars(record)["reason"].startswith("it raised ZeroDivisionError (test_limits_are_kept.py")
