"""Real stacks of real processes on loopback."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from examples.local_stack import LocalStack, local_stack

FAKE = """
  - model: {id}
    backend:
      kind: fake
      args: {{{args}}}
    concurrency: {concurrency}
    cold_start_s: 1
    ttft_s: 0.05
    start_timeout_s: 900
    min_warm: {min_warm}
    idle_s: 300
"""

KEYWORD_RULE = {"PICKSPIN_ROUTER_CLASSIFIER": "keyword"}
"""Fake models are named by their callers: nothing is left to classify, and no weights need to be loaded."""


def fake_catalogue(path: Path, further: str = "", **models: dict[str, object]) -> Path:
    """Writes a catalogue of fake models (args of the fake program, and concurrency, min_warm), then `further`."""
    lines = ["models:"]
    lines += [
        f"  - {{id: {name}, simulated: true, capabilities: [chat, completions, embeddings]}}"
        for name in models
    ]
    lines.append("services:")
    for name, fields in models.items():
        options = dict(fields)
        concurrency, min_warm = options.pop("concurrency", 4), options.pop("min_warm", 0)
        args = ", ".join(f"{key}: {value}" for key, value in options.items())
        lines.append(FAKE.format(id=name, args=args, concurrency=concurrency, min_warm=min_warm))
    path.write_text("\n".join([*lines, further]), encoding="utf-8")
    return path


@pytest.fixture(
    scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)]
)
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "kafka" and not (shutil.which("java") and shutil.which("mvn")):
        pytest.fail("these tests need java and mvn on the PATH")
    return str(request.param)


@pytest.fixture(scope="session")
def real_stack(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One stack with the real models, shared: tests must not care whether a model is warm already."""
    with local_stack("--broker", broker, data_dir=tmp_path_factory.mktemp("real")) as stack:
        yield stack


@pytest.fixture(scope="session")
def http(real_stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=real_stack.url, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="session")
def shared_fakes(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One stack of fake models, shared: every test has models of its own, and changes nothing else."""
    directory = tmp_path_factory.mktemp("fakes")
    catalogue = fake_catalogue(
        directory / "catalogue.yaml",
        "cascades:\n  frugal: {steps: [small, large], min_confidence: 0.7, hold_tokens: 4}",
        small={"ttft_s": 0.05},
        large={"ttft_s": 0.05},
        warm={"ttft_s": 0.05, "tokens": 2, "min_warm": 1},
        loading={"load_s": 600},
        slow={"ttft_s": 600},
    )
    arguments = ("--broker", broker, "--catalogue", str(catalogue))
    with local_stack(*arguments, environ=KEYWORD_RULE, data_dir=directory) as stack:
        yield stack


@pytest.fixture
def fake_stack(broker: str, tmp_path: Path) -> Iterator[Callable[..., LocalStack]]:
    """Starts stacks of fake models: `fake_stack(warm={"ttft_s": 0.05}, environ={...})`."""
    opened: list[LocalStack] = []

    def start(environ: dict[str, str] | None = None, **models: dict[str, object]) -> LocalStack:
        catalogue = fake_catalogue(tmp_path / "catalogue.yaml", **models)
        data_dir = tmp_path / "data"
        data_dir.mkdir(exist_ok=True)
        stack = LocalStack(
            ["--broker", broker, "--catalogue", str(catalogue)],
            KEYWORD_RULE | (environ or {}),
            data_dir,
        )
        opened.append(stack)
        stack.await_ready()
        return stack

    yield start
    for stack in opened:
        stack.stop()
