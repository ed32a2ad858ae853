"""What the worker must know about each kind of model server. Nothing else in the worker is specific to one.

Sources: the servers' own documentation of their HTTP endpoints and metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from events.types import Operation
from router_model.catalogue import BackendKind, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRow:
    """One kind of model server. Paths are relative to the server's root; None: the server has no such thing."""

    health_path: str = "/health"
    program: str | None = None
    """Module that serves it on this machine, started by the worker itself."""
    running_metric: str | None = None
    waiting_metric: str | None = None
    cache_metric: str | None = None
    sleep_path: str | None = None
    wake_path: str | None = None
    has_stream_usage: bool = True
    """Understands `stream_options.include_usage`."""
    limit_field: str | None = "max_tokens"
    """Body field that bounds the answer's tokens; None: whichever of the two the client used is kept."""


TABLE: Final[Mapping[BackendKind, BackendRow]] = MappingProxyType(
    {
        "llamacpp": BackendRow(
            program="functions.backends.llama_server",
            running_metric="llamacpp:requests_processing",
            waiting_metric="llamacpp:requests_deferred",
        ),
        "vllm": BackendRow(
            running_metric="vllm:num_requests_running",
            waiting_metric="vllm:num_requests_waiting",
            cache_metric="vllm:kv_cache_usage_perc",
            sleep_path="/sleep?level=1",
            wake_path="/wake_up",
        ),
        "tgi": BackendRow(running_metric="tgi_batch_current_size", waiting_metric="tgi_queue_size"),
        "trtllm": BackendRow(),
        "sglang": BackendRow(
            running_metric="sglang:num_running_reqs",
            waiting_metric="sglang:num_queue_reqs",
            cache_metric="sglang:token_usage",
        ),
        "openai": BackendRow(health_path="/v1/models", limit_field=None),
        "fake": BackendRow(
            program="functions.backends.fake_model", running_metric="fake_requests_running"
        ),
    }
)
PATHS: Final[Mapping[Operation, str]] = MappingProxyType(
    {
        Operation.CHAT: "/v1/chat/completions",
        Operation.COMPLETIONS: "/v1/completions",
        Operation.EMBEDDINGS: "/v1/embeddings",
    }
)


def root_of(url: str) -> str:
    """The root of an OpenAI-compatible server whose base is given with or without `/v1`."""
    return url.rstrip("/").removesuffix("/v1")


def warm_up(model: Model, name: str) -> tuple[Operation, dict[str, Any]]:
    """One real call that a fresh server must answer before it gets any work; `name` is what it calls the model."""
    if "chat" in model.capabilities:
        messages = [{"role": "user", "content": "Hi"}]
        return Operation.CHAT, {"model": name, "messages": messages, "max_tokens": 1}
    if "embeddings" in model.capabilities and "completions" not in model.capabilities:
        return Operation.EMBEDDINGS, {"model": name, "input": "Hi"}
    return Operation.COMPLETIONS, {"model": name, "prompt": "Hi", "max_tokens": 1}
