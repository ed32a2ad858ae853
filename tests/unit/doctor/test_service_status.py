"""What each service of a cluster does, and why it does not scale."""

import pytest

from functions.cli.status_output import build_cluster_rows, build_local_rows
from functions.doctor.service_status import list_statuses


def only(snapshot):
    (found,) = list_statuses(snapshot)
    return found


def pod(*, scheduled=True, waiting=None, last=None):
    status = {"name": "model", "state": {"waiting": waiting} if waiting else {"running": {}}}
    if last:
        status["lastState"] = {"terminated": last}
    conditions = [{"type": "PodScheduled", "status": "True"}]
    if not scheduled:
        conditions = [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: no nvidia.com/gpu"}
        ]
    return {
        "metadata": {"name": "small-x", "labels": {"pickspin.io/service": "small"}},
        "status": {"conditions": conditions, "containerStatuses": [status]},
    }


def test_a_service_at_zero_sleeps_for_no_reason(healthy):
    found = only(healthy)
    assert (found.slug, found.state, found.workload) == ("small", "asleep", "knative")
    assert (found.lag, found.usd_per_hour, found.reasons) == (0.0, 0.0, ())


def test_replicas_devices_and_cost_are_those_that_are_wanted(healthy, build):
    found = only(
        build.replace(healthy, deployments=(build.deployment(replicas=3, ready=2, gpus=2),))
    )
    assert (found.state, found.ready, found.desired, found.most) == ("ready", 2, 3, 4)
    assert found.gpus == {"nvidia.com/gpu": 6}
    assert found.usd_per_hour == pytest.approx(1.5)


def test_a_service_that_starts_is_starting(healthy, build):
    assert only(build.replace(healthy, deployments=(build.deployment(replicas=1),))).state == (
        "starting"
    )


def test_a_broken_revision_is_named_with_the_one_that_goes_on_serving(healthy, build):
    service = build.knative_service()
    service["status"] = {
        "latestCreatedRevisionName": "small-00002",
        "latestReadyRevisionName": "small-00001",
        "conditions": [
            {"type": "ConfigurationsReady", "status": "False", "message": "Container failed: 1"}
        ],
    }
    (reason,) = only(build.replace(healthy, services=(service,))).reasons
    assert reason == (
        "revision small-00002 is not ready (Container failed: 1); small-00001 goes on serving"
    )


def test_a_service_that_nothing_scales_says_so(healthy, build):
    (reason,) = only(build.replace(healthy, scaled_objects=())).reasons
    assert "controller" in reason
    missing = build.replace(healthy, scaled_objects=(), missing=frozenset({"ScaledObject"}))
    assert only(missing).reasons == ("KEDA is not installed: nothing scales it",)


def test_a_catalogue_service_without_workload_is_absent(healthy, build):
    found = only(build.replace(healthy, services=(), deployments=()))
    assert found.state == "absent"
    assert "no Deployment" in found.reasons[0]


def test_a_scaled_object_that_keda_refuses_is_quoted(healthy, build):
    scaled = build.scaled_object()
    scaled["status"]["conditions"] = [
        {"type": "Ready", "status": "False", "message": "error\n parsing kafka metadata"},
        {"type": "Fallback", "status": "True"},
    ]
    first, second = only(build.replace(healthy, scaled_objects=(scaled,))).reasons
    assert first.endswith("error parsing kafka metadata")
    assert "fallback" in second


def test_a_pause_is_a_reason(healthy, build):
    found = only(build.replace(healthy, scaled_objects=(build.scaled_object(paused="0"),)))
    assert "paused" in found.reasons[0]


def test_lag_at_the_limit_is_a_reason(healthy, build):
    log = build.replace(healthy.log, lags={(build.GROUP, build.TOPIC): 70})
    snapshot = build.replace(healthy, log=log, deployments=(build.deployment(replicas=4, ready=4),))
    found = only(snapshot)
    assert found.lag == 70
    assert found.reasons == ("it is at its limit of 4 replicas",)


def test_lag_that_keda_has_not_seen_is_a_reason(healthy, build):
    scaled = build.scaled_object()
    scaled["status"]["conditions"].append({"type": "Active", "status": "False"})
    log = build.replace(
        healthy.log, lags={(build.GROUP, build.TOPIC): 1}, gaps={(build.GROUP, build.TOPIC): 2}
    )
    gap, wait = only(build.replace(healthy, log=log, scaled_objects=(scaled,))).reasons
    assert "without an offset" in gap
    assert "every 5 s" in wait


def test_without_the_log_the_lag_is_what_keda_measures(healthy, build):
    snapshot = build.replace(healthy, log=None)
    assert only(snapshot).lag is None
    assert only(build.replace(snapshot, lags={"small-00001": 2.5})).lag == 2.5


def test_pods_say_what_holds_them_up(healthy, build):
    found = only(build.replace(healthy, pods=(pod(scheduled=False),)))
    assert found.reasons == ("pod small-x: no place: 0/3 nodes: no nvidia.com/gpu",)
    several = build.replace(healthy, pods=(pod(scheduled=False),) * 3)
    (reason,) = only(several).reasons
    assert reason == "pod small-x and 2 more: no place: 0/3 nodes: no nvidia.com/gpu"
    crashing = pod(
        waiting={"reason": "CrashLoopBackOff", "message": "back-off 5m0s"},
        last={"reason": "OOMKilled", "exitCode": 137},
    )
    (reason,) = only(build.replace(healthy, pods=(crashing,))).reasons
    assert reason == (
        "pod small-x: container model is in CrashLoopBackOff, it ended with OOMKilled 137: back-off 5m0s"
    )
    creating = pod(waiting={"reason": "ContainerCreating"})
    assert only(build.replace(healthy, pods=(creating,))).reasons == ()


def test_superseded_revisions_are_counted_apart(healthy, build):
    snapshot = build.replace(
        healthy,
        revisions=(build.revision("small-00001"), build.revision("small-00002")),
        autoscalers=(
            build.autoscaler("small-00001", "Unreachable"),
            build.autoscaler("small-00002"),
        ),
        deployments=(
            build.deployment("small-00001-deployment", replicas=1, ready=1),
            build.deployment("small-00002-deployment"),
        ),
        scaled_objects=(
            build.scaled_object("small-00001", "small-00001-deployment", paused="0"),
            build.scaled_object("small-00002", "small-00002-deployment"),
        ),
    )
    (row,) = build_cluster_rows(list_statuses(snapshot))
    assert row[3] == "small-00002 (+1 old, 1 running)"
    assert only(snapshot).reasons == ()


def test_a_local_stack_has_the_same_table():
    listed = [
        {
            "id": "small",
            "pickspin": {
                "simulated": True,
                "services": [
                    {
                        "service": "small",
                        "state": "warm",
                        "ready": 1,
                        "desired": 2,
                        "lag": 7,
                        "max_replicas": 4,
                        "gpu": "l4",
                        "gpu_share": 0.5,
                        "price_per_hour_usd": 0.6,
                        "message": None,
                    }
                ],
            },
        }
    ]
    assert build_local_rows(listed) == [
        ("small (simulated)", "warm", "1/2 of 4", "-", "7", "0.5 l4", "0.60", "")
    ]


def test_a_breaker_that_is_not_closed_is_said_beside_the_state() -> None:
    each = {"service": "small", "state": "warm", "breaker": "half_open", "message": "why"}
    (row,) = build_local_rows([{"id": "small", "pickspin": {"services": [each]}}])
    assert (row[1], row[-1]) == ("warm, breaker half open", "why")
