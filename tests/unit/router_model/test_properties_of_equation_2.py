"""Equation 2 and Algorithm 2 for any candidates: bounded, monotone, free of units and order, equal to brute force.

Amounts come from coarse grids: what is equal is exactly equal, what differs does so by more than rounding.
"""

import math
from datetime import UTC, datetime
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation, ReplicaState
from router_model.catalogue.model import Model, Norm, Profile, Service
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification
from router_model.routing.candidates import Candidate, Estimate, estimate
from router_model.routing.constraints import Constraints
from router_model.routing.context import RouteRequest
from router_model.routing.decision import CandidateTerms
from router_model.routing.estimate_history import EstimateHistory, Window, start_history
from router_model.routing.estimates import FinishEstimate, Relevance
from router_model.routing.no_route import NoRoute
from router_model.routing.scoring import normalise_weights, score_candidates
from router_model.routing.shortlist import make_shortlist
from router_model.service_registry import ServiceView

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUESTION = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=10, least_tokens=2)
NORMS = st.sampled_from(["minmax", "distributional"])
IDLE = ServiceView(
    slug="x", state=ReplicaState.READY, ready=1, in_flight=0, capacity=1, lag=0, eta_s=0.0,
    progress=None, tokens_per_s=None, service_s=None, message=None,
)  # fmt: skip


def estimate_of(slug: str, chance: float, seconds: float, dollars: float) -> Estimate:
    finish = FinishEstimate(queue_s=0.0, cold_s=0.0, prefill_s=0.0, first_token_s=0.0,
                            decode_s=seconds, ahead=0, answer_tokens=0.0)  # fmt: skip
    candidate = Candidate(Model(id="m"), Service(model="m", slug=slug), IDLE)
    return Estimate(candidate, finish, seconds, dollars, Relevance(chance, "learned"))


rows = st.lists(
    st.tuples(st.integers(0, 16), st.integers(0, 64), st.integers(0, 64)), min_size=1, max_size=7
).map(
    lambda found: [
        estimate_of(f"s{n}", r / 16, float(t), c / 1024) for n, (r, t, c) in enumerate(found)
    ]
)
histories = st.lists(st.integers(0, 64), max_size=12).map(
    lambda found: EstimateHistory(
        finish_s=Window(64).add(map(float, found)),
        cost_usd=Window(64).add(value / 1024 for value in found),
    )
)
weights = st.integers(0, 16)
profiles = (
    st.tuples(weights, weights, weights)
    .filter(any)
    .map(lambda w: Profile(alpha=w[0] / 8, latency=w[1] / 8, cost=w[2] / 8))
)
rises = st.integers(1, 24).map(lambda step: step / 8)


def first(
    found: list[Estimate], profile: Profile, norm: Norm, history: EstimateHistory
) -> CandidateTerms:
    return score_candidates(found, normalise_weights(profile), norm, history)[0]


def raised(profile: Profile, **by: float) -> Profile:
    return msgspec.structs.replace(
        profile, **{name: getattr(profile, name) + step for name, step in by.items()}
    )


@given(rows, profiles, rises, NORMS, histories)
def test_raising_alpha_never_lowers_the_chosen_relevance(
    found, profile, rise, norm, history
) -> None:
    before = first(found, profile, norm, history)
    after = first(found, raised(profile, alpha=rise), norm, history)
    assert after.relevance >= before.relevance


@given(rows, profiles, rises, NORMS, histories)
def test_raising_lambda_never_raises_the_chosen_time(found, profile, rise, norm, history) -> None:
    before = first(found, profile, norm, history)
    after = first(found, raised(profile, latency=rise), norm, history)
    assert after.finish_s <= before.finish_s


@given(rows, profiles, rises, NORMS, histories)
def test_raising_mu_never_raises_the_chosen_cost(found, profile, rise, norm, history) -> None:
    before = first(found, profile, norm, history)
    after = first(found, raised(profile, cost=rise), norm, history)
    assert after.cost_usd <= before.cost_usd


