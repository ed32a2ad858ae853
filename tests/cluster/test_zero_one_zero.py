"""A release is ready while no model runs; a chat wakes the model it names, is answered once, and it sleeps again."""

import os

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]
ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "20"))
MODELS = ["smollm2-knative", "smollm2-deployment"]


def test_everything_is_ready_while_no_model_has_a_replica(installed):
    services = installed.api.list("services.serving")
    names = {one["metadata"]["name"] for one in services}
    assert {"ps-router", "ps-smollm2-knative", "ps-fake-knative"} <= names
    for one in services:
        ready = [c["status"] for c in one["status"]["conditions"] if c["type"] == "Ready"]
        assert ready == ["True"], one["metadata"]["name"]
    for slug in (*MODELS, "fake-knative", "fake-deployment"):
        counts = installed.scales.replicas(slug)
        assert counts, f"{slug} has no Deployment"
        assert not any(counts.values()), counts


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_wakes_exactly_the_model_it_names_is_answered_once_and_the_model_sleeps_again(
    installed, model
):
    timeline = installed.timeline
    for number in range(ROUNDS):
        installed.await_zero(is_hurried=True)
        first = len(timeline.entries)
        answer = installed.door.chat(model, f"Say hello to number {number}.")
        timeline.note("first_answer", at=answer.ended, service=model, request=answer.request)
        assert answer.status == 200, answer.text
        assert answer.model == model
        assert answer.text.strip()
        installed.await_zero(model, is_hurried=True)
        timeline.note("zero", service=model)
        entries = timeline.entries[first:]
        assert sum(e["event"] == "enqueue" and e["service"] == model for e in entries) == 1
        woken = {e["service"] for e in entries if e["event"] == "replicas" and e["count"]}
        assert woken == {model}
        assert max(e["count"] for e in entries if e["event"] == "replicas") == 1
        ends = [e["event"] == "outcome" and e["request"] == answer.request for e in entries]
        assert sum(ends) == 1, "its end was written more than once: it was computed again"
        timeline.note("round", service=model, number=number, seconds=answer.ended - answer.began)
