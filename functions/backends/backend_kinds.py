"""What the worker must know about each kind of model server. Nothing else in the worker is specific to one.

Their arguments are in `server_arguments`. Sources, by kind: vLLM docs/features/sleep_mode.md and
docs/usage/metrics.md; TGI reference/metrics; TensorRT-LLM examples/prometheus_metrics (PR 5785
brought the path); SGLang references/production_metrics; llama.cpp tools/server/README.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from prometheus_client.parser import text_string_to_metric_families

from events.names import Operation
from events.openai.operations import OPERATIONS
from router_model.catalogue.model import BackendKind, Model

SleepLevel = Literal[1, 2]
"""1: weights go to host memory. 2: they are dropped and read again. The KV cache is lost in both."""


@dataclass(frozen=True, slots=True)
class Step:
    """One POST of a sleep or a wake: its path, and a JSON body where there is one."""

    path: str
    body: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRow:
    """One kind of model server. Paths are relative to the server's root; None: the server has no such thing.

    Metrics are gauges without labels' values; several names: the newest first, and what older versions called it.
    """

    health_path: str = "/health"
    metrics_path: str | None = "/metrics"
    program: str | None = None
    """Module that serves it on this machine, started by the worker itself."""
    loads: Literal["file", "directory"] = "directory"
    """What it reads as weights: one GGUF file, or a directory in Hugging Face's layout."""
    running_metrics: tuple[str, ...] = ()
    waiting_metrics: tuple[str, ...] = ()
    cache_metrics: tuple[str, ...] = ()
    """Part of the KV cache in use, 0 to 1."""
    sleep_steps: Mapping[SleepLevel, tuple[Step, ...]] = field(default_factory=dict)
    wake_steps: Mapping[SleepLevel, tuple[Step, ...]] = field(default_factory=dict)
    has_stream_usage: bool = True
    """Understands `stream_options.include_usage`."""
    limit_field: str | None = "max_tokens"
    """Body field that bounds the answer's tokens; None: whichever of the two the client used is kept."""

    @property
    def gauges(self) -> Mapping[str, tuple[str, ...]]:
        """The metrics it has, by what they say."""
        known = {
            "running": self.running_metrics,
            "waiting": self.waiting_metrics,
            "cache": self.cache_metrics,
        }
        return {what: names for what, names in known.items() if names}


TABLE: Final[Mapping[BackendKind, BackendRow]] = MappingProxyType(
    {
        "llamacpp": BackendRow(
            program="functions.backends.llama_server",
            loads="file",
            running_metrics=("llamacpp:requests_processing",),
            waiting_metrics=("llamacpp:requests_deferred",),
            # Gone from newer servers, without a successor.
            cache_metrics=("llamacpp:kv_cache_usage_ratio",),
        ),
        "vllm": BackendRow(
            program="functions.backends.vllm_server",
            running_metrics=("vllm:num_requests_running",),
            waiting_metrics=("vllm:num_requests_waiting",),
            # The second name until 0.9; hidden, then deleted.
            cache_metrics=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            sleep_steps={1: (Step("/sleep?level=1"),), 2: (Step("/sleep?level=2"),)},
            wake_steps={
                1: (Step("/wake_up"),),
                # In this order: memory of the weights, the weights into it, and only then memory of the cache.
                2: (
                    Step("/wake_up?tags=weights"),
                    Step("/collective_rpc", {"method": "reload_weights"}),
                    Step("/wake_up?tags=kv_cache"),
                ),
            },
        ),
        "tgi": BackendRow(
            running_metrics=("tgi_batch_current_size",), waiting_metrics=("tgi_queue_size",)
        ),
        "trtllm": BackendRow(
            # `/metrics` of this server is JSON of its iterations. The gauges came with 1.3.
            metrics_path="/prometheus/metrics",
            running_metrics=("trtllm_num_requests_running",),
            waiting_metrics=("trtllm_num_requests_waiting",),
            cache_metrics=("trtllm_kv_cache_utilization",),
        ),
        "sglang": BackendRow(
            running_metrics=("sglang:num_running_reqs",),
            waiting_metrics=("sglang:num_queue_reqs",),
            cache_metrics=("sglang:token_usage",),
        ),
        "openai": BackendRow(health_path="/v1/models", metrics_path=None, limit_field=None),
        "fake": BackendRow(
            program="functions.backends.simulated.server",
            loads="file",
            running_metrics=("fake_requests_running",),
        ),
    }
)


def find_server_root(url: str) -> str:
    """The root of an OpenAI-compatible server whose base is given with or without `/v1`."""
    return url.rstrip("/").removesuffix("/v1")


def warm_up(model: Model, name: str) -> tuple[Operation, dict[str, Any]]:
    """One real call that a fresh server must answer before it gets any work; `name` is what it calls the model."""
    able = [operation for operation in OPERATIONS if operation.value in model.capabilities]
    operation = able[0] if able else Operation.COMPLETIONS
    return operation, {"model": name, **OPERATIONS[operation].smallest}


def gauge(text: str, names: Iterable[str]) -> float | None:
    """The sum over all label sets of the first metric of `names` that a Prometheus text shows.

    Engines of one server report under labels of their own, so that only the sum is the server's.
    None: it shows none, or is not Prometheus text.
    """
    prefixes = tuple(names)
    lines = [line for line in text.splitlines() if line.startswith(prefixes)]  # the parser is slow
    try:
        families = list(text_string_to_metric_families("\n".join(lines)))
    except ValueError:
        return None
    samples = [sample for family in families for sample in family.samples]
    for name in prefixes:
        if values := [sample.value for sample in samples if sample.name == name]:
            return sum(values)
    return None
