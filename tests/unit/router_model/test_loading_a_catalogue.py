"""A catalogue is accepted whole or refused with every problem named."""

import hashlib
from importlib import resources, util
from pathlib import Path

import pytest

from router_model.catalogue.loader import CatalogueRejected, dump_catalogue, load_catalogue
from router_model.catalogue.model import Catalogue
from router_model.catalogue.validation import make_slug

ROOT = Path(__file__).parents[3]
GOOD = """
models:
  - {id: alpha, weights: {path: /a.gguf}}
  - {id: Beta/7B.v2, weights: {path: /b.gguf}}
services:
  - {model: alpha}
  - {model: alpha, backend: {kind: vllm}}
  - {model: Beta/7B.v2}
"""


def built_in() -> str:
    return resources.files("functions.local").joinpath("catalogue.yaml").read_text("utf-8")


def problems_of(text: str) -> list[str]:
    with pytest.raises(CatalogueRejected) as caught:
        load_catalogue(text)
    return [str(problem) for problem in caught.value.problems]


def one_model(fields: str = "", service: str = "", rest: str = "") -> str:
    return (
        f"models:\n  - {{id: m, weights: {{path: /m.gguf}}{fields}}}\n"
        f"services:\n  - {{model: m{service}}}\n{rest}"
    )


def test_problems_beside_entries_that_do_not_fit_have_the_place_of_the_document() -> None:
    text = """
models:
  - 5
  - {id: m, weights: {path: /m.gguf}}
services:
  - {model: m, concurrency: many}
  - model: m
    warm_hours:
      - 5
      - {start: "61 * * * *", end: "0 9 * * *"}
      - {start: "0 8 * * *"}
      - {start: "0 8 * * *", end: "62 * * * *"}
"""
    found = problems_of(text)
    assert any(one.startswith("models[0] (line 3)") for one in found)
    assert any(one.startswith("services[0].concurrency (line 6)") for one in found)
    assert any(one.startswith("services[1].warm_hours[0] (line 9)") for one in found)
    assert any(one.startswith("services[1].warm_hours[1].start (line 10)") for one in found)
    assert any(one.startswith("services[1].warm_hours[3].end (line 12)") for one in found)


def test_the_built_in_catalogue_loads() -> None:
    catalogue = load_catalogue(built_in())
    assert [service.slug for service in catalogue.services] == [
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
    ]
    assert catalogue.aliases["smollm2"] == "smollm2-135m-instruct"
    assert set(catalogue.tasks) == {"coding", "chat", "embed", "summarize", "classify"}


def test_the_example_catalogue_loads() -> None:
    catalogue = load_catalogue((ROOT / "examples" / "catalogue.yaml").read_text("utf-8"))
    assert catalogue.service("qwen2-5-7b-instruct--tgi") is not None


@pytest.mark.parametrize("model_id", ["smollm2-135m-instruct", "all-minilm-l6-v2"])
def test_the_built_in_hashes_are_those_of_the_installed_weights(model_id: str) -> None:
    model = load_catalogue(built_in()).model(model_id)
    assert model is not None
    assert model.weights.package is not None
    package, _, name = model.weights.package.partition("/")
    found = util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    with (Path(found.origin).parent / name).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == model.weights.sha256


def test_slugs_are_derived_from_model_and_backend() -> None:
    catalogue = load_catalogue(GOOD)
    assert [service.slug for service in catalogue.services] == [
        "alpha",
        "alpha--vllm",
        "beta-7b-v2",
    ]


def test_the_version_depends_on_content_alone() -> None:
    first = load_catalogue(GOOD)
    assert len(first.version) == 12
    assert load_catalogue(f"# a comment\n{GOOD}\n").version == first.version
    assert load_catalogue(GOOD + "aliases: {a: alpha}\n").version != first.version


@pytest.mark.parametrize("text", [GOOD, built_in()])
def test_a_dumped_catalogue_loads_equal(text: str) -> None:
    catalogue = load_catalogue(text)
    assert load_catalogue(dump_catalogue(catalogue)) == catalogue


