"""`kill -9` of every part while requests come in: nothing accepted is lost or answered twice, and scaling goes on."""

import time

import pytest
from load import Load
from release import kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
BEFORE, AFTER = 15, 25
"""Requests that must have been accepted before a kill and after it."""


def kill_pod(installed, labels, *, namespace=None):
    """SIGKILL for every process of the pods, at once; their replacements come from whoever owns them."""
    found = installed.api.list("pods", namespace=namespace, labels=labels)
    assert found, f"no pod has {labels}"
    for pod in found:
        name = pod["metadata"]["name"]
        installed.api.delete("pods", name, namespace=namespace, grace_s=0)
        installed.timeline.note("killed", pod=name)


def await_replaced(installed, labels, *, namespace=None, timeout_s=90.0):
    kubectl("wait", "--for=condition=Ready", "pod", "-l", labels,
            "-n", namespace or installed.api.namespace, f"--timeout={timeout_s:.0f}s")  # fmt: skip


@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_a_model_pod_killed_in_the_middle_of_answers_loses_none(installed, model):
    labels = f"pickspin.io/service={model}"
    with Load(installed.door, model, prompt="[[fake:ttft=2]]", pause_s=0.3) as load:
        load.await_accepted(BEFORE)
        installed.timeline.await_entry(
            lambda e: e["event"] == "pod_ready" and e["service"] == model,
            timeout_s=60,
            what="a pod",
        )
        killed = installed.timeline.note("kill", service=model)["at"]
        kill_pod(installed, labels)
        again = installed.timeline.await_entry(
            lambda e: e["event"] == "pod_ready" and e["service"] == model and e["at"] > killed,
            timeout_s=60,
            what="a new pod",
        )
        print(f"{model}: ready again {again['at'] - killed:.1f} s after its pod was killed")
        installed.timeline.note("measured", what=f"{model}: recovery", p50=again["at"] - killed)
        load.await_accepted(AFTER)
    load.assert_nothing_lost(installed.tail.outcomes)


VICTIMS = {
    "scaler": ("app.kubernetes.io/component=scaler", None),
    "controller": ("app.kubernetes.io/component=controller", None),
    "recorder": ("app.kubernetes.io/component=recorder", None),
    "router": ("app.kubernetes.io/component=router", None),
    "keda-operator": ("app=keda-operator", "keda"),
    "knative-controller": ("app=controller", "knative-serving"),
}


QUICK = {"keda-operator"}
"""Killed in the short run too: it is the one that everything waits for."""


@pytest.mark.parametrize(
    "victim",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in VICTIMS],
)
def test_whoever_is_killed_a_sleeping_model_is_woken_and_nothing_is_lost(installed, victim):
    labels, namespace = VICTIMS[victim]
    models = ["fake-knative", "fake-deployment"]
    installed.await_zero(*models)
    first = len(installed.timeline.entries)
    kill_pod(installed, labels, namespace=namespace)
    loads = [Load(installed.door, model, pause_s=0.5) for model in models]
    with loads[0], loads[1]:
        for load in loads:
            load.await_accepted(AFTER)
    for load in loads:
        load.assert_nothing_lost(installed.tail.outcomes)
    await_replaced(installed, labels, namespace=namespace)
    woken = {e["service"] for e in installed.timeline.entries[first:] if e["event"] == "pod_ready"}
    assert set(models) <= woken
    installed.await_zero(*models)


def test_kafka_killed_and_started_again_loses_nothing(installed, lane):
    here = str(lane.lane)
    models = ["fake-knative", "fake-deployment"]
    loads = [Load(installed.door, model, pause_s=0.5) for model in models]
    with loads[0], loads[1]:
        for load in loads:
            load.await_accepted(BEFORE)
        lane.execute(f"{here}/kafka-down", "KILL")
        installed.timeline.note("killed", pod="kafka")
        time.sleep(5.0)  # an outage has a length: callers meet it
        lane.execute(f"{here}/kafka-up")
        installed.timeline.note("kafka_back")
        for load in loads:
            load.await_accepted(AFTER, timeout_s=120.0)
    for load in loads:
        load.assert_nothing_lost(installed.tail.outcomes)
    installed.await_zero(*models)
