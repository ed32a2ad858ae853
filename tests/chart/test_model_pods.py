"""What a model's pod consists of: devices, arguments, time to drain, whose program the server is."""

import json
import re

import msgspec
import pytest
import yaml

from functions.backends.server_arguments import Place, build_arguments
from functions.runtime.settings import load_settings
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.merge import ONLY_SCALES, with_pinned
from router_model.catalogue.model import Model, Service, Weights
from tests.chart.manifests import (
    catalogue,
    container_of,
    environment,
    named,
    pod_of,
    service,
    workload_of,
)

BACKENDS = ("vllm", "tgi", "trtllm", "sglang", "llamacpp")


def with_gpus(one, **gpus):
    values = catalogue(one)
    values["knative"] = {"modelService": {"gpus": gpus}}
    return values


def flags_of(words):
    """Flags with their values; words before the first flag under the name `first`."""
    found, name = {"first": []}, "first"
    for word in words:
        if word.startswith("--"):
            name = word
            found[name] = []
        else:
            found[name].append(word)
    return found


@pytest.mark.parametrize("workload", ["knative", "deployment"])
def test_a_pod_keeps_what_it_was_rolled_out_with_when_the_catalogue_is_a_newer_one(
    render, workload
):
    def rendered(**fields):
        args = {"history": "not $(HOSTNAME)"}
        one = service(workload=workload, backend={"kind": "fake", "args": args | fields})
        values = catalogue(one)
        values["global"]["catalogue"]["models"] = [{"id": "m", "simulated": True}]
        return render(values)

    def read(docs):
        data = named(docs, "ConfigMap", "ps-catalogue")["data"]
        return load_catalogue(data["catalogue.yaml"])

    old, new = rendered(fail_rate=0), rendered(fail_rate=1)
    variables = environment(container_of(old, "m", "worker"))
    pinned = variables["PICKSPIN_WORKER_PINNED"].replace("$$(", "$(")  # as Kubernetes does
    found = with_pinned(read(new), "m", pinned)
    assert found.service("m") == read(old).service("m")
    assert found.service("m") != read(new).service("m")
    assert found.model("m") == read(old).model("m")


def test_charts_and_worker_agree_on_what_only_scales(render):
    values = dict.fromkeys(ONLY_SCALES, 1) | {"warm_hours": [], "warm_by_habit": False}
    worker = container_of(render(catalogue(service(concurrency=3, **values))), "m", "worker")
    pinned = json.loads(environment(worker)["PICKSPIN_WORKER_PINNED"])
    assert pinned["service"].keys() == {"model", "backend", "concurrency", "timeout_s"}


def test_what_only_scales_starts_no_pod_anew(render):
    def template(**fields):
        return workload_of(render(catalogue(service(**fields))), "m")["spec"]["template"]

    assert template(idle_s=10, max_replicas=3) == template(idle_s=99, max_replicas=2)
    assert template(concurrency=2) != template(concurrency=3)


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("capabilities", [["chat"], ["embeddings"]])
def test_arguments_are_those_of_the_code(render, kind, capabilities):
    args = {"gpu_memory_utilization": 0.8, "max-num-seqs": 9, "enforce-eager": True}
    one = service(backend={"kind": kind, "args": args}, gpu="nvidia.com/gpu", gpu_share=2)
    values = catalogue(one)
    values["global"]["catalogue"]["models"][0] |= {
        "capabilities": capabilities,
        "context_length": 4096,
    }
    values["knative"] = {"modelService": {"sleep": {"level": 1}}}
    container = container_of(render(values), "m", "model")
    given = environment(container)
    words = [
        re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], word) for word in container["args"]
    ]
    model = Model(
        id="m",
        context_length=4096,
        capabilities=tuple(capabilities),
        weights=Weights(path="/models/m"),
    )
    place = Place(path=given["MODEL_PATH"], port=given["MODEL_PORT"], can_sleep=True)
    wanted = build_arguments(msgspec.convert(one, Service), model, place=place)
    assert flags_of(words) == flags_of(wanted)


def test_an_argument_that_is_false_is_taken_away(render):
    one = service(backend={"kind": "vllm", "args": {"shutdown-timeout": False}})
    words = container_of(render(catalogue(one)), "m", "model")["args"]
    assert "--shutdown-timeout" not in words
    assert "$(MODEL_SHUTDOWN_S)" not in words