def test_all_problems_are_reported_together() -> None:
    found = problems_of(
        """
models:
  - id: 1.10
    tier: l1
    contxt_length: 5
    max_tokens: "5"
    simulated: no
  - {id: b, quality: {low: 3}, weights: {path: /b.gguf}}
services:
  - {model: b, timeout_s: 12:30, enabled: 1, min_warm: true, idle_s: "5 min"}
version: 3
"""
    )
    expected = [
        'models[0].id (line 3): expected text, found 1.1: write "1.10" in quotes',
        "models[0].tier (line 4): 'l1' is not one of: L1, L2, L3",
        "models[0].contxt_length (line 5): no such key (did you mean 'context_length'?)",
        "models[0].max_tokens (line 6): expected a whole number, found '5'",
        "models[0].simulated (line 7): no means false",
        "models[1].quality.low (line 8): must be between 0 and 1",
        "services[0].timeout_s (line 10): 12:30 is read as another number",
        "services[0].enabled (line 10): expected true or false, found 1",
        "services[0].min_warm (line 10): expected a whole number or null, found true",
        "services[0].idle_s (line 10): expected a number, found '5 min'",
        "version (line 11): is computed from the content: remove it",
    ]
    for start in expected:
        assert any(problem.startswith(start) for problem in found), (start, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: []\nservices: []", "models (line 1): there must be at least one model"),
        ("models: x\nservices: []", "models (line 1): expected a list, found 'x'"),
        ("services: []", "the key 'models' is missing"),
        ("[]", "expected a group of keys, found a list"),
        (GOOD + "  - {model: alpha}", "services[0] is the same model on the same backend"),
        (GOOD.replace("Beta/7B.v2", "ALPHA"), "differs from 'alpha' by case only"),
        (GOOD.replace("Beta/7B.v2", "alpha"), "the id 'alpha' is there twice"),
        (GOOD.replace("Beta/7B.v2", "al pha"), "visible ASCII characters without spaces"),
        (GOOD.replace("Beta/7B.v2", "../alpha"), "must not contain '..'"),
        (GOOD.replace("Beta/7B.v2", "Auto"), "'Auto' is a reserved word"),
        (GOOD.replace("Beta/7B.v2", "retry"), "'retry' is a reserved word: set another slug"),
        (GOOD.replace("Beta/7B.v2", "Alpha."), "'alpha' is also the slug of services[0]"),
        (GOOD.replace("Beta/7B.v2", "b" * 64), "is not a name of 1 to 63"),
        (GOOD.replace("Beta/7B.v2", "___"), "is not a name of 1 to 63"),
        (one_model(service=", slug: a.b"), "is not a name of 1 to 63"),
        (one_model(service=", slug: -a"), "is not a name of 1 to 63"),
        (one_model(", context_length: 0"), "models[0].context_length (line 2): must be at least 1"),
        (one_model(", context_length: 100"), "must not be above context_length (100)"),
        (one_model(", capabilities: []"), "must name at least one capability"),
        (one_model(", capabilities: [chta]"), "did you mean 'chat'?"),
        (one_model(", quality: {hard: 1}"), "no such class: low, medium, high"),
        (one_model(service=", concurrency: 0"), "concurrency (line 4): must be at least 1"),
        (one_model(service=", max_replicas: 13"), "must not be above partitions (12)"),
        (one_model(service=", min_warm: 2"), "must not be below the replicas kept warm (2)"),
        (one_model(rest="warm_pool: {L1: 2}"), "must not be below the replicas kept warm (2)"),
        (one_model(rest="warm_pool: {L1: -1}"), "warm_pool.L1 (line 5): must be at least 0"),
        (one_model(rest="warm_pool: {L4: 1}"), "warm_pool.L4 (line 5): no such key"),
        (one_model(service=", timeout_s: 0"), "timeout_s (line 4): must be above 0"),
        (one_model(service=", timeout_s: 1e400"), "the number must be finite"),
        (one_model(service=", cold_start_s: 200"), "must not be below cold_start_s (200)"),
        (one_model(service=", backend: {kind: vlm}"), "did you mean 'vllm'?"),
        (one_model(service=", backend: {kind: openai}"), "needs weights.url"),
        (one_model(service=", backend: {kind: fake}"), "needs 'simulated: true' on model 'm'"),
        (one_model(service=", backend: {args: {api_key: x}}"), "the catalogue holds no secrets"),
        (one_model(service=", backend: {args: {ctx_sise: 1}}"), "did you mean 'ctx_size'?"),
        (one_model(service=", backend: {args: {gpu_layers: many}}"), "must be a whole number"),
        (one_model(service=", backend: {args: {embedding: 1}}"), "must be true or false, not 1"),
        (one_model(service=", model: n"), "the key is there twice"),
        (one_model(service=", enabled: false"), "at least one enabled service"),
        (one_model(rest="aliases: {m: m}"), "hides a model of the same id"),
        (one_model(rest="aliases: {a: b, b: a}"), "is itself an alias"),
        (one_model(rest="aliases: {a: nobody}"), "there is no model 'nobody'"),
        (one_model(rest="aliases: {auto: m}"), "'auto' is a reserved word"),
        (one_model(rest="tasks: {t: {models: [x]}}"), "tasks.t.models (line 5): there is no model"),
        (one_model(rest="tasks: {m: {}}"), "hides a model or alias of the same name"),
        (one_model(rest="tasks: {t: {timeout_s: 0}}"), "tasks.t.timeout_s"),
        (one_model(rest="fallbacks: {m: [m]}"), "a model cannot be its own fallback"),
        (one_model(rest="fallbacks: {x: [m]}"), "there is no model 'x'"),
        (one_model(rest="tenants: {t: {models: [x]}}"), "there is no model 'x'"),
        (one_model(rest="default_profile: best"), "'best' is not a profile"),
        (
            one_model(rest="profiles: {balanced: {alpha: 0, latency: 0, cost: 0}}"),
            "must not all be 0",
        ),
        (
            one_model(rest="profiles: {balanced: {alpha: -1, latency: 0, cost: 0}}"),
            "must not be negative",
        ),
        (one_model(", weights: {}"), "the key is there twice"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(text: str, said: str) -> None:
    found = problems_of(text)
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("{path: /a, url: http://x/v1}", "exactly one of package, path, url"),
        ("{package: llm}", "must be <import name>/<file>"),
        ("{package: a/../b}", "must be <import name>/<file>"),
        ("{package: a/b, sha256: abc}", "64 lower-case hexadecimal digits"),
        ("{url: ftp://x}", "must be an http:// or https:// base URL"),
        ("{url: 'http://u:p@x/v1'}", "the catalogue holds no secrets"),
        ("{url: 'http://[x/v1'}", "is not a URL"),
        ("{}", "needs weights.package, weights.path or weights.source"),
        ("{path: /a, source: 'pvc://c'}", "exactly one of package, path, url, source"),
        ("{source: 'ftp://x/y'}", "must be one of hf://"),
        ("{source: 'hf://org/model'}", "must be hf://<owner>/<name>@<revision of 40 digits>"),
        ("{source: 'hf://org/model@main'}", "must be hf://<owner>/<name>@<revision of 40 digits>"),
        ("{source: 'oci://r.example/m:v1'}", "must be oci://<repository>@sha256:<digest>"),
        ("{source: 's3://bucket/m'}", "is needed: nothing else pins what s3:// holds"),
        ("{source: 'pvc://claim/a/../b'}", "must be pvc://<claim>/<path>"),
        ("{path: /a, file: b}", "is a path inside weights.source"),
        (
            f"{{source: 'hf://o/m@{'a' * 40}', file: /etc/passwd}}",
            "must be a path inside the source",
        ),
    ],
)
def test_weights_that_cannot_be_found_are_refused(weights: str, said: str) -> None:
    text = f"models: [{{id: m, weights: {weights}}}]\nservices: [{{model: m}}]"
    found = problems_of(text)
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    "weights",
    [
        f"{{source: 'hf://org/Model-7B@{'a' * 40}'}}",
        f"{{source: 'hf://org/Model-7B@{'a' * 40}', file: sub/model.gguf, sha256: {'d' * 64}}}",
        f"{{source: 'oci://registry.example:5000/models/m@sha256:{'b' * 64}'}}",
        f"{{source: 's3://bucket/models/m', sha256: {'d' * 64}}}",
        f"{{source: 'pvc://claim', sha256: {'d' * 64}}}",
    ],
)
def test_a_pinned_source_of_weights_is_accepted(weights: str) -> None:
    text = f"models: [{{id: m, weights: {weights}}}]\nservices: [{{model: m}}]"
    assert load_catalogue(text).models[0].weights.source is not None


def test_an_unreadable_entry_causes_no_follow_on_problems() -> None:
    found = problems_of("models: [{id: 5, weights: {path: /x}}]\nservices: [{model: five}]")
    assert len(found) == 1


def test_a_slug_is_a_label_without_dots() -> None:
    assert make_slug("Org/Qwen2.5_7B Instruct!") == "org-qwen2-5-7b-instruct"


def test_the_problems_are_one_line_each_in_the_message() -> None:
    with pytest.raises(CatalogueRejected, match=r"2 problems\n  - .*\n  - .*"):
        load_catalogue("{}")


def test_defaults_are_those_of_the_contract() -> None:
    catalogue: Catalogue = load_catalogue(one_model())
    assert catalogue.default_profile == "balanced"
    assert dict(catalogue.warm_pool) == {"L1": 0, "L2": 0, "L3": 0}
    assert set(catalogue.profiles) == {"quality", "cost", "speed", "balanced"}
