"""Replay: another profile, model or catalogue decides anew; what was measured and what is expected stay apart."""

from datetime import UTC, datetime
from functools import reduce

import msgspec
import pytest

from events.names import Operation
from router_model.catalogue.loader import load_catalogue
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.replay.replay_summary import ReplaySummary
from router_model.replay.replayed_decisions import (
    Figures,
    Measurement,
    RecordedRequest,
    Scenario,
    assume_registry,
    replay,
)
from router_model.routing.constraints import Constraints
from router_model.routing.context import RouteRequest, RoutingContext

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CATALOGUE = load_catalogue(
    """
models:
  - {id: small, tier: L1, weights: {path: /s.gguf}, quality: {low: 0.5, medium: 0.5, high: 0.5}}
  - {id: large, tier: L3, learned_as: Known, weights: {path: /l.gguf}, quality: {low: 0.9, medium: 0.9, high: 0.9}}
services:
  - {model: small, price_per_hour_usd: 1, tokens_per_s: 100, ttft_s: 0.1}
  - {model: large, price_per_hour_usd: 36, concurrency: 2, tokens_per_s: 20, ttft_s: 1}
  - {model: large, backend: {kind: vllm}, price_per_hour_usd: 72, tokens_per_s: 20, ttft_s: 1}
profiles:
  good: {alpha: 1, latency: 0, cost: 0}
  cheap: {alpha: 0, latency: 0, cost: 1}
default_profile: good
"""
)
QUESTION = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=10, least_tokens=2)
MEASURED = Figures(cost_usd=0.5, seconds=3.0, answered=1.0)


def recorded(request_id="r1", *, service="large", model="large", seen=None, **ask):
    asked = RouteRequest(**{"model": "auto", "features": QUESTION, **ask})
    return RecordedRequest(
        id=request_id,
        request=asked,
        service=service,
        model=model,
        seen={"large": Measurement(figures=MEASURED, service="large")} if seen is None else seen,
    )


def scenario(**fields):
    values = {
        "catalogue": CATALOGUE,
        "classifier": KeywordClassifier(),
        "registry": assume_registry(CATALOGUE, "warm", NOW),
        "now": NOW,
    }
    known = {name: value for name, value in fields.items() if name in {"profile", "model"}}
    others = {name: value for name, value in fields.items() if name not in known}
    return Scenario(context=RoutingContext(**{**values, **others}), **known)


def one(request, **fields):
    (found,) = replay([request], scenario(**fields))
    return found


def test_the_same_choice_keeps_what_was_measured():
    found = one(recorded())
    assert not found.is_changed
    assert found.was == found.would
    assert found.would.measured == MEASURED
    assert found.would.expected.answered == 0.9
    of_a_place = 36 / 3600 / 2
    assert found.would.expected.cost_usd == pytest.approx(found.would.expected.seconds * of_a_place)


def test_another_profile_chooses_anew_and_nothing_measured_is_made_up_for_it():
    found = one(recorded(), profile="cheap")
    assert found.is_changed
    assert found.would.service == "small"
    assert found.would.measured == Figures()
    assert found.would.answered == found.would.expected.answered == 0.5
    assert found.was.answered == 1.0
    assert found.would.expected.cost_usd < found.was.expected.cost_usd


def test_a_judges_score_of_the_other_model_is_used_where_it_is_recorded():
    seen = {"small": Measurement(figures=Figures(answered=0.25))}
    found = one(recorded(seen=seen), model="small")
    assert found.would.measured == Figures(answered=0.25)
    assert found.would.answered == 0.25


def test_a_model_is_known_by_its_learned_name_too():
    found = one(recorded(seen={"Known": Measurement(figures=MEASURED)}, service=None, model=None))
    assert (found.was, found.would.measured, found.is_changed) == (None, MEASURED, False)


def test_money_and_time_of_another_service_of_the_model_are_not_taken_over():
    (found,) = replay(
        [recorded(seen={"large": Measurement(figures=MEASURED, service="elsewhere")})], scenario()
    )
    assert found.would.measured == Figures(answered=1.0)


def test_a_request_without_its_own_profile_follows_the_catalogue_and_one_with_keeps_it():
    kept = one(recorded(profile="cheap"))
    assert kept.would.service == "small"
    other = msgspec.structs.replace(CATALOGUE, default_profile="cheap")
    assert one(recorded(), catalogue=other).would.service == "small"
    assert one(recorded(profile="good"), catalogue=other).would.service == "large"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "nobody"}, "model_not_found"),
        ({"profile": "nothing"}, "invalid_value"),
    ],
)
def test_a_refusal_is_a_result(fields, code):
    found = one(recorded(), **fields)
    assert found.would is None
    assert found.is_changed
    assert found.refusal.startswith(f"{code}: ")
    assert found.was.measured == MEASURED


def test_the_limits_of_a_request_hold_again():
    found = one(recorded(limits=Constraints(max_latency_s=5.0)))
    assert found.would.service == "small"
    assert {one.service for one in found.decision.dropped} == {"large", "large--vllm"}


def test_a_recorded_service_that_is_no_more_has_no_expectation():
    found = one(recorded(service="gone", model="gone", seen={}))
    assert found.was.expected == Figures()
    assert found.is_changed


def test_asleep_takes_longer_than_idle():
    cold = one(recorded(), registry=assume_registry(CATALOGUE, "cold", NOW))
    assert cold.would.expected.seconds == pytest.approx(one(recorded()).would.expected.seconds + 5)


def test_a_summary_compares_only_what_both_choices_have():
    requests = [
        recorded("same", profile="good"),
        recorded("other", profile="cheap"),
        recorded("unknown", service=None, model=None, seen={}),
        recorded("refused", model="large", profile="nothing"),
    ]
    found = reduce(ReplaySummary.add, replay(requests, scenario()), ReplaySummary())
    assert (found.requests, found.refused, found.changed, found.without_choice) == (4, 1, 2, 1)
    assert found.recorded.cost_usd.count == 3
    assert found.recorded.cost_usd.total == pytest.approx(1.5)
    assert found.replayed.seconds.count == 3
    assert (found.replayed_measured.answered.count, found.replayed_measured.seconds.total) == (1, 3)
    assert found.measured.cost_usd.count == 1
    assert found.measured.answered.would == 1.0
    assert found.expected.answered.count == 2
    assert found.expected.answered.was == pytest.approx(1.8)
    assert found.expected.answered.would == pytest.approx(1.4)
    assert (found.answered.count, found.answered.was, found.answered.would) == (2, 2.0, 1.5)
    assert (found.measured_was, found.measured_would) == (2, 1)
    assert found.services == {"large": (3, 2), "small": (0, 1)}


def test_what_is_measured_never_changes_what_is_expected():
    much = {"large": Measurement(figures=Figures(cost_usd=9.0, seconds=99.0, answered=0.0))}
    assert one(recorded(seen=much)).would.expected == one(recorded(seen={})).would.expected
