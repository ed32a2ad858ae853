import json

import pytest

from functions.ports.kubernetes import (
    DEPLOYMENTS,
    POD_AUTOSCALERS,
    SCALED_OBJECTS,
    SERVERLESS_SERVICES,
    KubernetesFailed,
)

PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"


def spec_of(knative, name):
    return knative.scaled(name)["spec"]


def test_the_services_are_made_at_once_and_belong_to_the_revision(bench, knative):
    name = knative.revision()
    bench.settle()
    made = knative.find(SERVERLESS_SERVICES, name)
    owner = made["metadata"]["ownerReferences"][0]
    assert owner["uid"] == knative.find(POD_AUTOSCALERS, name)["metadata"]["uid"]
    assert made["spec"]["objectRef"]["name"] == f"{name}-deployment"


def test_the_services_carry_every_label_of_the_revision(bench, knative):
    name = knative.revision()
    bench.settle()

    def labels():
        return knative.find(SERVERLESS_SERVICES, name)["metadata"]["labels"]

    assert labels() == knative.find(POD_AUTOSCALERS, name)["metadata"]["labels"]
    knative.change(SERVERLESS_SERVICES, name, lambda found: found["metadata"].update(labels={}))
    assert bench.settle() == 1
    assert labels()["serving.knative.dev/revision"] == name


def test_a_first_boot_is_not_ended_while_the_model_loads(bench, knative):
    name = knative.revision()
    bench.settle()
    knative.serve(name)
    bench.settle()
    assert knative.condition(name, "ScaleTargetInitialized") == "Unknown"
    assert knative.scaled(name) is None
    knative.replicas(name, 1, 1)
    bench.settle()
    assert knative.condition(name, "ScaleTargetInitialized") == "True"
    assert spec_of(knative, name)["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": f"{name}-deployment",
    }


def test_a_revision_at_zero_says_what_keeps_its_service_ready(bench, knative):
    name = knative.revision()
    bench.start(name)
    assert knative.condition(name, "Ready") == "True"
    knative.replicas(name, 0, 0)
    bench.settle()
    status = knative.find(POD_AUTOSCALERS, name)["status"]
    assert status["serviceName"] == name
    assert (status["desiredScale"], status["actualScale"]) == (0, 0)
    assert knative.condition(name, "ScaleTargetInitialized") == "True"
    assert (knative.condition(name, "Active"), knative.condition(name, "Ready")) == (
        "False",
        "False",
    )
    assert knative.find(SERVERLESS_SERVICES, name)["spec"]["mode"] == "Proxy"


def test_a_transition_time_changes_only_with_the_status(bench, knative):
    name = knative.revision()
    bench.start(name)
    before = knative.find(POD_AUTOSCALERS, name)["status"]["conditions"]
    bench.clock.advance(60)
    knative.replicas(name, 2, 1)
    bench.settle()
    assert knative.find(POD_AUTOSCALERS, name)["status"]["conditions"] == before


def test_a_second_pass_writes_nothing(bench, knative):
    names = [knative.revision(slug=f"m{number}") for number in range(5)]
    for number in range(5):
        knative.scaling(slug=f"m{number}")
    for name in names:
        bench.settle()
        knative.serve(name)
        knative.replicas(name, 1, 1)
    bench.settle()
    bench.clock.advance(3600)
    before = len(knative.api.writes())
    assert bench.settle() == 0
    assert len(knative.api.writes()) == before


def test_tuning_the_config_map_changes_the_scaled_object_and_nothing_else(bench, knative):
    name = knative.revision()
    bench.start(name)
    changed = json.loads(json.dumps(spec_of(knative, name)))
    changed.pop("scaleTargetRef")
    changed |= {"pollingInterval": 2, "cooldownPeriod": 30}
    knative.scaling(json.dumps(changed))
    assert bench.settle() == 1
    assert spec_of(knative, name)["pollingInterval"] == 2
    changed.pop("cooldownPeriod")
    knative.scaling(json.dumps(changed))
    assert bench.settle() == 1
    assert "cooldownPeriod" not in spec_of(knative, name)
    assert bench.events().count("ScalingChanged") == 1, "the same is told once in a while"


def test_a_change_by_somebody_else_is_put_back(bench, knative):
    name = knative.revision()
    bench.start(name)
    knative.change(SCALED_OBJECTS, name, lambda found: found["spec"].update(maxReplicaCount=99))
    bench.settle()
    assert spec_of(knative, name)["maxReplicaCount"] == 3


def test_annotations_of_others_on_the_scaled_object_stay(bench, knative):
    name = knative.revision()
    bench.start(name)
    forced = {"autoscaling.keda.sh/force-activation": "true"}
    knative.change(
        SCALED_OBJECTS, name, lambda found: found["metadata"]["annotations"].update(forced)
    )
    knative.change(SCALED_OBJECTS, name, lambda found: found["spec"].update(maxReplicaCount=99))
    bench.settle()
    assert forced.items() <= knative.scaled(name)["metadata"]["annotations"].items()


