"""What the profiles render, as text: a change of a template is seen in a review. `--update` writes the files anew:

.venv/bin/python -m pytest tests/chart/test_golden_manifests.py --update
"""

import pytest
import yaml

from tests.chart.conftest import EVERY_OPERATOR, ROOT
from tests.chart.manifests import catalogue, service

FOLDER = ROOT / "tests" / "golden" / "charts"
CASES = {
    "defaults": {},
    "dev": {"profiles": ("dev",)},
    "gpu-strimzi": {"profiles": ("gpu", "strimzi")},
    "weights": {},
}


def fetched():
    """A model whose weights a job fetches, on volumes without a StorageClass, and the old bridge."""
    values = catalogue(service(), service(model="Other.Model-7B", workload="deployment"))
    one, other = values["global"]["catalogue"]["models"]
    one["weights"] = {"source": f"hf://org/model@{'a' * 40}"}
    other["weights"] = {"source": "pvc://claim/path", "sha256": "d" * 64}
    values["global"] |= {
        "bridge": "autoscaler-keda",
        "dataVolume": {"create": True, "hostPath": "/srv/pickspin"},
    }
    return values | {"knative": {"weights": {"volume": {"hostPath": "/srv/models", "node": "n1"}}}}


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    """Repeats what is equal instead of naming it."""

    def ignore_aliases(self, data):
        return True


def text_of(docs):
    """Manifests in a fixed order; programs inside of them are files of their own and named only."""
    for doc in docs:
        if doc["kind"] == "ConfigMap":
            doc["data"] |= {name: "(a file)" for name in doc["data"] if name.endswith(".py")}
    docs.sort(key=lambda doc: (doc["apiVersion"], doc["kind"], doc["metadata"]["name"]))
    return yaml.dump_all(docs, Dumper=Dumper, width=160)


@pytest.mark.parametrize("case", CASES)
def test_the_profiles_render_what_was_reviewed(render, update, case):
    values = fetched() if case == "weights" else None
    text = text_of(render(values, operators=EVERY_OPERATOR, **CASES[case]))
    path = FOLDER / f"{case}.yaml"
    if update:
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if it is meant: run this file with --update"
