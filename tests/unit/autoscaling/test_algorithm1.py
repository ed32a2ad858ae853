"""Algorithm 1: examples of every line of the paper, then properties over all snapshots."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from functions.autoscaling.algorithm1 import (
    ScalingDecision,
    ScalingLimits,
    ScalingReason,
    ServiceLoad,
    compute_backlog_target,
    compute_rate_target,
    decide,
)

TERMS = ScalingLimits(
    concurrency=4, min_warm=0, max_replicas=8, cooldown_s=30.0, idle_s=300.0, drain_goal_s=10.0
)
QUIET = ServiceLoad(
    now_s=1000.0,
    rate_per_s=0.0,
    service_s=2.0,
    lag=0,
    in_flight=0,
    replicas=0,
    last_busy_s=None,
    last_scale_up_s=None,
)

terms_any = st.builds(
    ScalingLimits,
    concurrency=st.integers(1, 64),
    min_warm=st.integers(0, 5),
    max_replicas=st.integers(1, 20),
    cooldown_s=st.floats(0, 600),
    idle_s=st.floats(0, 3600),
    drain_goal_s=st.floats(0.1, 600),
)
instants = st.none() | st.floats(0, 1000)
snapshots = st.builds(
    ServiceLoad,
    now_s=st.floats(1000, 10_000),
    rate_per_s=st.floats(0, 1000),
    service_s=st.floats(0, 600),
    lag=st.integers(0, 100_000),
    in_flight=st.integers(0, 1000),
    replicas=st.integers(0, 30),
    last_busy_s=instants,
    last_scale_up_s=instants,
)


def test_littles_law_rounds_up() -> None:
    assert compute_rate_target(replace(QUIET, rate_per_s=4.1), TERMS) == 3


def test_the_backlog_target_drains_within_the_goal() -> None:
    # 100 waiting, 4 slots x 10 s / 2 s = 20 a replica within the goal.
    assert compute_backlog_target(replace(QUIET, lag=100), TERMS) == 5


def test_calls_longer_than_the_drain_goal_ask_for_no_more_than_a_slot_each() -> None:
    assert compute_backlog_target(replace(QUIET, lag=4, service_s=600.0), TERMS) == 1


def test_one_waiting_request_wakes_a_sleeping_service_during_its_cooldown() -> None:
    snapshot = replace(QUIET, lag=1, last_scale_up_s=999.9)

    assert decide(snapshot, TERMS) == ScalingDecision(
        replicas=1, reason=ScalingReason.ACTIVATION, rate_target=0, backlog_target=1
    )


def test_a_large_backlog_wakes_as_many_as_it_needs_when_the_cooldown_is_over() -> None:
    assert decide(replace(QUIET, lag=100), TERMS).replicas == 5


def test_the_cooldown_gates_scale_up() -> None:
    snapshot = replace(QUIET, lag=100, replicas=1, last_scale_up_s=980.0)

    assert decide(snapshot, TERMS).reason is ScalingReason.COOLDOWN
    assert decide(snapshot, TERMS).replicas == 1
    assert decide(replace(snapshot, now_s=1010.0), TERMS).replicas == 5


def test_a_warm_pool_starts_without_any_request() -> None:
    decision = decide(QUIET, replace(TERMS, min_warm=2))

    assert (decision.replicas, decision.reason) == (2, ScalingReason.WARM_POOL)


def test_an_idle_service_goes_to_its_warm_pool_only_after_tau() -> None:
    snapshot = replace(QUIET, replicas=3, last_busy_s=700.0)

    assert decide(snapshot, TERMS).replicas == 3
    assert decide(replace(snapshot, now_s=1000.1), TERMS).replicas == 0
    assert decide(replace(snapshot, now_s=1000.1), replace(TERMS, min_warm=1)).replicas == 1


def test_a_service_that_sleeps_is_not_woken_by_what_the_window_remembers() -> None:
    snapshot = replace(QUIET, rate_per_s=3.0, last_busy_s=600.0, last_scale_up_s=500.0)

    assert decide(snapshot, TERMS).replicas == 0
    assert decide(replace(snapshot, replicas=1), replace(TERMS, min_warm=1)).replicas == 1


def test_work_in_flight_keeps_a_service_awake_however_old_it_is() -> None:
    snapshot = replace(QUIET, replicas=1, in_flight=1, last_busy_s=0.0)

    assert decide(snapshot, TERMS).replicas == 1


@given(snapshots, terms_any)
def test_the_decision_is_always_within_zero_and_the_limit(
    snapshot: ServiceLoad, terms: ScalingLimits
) -> None:
    assert 0 <= decide(snapshot, terms).replicas <= terms.max_replicas


@given(snapshots, terms_any)
def test_nothing_uncommitted_is_ever_left_without_a_replica(
    snapshot: ServiceLoad, terms: ScalingLimits
) -> None:
    if snapshot.is_busy:
        assert decide(snapshot, terms).replicas >= 1


@given(snapshots, terms_any)
def test_it_never_goes_below_the_warm_pool(snapshot: ServiceLoad, terms: ScalingLimits) -> None:
    assert decide(snapshot, terms).replicas >= min(terms.min_warm, terms.max_replicas)


@given(snapshots, terms_any)
def test_a_busy_service_within_its_limit_never_shrinks(
    snapshot: ServiceLoad, terms: ScalingLimits
) -> None:
    if snapshot.is_busy and snapshot.replicas <= terms.max_replicas:
        assert decide(snapshot, terms).replicas >= snapshot.replicas


@given(snapshots, terms_any)
def test_growth_from_above_the_warm_pool_needs_an_expired_cooldown(
    snapshot: ServiceLoad, terms: ScalingLimits
) -> None:
    decision = decide(snapshot, terms)
    if 0 < snapshot.replicas < decision.replicas and snapshot.replicas >= terms.min_warm:
        last = snapshot.last_scale_up_s
        assert last is None or snapshot.now_s - last >= terms.cooldown_s


@given(snapshots, terms_any, st.integers(1, 1000))
def test_more_backlog_never_asks_for_fewer_replicas(
    snapshot: ServiceLoad, terms: ScalingLimits, more: int
) -> None:
    busier = replace(snapshot, lag=snapshot.lag + more)

    assert compute_backlog_target(busier, terms) >= compute_backlog_target(snapshot, terms)


def test_an_idle_service_above_its_limit_sleeps_at_once() -> None:
    terms = ScalingLimits(
        concurrency=1, min_warm=0, max_replicas=1, cooldown_s=1.0, idle_s=0.0, drain_goal_s=1.0
    )
    snapshot = ServiceLoad(
        now_s=1000.0, rate_per_s=0.0, service_s=0.0, lag=0, in_flight=0, replicas=2,
        last_busy_s=None, last_scale_up_s=None,
    )  # fmt: skip
    assert 0 == decide(snapshot, terms).replicas


@given(snapshots, terms_any)
def test_deciding_again_on_what_was_decided_changes_nothing(
    snapshot: ServiceLoad, terms: ScalingLimits
) -> None:
    first = decide(snapshot, terms)
    has_grown = first.replicas > snapshot.replicas
    last_up = snapshot.now_s if has_grown else snapshot.last_scale_up_s
    after = replace(snapshot, replicas=first.replicas, last_scale_up_s=last_up)

    assert terms.cooldown_s == 0 or decide(after, terms).replicas == first.replicas