@pytest.mark.parametrize(
    ("gpu", "share", "resource", "count"),
    [
        ("nvidia.com/gpu", 1, "nvidia.com/gpu", 1),
        ("nvidia.com/gpu", 4, "nvidia.com/gpu", 4),
        ("nvidia.com/mig-3g.40gb", 0.5, "nvidia.com/mig-3g.40gb", 1),
        ("l4", 1, "nvidia.com/gpu", 1),
        ("quarter", 0.25, "nvidia.com/gpu.shared", 1),
        ("slices", 0.5, "example.com/slice", 4),
    ],
)
def test_a_replica_gets_its_share_of_the_resource(render, gpu, share, resource, count):
    values = with_gpus(
        service(gpu=gpu, gpu_share=share),
        l4={"resource": "nvidia.com/gpu"},
        quarter={"resource": "nvidia.com/gpu.shared", "slices": 4, "sharing": "time-slicing"},
        slices={"resource": "example.com/slice", "slices": 8},
    )
    assert container_of(render(values), "m", "model")["resources"]["limits"][resource] == count


@pytest.mark.parametrize("workload", ["knative", "deployment"])
def test_pods_go_where_their_gpu_is(render, workload):
    kind = {
        "resource": "nvidia.com/gpu",
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "annotations": {"example.com/pool": "l4"},
        "runtimeClassName": "nvidia",
    }
    docs = render(with_gpus(service(gpu="l4", gpu_share=1, workload=workload), l4=kind))
    pod = pod_of(docs, "m")
    assert pod["nodeSelector"] == kind["nodeSelector"]
    assert pod["tolerations"] == kind["tolerations"]
    assert pod["runtimeClassName"] == "nvidia"
    notes = workload_of(docs, "m")["spec"]["template"]["metadata"]["annotations"]
    assert notes["example.com/pool"] == "l4"


def test_shared_memory_is_the_drivers_where_mps_shares_the_gpu(render):
    kind = {"resource": "nvidia.com/gpu.shared", "slices": 4, "sharing": "mps"}
    docs = render(with_gpus(service(gpu="part", gpu_share=0.25), part=kind))
    paths = {mount["mountPath"] for mount in container_of(docs, "m", "model")["volumeMounts"]}
    assert "/dev/shm" not in paths


def test_shared_memory_is_memory(render):
    volumes = {
        volume["name"]: volume for volume in pod_of(render(catalogue(service())), "m")["volumes"]
    }
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize(
    ("one", "gpus", "reason"),
    [
        (service(gpu="l4"), {}, "gpus has no entry for l4"),
        (
            service(gpu="part", gpu_share=0.5),
            {"part": {"resource": "nvidia.com/gpu.shared", "slices": 4, "sharing": "mps"}},
            "gpu_share 0.5 is more than one of the 4 slices",
        ),
        (service(gpu="l4"), {"l4": {"resource": "l4"}}, "resource"),
    ],
)
def test_devices_that_cannot_be_had_are_refused(render, one, gpus, reason):
    with pytest.raises(Exception, match=reason):
        render(with_gpus(one, **gpus))


@pytest.mark.parametrize(
    ("workload", "quiet"),
    [("knative", 30), ("deployment", 0)],  # how long Knative holds SIGTERM back
)
@pytest.mark.parametrize("timeout", [60, 540])
def test_a_call_can_be_finished_before_the_pod_is_killed(render, workload, quiet, timeout):
    docs = render(catalogue(service(workload=workload, timeout_s=timeout)))
    pod = pod_of(docs, "m")
    grace = pod.get("timeoutSeconds") or pod["terminationGracePeriodSeconds"]
    drain = float(environment(container_of(docs, "m", "worker"))["PICKSPIN_WORKER_DRAIN_S"])
    server = float(environment(container_of(docs, "m", "model"))["MODEL_SHUTDOWN_S"])
    assert timeout <= server < drain < grace - quiet


def test_a_deployment_takes_the_grace_that_its_calls_need(render):
    docs = render(catalogue(service(workload="deployment", timeout_s=3600)))
    assert pod_of(docs, "m")["terminationGracePeriodSeconds"] > 3600


def test_a_call_that_a_knative_pod_could_not_finish_is_refused(render):
    with pytest.raises(Exception, match="timeout_s 600, but a pod of a Knative Service has 540 s"):
        render(catalogue(service(timeout_s=600)))


def test_pods_read_the_call_timeout_that_they_can_keep(render):
    text = named(render(catalogue(service())), "ConfigMap", "ps-catalogue")["data"][
        "catalogue.yaml"
    ]
    assert load_catalogue(text).services[0].timeout_s == 540


def test_a_worker_may_start_the_server_itself(render):
    values = catalogue({"model": "m", "backend": {"kind": "fake"}})
    values["global"]["catalogue"]["models"][0] = {"id": "m", "simulated": True}
    docs = render(values)
    assert [container["name"] for container in pod_of(docs, "m")["containers"]] == ["worker"]
    text = named(docs, "ConfigMap", "ps-catalogue")["data"]["catalogue.yaml"]
    assert load_catalogue(text).models[0].weights == Weights()