@pytest.mark.parametrize(
    ("annotations", "limits"),
    [
        ({}, (0, 3)),
        ({"min": "1"}, (1, 3)),
        ({"max": "8"}, (0, 8)),
        ({"min": "5", "max": "2"}, (2, 2)),
        ({"max": "0"}, (0, 3)),
        ({"min": "-1", "max": "many"}, (0, 3)),
    ],
)
def test_min_scale_and_max_scale_are_honoured(bench, knative, annotations, limits):
    given = {f"autoscaling.knative.dev__{key}_scale": text for key, text in annotations.items()}
    name = knative.revision(**given)
    bench.start(name)
    found = spec_of(knative, name)
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == limits


def test_the_time_of_a_first_boot_is_not_waited_for_again(bench, knative):
    spec = {"triggers": [], "cooldownPeriod": 60, "initialCooldownPeriod": 1800}
    knative.scaling(json.dumps(spec))
    name = knative.revision()
    bench.start(name)
    assert spec_of(knative, name)["initialCooldownPeriod"] == 60


def test_with_initial_scale_zero_no_replica_is_started_for_readiness(bench, knative):
    name = knative.revision(**{"autoscaling.knative.dev__initial_scale": "0"})
    knative.replicas(name, 0, 0)
    bench.settle()
    knative.serve(name)
    bench.settle()
    assert knative.condition(name, "ScaleTargetInitialized") == "True"
    assert knative.scaled(name) is not None


def test_http_wakes_through_the_gauge_of_the_activator(bench, knative):
    name = knative.revision(**{"keda.pickspin.io__http_wake": "true"})
    bench.start(name)
    trigger = spec_of(knative, name)["triggers"][-1]
    assert trigger["type"] == "metrics-api"
    assert trigger["metadata"]["url"] == "http://activator/metrics"
    assert name in trigger["metadata"]["valueLocation"]
    assert knative.find(SERVERLESS_SERVICES, name)["spec"]["mode"] == "Proxy"
    assert bench.settle() == 0


def test_an_inline_spec_stands_in_for_the_config_map(bench, knative):
    inline = json.dumps({"triggers": [], "pollingInterval": 1})
    name = knative.revision(**{"keda.pickspin.io__scaled_object": inline})
    bench.start(name)
    assert spec_of(knative, name)["pollingInterval"] == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"triggers": {}}', "null"])
def test_a_spec_that_cannot_be_used_is_told_and_changes_nothing(bench, knative, text):
    name = knative.revision()
    bench.start(name)
    before = knative.scaled(name)
    knative.scaling(text)
    assert bench.settle() == 0
    assert knative.scaled(name) == before
    assert "ScalingUnusable" in bench.events()


def test_a_spec_of_another_service_is_not_taken(bench, knative):
    name = knative.revision(slug="other")
    bench.start(name)
    assert knative.scaled(name) is None
    assert "ScalingUnusable" in bench.events()


def test_revisions_of_other_classes_and_releases_are_left_alone(bench, knative):
    knative.revision(1, "theirs", release="another")
    knative.revision(1, "kpa", **{"autoscaling.knative.dev__class": "kpa.autoscaling.knative.dev"})
    before = len(knative.api.writes())
    assert bench.settle() == 0
    assert len(knative.api.writes()) == before


def test_deleting_a_revision_takes_everything_with_it(bench, knative):
    name = knative.revision()
    bench.start(name)
    uid = knative.find(POD_AUTOSCALERS, name)["metadata"]["uid"]
    knative.api.delete(POD_AUTOSCALERS, "models", name, uid)
    assert bench.settle() == 0
    assert knative.scaled(name) is None
    assert knative.find(SERVERLESS_SERVICES, name) is None


def test_a_refused_scaled_object_is_told_on_the_revision(bench, knative):
    name = knative.revision()
    bench.settle()
    knative.serve(name)
    knative.replicas(name, 1, 1)
    knative.api.fail_next("create", KubernetesFailed(400, "BadRequest", "no such trigger"))
    with pytest.raises(KubernetesFailed):
        bench.settle()
    assert "WriteRefused" in bench.events()
    bench.settle()
    assert knative.scaled(name) is not None


def test_a_missing_deployment_is_waited_for(bench, knative):
    name = knative.revision()
    found = knative.find(DEPLOYMENTS, f"{name}-deployment")
    knative.api.delete(DEPLOYMENTS, "models", f"{name}-deployment", found["metadata"]["uid"])
    bench.settle()
    assert knative.find(POD_AUTOSCALERS, name)["status"]["desiredScale"] == -1
    assert knative.condition(name, "Ready") == "Unknown"
