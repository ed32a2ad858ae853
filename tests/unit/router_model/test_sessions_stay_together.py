"""Session affinity: the same service for one session while it is as good, spread over sessions, nothing remembered."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from router_model.catalogue.loader import load_catalogue
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import CandidateTerms
from router_model.routing.estimates import FinishEstimate
from router_model.routing.select import decide
from router_model.routing.session_affinity import choose_for_session
from router_model.service_registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HELLO = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=10, least_tokens=2)
CATALOGUE = """
models:
  - {id: m, weights: {path: /m.gguf}}
services:
  - {model: m, slug: a}
  - {model: m, slug: b, ttft_s: 0.201}
  - {model: m, slug: c}
"""


def terms(service: str, score: float, **raw: float) -> CandidateTerms:
    values = {"finish_s": 1.0, "cost_usd": 0.0, "relevance": 0.5, "latency": 1.0, "cost": 1.0}
    parts = FinishEstimate(
        queue_s=0, cold_s=0, prefill_s=0, first_token_s=0, decode_s=0, ahead=0, answer_tokens=0
    )
    return CandidateTerms(
        service=service, model="m", score=score, basis="default", parts=parts, **(values | raw)
    )


def chosen(session: str | None, *statuses: StatusData, margin: float = 0.05) -> str:
    catalogue = load_catalogue(CATALOGUE + f"affinity_margin: {margin}\n")
    registry = Registry()
    for status in statuses:
        registry = registry.apply(status)
    ask = RouteRequest(model="m", features=HELLO, session=session)
    return decide(
        ask,
        RoutingContext(
            catalogue=catalogue, registry=registry, now=NOW, classifier=KeywordClassifier()
        ),
    ).service


def busy(service: str) -> StatusData:
    return StatusData(service=service, replica="_scaler", state=ReplicaState.COLD, at=NOW, lag=500)


def test_a_session_keeps_its_service_and_sessions_spread() -> None:
    first = {f"s{n}": chosen(f"s{n}") for n in range(60)}
    assert first == {session: chosen(session) for session in first}
    assert {"a", "b", "c"} == set(first.values())


def test_without_a_session_or_a_margin_the_best_is_taken() -> None:
    assert "a" == chosen(None)
    assert {"a"} == {chosen(f"s{n}", margin=0) for n in range(20)}


def test_a_service_that_got_much_worse_loses_its_sessions() -> None:
    sessions = [f"s{n}" for n in range(40)]
    moved = {session: chosen(session, busy("a")) for session in sessions}
    assert "a" not in moved.values()
    stayed = [session for session in sessions if chosen(session) != "a"]
    assert all(moved[session] == chosen(session) for session in stayed)


def test_a_difference_that_only_the_norm_makes_wide_does_not_count() -> None:
    """Between two candidates min-max is all or nothing, so a millisecond would break every session."""
    best, other = terms("a", 0.9, finish_s=1.0), terms("b", 0.4, finish_s=1.01)
    assert {"a", "b"} == {
        choose_for_session([best, other], f"s{n}", tenant="t", margin=0.05).service
        for n in range(20)
    }


@pytest.mark.parametrize("raw", [{"finish_s": 1.2}, {"cost_usd": 0.1}, {"relevance": 0.4}])
def test_a_candidate_that_is_really_worse_is_not_near(raw: dict[str, float]) -> None:
    ranked = [terms("a", 0.9), terms("b", 0.4, **raw)]
    found = {
        choose_for_session(ranked, f"s{n}", tenant="t", margin=0.05).service for n in range(20)
    }
    assert {"a"} == found


def test_tenants_with_the_same_session_name_are_told_apart() -> None:
    ranked = [terms("a", 0.9), terms("b", 0.9)]
    found = {
        choose_for_session(ranked, "1", tenant=f"t{n}", margin=0.05).service for n in range(20)
    }
    assert {"a", "b"} == found


@given(st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=2, max_size=8, unique=True))
def test_a_service_that_goes_moves_only_the_sessions_it_had(slugs: list[str]) -> None:
    ranked = [terms(slug, 0.9) for slug in slugs]
    before = {
        n: choose_for_session(ranked, str(n), tenant="", margin=0.05).service for n in range(20)
    }
    after = {
        n: choose_for_session(ranked[1:], str(n), tenant="", margin=0.05).service for n in range(20)
    }
    assert all(after[n] == service for n, service in before.items() if service != slugs[0])
    assert Counter(after.values()).total() == 20
