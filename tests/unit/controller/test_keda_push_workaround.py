"""KEDA drops the pushes of a trigger that it could not name, and is made to look again until it has."""

from itertools import pairwise

import pytest

from functions.controller.maintenance.keda_push_workaround import (
    BACKOFF,
    KedaPushWorkaround,
    is_unheard,
)
from functions.kubernetes.labels import PAUSED_REPLICAS, PAUSED_SCALE_IN

NAMED = ["s0-kafka-infer-model-m", "s1-wish"]


def scaled(names=("s0-kafka-infer-model-m",), *, annotations=None, triggers=None, status=True):
    conditions = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {
        "metadata": {"name": "m", "namespace": "models", "annotations": annotations or {}},
        "spec": {"triggers": triggers or [{"type": "kafka"}, {"type": "external-push"}]},
        "status": conditions | {"externalMetricNames": list(names)} if status else {},
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(scaled(), True, id="not-named"),
        pytest.param(scaled(()), True, id="nothing-named"),
        pytest.param(scaled(["s0-kafka", "s10-wish"]), True, id="another-trigger-named"),
        pytest.param(scaled(NAMED), False, id="named"),
        pytest.param(scaled(status=False), False, id="keda-has-not-looked-yet"),
        pytest.param(scaled(triggers=[{"type": "kafka"}]), False, id="no-push-trigger"),
        pytest.param(scaled(annotations={PAUSED_REPLICAS: "0"}), False, id="paused"),
        pytest.param(scaled(annotations={PAUSED_SCALE_IN: "true"}), False, id="scale-in-paused"),
        pytest.param(scaled(annotations={PAUSED_SCALE_IN: "false"}), True, id="asked-once-already"),
    ],
)
def test_a_push_trigger_without_a_name_among_the_metrics_is_unheard(found, expected):
    assert is_unheard(found) is expected


def looks(pushing, found, seconds):
    """When KEDA was asked to look again, and with which annotation, as somebody who writes it."""
    at = []
    for now_s in range(seconds):
        for write in pushing.step([found], float(now_s)):
            value = write.body["metadata"]["annotations"][PAUSED_SCALE_IN]
            found["metadata"]["annotations"] = {} if value is None else {PAUSED_SCALE_IN: value}
            at.append((now_s, value))
    return at


def test_keda_looks_again_after_pauses_that_grow_and_each_time_something_changed():
    at = looks(KedaPushWorkaround(), scaled(), 200)
    pauses = [later - earlier for (earlier, _), (later, _) in pairwise(at)]
    assert at[0] == (BACKOFF.first_s, "false")
    assert pauses == [10, 20, 40, 60, 60]
    assert [value for _, value in at] == ["false", None] * 3


def test_what_is_heard_is_left_alone_and_begins_anew_when_it_is_not():
    pushing, found = KedaPushWorkaround(), scaled()
    assert len(looks(pushing, found, 60)) == 3
    found["status"]["externalMetricNames"] = NAMED
    assert looks(pushing, found, 1000) == []
    found["status"]["externalMetricNames"] = NAMED[:1]
    assert looks(pushing, found, int(BACKOFF.first_s) + 1)[0][0] == BACKOFF.first_s


def test_a_new_leader_waits_anew():
    pushing, found = KedaPushWorkaround(), scaled()
    looks(pushing, found, 60)
    pushing.forget()
    at = [now_s for now_s, _ in looks(pushing, found, int(BACKOFF.first_s) + 1)]
    assert at == [BACKOFF.first_s], "not when the one before would have asked again"
