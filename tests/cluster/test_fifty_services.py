"""Fifty services declared, three of them busy: what the idle ones cost is measured, and stays within a bound."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from door import Door
from kube_api import KubeApi
from release import FAKE, Release, fake, image_names, lane_values, merged
from timeline import ScaleWatch, service_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]
NAMESPACE = "fifty"
BUSY = ("s00", "s01", "s02")
FEW, MANY = 3, 50
WINDOW_S = 60.0
ROUND_S = 1.5
CALLS_A_SECOND = 1.0
"""API calls that one idle service may cost."""
OPERATOR_MIB = 4.0
"""Memory of KEDA's operator that one idle service may cost."""
LOOKS_A_SECOND = 2.0
"""Requests to the broker that one idle service may cost: those that look, without what awake workers fetch and write
(as often as their processor lets them, so that they are fewer the more idle services there are)."""
COUNTS_PORT = "9094"
LOOKS = ("ListOffsets", "OffsetFetch", "Metadata", "FindCoordinator")
"""Requests that a broker is polled with for a service without a worker, told one by one."""


def catalogue_of(count):
    names = [f"s{number:02}" for number in range(count)]
    return {
        "models": [{"id": name, **FAKE} for name in names],
        "services": [
            fake(name, "deployment", partitions=1, start_timeout_s=90, concurrency=4)
            for name in names
        ],
    }


def api_calls(api):
    """Requests that the API server has answered, watches left out."""
    text = api.text("/metrics")
    lines = re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, flags=re.MULTILINE)
    return sum(float(value) for labels, value in lines if 'verb="WATCH"' not in labels)


def memory_mib(api, *, namespace, name):
    """Working set of the pods of a name, in MiB."""
    pods = api.json("/api/v1/nodes/node1/proxy/stats/summary")["pods"]
    found = [
        pod["memory"]["workingSetBytes"]
        for pod in pods
        if pod["podRef"]["namespace"] == namespace and pod["podRef"]["name"].startswith(name)
    ]
    assert found, f"no pod {namespace}/{name}"
    return sum(found) / 2**20


def cpu_s(lane, part):
    """Processor seconds that a part of the node has used."""
    fields = lane.execute("cat", f"/proc/{lane.pid(part)}/stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def broker_requests(lane):
    """Requests that the broker has answered, by kind."""
    counts = lane.execute("java", str(lane.lane / "RequestCounts.java"), COUNTS_PORT)
    return {name: int(count) for name, count in map(str.split, counts.splitlines())}


def work(door, busy):
    """The same work at the same pace, however fast the node answers; returns how many chats that were."""
    began, answered = time.monotonic(), 0
    for tick in range(round(WINDOW_S / ROUND_S)):
        time.sleep(max(0.0, began + tick * ROUND_S - time.monotonic()))
        for model in busy:
            assert door.chat(model, f"nonce:{answered}.").status == 200
            answered += 1
    return answered


def cost_of(api, lane, door, busy):
    """What a minute with the same work costs."""
    polls = broker_requests(lane)
    calls, etcd, began = api_calls(api), cpu_s(lane, "kube-apiserver"), time.monotonic()
    answered = work(door, busy)
    took = time.monotonic() - began
    more = {name: count - polls.get(name, 0) for name, count in broker_requests(lane).items()}
    return {
        "answered": answered,
        "took_s": took,
        "broker_requests_s": sum(more.values()) / took,
        "broker_looks_s": sum(more.get(name, 0) for name in LOOKS) / took,
        **{f"{name}_s": more.get(name, 0) / took for name in (*LOOKS, "Fetch")},
        "api_calls_s": (api_calls(api) - calls) / took,
        "apiserver_cores": (cpu_s(lane, "kube-apiserver") - etcd) / took,
        "keda_mib": memory_mib(api, namespace="keda", name="keda-operator"),
        "scaler_mib": memory_mib(api, namespace=NAMESPACE, name="many-scaler"),
        "controller_mib": memory_mib(api, namespace=NAMESPACE, name="many-controller"),
    }


def upgraded_while_awake(release, api, timeline, door, model):
    """The counts that were written for a model that answers while its release is upgraded."""
    assert door.chat(model, "nonce:awake.").status == 200
    first, watch = len(timeline.entries), ScaleWatch(api, timeline)
    with closing(watch), ThreadPoolExecutor(1) as aside:
        upgrade, asked = aside.submit(release.install, release.values), 0
        while not upgrade.done() or not asked:
            assert door.chat(model, f"nonce:upgrade-{asked}.").status == 200
            asked += 1
        upgrade.result()
    changes = [e for e in timeline.entries[first:] if e["event"] == "replicas"]
    return [entry["count"] for entry in changes if entry["service"] == model]


def test_forty_seven_idle_services_cost_little(lane, timeline, prepare):
    release = Release("many", NAMESPACE, lane.postgres)
    api = KubeApi(lane.kubeconfig, NAMESPACE)
    # Declared asleep: 47 first boots at once do not come to rest on two processors.
    asleep = {"topicPrefix": "many.", "scaling": {"firstBoot": False}}
    common = {"global": asleep, "knative": {"router": {"binding": "log"}}}
    costs = {}
    try:
        for count in (FEW, MANY):
            values = lane_values(image_names(), prepare.volumes(NAMESPACE), catalogue_of(count))
            release.install(merged(values, common))
            prepare.await_ready(api, timeline, 900.0)
            door = Door(release)
            door.await_open(60.0)

            def sleeping(wanted=count):
                found = [d for d in api.list("deployments") if service_of(d)]
                return len(found) == wanted and not any(d["spec"].get("replicas", 1) for d in found)

            prepare.await_true(sleeping, 900.0, f"{count} services at zero")
            costs[count] = cost_of(api, lane, door, BUSY)
            print(f"{count} services, {len(BUSY)} busy: {costs[count]}")
            timeline.note("measured", what=f"{count} services", **costs[count])
            written = upgraded_while_awake(release, api, timeline, door, BUSY[0])
            assert written, "the watch has seen it"
            assert min(written) > 0, "an upgrade leaves a service that is awake alone"
            door.close()
        idle = MANY - FEW
        bounds = {
            "api_calls_s": CALLS_A_SECOND,
            "keda_mib": OPERATOR_MIB,
            "broker_looks_s": LOOKS_A_SECOND,
        }
        for what, bound in bounds.items():
            each = (costs[MANY][what] - costs[FEW][what]) / idle
            print(f"{what} of one idle service: {each:.3f} (bound {bound})")
            assert each < bound, what
    finally:
        release.close()
        api.close()
