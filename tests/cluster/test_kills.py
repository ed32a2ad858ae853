"""`kill -9` of every part while requests come in: nothing accepted is lost or answered twice, and scaling goes on."""

import os
import signal
import time
from pathlib import Path

import pytest
from load import Load
from release import kubectl
from timeline import is_ready

from functions.ports.kubernetes import is_leaving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
BEFORE, AFTER = 15, 25
"""Requests that must have been accepted before a kill and after it."""


def names_of(installed, labels, namespace=None):
    """Of the pods that nobody has told to end."""
    found = [
        pod["metadata"]
        for pod in installed.api.list("pods", namespace=namespace, labels=labels)
        if not is_leaving(pod)
    ]
    assert found, f"no pod has {labels}"
    return [metadata["name"] for metadata in found]


def kill_processes(installed, pod):
    """SIGKILL for every process of a pod, found by the host name that its containers have in their environment.

    Returns how many: none where its containers are only being made.
    """
    named = f"\0HOSTNAME={pod}\0".encode()
    count = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if named in b"\0" + (place / "environ").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)
                count += 1
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it ended meanwhile, or is none of a container
    installed.timeline.note("killed", pod=pod, processes=count)
    return count


def kill_pod(installed, labels, *, namespace=None):
    """SIGKILL for every process of the pods, at once, and none is started there again: the pods are deleted.

    Killed before they are deleted: of a deleted pod the kubelet ends the processes itself, and may be the first.
    Returns how many pods that were.
    """
    names = names_of(installed, labels, namespace)
    processes = 0
    for name in names:
        processes += kill_processes(installed, name)
        installed.api.delete("pods", name, namespace=namespace, grace_s=0)
    assert processes, f"no process of {names} was killed"
    return len(names)


def await_restarted(installed, pods, timeout_s=60.0):
    """Seconds until each of these pods has started its worker once more and is ready, or is not wanted any more."""
    began = time.monotonic()
    while True:
        found = [installed.api.get("pods", name) for name in pods]
        stay = [each for each in found if each and not is_leaving(each)]
        assert stay, "all of them were scaled away"
        if all(has_restarted(each) and is_ready(each) for each in stay):
            return time.monotonic() - began
        assert time.monotonic() - began < timeout_s, "they did not come back"
        time.sleep(0.05)


def has_restarted(pod):
    return any(each["restartCount"] for each in pod["status"].get("containerStatuses", ()))


def await_replaced(installed, labels, *, namespace=None, timeout_s=90.0):
    kubectl("wait", "--for=condition=Ready", "pod", "-l", labels,
            "-n", namespace or installed.api.namespace, f"--timeout={timeout_s:.0f}s")  # fmt: skip


def await_pod(installed, model, *, since=0, after=0.0):
    """The entry of a pod that became ready: not one of the first `since` entries, later than `after` (wall time)."""
    return installed.timeline.await_entry(
        lambda e: e["event"] == "pod_ready" and e["service"] == model and e["at"] > after,
        timeout_s=60,
        what="a pod",
        since=since,
    )


@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_a_model_pod_killed_in_the_middle_of_answers_loses_none(installed, model):
    labels = f"pickspin.io/service={model}"
    with Load(installed.door, model, prompt="[[fake:ttft=2]]", pause_s=0.3) as load:
        load.await_accepted(BEFORE)
        await_pod(installed, model)
        killed = installed.timeline.note("kill", service=model)["at"]
        count = kill_pod(installed, labels)
        again = await_pod(installed, model, after=killed)
        print(f"{model}: ready again {again['at'] - killed:.1f} s after {count} pods were killed")
        installed.timeline.note("measured", what=f"{model}: recovery", p50=again["at"] - killed)
        load.await_accepted(AFTER)
    load.assert_nothing_lost(installed.tail.outcomes)


@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_workers_killed_where_they_run_start_again_and_lose_nothing(installed, model):
    labels = f"pickspin.io/service={model}"
    installed.await_zero(model)
    first = len(installed.timeline.entries)
    with Load(installed.door, model, prompt="[[fake:ttft=2]]", pause_s=0.3) as load:
        load.await_accepted(BEFORE)
        await_pod(installed, model, since=first)
        pods = [name for name in names_of(installed, labels) if kill_processes(installed, name)]
        assert pods, "no process was killed"
        took_s = await_restarted(installed, pods)
        print(f"{model}: {len(pods)} ready again {took_s:.1f} s after their processes were killed")
        installed.timeline.note("measured", what=f"{model}: restart in place", p50=took_s)
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