@given(rows, profiles, NORMS, histories)
def test_every_term_and_score_lies_between_zero_and_one(found, profile, norm, history) -> None:
    for terms in score_candidates(found, normalise_weights(profile), norm, history):
        values = (terms.relevance, terms.latency, terms.cost, terms.score)
        assert all(0 <= value <= 1 for value in values)


@given(rows, profiles, NORMS, histories, st.integers(-20, 20), st.integers(-20, 20))
def test_another_unit_of_time_or_money_changes_nothing(
    found, profile, norm, history, time_power, money_power
) -> None:
    hours, cents = math.ldexp(1.0, time_power), math.ldexp(1.0, money_power)
    scaled = [
        estimate_of(one.candidate.service.slug, one.relevance.chance, one.finish_s * hours,
                    one.cost_usd * cents)
        for one in found
    ]  # fmt: skip
    remembered = EstimateHistory(
        finish_s=Window(64).add(value * hours for value in history.finish_s.recent),
        cost_usd=Window(64).add(value * cents for value in history.cost_usd.recent),
    )
    plain = score_candidates(found, normalise_weights(profile), norm, history)
    other = score_candidates(scaled, normalise_weights(profile), norm, remembered)
    assert [(t.service, t.score) for t in other] == [(t.service, t.score) for t in plain]


@given(rows, profiles, NORMS, st.floats(1e-6, 1e6))
def test_in_any_unit_the_choice_scores_the_same(found, profile, norm, factor) -> None:
    scaled = [
        estimate_of(one.candidate.service.slug, one.relevance.chance, one.finish_s * factor,
                    one.cost_usd)
        for one in found
    ]  # fmt: skip
    plain = {t.service: t.score for t in score_candidates(found, normalise_weights(profile), norm)}
    chosen = score_candidates(scaled, normalise_weights(profile), norm)[0]
    assert plain[chosen.service] == pytest.approx(max(plain.values()))


@given(rows, profiles, NORMS, histories, st.randoms(use_true_random=False))
def test_the_order_of_candidates_changes_nothing(found, profile, norm, history, random) -> None:
    shuffled = random.sample(found, len(found))
    plain = score_candidates(found, normalise_weights(profile), norm, history)
    assert score_candidates(shuffled, normalise_weights(profile), norm, history) == plain


views = st.builds(
    ServiceView,
    slug=st.just("x"),
    state=st.sampled_from(ReplicaState),
    ready=st.integers(0, 2),
    in_flight=st.integers(0, 9),
    capacity=st.integers(0, 4),
    lag=st.integers(0, 50),
    eta_s=st.none() | st.integers(0, 60).map(float),
    progress=st.none(),
    tokens_per_s=st.none() | st.sampled_from([16.0, 64.0]),
    service_s=st.none() | st.sampled_from([0.5, 4.0]),
    message=st.none(),
)
services = st.builds(
    Service,
    model=st.just("m"),
    concurrency=st.integers(1, 8),
    price_per_hour_usd=st.integers(0, 9).map(float),
    cold_start_s=st.integers(0, 60).map(float),
    tokens_per_s=st.sampled_from([16.0, 32.0, 64.0]),
    ttft_s=st.sampled_from([0.0, 0.5]),
)
matrix = st.lists(st.tuples(st.sampled_from(["L1", "L2", "L3"]), services, views), max_size=7).map(
    lambda found: [
        Candidate(
            Model(id=f"m{n}", tier=tier), msgspec.structs.replace(service, slug=f"s{n}"), view
        )
        for n, (tier, service, view) in enumerate(found)
    ]
)
limits = st.builds(
    Constraints,
    max_cost_usd=st.none() | st.sampled_from([0.0, 0.001, 0.01]),
    max_latency_s=st.none() | st.sampled_from([2.0, 20.0, 200.0]),
    min_quality=st.none() | st.sampled_from([0.3, 0.6]),
)


