"""What is asked of an autoscaler, and what the HorizontalPodAutoscaler's arithmetic makes of it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from functions.autoscaling.algorithm1 import ScalingLimits, ScalingReason
from functions.autoscaling.desired_replicas import DesiredReplicasState
from functions.autoscaling.rate_window import RateWindow
from functions.autoscaling.scaling_state import LoadReading, ScalingState

TOLERANCE = 0.1
"""Kubernetes' default of --horizontal-pod-autoscaler-tolerance."""


def terms(**more: float) -> ScalingLimits:
    found = {
        "concurrency": 2,
        "min_warm": 0,
        "max_replicas": 8,
        "cooldown_s": 30.0,
        "idle_s": 60.0,
        "drain_goal_s": 10.0,
    }
    return ScalingLimits(**(found | more))


def fresh(at_s: float = 0.0) -> DesiredReplicasState:
    return DesiredReplicasState(
        scaling=ScalingState(window=RateWindow(window_s=300.0), started_s=at_s)
    )


def reading(at_s: float, *, lag: int = 0, in_flight: int = 0, seen: int = 0) -> LoadReading:
    return LoadReading(
        now_s=at_s, arrived=0, lag=lag, in_flight=in_flight, replicas=seen, service_s=5.0
    )


def hpa(current: int, value: float, average: float) -> int:
    """`GetExternalPerPodMetricReplicas` of Kubernetes' replica calculator: quantities are thousandths, a ratio within
    the tolerance changes nothing.
    """
    usage, target = math.ceil(value * 1000), math.ceil(average * 1000)
    ratio = usage / (target * current)
    if 1.0 - TOLERANCE <= ratio <= 1.0 + TOLERANCE:
        return current
    return math.ceil(usage / target)


@given(current=st.integers(1, 9), desired=st.integers(0, 100))
def test_the_hpa_arrives_at_exactly_the_wish_from_up_to_nine_replicas(current, desired):
    assert hpa(current, float(desired), 1.0) == desired


@given(current=st.integers(10, 1000), desired=st.integers(0, 1000))
def test_from_ten_on_its_tolerance_alone_keeps_it_within_a_tenth(current, desired):
    found = hpa(current, float(desired), 1.0)
    assert found == desired or (
        found == current and abs(desired - current) <= TOLERANCE * current + 1e-9
    )


def test_nothing_known_and_nothing_to_do_asks_for_nothing():
    _, desired = fresh().step(reading(0.0), terms())

    assert (desired.replicas, desired.is_needed) == (0, False)


def test_work_at_zero_asks_for_replicas_at_once():
    _, desired = fresh().step(reading(0.0, lag=1), terms())

    assert (desired.replicas, desired.is_needed, desired.decision.reason) == (
        1,
        True,
        ScalingReason.ACTIVATION,
    )


def test_a_backlog_at_zero_asks_for_all_that_it_needs():
    _, desired = fresh().step(reading(0.0, lag=20), terms())

    assert desired.replicas == desired.decision.backlog_target == 5


def test_what_is_asked_for_falls_with_the_need_before_the_idle_time():
    asking, desired = fresh().step(reading(0.0, lag=20), terms())
    assert desired.replicas == 5
    asking, desired = asking.step(reading(5.0, lag=4, seen=5), terms())
    assert desired.replicas == 1
    asking, desired = asking.step(reading(6.0, seen=5), terms())
    assert (desired.replicas, desired.is_needed) == (1, False)
    _, desired = asking.step(reading(70.0, seen=5), terms())
    assert (desired.replicas, desired.decision.reason) == (0, ScalingReason.IDLE)


def test_the_cooldown_gates_more_replicas_and_not_the_first():
    asking, desired = fresh().step(reading(0.0, lag=1), terms())
    asking, desired = asking.step(reading(1.0, lag=40, seen=1), terms())
    assert (desired.replicas, desired.decision.reason) == (1, ScalingReason.COOLDOWN)
    asking, desired = asking.step(reading(30.0, lag=40, seen=1), terms())
    assert (desired.replicas, desired.decision.reason) == (8, ScalingReason.SCALE_UP)


