"""What the charts render for a catalogue, and what they refuse."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from events.names import SHARED_TOPICS, Topics
from functions.doctor.scaling_checks import OUTAGE_S, compute_retry_budget_s
from functions.processes import PROCESSES
from functions.runtime.settings import load_settings
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.model import Service
from router_model.catalogue.validation import make_slug
from tests.chart.manifests import (
    catalogue,
    environment,
    named,
    pod_of,
    pods,
    scaling_of,
    service,
)

ROOT = Path(__file__).parents[2]
VALUES = yaml.safe_load((ROOT / "charts/pickspin/values.yaml").read_text(encoding="utf-8"))
KEDA_METADATA = {
    "bootstrapServers",
    "consumerGroup",
    "topic",
    "lagThreshold",
    "activationLagThreshold",
    "offsetResetPolicy",
    "allowIdleConsumers",
    "version",
}


def test_the_defaults_render_one_workload_for_each_service_and_each_process(render):
    kinds = {(doc["kind"], doc["metadata"]["name"]) for doc in render()}
    assert {
        ("StatefulSet", "ps-ingress"),
        ("Service", "ps-router"),
        ("KafkaSource", "ps-requests"),
        ("Deployment", "ps-recorder"),
        ("Deployment", "ps-callbacks"),
        ("Deployment", "ps-scaler"),
        ("Service", "ps-scaler"),
        ("Deployment", "ps-controller"),
        ("Role", "ps-controller"),
        ("ConfigMap", "ps-scaling"),
        ("ScaledObject", "ps-recorder"),
        ("ScaledObject", "ps-callbacks"),
        ("Service", "ps-smollm2-135m-instruct"),
        ("Deployment", "ps-all-minilm-l6-v2"),
        ("ScaledObject", "ps-all-minilm-l6-v2"),
        ("Job", "ps-prepare-log"),
        ("CronJob", "ps-prepare-log"),
        ("NetworkPolicy", "ps-closed"),
    } <= kinds


@pytest.mark.parametrize("workload", ["knative", "deployment"])
@pytest.mark.parametrize("prefix", ["", "blue."])
def test_topics_and_groups_are_those_of_the_code(render, workload, prefix):
    values = catalogue(service(workload=workload))
    values["global"]["topicPrefix"] = prefix
    docs, topics = render(values), Topics(prefix)
    triggers = [t for t in scaling_of(docs, "m")["triggers"] if t["type"] == "kafka"]
    assert [t["metadata"]["topic"] for t in triggers] == [
        topics.model("m"),
        topics.model_batch("m"),
    ]
    assert {t["metadata"]["consumerGroup"] for t in triggers} == {topics.worker_group("m")}
    source = named(docs, "KafkaSource", "ps-requests")["spec"]
    assert source["topics"] == [topics.requests]
    assert source["consumerGroup"] == topics.router_group
    assert named(docs, "KafkaSink", "ps-dead-letters")["spec"]["topic"] == topics.dlq
    plan = json.loads(named(docs, "ConfigMap", "ps-log-plan")["data"]["plan.json"])
    assert {topic["name"] for topic in plan["topics"]} == {
        topics.requests,
        topics.progress,
        topics.replies,
        topics.responses,
        topics.status,
        topics.control,
        topics.dlq,
        *topics.of_service("m"),
    }
    assert plan["groups"] == {
        topics.router_group: [topics.requests],
        topics.worker_group("m"): list(topics.of_service("m")),
    }


@pytest.mark.parametrize("workload", ["knative", "deployment"])
def test_a_service_scales_on_lag_as_the_catalogue_says(render, workload):
    one = service(
        workload=workload, concurrency=10, max_replicas=6, idle_s=700, start_timeout_s=2400
    )
    spec = scaling_of(render(catalogue(one, warm_pool={"L1": 2})), "m")
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 6)
    assert (spec["cooldownPeriod"], spec["initialCooldownPeriod"]) == (700, 2400)
    assert "horizontalPodAutoscalerConfig" in spec["advanced"]
    assert "fallback" not in spec
    for trigger in spec["triggers"]:
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        if trigger["type"] == "kafka":
            assert set(trigger["metadata"]) == KEDA_METADATA
            assert trigger["metadata"]["lagThreshold"] == "8"


@pytest.mark.parametrize(("workload", "initial_s"), [("knative", 1800), ("deployment", 0)])
def test_deployments_may_be_declared_asleep_and_a_revision_always_boots_once(
    render, workload, initial_s
):
    values = catalogue(service(workload=workload))
    values["global"]["scaling"] = {"firstBoot": False}
    assert scaling_of(render(values), "m")["initialCooldownPeriod"] == initial_s


@pytest.mark.parametrize(("min_warm", "replicas"), [(0, 0), (1, 1)])
def test_a_deployment_that_is_declared_asleep_starts_no_pod_beyond_its_warm_pool(
    render, min_warm, replicas
):
    values = catalogue(service(workload="deployment", min_warm=min_warm))
    assert "replicas" not in named(render(values), "Deployment", "ps-m")["spec"], "KEDA's"
    values["global"]["scaling"] = {"firstBoot": False}
    assert named(render(values), "Deployment", "ps-m")["spec"]["replicas"] == replicas


def test_a_service_that_is_always_cold_may_say_so_against_its_tiers_pool(render):
    docs = render(catalogue(service(min_warm=0), warm_pool={"L1": 1}))
    assert scaling_of(docs, "m")["minReplicaCount"] == 0


def test_defaults_of_a_service_are_those_of_the_code(render):
    default = Service(model="m")
    docs = render(catalogue({"model": "m", "backend": {"kind": "vllm"}}))
    spec = scaling_of(docs, "m")
    assert spec["maxReplicaCount"] == default.max_replicas
    assert spec["cooldownPeriod"] == int(default.idle_s)
    assert spec["triggers"][0]["metadata"]["lagThreshold"] == str(round(0.75 * default.concurrency))
    plan = json.loads(named(docs, "ConfigMap", "ps-log-plan")["data"]["plan.json"])
    assert {
        "name": "infer.model.m",
        "partitions": default.partitions,
        "retention_s": 259200,
    } in plan["topics"]
    assert default.workload == "knative"


def test_slugs_are_derived_as_the_loader_does(render):
    docs = render(
        catalogue(
            service(model="Other.Model-7B"),
            service(model="Other.Model-7B", backend={"kind": "llamacpp"}),
        )
    )
    slug = make_slug("Other.Model-7B")
    assert scaling_of(docs, slug)
    assert scaling_of(docs, f"{slug}--llamacpp")


def test_the_pods_catalogue_is_one_that_the_loader_accepts(render):
    for values in ({}, catalogue(service(backend={"kind": "llamacpp"}))):
        text = named(render(values), "ConfigMap", "ps-catalogue")["data"]["catalogue.yaml"]
        loaded = load_catalogue(text)
        assert all(model.weights.url == "http://127.0.0.1:8000/v1" for model in loaded.models)


def test_the_default_catalogue_is_one_that_the_loader_accepts():
    assert load_catalogue(yaml.safe_dump(VALUES["global"]["catalogue"])).services


def test_a_remote_model_gets_a_worker_and_no_server(render):
    values = catalogue(service(backend={"kind": "openai"}))
    values["global"]["catalogue"]["models"][0]["weights"] = {"url": "https://models.example.org/v1"}
    docs = render(values)
    assert [container["name"] for container in pod_of(docs, "m")["containers"]] == ["worker"]


def test_a_knative_service_has_one_port_and_nothing_that_knative_masks(render):
    found = [doc for doc in render() if doc["apiVersion"] == "serving.knative.dev/v1"]
    assert found
    for doc in found:
        pod = doc["spec"]["template"]["spec"]
        assert sum(len(c.get("ports", [])) for c in pod["containers"]) == 1
        masked = {"terminationGracePeriodSeconds", "initContainers", "securityContext"}
        assert not masked & pod.keys()
        assert not any("lifecycle" in c for c in pod["containers"])
        assert not any("fieldRef" in str(c["env"]) for c in pod["containers"])


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_SSL"])
def test_every_process_accepts_its_environment(render, protocol):
    kafka = {"securityProtocol": protocol}
    if protocol != "PLAINTEXT":
        kafka |= {"saslMechanism": "SCRAM-SHA-512", "secret": "kafka-user"}
    docs = render({"global": {"kafka": kafka, "topicPrefix": "blue."}})
    seen = set()
    for _, pod in pods(docs):
        for container in pod["containers"]:
            if container["name"] == "model":
                continue
            settings = load_settings(environment(container))
            assert settings.broker.prefix == "blue."
            assert settings.broker.security_protocol == protocol
            command = container["command"]
            if command[0] == "pickspin":
                seen.add(command[1])
    assert seen <= PROCESSES.keys()
    assert {"ingress", "router", "recorder", "callbacks", "scaler", "controller"} <= seen


def test_settings_of_the_values_reach_every_process_and_a_model_only_what_its_worker_reads(render):
    given = {
        "PICKSPIN_INGRESS_REPLY_WAIT_S": 600,
        "PICKSPIN_INGRESS_REPLY_TOPICS": "answers",
        "PICKSPIN_INGRESS_CALLBACK_ALLOW_HTTP": True,
        "PICKSPIN_ROUTER_CLASSIFIER": "keyword",
        "PICKSPIN_LOG_LEVEL": "DEBUG",
    }
    found = {}
    for _, pod in pods(render({"global": {"settings": given}})):
        for container in pod["containers"]:
            if container["name"] != "model":
                settings, command = load_settings(environment(container)), container["command"]
                found[command[1] if command[0] == "pickspin" else command[-1]] = settings
    for process, settings in found.items():
        is_model = process.endswith("pickspin worker")
        assert settings.log_level == "DEBUG"
        assert settings.ingress.reply_topics == "answers"
        assert settings.ingress.reply_wait_s == (115.0 if is_model else 600.0), process
        assert settings.ingress.callback_allow_http is not is_model
        assert (settings.router.classifier == "keyword") is not is_model
    assert any(process.endswith("pickspin worker") for process in found)


def test_what_a_worker_reads_of_the_doors_settings_is_what_its_pods_are_given():
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "functions/worker").glob("*.py")
    ]
    read = {
        name.upper() for text in sources for name in re.findall(r"settings\.ingress\.(\w+)", text)
    }
    template = (ROOT / "knative/templates/_model.tpl").read_text(encoding="utf-8")
    given = re.search(r"INGRESS_\(([A-Z_|]+)\)", template)
    assert given
    derived = {"FURTHER_REPLY_TOPICS": "REPLY_TOPICS"}
    assert set(given[1].split("|")) == {derived.get(name, name) for name in read}


def test_credentials_come_from_the_secret_only(render):
    docs = render(
        {
            "global": {
                "kafka": {
                    "securityProtocol": "SASL_SSL",
                    "saslMechanism": "PLAIN",
                    "secret": "kafka-user",
                }
            }
        }
    )
    refs = named(docs, "TriggerAuthentication", "ps-kafka")["spec"]["secretTargetRef"]
    assert {ref["parameter"] for ref in refs} == {"username", "password", "ca"}
    for slug in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        for trigger in scaling_of(docs, slug)["triggers"][:2]:
            assert trigger["authenticationRef"] == {"name": "ps-kafka"}
            assert trigger["metadata"]["sasl"] == "plaintext"
            assert trigger["metadata"]["tls"] == "enable"


def test_the_log_binding_needs_neither_knative_part(render):
    docs = render(
        {"knative": {"router": {"binding": "log"}}, **catalogue(service(workload="deployment"))},
        operators=("keda.sh/v1alpha1/ScaledObject",),
    )
    assert not [doc for doc in docs if "knative.dev" in doc["apiVersion"]]
    assert named(docs, "Deployment", "ps-router")


def refusals() -> Iterator[Any]:
    duplicate = catalogue(service(slug="same"), service(slug="same"))
    yield pytest.param(duplicate, "two services on the slug same", id="two services on one slug")
    many = catalogue(service(max_replicas=13))
    yield pytest.param(
        many, "13 replicas but its topic only 12", id="more replicas than partitions"
    )
    unknown = catalogue(service(speed="fast"))
    yield pytest.param(unknown, "speed", id="unknown key of a service")
    yield pytest.param({"global": {"topicPrefx": "a."}}, "topicPrefx", id="unknown global key")
    yield pytest.param({"knative": {"ingres": {}}}, "ingres", id="unknown key of a sub-chart")
    yield pytest.param({"typo": 1}, "typo", id="unknown top key")
    absent = catalogue(service(model="absent"))
    yield pytest.param(absent, "unknown model absent", id="unknown model")
    yield pytest.param(catalogue(service(slug="retry")), "reserved", id="reserved slug")
    yield pytest.param(catalogue(service(slug="Upper")), "DNS label", id="slug not a label")
    yield pytest.param(
        catalogue(service(workload="pod")), "workload", id="workload of neither kind"
    )
    yield pytest.param({"global": {"topicPrefix": "a"}}, "topicPrefix", id="prefix without a dot")
    yield pytest.param(
        {"global": {"store": {"url": "sqlite:///x"}}}, "url", id="SQLite between several pods"
    )
    yield pytest.param(
        {"knative": {"ingress": {"replicas": 65}}}, "reply partition", id="too many ingresses"
    )
    yield pytest.param(
        {"global": {"kafka": {"securityProtocol": "SASL_SSL", "saslMechanism": "PLAIN"}}},
        "global.kafka.secret is needed",
        id="security without a secret",
    )
    yield pytest.param(
        {"knative": {"modelService": {"backends": {"vllm": None}}}},
        "backends has no entry for vllm",
        id="no such server",
    )
    yield pytest.param(
        catalogue(service(slug="scaler")), "the name of a part", id="slug of a part of the release"
    )
    yield pytest.param(
        {"knative": {"recorder": {"replicas": 9}}},
        "recorder.maxReplicas is below",
        id="more at least than at most",
    )
    yield pytest.param(
        {"keda": {"controller": {"enabled": False}}},
        "keda.controller.enabled is false",
        id="nobody to scale Knative services",
    )
    yield pytest.param(
        {"knative": {"modelService": {"overrides": {"absent": {"shmSize": "1Gi"}}}}},
        "overrides.absent",
        id="values for a service that is not there",
    )
    for name in (
        "PICKSPIN_INGRESS_REPLY_WAIT",
        "PICKSPIN_BROKER_BOOTSTRAP",
        "PICKSPIN_INGRESS_API_KEYS",
    ):
        yield pytest.param({"global": {"settings": {name: "x"}}}, name, id=f"no setting {name}")
    yield pytest.param(
        {"global": {"settings": {"PICKSPIN_INGRESS_REPLY_WAIT_S": "long"}}},
        "REPLY_WAIT_S",
        id="a setting that is no number",
    )
    yield pytest.param({"global": {"bridge": "hpa"}}, "bridge", id="bridge of neither kind")


@pytest.mark.parametrize(("values", "reason"), list(refusals()))
def test_values_that_cannot_work_are_refused(render, values, reason):
    with pytest.raises(Exception, match=reason):
        render(values)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("serving", "Knative Serving is not installed"),
        ("sources", "Knative Eventing for Apache Kafka is not installed"),
        ("keda", "KEDA is not installed"),
    ],
)
def test_a_missing_operator_is_said_at_installation(render, missing, reason):
    from_cluster = (
        "serving.knative.dev/v1/Service",
        "sources.knative.dev/v1/KafkaSource",
        "keda.sh/v1alpha1/ScaledObject",
    )
    there = tuple(name for name in from_cluster if not name.startswith(missing))
    with pytest.raises(Exception, match=reason):
        render(operators=there)
    assert render({"global": {"checkOperators": False}}, operators=there)


def test_the_generated_files_are_in_step():
    program = load_program("charts/generate.py")
    for path, text in program.generate().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `make schemas`"


def test_a_zero_that_is_given_is_no_default(render):
    spec = scaling_of(render(catalogue(service(idle_s=0))), "m")
    assert spec["cooldownPeriod"] == 0


def test_values_of_releases_with_retry_topics_are_taken(render):
    values = catalogue(service())
    values["global"]["kafka"] = {"partitions": {"retry": 3}}
    plan = json.loads(named(render(values), "ConfigMap", "ps-log-plan")["data"]["plan.json"])
    assert not any(topic["name"].endswith(".retry") for topic in plan["topics"])


def test_no_template_spells_a_topic_or_a_group():
    for folder in ("charts/pickspin", "knative", "keda"):
        for path in (ROOT / folder / "templates").iterdir():
            text = path.read_text(encoding="utf-8")
            assert path.name == "_generated.tpl" or not re.search(r"infer[.-]", text), path


def test_the_values_give_the_partitions_of_the_table():
    values = yaml.safe_load((ROOT / "charts/pickspin/values.yaml").read_text(encoding="utf-8"))
    table = {topic.name.rpartition(".")[2]: topic.partitions for topic in SHARED_TOPICS}
    assert values["global"]["kafka"]["partitions"] == table


def load_program(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_plan_is_what_the_log_preparation_reads(render):
    program = load_program("keda/files/prepare_log.py")
    plan = json.loads(named(render(), "ConfigMap", "ps-log-plan")["data"]["plan.json"])
    topics = [msgspec.convert(topic, program.TopicSpec) for topic in plan["topics"]]
    assert any(topic.compacted for topic in topics)


def test_only_offsets_that_are_missing_are_committed():
    program = load_program("keda/files/prepare_log.py")
    part = program.PartitionId
    found = {
        part("t", 0): program.Offsets(end=9, committed=None, start=4),
        part("t", 1): program.Offsets(end=9, committed=3, start=4),
    }
    assert program.find_missing_offsets(found) == {part("t", 0): 4}


def test_the_example_catalogue_renders(render):
    text = (ROOT / "examples/catalogue.yaml").read_text(encoding="utf-8")
    gpus = {"l4": {"resource": "nvidia.com/gpu"}, "a100-80gb": {"resource": "nvidia.com/gpu"}}
    values = {"catalogue": yaml.safe_load(text)}
    docs = render({"global": values, "knative": {"modelService": {"gpus": gpus}}})
    for one in load_catalogue(text).services:
        if one.enabled:
            spec = scaling_of(docs, one.slug)
            assert spec["maxReplicaCount"] == one.max_replicas
            assert spec["minReplicaCount"] == load_catalogue(text).min_warm(one)
    shown = named(docs, "ConfigMap", "ps-catalogue")["data"]["catalogue.yaml"]
    loaded = load_catalogue(shown)
    assert [s.slug for s in loaded.services] == [s.slug for s in load_catalogue(text).services]


@pytest.mark.parametrize("part", ["recorder", "callbacks", "scaler", "controller"])
def test_parts_without_a_door_are_probed_and_measured_on_a_port_of_their_own(render, part):
    docs = render({})
    (container,) = named(docs, "Deployment", f"ps-{part}")["spec"]["template"]["spec"]["containers"]
    assert {"name": "probes", "containerPort": 9100} in container["ports"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "probes"}
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert "0.0.0.0" in {
        variables.get(f"PICKSPIN_{name}_HOST") for name in (part.upper(), "PROBES")
    }


def test_the_source_goes_on_trying_for_longer_than_a_minute_without_kafka(render):
    source = named(render(catalogue(service())), "KafkaSource", "ps-requests")["spec"]
    assert compute_retry_budget_s(source["delivery"]) > OUTAGE_S
