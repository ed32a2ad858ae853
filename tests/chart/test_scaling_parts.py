"""Who scales a model service, and by what: the class of our controller, or Knative's own bridge; lag, push, hours."""

import json

import pytest
import yaml

from tests.chart.manifests import (
    catalogue,
    container_of,
    environment,
    named,
    of_kind,
    scaling_of,
    service,
    workload_of,
)

NOTES = "autoscaling.knative.dev"


def annotations(docs, slug="m"):
    return workload_of(docs, slug)["spec"]["template"]["metadata"]["annotations"]


def test_a_knative_service_is_of_the_controllers_class(render):
    notes = annotations(render(catalogue(service())))
    assert notes[f"{NOTES}/class"] == "keda.pickspin.io"
    assert notes["keda.pickspin.io/scaling"] == "ps-scaling"
    assert not {f"{NOTES}/scaled-object-override", f"{NOTES}/max-scale"} & notes.keys()


def test_both_workloads_scale_by_the_same_specification(render):
    both = [
        scaling_of(render(catalogue(service(workload=kind))), "m")
        for kind in ("knative", "deployment")
    ]
    del both[1]["scaleTargetRef"]
    assert both[0] == both[1]


def test_tuning_scaling_makes_no_new_revision(render):
    one = service(max_replicas=2, idle_s=300, min_warm=0, price_per_hour_usd=1)
    hours = {"start": "0 8 * * 1-5", "end": "0 18 * * 1-5"}
    other = service(max_replicas=6, idle_s=900, min_warm=1, price_per_hour_usd=2, cooldown_s=5)
    other |= {"warm_hours": [hours], "warm_by_habit": True}
    before, after = render(catalogue(one)), render(catalogue(other))
    assert workload_of(before, "m") == workload_of(after, "m")
    assert scaling_of(before, "m") != scaling_of(after, "m")


def test_what_a_worker_reads_once_makes_a_new_revision(render):
    before, after = (render(catalogue(service(concurrency=n))) for n in (4, 8))
    assert annotations(before) != annotations(after)


def test_another_model_leaves_the_others_as_they_are(render):
    before = render(catalogue(service()))
    after = render(catalogue(service(), service(model="Other.Model-7B")))
    assert workload_of(before, "m") == workload_of(after, "m")


def test_the_old_bridge_still_gets_its_override(render):
    docs = render({"global": {"bridge": "autoscaler-keda", **catalogue(service())["global"]}})
    notes = annotations(docs)
    assert notes[f"{NOTES}/class"] == "hpa.autoscaling.knative.dev"
    spec = json.loads(notes[f"{NOTES}/scaled-object-override"])["spec"]
    # Without that key its controller dereferences nothing and crashes.
    assert "horizontalPodAutoscalerConfig" in spec["advanced"]
    assert "PICKSPIN_WORKER_REVISION" not in str(container_of(docs, "m", "worker")["command"])


@pytest.mark.parametrize(("workload", "told"), [("knative", True), ("deployment", False)])
def test_a_worker_is_told_its_revision_where_there_are_revisions(render, workload, told):
    docs = render(catalogue(service(workload=workload)))
    command = container_of(docs, "m", "worker")["command"][-1]
    assert ('PICKSPIN_WORKER_REVISION="$K_REVISION"' in command) is told


def test_lag_comes_first_and_the_scaler_after_it(render):
    triggers = scaling_of(render(catalogue(service())), "m")["triggers"]
    assert [trigger["type"] for trigger in triggers] == ["kafka", "kafka", "external-push"]
    assert triggers[2]["metadata"] == {
        "scalerAddress": "ps-scaler.inference.svc.cluster.local:6000",
        "service": "m",
    }


def test_without_the_scaler_lag_alone_scales(render):
    values = catalogue(service())
    values["global"]["scaler"] = {"enabled": False}
    docs = render(values)
    assert {t["type"] for t in scaling_of(docs, "m")["triggers"]} == {"kafka"}
    assert not [doc for doc in docs if doc["metadata"]["name"] == "ps-scaler"]


def test_the_push_address_is_the_service_of_the_scaler(render):
    docs = render(catalogue(service()))
    host, _, port = scaling_of(docs, "m")["triggers"][2]["metadata"]["scalerAddress"].partition(":")
    found = named(docs, "Service", host.split(".")[0])
    target = next(one for one in found["spec"]["ports"] if one["port"] == int(port))["targetPort"]
    pod = named(docs, "Deployment", "ps-scaler")["spec"]["template"]
    assert found["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {one["name"]: one["containerPort"] for one in pod["spec"]["containers"][0]["ports"]}
    assert ports[target] == 6000


@pytest.mark.parametrize(("by_habit", "reads"), [(True, True), (False, False)])
def test_the_controller_reads_the_store_where_habits_count(render, by_habit, reads):
    docs = render(catalogue(service(warm_by_habit=by_habit)))
    pod = named(docs, "Deployment", "ps-controller")["spec"]["template"]["spec"]
    assert ("PICKSPIN_STORE_URL" in environment(pod["containers"][0])) is reads


def test_hours_of_warmth_need_the_controller(render):
    hours = {"start": "0 8 * * *", "end": "0 9 * * *"}
    values = catalogue(service(workload="deployment", warm_hours=[hours]))
    assert render(values)
    with pytest.raises(Exception, match="nothing else keeps service m warm"):
        render(values | {"keda": {"controller": {"enabled": False}}})


def test_our_consumers_scale_on_what_they_read_and_never_to_zero(render):
    docs = render({"knative": {"router": {"binding": "log"}}})
    for name in ("recorder", "callbacks", "router"):
        spec = named(docs, "ScaledObject", f"ps-{name}")["spec"]
        assert spec["scaleTargetRef"] == {"name": f"ps-{name}"}
        assert spec["minReplicaCount"] >= 1
        assert "replicas" not in named(docs, "Deployment", f"ps-{name}")["spec"]


def test_a_consumer_of_a_fixed_size_has_no_scaling(render):
    docs = render({"knative": {"recorder": {"replicas": 3, "maxReplicas": 3}}})
    assert named(docs, "Deployment", "ps-recorder")["spec"]["replicas"] == 3
    names = {doc["metadata"]["name"] for doc in of_kind(docs, "ScaledObject")}
    assert "ps-recorder" not in names
    assert "ps-callbacks" in names


def test_no_two_scaled_objects_have_one_target(render):
    docs = render(catalogue(service(workload="deployment"), service(model="Other.Model-7B")))
    targets = [doc["spec"]["scaleTargetRef"]["name"] for doc in of_kind(docs, "ScaledObject")]
    assert len(targets) == len(set(targets))


def test_a_service_that_is_switched_off_leaves_nothing(render):
    docs = render(catalogue(service(), service(model="Other.Model-7B", enabled=False)))
    text = yaml.safe_dump([doc for doc in docs if doc["metadata"]["name"] != "ps-catalogue"])
    assert "other-model-7b" not in text
