"""Rules that every rendered manifest keeps, whatever the profile."""

import re

import pytest

from functions.runtime import telemetry
from tests.chart.conftest import EVERY_OPERATOR, ROOT
from tests.chart.manifests import (
    KNATIVE_SERVICE,
    catalogue,
    containers,
    of_kind,
    service,
    templates,
)

SOURCE = {"source": f"hf://org/model@{'a' * 40}"}
PROFILES = {
    "defaults": (),
    "dev": ("dev",),
    "gpu": ("gpu",),
    "strimzi": ("gpu", "strimzi"),
    "weights": (),
}


def with_weights():
    values = catalogue(service(), service(model="Other.Model-7B", workload="deployment"))
    for model in values["global"]["catalogue"]["models"]:
        model["weights"] = SOURCE
    return values


@pytest.fixture(params=PROFILES)
def docs(render, request):
    values = with_weights() if request.param == "weights" else None
    return render(values, profiles=PROFILES[request.param], operators=EVERY_OPERATOR)


def test_every_container_meets_the_restricted_standard(docs):
    for doc, template in templates(docs):
        pod, name = template["spec"], doc["metadata"]["name"]
        assert pod["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        kinds = {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        for container in containers(pod):
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True, name
            assert context["runAsUser"] > 0, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_pods_say_it_too_where_knative_lets_them(docs):
    for doc, template in templates(docs):
        if doc["apiVersion"] != KNATIVE_SERVICE:
            context = template["spec"]["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_every_image_has_a_tag_that_stays(docs):
    for _, template in templates(docs):
        for container in containers(template["spec"]):
            name, _, tag = container["image"].rpartition(":")
            assert name, container["image"]
            assert "/" not in tag
            assert tag != "latest"


def test_every_container_says_what_it_needs_and_how_much_memory_it_may_have(docs):
    for doc, template in templates(docs):
        for container in containers(template["spec"]):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), doc["metadata"]["name"]
            assert "memory" in resources["limits"], doc["metadata"]["name"]


def selects(selector, labels):
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions", []):
        there = rule["key"] in labels
        if rule["operator"] == "Exists" and not there:
            return False
        if rule["operator"] == "In" and labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def test_every_pod_is_closed_by_a_network_policy(docs):
    policies = of_kind(docs, "NetworkPolicy")
    closed = [policy for policy in policies if not policy["spec"].get("ingress")]
    for doc, template in templates(docs):
        labels = template["metadata"]["labels"]
        assert any(selects(policy["spec"]["podSelector"], labels) for policy in closed), doc[
            "metadata"
        ]["name"]


def test_an_open_door_is_one_that_somebody_uses(docs):
    """Only the ingress is open to everybody; every other rule names where calls come from."""
    for policy in of_kind(docs, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if "from" not in rule:
                labels = policy["spec"]["podSelector"]["matchLabels"]
                assert labels["app.kubernetes.io/component"] == "ingress"


def test_rights_name_what_they_are_for(docs):
    kinds = {doc["kind"] for doc in docs}
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds
    for role in of_kind(docs, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "secrets" not in rule["resources"]
            if "configmaps" in rule["resources"] or "leases" in rule["resources"]:
                assert rule["resourceNames"]


def test_only_the_controller_has_a_token(docs):
    for doc, template in templates(docs):
        if doc["apiVersion"] == KNATIVE_SERVICE:
            continue  # not settable there: its service account says it
        given = template["spec"]["automountServiceAccountToken"]
        assert given is (doc["metadata"]["name"] == "ps-controller")
    accounts = of_kind(docs, "ServiceAccount")
    assert accounts
    assert not any(account["automountServiceAccountToken"] for account in accounts)


def test_what_may_have_several_replicas_has_a_budget(docs):
    budgets = [
        doc["spec"]["selector"]["matchLabels"] for doc in of_kind(docs, "PodDisruptionBudget")
    ]
    several = {
        doc["spec"]["scaleTargetRef"]["name"]
        for doc in of_kind(docs, "ScaledObject")
        if doc["spec"]["maxReplicaCount"] > 1
    }
    for doc, template in templates(docs):
        name = doc["metadata"]["name"]
        if name in several or doc["spec"].get("replicas", 1) > 1:
            labels = template["metadata"]["labels"]
            assert any(budget.items() <= labels.items() for budget in budgets), name


def test_a_workloads_selector_finds_its_own_pods_only(docs):
    found = [
        (doc["spec"]["selector"]["matchLabels"], doc["spec"]["template"]["metadata"]["labels"])
        for doc in docs
        if doc["kind"] in {"Deployment", "StatefulSet"}
    ]
    for selector, _ in found:
        assert sum(selector.items() <= labels.items() for _, labels in found) == 1


def test_everything_lies_in_the_releases_namespace_or_says_none(docs):
    for doc in docs:
        assert doc["metadata"].get("namespace", "inference") == "inference"


def test_names_and_label_values_are_short_enough(docs):
    for doc in docs:
        assert len(doc["metadata"]["name"]) <= 63 or doc["kind"] == "KafkaTopic"
        for value in doc["metadata"]["labels"].values():
            assert len(value) <= 63


# --- alerts ---


def rules(docs):
    return [
        rule
        for doc in of_kind(docs, "PrometheusRule")
        for group in doc["spec"]["groups"]
        for rule in group["rules"]
    ]


def metric_names():
    """Every series name that the product's processes serve."""
    found = set()
    for kind in ("Metrics", "ScalerMetrics", "ControllerMetrics"):
        registry = getattr(telemetry, kind)().registry
        for metric in registry.collect():
            found |= {metric.name, f"{metric.name}_total"}
            found |= {f"{metric.name}_{part}" for part in ("sum", "count", "bucket")}
    return found


def test_alerts_ask_for_series_that_exist(render):
    known = metric_names()
    for rule in rules(render(operators=EVERY_OPERATOR)):
        asked = set(re.findall(r"\bpickspin_[a-z_]+", rule["expr"])) - {"pickspin_io_service"}
        assert asked <= known, rule["alert"]


def test_every_alert_has_its_place_in_the_runbook(render):
    page = (ROOT / "docs/operations/alerts.md").read_text(encoding="utf-8")
    found = rules(render(operators=EVERY_OPERATOR))
    assert len(found) > 10
    headings = {line[3:].strip() for line in page.splitlines() if line.startswith("## ")}
    assert {rule["alert"] for rule in found} <= headings
    for rule in found:
        where, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert where == "docs/operations/alerts.md"
        assert anchor == rule["alert"].lower()


def test_without_the_prometheus_operator_there_is_nothing_for_it(render):
    assert not [doc for doc in render() if doc["apiVersion"].startswith("monitoring.")]


def test_every_process_that_serves_metrics_is_read(render):
    docs = render(operators=EVERY_OPERATOR)
    selectors = [doc["spec"]["selector"] for doc in of_kind(docs, "PodMonitor")]
    services = [
        doc
        for doc in of_kind(docs, "Service")
        for monitor in of_kind(docs, "ServiceMonitor")
        if doc["apiVersion"] == "v1"
        and selects(monitor["spec"]["selector"], doc["metadata"]["labels"])
    ]
    for doc, template in templates(docs):
        labels = template["metadata"]["labels"]
        part = labels["app.kubernetes.io/component"]
        if part in {"log", "recorder", "callbacks"} or part.startswith("weights"):
            continue  # no port
        by_pod = sum(selects(selector, labels) for selector in selectors)
        by_service = sum(one["spec"]["selector"].items() <= labels.items() for one in services)
        assert by_pod + by_service == 1, doc["metadata"]["name"]
