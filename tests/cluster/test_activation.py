"""How soon work is seen: with the scaler at once, without it at the next poll; a burst that needs three replicas."""

import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import pytest
from release import kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
POLL_S = 5.0
"""`pollingIntervalSeconds` of the chart."""
SETTLE_S = 2.0
"""After a pod went: its end costs the processor time that the next start is measured in."""
TRIALS = min(10, int(os.environ.get("CLUSTER_ROUNDS", "20")))
BURST = 200
KEDA_S = 1.0
"""A wish is acted on by KEDA within this."""


def woken_after(installed, model, number):
    """Seconds from the record on the model's topic to the replica that was written, and to the pod that was ready, both
    as the API server says.
    """
    time.sleep(SETTLE_S + 0.7 * number)  # not always at the same moment between two polls
    first = len(installed.timeline.entries)
    answer = installed.door.chat(model, f"nonce:trial-{number}")
    assert answer.status == 200, answer.text
    assert f"nonce:trial-{number}" in answer.text

    def one(event):
        return installed.timeline.await_entry(
            lambda e: e["event"] == event and e["service"] == model and e.get("count", 1),
            timeout_s=30.0,
            what=f"{event} of {model}",
            since=first,
        )

    enqueued = one("enqueue")["at"]
    deployment, pod = one("replicas")["deployment"], one("pod_ready")["pod"]
    written = installed.audit.scaled_up_s(deployment, enqueued)
    return written - enqueued, installed.audit.ready_s(pod, enqueued) - enqueued


def told(installed, what, values):
    median = statistics.median(values)
    spread = f"min {min(values):.3f}, max {max(values):.3f}, n={len(values)}"
    print(f"{what}: p50 {median:.3f} s ({spread})")
    installed.timeline.note(
        "measured", what=what, p50=round(median, 4), values=[round(v, 4) for v in values]
    )
    return median


@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_with_the_scaler_a_replica_is_written_within_a_tenth_of_a_second_of_the_enqueue(
    installed, model
):
    written, ready = [], []
    for number in range(TRIALS):
        installed.await_zero(model, is_hurried=True)
        for values, value in zip(
            (written, ready), woken_after(installed, model, number), strict=True
        ):
            values.append(value)
    told(installed, f"{model}: enqueue to pod ready, with scaler", ready)
    assert told(installed, f"{model}: enqueue to replicas, with scaler", written) < 0.1


@contextmanager
def without_scaler(installed):
    """Away; back afterwards, because KEDA puts nothing to sleep while it cannot ask a trigger."""
    scale = ("-n", installed.api.namespace, "deployment/ps-scaler")
    kubectl("scale", "--replicas=0", *scale)
    kubectl("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=scaler",
            "-n", installed.api.namespace, "--timeout=60s")  # fmt: skip
    try:
        yield
    finally:
        kubectl("scale", "--replicas=1", *scale)
        kubectl("rollout", "status", *scale, "--timeout=60s")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_without_the_scaler_a_replica_is_written_at_the_next_poll(installed, model):
    written = []
    for number in range(TRIALS):
        installed.await_zero(model, is_hurried=True)
        with without_scaler(installed):
            written.append(woken_after(installed, model, number)[0])
    assert told(installed, f"{model}: enqueue to replicas, without scaler", written) < POLL_S + 0.5


@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_a_burst_is_served_by_three_replicas_and_none_of_its_answers_is_lost_or_doubled(
    installed, model
):
    installed.await_zero(model)
    first = len(installed.timeline.entries)

    def ask(number):
        return installed.door.chat(model, f"[[fake:ttft=1]] nonce:burst-{number}.")

    with ThreadPoolExecutor(BURST) as pool:
        answers = list(pool.map(ask, range(BURST)))
    assert [answer.status for answer in answers] == [200] * BURST
    for number, answer in enumerate(answers):
        assert f"nonce:burst-{number}." in answer.text
    installed.await_zero(model)
    entries = installed.timeline.entries[first:]
    enqueues = [e for e in entries if e["event"] == "enqueue" and e["service"] == model]
    assert len({e["request"] for e in enqueues}) == BURST
    assert {len(installed.tail.outcomes[answer.request]) for answer in answers} == {1}
    ends = sum(e["event"] == "outcome" for e in entries)
    print(f"{model}: {ends - BURST} of {BURST} were computed again, as their partition moved")
    counts = [e["count"] for e in entries if e["event"] == "replicas" and e["service"] == model]
    assert max(counts) == 3
    turns = sum(
        (after > middle) != (middle > before)
        for before, middle, after in zip([0, *counts], counts, counts[1:], strict=False)
    )
    assert turns == 1, f"up once and down once, not {counts}"
    began = min(e["at"] for e in enqueues)
    third = next(e["at"] for e in entries if e["event"] == "replicas" and e.get("count") == 3)
    told(installed, f"{model}: burst of {BURST}, first enqueue to three replicas", [third - began])
    told_targets(installed, model, entries, began)


def told_targets(installed, model, entries, began):
    """Both targets of each decision (the rate and the backlog), beside the replicas that KEDA had written."""
    written = [e for e in entries if e["event"] == "replicas" and e["service"] == model]
    wishes = [
        (datetime.fromisoformat(wish["at"]).timestamp() - began, wish)
        for wish in wished(installed, model)
    ]
    recent = sorted((pair for pair in wishes if pair[0] >= -1.0), key=lambda pair: pair[0])
    assert recent, "the scaler said nothing"
    for after_s, wish in recent:
        seen = [e["count"] for e in written if e["at"] - began <= after_s + KEDA_S]
        row = {
            key: wish[key] for key in ("rate_target", "backlog_target", "replicas", "lag", "reason")
        }
        print(f"{model}: {after_s:6.2f} s {row}, written by KEDA: {seen[-1] if seen else 0}")
        installed.timeline.note("wished", at=began + after_s, service=model, **row)


def wished(installed, model):
    """What the scaler's replicas logged of this service."""
    namespace = installed.api.namespace
    for pod in installed.api.list("pods", labels="app.kubernetes.io/component=scaler"):
        place = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"
        for line in installed.api.text(place).splitlines():
            found = json.loads(line) if line.startswith("{") else {}
            if found.get("message") == "replicas wished" and found["service"] == model:
                yield found
