"""Every rendered manifest against the schemas of the API server and of the operators' CRDs, without a cluster."""

import jsonschema
import pytest
import yaml

from tests.chart.conftest import EVERY_OPERATOR, ROOT
from tests.chart.crd_schemas import KUBERNETES, MODULES, is_there, module_of, schema_of
from tests.chart.manifests import catalogue, environment, service

CASES = {
    "defaults": ((), {}),
    "dev": (("dev",), {}),
    "gpu": (("gpu",), {}),
    "secured": ((), "secured"),
    "weights": ((), "weights"),
}
# No module has them: Strimzi publishes its CRDs with its releases only.
WITHOUT_SCHEMA = {"kafka.strimzi.io/v1"}


def secured():
    return {
        "global": {
            "kafka": {
                "securityProtocol": "SASL_SSL",
                "saslMechanism": "SCRAM-SHA-512",
                "secret": "kafka",
                "clientSecret": "client",
            }
        },
        "knative": {"router": {"binding": "http"}},
    }


def weights():
    kind = {
        "resource": "nvidia.com/gpu",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
    }
    values = catalogue(
        service(gpu="l4", gpu_share=1), service(model="Other.Model-7B", workload="deployment")
    )
    source = {"source": "pvc://claim/path", "sha256": "d" * 64}
    for model in values["global"]["catalogue"]["models"]:
        model["weights"] = source
    values["global"]["dataVolume"] = {"create": True, "hostPath": "/srv", "node": "n1"}
    given = {"modelService": {"gpus": {"l4": kind}}, "weights": {"volume": {"hostPath": "/srv"}}}
    return values | {"knative": given}


def manifests(render, case):
    profiles, values = CASES[case]
    made = {"secured": secured, "weights": weights}
    given = made[values]() if isinstance(values, str) else None
    return render(given, profiles=profiles, operators=EVERY_OPERATOR)


@pytest.mark.parametrize("module", [KUBERNETES, *{module for module, _ in MODULES.values()}])
@pytest.mark.parametrize("case", CASES)
def test_manifests_are_what_the_server_would_take(render, case, module):
    if not is_there(module):
        pytest.skip(f"no schemas: `go mod download {module}` puts them into the module cache")
    for doc in manifests(render, case):
        if module_of(doc["apiVersion"]) != module:
            continue
        validator = jsonschema.Draft202012Validator(schema_of(doc["apiVersion"], doc["kind"]))
        problems = [
            f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(doc)
        ]
        assert not problems, (doc["kind"], doc["metadata"]["name"])


@pytest.mark.skipif(not is_there(KUBERNETES), reason=f"no schemas: `go mod download {KUBERNETES}`")
def test_the_backing_services_of_the_examples_are_too():
    text = (ROOT / "examples/kubernetes/backing-services.yaml").read_text(encoding="utf-8")
    for doc in yaml.safe_load_all(text):
        validator = jsonschema.Draft202012Validator(schema_of(doc["apiVersion"], doc["kind"]))
        assert not list(validator.iter_errors(doc)), doc["metadata"]["name"]


def test_the_development_profile_finds_the_backing_services_of_the_examples(render):
    text = (ROOT / "examples/kubernetes/backing-services.yaml").read_text(encoding="utf-8")
    addresses = {
        f"{doc['metadata']['name']}.{doc['metadata']['namespace']}:{doc['spec']['ports'][0]['port']}"
        for doc in yaml.safe_load_all(text)
        if doc["kind"] == "Service"
    }
    docs = render(profiles=("dev",), operators=EVERY_OPERATOR)
    ingress = next(doc for doc in docs if doc["kind"] == "StatefulSet")
    given = environment(ingress["spec"]["template"]["spec"]["containers"][0])
    assert given["PICKSPIN_BROKER_BOOTSTRAP"] in addresses


def test_every_kind_has_a_schema_somewhere(render):
    versions = {doc["apiVersion"] for case in CASES for doc in manifests(render, case)}
    versions |= {
        doc["apiVersion"] for doc in render(profiles=("strimzi",), operators=EVERY_OPERATOR)
    }
    assert {one for one in versions if module_of(one) is None} == WITHOUT_SCHEMA


def test_a_field_that_the_server_does_not_know_is_found(render):
    if not is_there(KUBERNETES):
        pytest.skip(f"no schemas: `go mod download {KUBERNETES}`")
    doc = next(doc for doc in render() if doc["kind"] == "StatefulSet")
    schema = schema_of(doc["apiVersion"], doc["kind"])
    jsonschema.Draft202012Validator(schema).validate(doc)
    doc["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePolicy"):
        jsonschema.Draft202012Validator(schema).validate(doc)
