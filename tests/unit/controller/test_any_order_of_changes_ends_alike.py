"""Level-triggered: whatever happens in whatever order, the end depends on what is in the cluster alone."""

import json
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from functions.ports.kubernetes import (
    POD_AUTOSCALERS,
    SCALED_OBJECTS,
    SERVERLESS_SERVICES,
    KubernetesFailed,
)
from tests.unit.controller.conftest import SPEC, Bench, Knative

MOST_WRITES = 6
"""Of one revision after one change: ServerlessService, status and ScaledObject, and once more as they answer."""
REVISIONS = ("tiny-00001", "tiny-00002")
which = st.sampled_from(REVISIONS)
moves = st.one_of(
    st.tuples(st.just("route"), which, st.sampled_from(["Reachable", "Unreachable", "Unknown"])),
    st.tuples(st.just("replicas"), which, st.sampled_from([(0, 0), (1, 0), (1, 1), (3, 2)])),
    st.tuples(st.just("fail"), which, st.booleans()),
    st.tuples(st.just("tune"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("meddle"), which, st.sampled_from(["spec", "pause", "delete"])),
    st.tuples(st.just("refuse"), st.sampled_from(["create", "replace", "patch"]), st.none()),
)


def apply(knative, move):
    kind, what, how = move
    if kind == "route":
        knative.route(what, how)
    elif kind == "replicas":
        knative.replicas(what, *how)
    elif kind == "fail":
        failed = {"type": "Progressing", "status": "False"}
        knative.change_conditions(what, [failed] if how else [])
    elif kind == "tune":
        knative.scaling("{" if how else json.dumps(json.loads(SPEC) | {"pollingInterval": what}))
    elif kind == "refuse":
        knative.api.fail_next(what, KubernetesFailed(500, "InternalError"))
    elif knative.scaled(what) is not None:
        meddle(knative, what, how)


def meddle(knative, name, how):
    if how == "delete":
        uid = knative.scaled(name)["metadata"]["uid"]
        knative.api.delete(SCALED_OBJECTS, "models", name, uid)
        return

    def change(found):
        if how == "spec":
            found["spec"]["maxReplicaCount"] = 77
        else:
            found["metadata"]["annotations"].pop("autoscaling.keda.sh/paused-replicas", None)

    knative.change(SCALED_OBJECTS, name, change)


def fresh():
    knative = Knative()
    knative.scaling()
    for number in (1, 2):
        knative.revision(number)
    bench = Bench(knative)
    bench.settle()
    for name in REVISIONS:
        knative.serve(name)
    return knative, bench


def result(knative):
    """Everything that the controller writes, without versions and times."""
    found = {}
    for (resource, _, name), each in knative.api.everything().items():
        if resource in {SCALED_OBJECTS, SERVERLESS_SERVICES}:
            found[resource.kind, name] = each["spec"], each["metadata"].get("annotations")
        elif resource == POD_AUTOSCALERS:
            status = dict(each.get("status", {}))
            status.pop("observedGeneration", None)
            status["conditions"] = {c["type"]: c["status"] for c in status.get("conditions", ())}
            found[resource.kind, name] = status
    return found


def settle_through_failures(bench):
    for _ in range(10):
        try:
            return bench.settle()
        except KubernetesFailed:
            continue
    raise AssertionError("it fails for ever")


@settings(deadline=None, max_examples=25)
@given(st.lists(moves, max_size=12))
def test_after_any_history_a_new_controller_finds_nothing_to_do(history):
    knative, bench = fresh()
    for move in history:
        apply(knative, move)
        assert settle_through_failures(bench) <= MOST_WRITES * len(REVISIONS)
    knative.api._failures.clear()
    settle_through_failures(bench)
    before = result(knative)
    assert Bench(knative).settle() == 0
    assert result(knative) == before


@settings(deadline=None, max_examples=6)
@given(
    routes=st.permutations(["Reachable", "Unreachable"]),
    counts=st.sampled_from([((0, 0), (1, 1)), ((1, 1), (1, 1)), ((1, 1), (1, 0))]),
)
def test_the_order_in_which_changes_are_seen_does_not_matter(routes, counts):
    facts = [
        *(("route", name, how) for name, how in zip(REVISIONS, routes, strict=True)),
        *(("replicas", name, count) for name, count in zip(REVISIONS, counts, strict=True)),
    ]
    ends = []
    for order in permutations(facts):
        knative, bench = fresh()
        for move in order:
            apply(knative, move)
        bench.settle()
        ends.append(result(knative))
    assert all(end == ends[0] for end in ends)
