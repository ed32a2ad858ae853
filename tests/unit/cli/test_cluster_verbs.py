"""`pickspin doctor`, `status` of a cluster, and `catalogue validate | render`: what they print and how they end."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest
import yaml

from functions.cli import doctor, main, status
from functions.doctor.snapshot import ClusterSnapshot
from router_model.catalogue.loader import load_catalogue

GOOD = """
models:
  - id: Org/Small
    capabilities: [chat]
    context_length: 1024
    weights: {path: /models/small}
services:
  - {model: Org/Small, backend: {kind: vllm}, concurrency: 8, max_replicas: 2, workload: deployment}
"""
BAD = GOOD.replace("concurrency: 8", "concurrency: 0, colour: red").replace("deployment", "both")


@pytest.fixture
def catalogue(tmp_path):
    path = tmp_path / "catalogue.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def cluster(monkeypatch):
    """A cluster without KEDA and with one service; returns what it was asked for."""
    asked = []
    snapshot = ClusterSnapshot(
        namespace="models",
        taken_at=datetime(2026, 11, 21, tzinfo=UTC),
        catalogue=load_catalogue(GOOD),
        missing=frozenset({"ScaledObject"}),
        unread={"Lease": "Forbidden"},
    )

    def look(namespace, kubeconfig="", bootstrap=""):
        asked.append((namespace, kubeconfig, bootstrap))
        return dataclasses.replace(snapshot, namespace=namespace)

    monkeypatch.setattr(status, "read_cluster", look)
    monkeypatch.setattr(doctor, "read_cluster", look)
    return asked


def test_doctor_names_each_check_and_what_to_do(cluster, capsys):
    assert main(["doctor", "--cluster", "-n", "models"]) == 1
    out = capsys.readouterr().out
    assert "16  error    kinds missing" in out
    assert "fix: install KEDA" in out
    assert "left out: 4, 5, 7" in out
    assert "not read: Lease (Forbidden)" in out
    assert cluster == [("models", "", "")]


def test_doctor_as_json(cluster, capsys):
    assert main(["doctor", "--cluster", "--json", "--bootstrap", "k:1"]) == 1
    found = json.loads(capsys.readouterr().out)
    (bad,) = [check for check in found["checks"] if check["findings"]]
    assert (bad["number"], bad["findings"][0]["severity"]) == (16, "error")
    assert found["left_out"] == [4, 5, 7]
    assert cluster == [("default", "", "k:1")]


@pytest.mark.parametrize("verb", [["doctor"], ["status"]])
def test_without_a_cluster_one_line_says_so(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main([*verb, "--cluster"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pickspin: no access to a Kubernetes API")
    assert said.count("\n") == 1


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, capsys):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    assert main(["status", "--cluster", "--kubeconfig", str(kubeconfig)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pickspin: the Kubernetes API is not reached")
    assert said.count("\n") == 1


def test_status_of_a_cluster_says_why_nothing_scales(cluster, capsys):
    assert main(["status", "--cluster", "-n", "models"]) == 0
    out = capsys.readouterr().out
    assert "namespace models: 1 services" in out
    assert "KEDA is not installed" in out
    assert main(["status", "--cluster", "--json"]) == 0
    (service,) = json.loads(capsys.readouterr().out)["services"]
    assert (service["slug"], service["state"]) == ("org-small", "absent")


def test_status_asks_the_cluster_that_kubeconfig_names_where_no_ingress_answers(
    cluster, monkeypatch, capsys
):
    monkeypatch.setenv("PICKSPIN_PORT", "1")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert main(["status"]) == 1
    assert cluster == []
    monkeypatch.setenv("KUBECONFIG", "/some/config")
    assert main(["status"]) == 0
    assert len(cluster) == 1
    assert main(["status", "--url", "http://127.0.0.1:1"]) == 1
    assert len(cluster) == 1


def test_validate_names_every_problem_with_its_place(catalogue, capsys):
    assert main(["catalogue", "validate", str(catalogue)]) == 0
    assert "1 models, 1 services" in capsys.readouterr().out
    catalogue.write_text(BAD)
    assert main(["catalogue", "validate", str(catalogue), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False
    assert {problem["path"] for problem in found["problems"]} >= {
        "services[0].colour",
        "services[0].workload",
    }
    assert all(problem["line"] for problem in found["problems"])
    assert main(["catalogue", "validate", str(catalogue)]) == 1
    assert "services[0].colour (line" in capsys.readouterr().out


def test_rendered_values_hold_the_whole_catalogue(catalogue, capsys):
    assert main(["catalogue", "render", str(catalogue)]) == 0
    values = yaml.safe_load(capsys.readouterr().out)["global"]["catalogue"]
    assert load_catalogue(yaml.safe_dump(values)) == load_catalogue(GOOD)


def test_rendered_arguments_are_those_of_each_server(catalogue, capsys):
    arguments = ["catalogue", "render", str(catalogue), "--what", "arguments", "--json"]
    assert main(arguments) == 0
    (words,) = json.loads(capsys.readouterr().out).values()
    assert words[words.index("--max-num-seqs") + 1] == "8"


def test_manifests_need_a_chart(catalogue, tmp_path, capsys):
    arguments = ["catalogue", "render", str(catalogue), "--what", "manifests"]
    assert main([*arguments, "--chart", str(tmp_path)]) == 1
    assert "is no chart" in capsys.readouterr().err


def test_manifests_are_what_the_chart_makes_of_the_catalogue(catalogue, tmp_path, capsys):
    """Of a chart of one template: the real one has its own tests."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: c\nversion: 0.1.0\n")
    (chart / "templates/all.yaml").write_text(
        "{{- range .Values.global.catalogue.services }}\n---\n"
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\n"
        "metadata: {name: {{ .slug }}, labels: {app.kubernetes.io/component: model-{{ .slug }}}}\n"
        "spec: {maxReplicaCount: {{ .max_replicas }}}\n{{- end }}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: other}\n"
    )
    arguments = ["catalogue", "render", str(catalogue), "--what", "manifests"]
    assert main([*arguments, "--chart", str(chart), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["metadata"]["name"], found["spec"]["maxReplicaCount"]) == ("org-small", 2)
    (chart / "templates/all.yaml").write_text('{{ fail "models are too small" }}')
    assert main([*arguments, "--chart", str(chart)]) == 1
    assert "models are too small" in capsys.readouterr().err
