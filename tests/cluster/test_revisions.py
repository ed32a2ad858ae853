"""New weights under load: the old ones drain and never come back; broken ones never take the topic; nothing is lost."""

import json
import sys
from pathlib import Path

import pytest
from load import Load
from release import merged, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
OLD_TOKENS, NEW_TOKENS = 2, 4
"""Length of an answer: which weights gave it. The simulated model takes it as an argument of the server."""


def with_arguments(values, model, **arguments):
    """The values with other arguments of one simulated model: another pod template."""
    catalogue = values["global"]["catalogue"]
    services = [
        one | {"backend": {"kind": "fake", "args": arguments}} if one["slug"] == model else one
        for one in catalogue["services"]
    ]
    return merged(values, {"global": {"catalogue": catalogue | {"services": services}}})


def reasons_of(installed, model):
    """What `pickspin status` says against a service."""
    program = str(Path(sys.executable).with_name("pickspin"))
    said = json.loads(run(program, "status", "--cluster", "-n", installed.api.namespace, "--json"))
    return next(one["reasons"] for one in said["services"] if one["slug"] == model)


def length_of(found):
    return found["response"]["usage"]["completion_tokens"]


@pytest.fixture
def restored(installed, values):
    yield
    installed.roll_out(values)
    installed.await_zero()


@pytest.mark.parametrize("model", ["fake-knative", "fake-deployment"])
def test_a_new_revision_takes_over_under_load_and_the_old_one_stays_at_zero(
    installed, values, restored, model
):
    installed.roll_out(with_arguments(values, model, tokens=OLD_TOKENS, ttft_s=0.2))
    installed.await_zero(model)
    first = len(installed.timeline.entries)
    with Load(installed.door, model, pause_s=0.3) as load:
        load.await_accepted(15)
        old_pods = {
            e["pod"]
            for e in installed.timeline.entries[first:]
            if e["event"] == "pod_ready" and e["service"] == model
        }
        assert old_pods, "the old revision never served"
        before = set(load.accepted)
        installed.roll_out(
            with_arguments(values, model, tokens=NEW_TOKENS, ttft_s=0.2), is_waiting=False
        )
        installed.timeline.await_entry(
            lambda e: (
                e["event"] == "pod_ready" and e["service"] == model and e["pod"] not in old_pods
            ),
            timeout_s=120,
            what="a pod of the new revision",
        )
        for pod in old_pods:
            installed.timeline.await_entry(
                lambda e, pod=pod: e["event"] == "pod_gone" and e["pod"] == pod,
                timeout_s=180,
                what=f"the end of {pod}",
            )
        switched = set(load.accepted)
        load.await_accepted(15)
    load.assert_nothing_lost(installed.tail.outcomes)
    answers = load.await_answers(10.0)
    assert OLD_TOKENS in {length_of(answers[request]) for request in before}
    after = {length_of(found) for request, found in answers.items() if request not in switched}
    assert after == {NEW_TOKENS}, "superseded weights answered after the switch"
    installed.await_zero(model)


@pytest.mark.slow
def test_a_revision_with_broken_weights_never_takes_the_topic(installed, values, restored):
    model = "fake-knative"
    installed.roll_out(with_arguments(values, model, tokens=OLD_TOKENS))
    installed.await_zero(model)
    good = installed.api.get("services.serving", f"ps-{model}")["status"]["latestReadyRevisionName"]
    first = len(installed.timeline.entries)
    with Load(installed.door, model, pause_s=0.5) as load:
        load.await_accepted(5)
        installed.roll_out(
            with_arguments(values, model, tokens=NEW_TOKENS, fail_rate=1.0), is_waiting=False
        )
        load.await_accepted(60, timeout_s=90.0)
        broken = installed.api.get("services.serving", f"ps-{model}")["status"][
            "latestCreatedRevisionName"
        ]
        why = reasons_of(installed, model)
        assert any(f"revision {broken} is not ready" in reason for reason in why), why
    load.assert_nothing_lost(installed.tail.outcomes)
    answers = load.await_answers(10.0)
    assert {length_of(found) for found in answers.values()} == {OLD_TOKENS}
    status = installed.api.get("services.serving", f"ps-{model}")["status"]
    assert status["latestReadyRevisionName"] == good
    assert status["latestCreatedRevisionName"] != good
    ready = {
        e["pod"]
        for e in installed.timeline.entries[first:]
        if e["event"] == "pod_ready" and e["service"] == model
    }
    assert ready
    assert all(pod.startswith(good) for pod in ready)