def test_a_server_inside_the_worker_reads_the_weights_of_the_catalogue(render):
    values = catalogue(service(backend={"kind": "llamacpp"}))
    values["knative"] = {"modelService": {"backends": {"llamacpp": {"embedded": True}}}}
    docs = render(values)
    text = named(docs, "ConfigMap", "ps-catalogue")["data"]["catalogue.yaml"]
    loaded = load_catalogue(text)
    assert loaded.services[0].backend.kind == "llamacpp"
    assert loaded.models[0].weights.path == "/models/m"
    paths = {mount["mountPath"] for mount in container_of(docs, "m", "worker")["volumeMounts"]}
    assert "/models" in paths


def test_one_service_may_differ_from_its_backend(render):
    values = catalogue(service(), service(model="Other.Model-7B"))
    values["knative"] = {
        "modelService": {
            "overrides": {"m": {"image": "mine:1", "env": {"A": "b"}, "shmSize": "9Gi"}}
        }
    }
    docs = render(values)
    model = container_of(docs, "m", "model")
    assert model["image"] == "mine:1"
    assert environment(model)["A"] == "b"
    assert container_of(docs, "other-model-7b", "model")["image"].startswith("vllm/")


def test_the_worker_accepts_what_a_pod_tells_it(render):
    container = container_of(render(catalogue(service())), "m", "worker")
    given = environment(container)
    words = re.findall(r'(PICKSPIN_\w+)="\$\w+"', container["command"][-1])
    assert load_settings(given | dict.fromkeys(words, "m-00001")).worker.service == "m"


@pytest.mark.parametrize(("kind", "sleeps"), [("vllm", True), ("tgi", False)])
def test_a_server_that_can_sleep_is_told_so_with_its_worker(render, kind, sleeps):
    values = catalogue(service(backend={"kind": kind}))
    values["knative"] = {"modelService": {"sleep": {"level": 2, "afterSeconds": 5}}}
    docs = render(values)
    model = container_of(docs, "m", "model")
    worker = load_settings(environment(container_of(docs, "m", "worker"))).worker
    assert ("--enable-sleep-mode" in model["args"]) is sleeps
    assert ("VLLM_SERVER_DEV_MODE" in environment(model)) is sleeps
    assert (worker.sleep_level, worker.sleep_after_s) == ((2, 5.0) if sleeps else (0, 60.0))


@pytest.mark.parametrize(("start", "seconds"), [(120, 1800), (3600, 3900)])
def test_a_slow_start_is_not_called_failed_before_its_time(render, start, seconds):
    notes, spec = (
        workload_of(render(catalogue(service(workload=kind, start_timeout_s=start))), "m")["spec"]
        for kind in ("knative", "deployment")
    )
    notes = notes["template"]["metadata"]["annotations"]
    assert notes["serving.knative.dev/progress-deadline"] == f"{seconds}s"
    assert spec["progressDeadlineSeconds"] == seconds


def test_workers_may_have_an_image_of_their_own(render):
    docs = render(catalogue(service()) | {"knative": {"worker": {"image": "mine/worker:7"}}})
    assert container_of(docs, "m", "worker")["image"] == "mine/worker:7"
    pod = named(docs, "Deployment", "ps-recorder")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "pickspin:0.1.0"


def test_http_wakes_a_model_only_where_it_is_asked_for(render):
    values = catalogue(service())
    values["knative"] = {"modelService": {"httpWake": True}}
    for docs, woken in ((render(catalogue(service())), False), (render(values), True)):
        notes = workload_of(docs, "m")["spec"]["template"]["metadata"]["annotations"]
        assert ("keda.pickspin.io/http-wake" in notes) is woken


def test_models_listen_to_their_own_pod_only(render):
    for kind in BACKENDS:
        docs = render(catalogue(service(backend={"kind": kind})))
        words = container_of(docs, "m", "model")["args"]
        assert "127.0.0.1" in words, kind
        assert "ports" not in container_of(docs, "m", "model"), yaml.safe_dump(words)


def test_the_key_of_a_hosted_model_comes_from_a_secret_and_only_to_its_worker(render):
    hosted = service(backend={"kind": "openai", "key_env": "VENDOR_KEY"})
    values = catalogue(hosted)
    values["global"]["catalogue"]["models"][0] = {
        "id": "m",
        "weights": {"url": "https://vendor.example/v1"},
    }
    values["global"]["modelKeysSecret"] = "their-keys"
    rendered = render(values)
    (variable,) = [
        each
        for each in container_of(rendered, "m", "worker")["env"]
        if each["name"] == "VENDOR_KEY"
    ]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "their-keys", "key": "VENDOR_KEY"}}
    others = [each for each in rendered if each["metadata"]["name"] not in {"ps-m", "m"}]
    assert "their-keys" not in json.dumps([each.get("spec") for each in others])