def test_replicas_that_were_asked_for_count_until_they_are_seen():
    asking, _ = fresh().step(reading(0.0, lag=20), terms())
    _, desired = asking.step(reading(1.0, lag=20, seen=0), terms())

    assert (desired.current, desired.replicas) == (5, 5)


def test_a_scaler_that_starts_anew_finds_what_runs_and_keeps_it_for_the_idle_time():
    asking, desired = fresh(at_s=1000.0).step(reading(1000.0, seen=3), terms())
    assert desired.replicas == 1
    _, desired = asking.step(reading(1061.0, seen=3), terms())
    assert desired.replicas == 0


def test_a_warm_pool_is_needed_always():
    asking, desired = fresh().step(reading(0.0), terms(min_warm=2))
    assert (desired.replicas, desired.is_needed) == (2, True)
    _, desired = asking.step(reading(10_000.0, seen=2), terms(min_warm=2))
    assert (desired.replicas, desired.is_needed) == (2, True)


def test_a_service_that_may_have_no_replica_is_never_asked_for():
    _, desired = fresh().step(reading(0.0, lag=5), terms(max_replicas=0, min_warm=1))

    assert (desired.replicas, desired.is_needed) == (0, False)


steps = st.lists(
    st.tuples(st.floats(0.0, 100.0), st.integers(0, 60), st.integers(0, 10), st.integers(0, 10)),
    min_size=1,
    max_size=30,
)


@given(
    steps=steps,
    min_warm=st.integers(0, 4),
    max_replicas=st.integers(1, 8),
    concurrency=st.integers(1, 8),
)
def test_every_wish_keeps_the_promises_of_algorithm_1(steps, min_warm, max_replicas, concurrency):
    mine = terms(min_warm=min_warm, max_replicas=max_replicas, concurrency=concurrency)
    asking, now_s, last_busy_s = fresh(), 0.0, 0.0
    for after_s, lag, in_flight, seen in steps:
        now_s += after_s
        before = asking
        asking, desired = asking.step(reading(now_s, lag=lag, in_flight=in_flight, seen=seen), mine)
        is_busy = lag > 0 or in_flight > 0
        last_busy_s = now_s if is_busy else last_busy_s

        assert 0 <= desired.replicas <= max_replicas
        assert desired.replicas >= min(min_warm, max_replicas)
        if is_busy:
            assert desired.replicas > 0
            assert desired.is_needed
        if desired.replicas > max(before.asked, seen):
            assert desired.decision.reason in {
                ScalingReason.ACTIVATION,
                ScalingReason.WARM_POOL,
                ScalingReason.SCALE_UP,
            }
        need = max(desired.decision.rate_target, desired.decision.backlog_target, min_warm, 1)
        assert (
            desired.replicas <= min(max_replicas, need)
            or desired.decision.reason is ScalingReason.COOLDOWN
        )


@given(lag=st.integers(0, 500), rate=st.floats(0.0, 50.0))
def test_both_targets_of_a_wish_are_those_of_algorithm_1(lag, rate):
    arrived = round(rate * 300)
    window = RateWindow(window_s=300.0).observe(0.0, 0)
    asking = DesiredReplicasState(scaling=ScalingState(window=window, started_s=0.0))
    found = LoadReading(now_s=1.0, arrived=arrived, lag=lag, in_flight=0, replicas=1, service_s=5.0)
    _, desired = asking.step(found, terms())
    snapshot_rate = arrived / 300

    assert desired.decision.rate_target == math.ceil(snapshot_rate * 5.0 / 2)
    assert desired.decision.backlog_target == min(
        math.ceil(lag / (2 * 10.0 / 5.0)), math.ceil(lag / 2)
    )
