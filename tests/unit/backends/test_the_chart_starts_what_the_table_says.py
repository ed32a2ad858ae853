"""The chart's model servers get the arguments of the table: written twice, for Helm cannot ask Python."""

from pathlib import Path

import pytest
import yaml

from functions.backends.server_arguments import Place, build_arguments, parse_version
from router_model.catalogue.model import Backend, Model, Service

VALUES = Path(__file__).parents[3] / "knative/values.yaml"
BACKENDS = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["modelService"]["backends"]
KINDS = sorted(kind for kind, backend in BACKENDS.items() if not backend.get("embedded"))
# Servers without such arguments embed without being told to, or not at all.
CASES = [(kind, False) for kind in KINDS] + [
    (kind, True) for kind in KINDS if "embeddingArgs" in BACKENDS[kind]
]
CONTEXT, CONCURRENCY, GPUS = 4096, 16, 4
GRACE_S = 600


def words_of_chart(backend, *, parallel, embeds, place):
    variables = {
        "MODEL_PATH": place.path,
        "MODEL_ID": "m",
        "MODEL_PORT": place.port,
        "MODEL_CONTEXT": CONTEXT,
        "MODEL_CONTEXT_IN_ALL": CONTEXT * CONCURRENCY,
        "MODEL_CONCURRENCY": CONCURRENCY,
        "MODEL_GPUS": GPUS,
        "MODEL_SHUTDOWN_S": "SHUTDOWN",
    }
    words = [*backend["args"]]
    words += backend.get("parallelArgs", []) if parallel else []
    words += backend.get("embeddingArgs", []) if embeds else []
    for name, value in variables.items():
        words = [str(word).replace(f"$({name})", str(value)) for word in words]
    return words


def pairs(words):
    """Flags with their values, and what stands before the first flag."""
    found, flag = {}, ""
    for word in words:
        if word.startswith("--"):
            flag = word
            found[flag] = ""
        else:
            found[flag] = word
    return found


@pytest.mark.parametrize("parallel", [False, True], ids=["one device", "four devices"])
@pytest.mark.parametrize(("kind", "embeds"), CASES)
def test_both_say_the_same(kind, parallel, embeds):
    backend = BACKENDS[kind]
    place = Place(path="/models/m", port="8000", grace_s=GRACE_S)
    capabilities = ("embeddings",) if embeds else ("chat",)
    model = Model(id="m", context_length=CONTEXT, capabilities=capabilities)
    service = Service(
        model="m",
        backend=Backend(kind=kind),
        concurrency=CONCURRENCY,
        gpu="nvidia.com/gpu" if parallel else "none",
        gpu_share=GPUS if parallel else 0,
    )
    ours = pairs(build_arguments(service, model, backend["image"], place))
    chart = pairs(words_of_chart(backend, parallel=parallel, embeds=embeds, place=place))
    # How long a server may drain is the chart's own arithmetic of its pod's grace.
    assert ours.pop("--shutdown-timeout", None) is None or chart.pop("--shutdown-timeout") == (
        "SHUTDOWN"
    )
    assert chart == ours


def test_the_images_name_versions_that_are_compared():
    assert parse_version(BACKENDS["vllm"]["image"]) >= (0, 18)
