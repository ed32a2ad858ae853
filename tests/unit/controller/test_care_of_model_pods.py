import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.controller.actions import Notice, Write
from functions.controller.maintenance.pod_deletion_cost import EVERY_S, DeletionCosts, correct_costs
from functions.controller.maintenance.pod_recovery import (
    FORGET_S,
    RecoveryLimits,
    RecoveryState,
    WorkloadState,
    plan_actions,
)
from functions.controller.pods import Pod
from functions.testing.fake_clock import FakeClock

TERMS = RecoveryLimits(tries=3, backoff_s=10, missing_s=90)
COST = "controller.kubernetes.io/pod-deletion-cost"


def pod(name="p", *, ready=False, waiting="", scheduled=True, leaving=False, cost="", service="m"):
    metadata = {
        "name": name,
        "namespace": "models",
        "uid": f"uid-{name}",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"pickspin.io/service": service},
        "annotations": {COST: cost} if cost else {},
    }
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    conditions = [
        {"type": "Ready", "status": "True" if ready else "False"},
        {"type": "PodScheduled", "status": "True" if scheduled else "False"},
    ]
    status = {"containerStatuses": [{"state": state}], "conditions": conditions}
    return Pod.parse({"metadata": metadata, "status": status})


def sight(now_s, *pods, wanted=1):
    return WorkloadState(now_s=now_s, wanted=wanted, ready=sum(p.is_ready for p in pods), pods=pods)


CRASHING = pod(waiting="CrashLoopBackOff")


def test_a_pod_that_keeps_failing_is_replaced_as_soon_as_that_is_seen():
    _, verdict = RecoveryState().step(sight(0, CRASHING), TERMS)
    (write,) = plan_actions([verdict], 3)
    assert isinstance(write, Write)
    assert (write.verb, write.name, write.uid) == ("delete", "p", "uid-p")
    assert write.notice.reason == "PodReplaced"


def test_replacements_are_bounded_and_come_later_and_later():
    recovery, at = RecoveryState(), []
    left = []
    for now_s in range(800):
        recovery, verdict = recovery.step(sight(now_s, CRASHING), TERMS)
        if verdict is not None:
            (left if verdict.is_left else at).append(now_s)
    assert at == [0, 10, 30]
    assert len(left) == 1
    (notice,) = plan_actions([RecoveryState(tries=3).step(sight(0, CRASHING), TERMS)[1]], 3)
    assert isinstance(notice, Notice)
    assert notice.reason == "RecoveryGivenUp"


def test_tries_are_forgotten_after_a_quiet_while():
    recovery = RecoveryState(tries=3, last_s=0.0, has_left=True)
    _, verdict = recovery.step(sight(FORGET_S, CRASHING), TERMS)
    assert verdict.attempt == 1


def test_a_service_that_does_not_become_ready_in_its_time_gets_a_new_pod():
    recovery, loading = RecoveryState(), pod()
    for now_s in range(90):
        recovery, verdict = recovery.step(sight(now_s, loading), TERMS)
        assert verdict is None, "a first boot is not ended while the model loads"
    _, verdict = recovery.step(sight(90, loading), TERMS)
    assert verdict.reason == "never_ready"


def test_the_clock_of_a_missing_replica_starts_anew_with_each_replacement():
    recovery = RecoveryState(missing_since_s=0.0)
    recovery, verdict = recovery.step(sight(90, pod()), TERMS)
    assert verdict is not None
    for now_s in (120, 150, 179):
        recovery, verdict = recovery.step(sight(now_s, pod()), TERMS)
        assert verdict is None


@pytest.mark.parametrize(
    "found",
    [
        pod(scheduled=False),
        pod(waiting="ImagePullBackOff"),
        pod(leaving=True, waiting="CrashLoopBackOff"),
        pod(ready=True),
    ],
)
def test_what_a_new_pod_would_not_cure_is_left_alone(found):
    recovery = RecoveryState(missing_since_s=0.0)
    assert recovery.step(sight(1000, found), TERMS)[1] is None


def test_a_service_at_zero_is_never_broken():
    recovery = RecoveryState(missing_since_s=0.0)
    following, verdict = recovery.step(sight(1000, CRASHING, wanted=0), TERMS)
    assert verdict is None
    assert following.missing_since_s is None


def test_one_failing_pod_among_ready_ones_is_replaced():
    ready = pod("a", ready=True)
    _, verdict = RecoveryState().step(sight(0, ready, CRASHING, wanted=2), TERMS)
    assert verdict.pod.name == "p"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.5, 120), st.booleans(), st.booleans()), max_size=60))
def test_replacements_never_exceed_their_bound(looks):
    recovery, now_s, replaced = RecoveryState(), 0.0, []
    for seconds, is_ready, is_crashing in looks:
        now_s += seconds
        found = pod(ready=is_ready, waiting="CrashLoopBackOff" if is_crashing else "")
        recovery, verdict = recovery.step(sight(now_s, found), TERMS)
        if verdict is not None and not verdict.is_left:
            replaced.append(now_s)
    for at_s in replaced:
        assert sum(at_s <= other < at_s + FORGET_S for other in replaced) <= TERMS.tries


def test_busy_pods_go_last_and_idle_ones_first():
    pods = [pod("busy"), pod("idle", cost="100"), pod("same")]
    found = {
        write.name: write.body["metadata"]["annotations"][COST]
        for write in correct_costs(pods, {"busy": 2})
    }
    assert found == {"busy": "100", "idle": "0"}


def test_a_services_only_pod_costs_no_write():
    assert correct_costs([pod("busy"), pod("other", service="n")], {"busy": 2}) == ()
    assert correct_costs([pod("busy"), pod("going", leaving=True)], {"busy": 2}) == ()


def test_a_cost_changes_at_most_once_in_a_while():
    clock = FakeClock()
    sparing = DeletionCosts(clock)
    count = 0
    for second in range(100):
        clock.advance(1)
        pods = [pod("a", cost="0" if second % 2 else "100"), pod("b")]
        count += len(sparing.step(pods, {"a": second % 2}))
    assert count <= 100 / EVERY_S + 1
