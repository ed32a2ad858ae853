"""The audit log of the lane's API server: the first write that counts, of that object, after a moment."""

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "cluster" / "lane" / "audit.py"
BEGAN_S = 1_800_000_000.0


KEDA = "system:serviceaccount:keda:keda-operator"
HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


def event(resource, name, after_s, body, code=200, user=KEDA, part=None):
    at = datetime.fromtimestamp(BEGAN_S + after_s, UTC).isoformat().replace("+00:00", "Z")
    return {
        "objectRef": {"resource": resource, "name": name} | ({"subresource": part} if part else {}),
        "requestObject": body,
        "responseStatus": {"code": code},
        "stageTimestamp": at,
        "user": {"username": user},
    }


def scaled(name, after_s, spec, **more):
    """A write of the count alone, which leaves a zero out."""
    return event("deployments", name, after_s, {"spec": spec}, part="scale", **more)


def replicas(count):
    return {"spec": {"replicas": count}}


def is_ready(status):
    return {"status": {"conditions": [{"type": "Ready", "status": status}]}}


@pytest.fixture
def audit(tmp_path):
    spec = importlib.util.spec_from_file_location("lane_audit", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path / "audit.log"
    events = [
        event("deployments", "one", -1.0, replicas(1)),
        event("deployments", "one", 0.5, replicas(0)),
        event("deployments", "one", 0.6, replicas(1), code=409),
        event("deployments", "one-more", 0.7, replicas(1)),
        event("deployments", "one", 0.8, replicas(2)),
        event("deployments", "one", 0.9, replicas(3)),
        # As it was seen: the HPA wanted 1 of 3, met KEDA's zero, read again and wrote its 1; KEDA's next look.
        scaled("fought-over", 10.0, {}),
        scaled("fought-over", 11.2, {"replicas": 1}, code=409, user=HPA),
        scaled("fought-over", 11.3, {"replicas": 1}, user=HPA),
        scaled("fought-over", 13.9, {}),
        # And what an HPA is for, also when somebody had written something else than the count before it.
        scaled("fought-over", 17.6, {"replicas": 1}),
        event("deployments", "fought-over", 18.0, {"metadata": {"annotations": {}}}),
        scaled("fought-over", 19.0, {"replicas": 3}, user=HPA),
        event("pods", "one-pod", 1.0, is_ready("False")),
        event("pods", "one-pod", 2.25, is_ready("True")),
    ]
    lines = "".join(json.dumps(found) + "\n" for found in events)
    path.write_text(lines + '{"objectRef": {"name": "one', encoding="utf-8")
    return module.AuditLog(path, patience_s=0)


def test_a_replica_is_written_by_the_first_write_that_was_taken_and_asks_for_one(audit):
    assert audit.scaled_up_s("one", BEGAN_S) - BEGAN_S == pytest.approx(0.8)


def test_a_pod_is_ready_when_that_is_written(audit):
    assert audit.ready_s("one-pod", BEGAN_S) - BEGAN_S == pytest.approx(2.25)


def test_what_was_never_written_is_said_so(audit):
    with pytest.raises(AssertionError, match="no replica of one was written"):
        audit.scaled_up_s("one", BEGAN_S + 1)
    with pytest.raises(AssertionError, match="two-pod was never written to be ready"):
        audit.ready_s("two-pod", BEGAN_S)


def test_an_hpa_that_writes_on_top_of_zero_had_read_before_it(audit):
    assert audit.rewrites_of_zero("fought-over", BEGAN_S) == 1
    assert audit.rewrites_of_zero("fought-over", BEGAN_S + 12) == 0
