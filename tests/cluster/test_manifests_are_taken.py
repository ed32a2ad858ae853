"""The API server, its admission and operators' webhooks take every manifest of every profile, without acting on it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from release import Release, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NAMESPACE = "dry-run"
SOURCE = {"source": "pvc://claim/path", "sha256": "d" * 64}
GPU = {"resource": "nvidia.com/gpu", "nodeSelector": {"a": "b"}}
# Knative's admission tries a pod of its own, and asks for the account, which no dry run has made.
ACCOUNT = f"""
apiVersion: v1
kind: ServiceAccount
metadata:
  name: dry
  namespace: {NAMESPACE}
  labels: {{app.kubernetes.io/managed-by: Helm}}
  annotations: {{meta.helm.sh/release-name: dry, meta.helm.sh/release-namespace: {NAMESPACE}}}
"""
CASES = {
    "defaults": ([], {}),
    "dev": (["dev"], {}),
    "gpu": (["gpu"], {}),
    "bridge": ([], {"global": {"bridge": "autoscaler-keda"}}),
    "secured": (
        [],
        {
            "global": {
                "kafka": {
                    "securityProtocol": "SASL_SSL",
                    "saslMechanism": "SCRAM-SHA-512",
                    "secret": "kafka",
                }
            }
        },
    ),
    "weights": (
        [],
        {
            "global": {
                "dataVolume": {"create": True, "hostPath": "/srv/pickspin"},
                "catalogue": {
                    "models": [{"id": "m", "weights": SOURCE}],
                    "services": [
                        {"model": "m", "backend": {"kind": "vllm"}, "gpu": "l4", "gpu_share": 1}
                    ],
                },
            },
            "knative": {
                "modelService": {"gpus": {"l4": GPU}},
                "weights": {"volume": {"hostPath": "/srv/models", "node": "n1"}},
            },
        },
    ),
}


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "-f", "-", given=ACCOUNT)
    found = Release("dry", NAMESPACE, "postgresql+psycopg://nobody@nowhere/none")
    yield found
    kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=60s")
    shutil.rmtree(found._chart.parents[1], ignore_errors=True)


@pytest.mark.parametrize("case", CASES)
def test_the_server_takes_what_the_chart_renders(release: Release, case: str) -> None:
    profiles, values = CASES[case]
    given = [
        part for name in profiles for part in ("-f", str(release._chart / f"values-{name}.yaml"))
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "values.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        # --validate: what the cluster has, not what Helm was built with.
        text = release.helm(
            "template", "dry", str(release._chart), *given, "-f", str(file), "--validate"
        )
    said = kubectl(
        "apply", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "-f", "-", given=text
    )
    wanted = [doc for doc in yaml.safe_load_all(text) if doc]
    assert said.count("(server dry run)") == len(wanted), said