def exact_score(one: Estimate, among: list[Estimate], profile: Profile) -> Fraction:
    def norm(value: float, values: list[float]) -> Fraction:
        low, high = min(values), max(values)
        if low == high:
            return Fraction(0)
        return (Fraction(value) - Fraction(low)) / (Fraction(high) - Fraction(low))

    seconds = norm(one.finish_s, [each.finish_s for each in among])
    dollars = norm(one.cost_usd, [each.cost_usd for each in among])
    alpha, latency, cost = map(Fraction, (profile.alpha, profile.latency, profile.cost))
    total = alpha * Fraction(one.relevance.chance) + latency * (1 - seconds) + cost * (1 - dollars)
    return total / (alpha + latency + cost)


@given(matrix, st.sampled_from(["low", "medium", "high"]), profiles, limits)
def test_algorithm_2_equals_brute_force(found, route_class, profile, limit) -> None:
    """Health, capacity and limits checked one by one, scores in exact arithmetic."""
    known = Classification(route_class, "test")
    ask = RouteRequest(model="auto", features=QUESTION, limits=limit)
    allowed = [
        one
        for one in (
            estimate(candidate, QUESTION, known)
            for candidate in found
            if candidate.view.ready > 0 or candidate.view.state is not ReplicaState.FAILED
            if candidate.view.ready == 0 or candidate.view.capacity > 0
        )
        if limit.max_cost_usd is None or one.cost_usd <= limit.max_cost_usd
        if limit.max_latency_s is None or one.finish_s <= limit.max_latency_s
        if limit.min_quality is None or one.relevance.chance >= limit.min_quality
    ]
    listed = make_shortlist(found, ask, known)
    assert {one.candidate.service.slug for one in listed.estimates} == {
        one.candidate.service.slug for one in allowed
    }
    assert len(listed.estimates) + len(listed.dropped) == len(found)
    if not allowed:
        assert isinstance(listed.refusal, NoRoute)
        assert score_candidates(listed.estimates, normalise_weights(profile)) == ()
        return
    exact = {one.candidate.service.slug: exact_score(one, allowed, profile) for one in allowed}
    chosen = score_candidates(listed.estimates, normalise_weights(profile))[0]
    assert float(exact[chosen.service]) == pytest.approx(float(max(exact.values())), abs=1e-12)
    assert chosen.score == pytest.approx(float(exact[chosen.service]), abs=1e-12)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=12), st.integers(0, 8))
def test_a_window_is_the_last_values_in_both_orders(batches, limit) -> None:
    window, everything = Window(limit), []
    for batch in batches:
        values = [float(value) for value in batch]
        everything += values
        window = window.add(values)
    kept = everything[-limit:] if limit else []
    assert list(window.recent) == kept
    assert list(window.ordered) == sorted(kept)


def test_history_takes_every_candidate_chosen_or_not() -> None:
    found = [estimate_of("a", 0.5, 1.0, 0.25), estimate_of("b", 0.5, 3.0, 0.5)]
    ranked = score_candidates(found, normalise_weights(Profile(alpha=1, latency=1, cost=1)))
    seen = start_history("distributional").observe(ranked)
    assert sorted(seen.finish_s.recent) == [1.0, 3.0]
    assert seen.cost_usd.ordered == (0.25, 0.5)


def test_without_being_asked_for_there_is_no_history() -> None:
    found = score_candidates(
        [estimate_of("a", 0.5, 1.0, 0.25)], normalise_weights(Profile(alpha=1, latency=1, cost=1))
    )
    assert start_history("minmax").observe(found) == start_history("minmax")
    assert start_history("minmax", 8).observe(found).finish_s.recent == (1.0,)
    assert start_history("distributional", 0).observe(found).finish_s.recent == ()
