"""A job of the chart copies weights from a volume, verifies them and keeps them; what is wrong is never kept."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from release import Release, apply_volume, image_names, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NAMESPACE = "weights"


@pytest.fixture(scope="module")
def folder(lane) -> Iterator[Path]:
    """Volumes of the node: `source` with two files, and an empty one for the claim that the chart makes."""
    root = lane.state / "volumes" / NAMESPACE
    (root / "source" / "model" / "sub").mkdir(parents=True)
    (root / "source" / "model" / "config.json").write_text("{}", encoding="utf-8")
    (root / "source" / "model" / "sub" / "weights.bin").write_bytes(b"weights" * 1000)
    (root / "ps-weights-m").mkdir()
    (root / "ps-weights-m").chmod(0o1777)
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    apply_volume("source", NAMESPACE, root / "source")
    yield root
    kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")
    kubectl("delete", "pv", "weights-source", f"{NAMESPACE}-ps-weights-m", may_fail=True)
    shutil.rmtree(root)


def manifests_of(release: Release, root: Path, sha256: str) -> list[dict[str, object]]:
    repository, tag = image_names()["functions"].rsplit(":", 1)
    values = {
        "global": {
            "image": {"repository": repository, "tag": tag},
            "catalogue": {
                "models": [
                    {"id": "m", "weights": {"source": "pvc://source/model", "sha256": sha256}}
                ],
                "services": [{"model": "m", "backend": {"kind": "vllm"}}],
            },
        },
        "knative": {
            "weights": {
                "backoffLimit": 0,
                "volume": {"size": "1Gi", "hostPath": str(root)},
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            }
        },
    }
    file = root / "values.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    docs = yaml.safe_load_all(release.helm("template", "ps", str(release._chart), "-f", str(file),
                                           "--set", "global.checkOperators=false"))  # fmt: skip
    wanted = ("weights", "account")
    return [
        doc
        for doc in docs
        if doc and doc["metadata"]["labels"]["app.kubernetes.io/component"].startswith(wanted)
    ]


def test_what_is_right_is_kept_and_what_is_wrong_is_not(lane, folder):
    release = Release("ps", NAMESPACE, lane.postgres)
    command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    source = folder / "source" / "model"
    right = subprocess.check_output(["sh", "-c", command], cwd=source, text=True).split()[0]
    for sha256, end in (("d" * 64, "failed"), (right, "complete")):
        docs = manifests_of(release, folder, sha256)
        job = next(doc for doc in docs if doc["kind"] == "Job")["metadata"]["name"]
        kubectl("apply", "-n", NAMESPACE, "-f", "-", given=yaml.safe_dump_all(docs))
        kubectl("wait", "-n", NAMESPACE, f"job/{job}", f"--for=condition={end}", "--timeout=180s")
        kept = [path.name for path in (folder / "ps-weights-m").iterdir()]
        said = kubectl("logs", "-n", NAMESPACE, f"job/{job}", "-c", "keep")
        if end == "failed":
            assert kept == []
        else:
            (name,) = kept
            assert right in said
            assert (folder / "ps-weights-m" / name / "sub" / "weights.bin").stat().st_size == 7000
    shutil.rmtree(release._chart.parents[1], ignore_errors=True)
