"""The command line that each kind of model server gets, from the catalogue alone. Pure.

Sources: vLLM `vllm serve --help` and PR 36666 (`--shutdown-timeout`, from 0.18); TGI reference/launcher; TensorRT-LLM
commands/trtllm-serve; SGLang advanced_features/server_arguments; llama.cpp tools/server/README.md.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from functions.runtime.errors import StartupFailed
from router_model.catalogue.backend_flags import find_local_problem
from router_model.catalogue.model import BackendKind, Model, Service

Version = tuple[int, ...]
NEWEST: Final[Version] = (999,)
SHUTDOWN_TIMEOUT_SINCE: Final[Version] = (0, 18)
RUNNER_SINCE: Final[Version] = (0, 10)
"""vLLM: `--runner` took the place of `--task`."""
_VERSION: Final = re.compile(r"\d+(?:\.\d+)*")
_QUIET_S: Final = 30
"""Knative holds SIGTERM back until its proxy was quiet for this long (`drainSleepDuration`)."""
_MARGIN_S: Final = 30
_Value = str | int | float | bool | None
_Flags = dict[str, _Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server finds its weights and listens. By default what the chart's pod sets, on localhost of the pod."""

    path: str = "$(MODEL_PATH)"
    host: str = "127.0.0.1"
    port: str | None = "$(MODEL_PORT)"
    """None: left out, whoever starts it adds it."""
    grace_s: int = 600
    """Seconds from the end's announcement to SIGKILL."""
    can_sleep: bool = False
    """The worker may put the model to sleep: vLLM must be told at its start."""


def parse_version(text: str) -> Version:
    """The numbers of a version or an image tag (`v0.33.0`); a text without any counts as the newest."""
    match = _VERSION.search(text)
    return NEWEST if match is None else tuple(int(part) for part in match.group().split("."))


def count_gpus(service: Service) -> int:
    """Whole devices of one replica: a share below one is still one device; 0 without a GPU."""
    return 0 if service.gpu == "none" else max(1, math.ceil(service.gpu_share))


def served_name(service: Service, model: Model) -> str:
    """What the server calls the model, and what the worker asks it for."""
    return str(service.backend.args.get("model", model.id))


def is_embedder(model: Model) -> bool:
    """Whether embeddings are all it does."""
    return "embeddings" in model.capabilities and not {"chat", "completions"} & set(
        model.capabilities
    )


def build_arguments(
    service: Service, model: Model, version: str = "", place: Place | None = None
) -> tuple[str, ...]:
    """Arguments of the service's own server program, as its upstream image starts it.

    `version` is the server's (empty: the newest). What the catalogue says in `backend.args` comes last and wins;
    false there takes an argument away. Empty for a server that is only reached by its address.
    """
    kind = service.backend.kind
    build = _BUILDERS.get(kind)
    if build is None:
        return ()
    place = place or Place()
    flags = build(_ServerFlags(service, model, parse_version(version), place))
    hyphen = "_" if kind == "trtllm" else "-"
    for name, value in service.backend.args.items():
        if name != "model":
            flags["--" + name.lstrip("-").replace("_", hyphen)] = value
    first = (place.path,) if kind == "trtllm" else ()
    return first + tuple(part for name, value in flags.items() for part in _words(name, value))


def check_local_arguments(service: Service) -> None:
    """Raises StartupFailed where the llama.cpp that this machine starts lacks one of the service's arguments."""
    for name in service.backend.args if service.backend.kind == "llamacpp" else ():
        if (problem := find_local_problem(name)) is not None:
            raise StartupFailed(f"service {service.slug}: backend.args.{name}: {problem}")


def build_environment(service: Service, place: Place | None = None) -> Mapping[str, str]:
    """Variables that the server needs beside its arguments.

    vLLM offers sleep, wake and `collective_rpc` only in development mode, to everyone who reaches
    its port. Therefore it listens on localhost only.
    """
    if service.backend.kind != "vllm" or place is None or not place.can_sleep:
        return MappingProxyType({})
    return MappingProxyType({"VLLM_SERVER_DEV_MODE": "1"})


def shutdown_timeout_s(grace_s: int) -> int:
    """How long a server may finish calls after SIGTERM: what Knative and a margin leave of the grace; at least 1."""
    return max(1, grace_s - _QUIET_S - _MARGIN_S)


def _words(name: str, value: _Value) -> tuple[str, ...]:
    if value is None or value is False:
        return ()
    return (name,) if value is True else (name, str(value))


def _parallel(service: Service) -> int | None:
    """Devices that one model is spread over; None where there is nothing to spread."""
    count = count_gpus(service)
    return count if count > 1 else None


@dataclass(frozen=True, slots=True)
class _ServerFlags:
    """What a command line is made from."""

    service: Service
    model: Model
    version: Version
    place: Place


def _vllm(of: _ServerFlags) -> _Flags:
    drain = shutdown_timeout_s(of.place.grace_s) if of.version >= SHUTDOWN_TIMEOUT_SINCE else None
    return {
        "--model": of.place.path,
        "--served-model-name": served_name(of.service, of.model),
        "--host": of.place.host,
        "--port": of.place.port,
        "--max-model-len": of.model.context_length,
        "--max-num-seqs": of.service.concurrency,
        "--tensor-parallel-size": _parallel(of.service),
        # Without it SIGTERM aborts what runs.
        "--shutdown-timeout": drain,
        "--enable-sleep-mode": of.place.can_sleep,
        "--runner": "pooling" if is_embedder(of.model) and of.version >= RUNNER_SINCE else None,
        "--task": "embed" if is_embedder(of.model) and of.version < RUNNER_SINCE else None,
    }


def _tgi(of: _ServerFlags) -> _Flags:
    return {
        "--model-id": of.place.path,
        "--hostname": of.place.host,
        "--port": of.place.port,
        "--max-total-tokens": of.model.context_length,
        "--max-concurrent-requests": of.service.concurrency,
        "--num-shard": _parallel(of.service),
    }


def _trtllm(of: _ServerFlags) -> _Flags:
    return {
        "--host": of.place.host,
        "--port": of.place.port,
        "--max_seq_len": of.model.context_length,
        "--max_batch_size": of.service.concurrency,
        "--tp_size": _parallel(of.service),
    }


def _sglang(of: _ServerFlags) -> _Flags:
    return {
        "--model-path": of.place.path,
        "--served-model-name": served_name(of.service, of.model),
        "--host": of.place.host,
        "--port": of.place.port,
        "--context-length": of.model.context_length,
        "--max-running-requests": of.service.concurrency,
        "--tp-size": _parallel(of.service),
        # Off unless asked for.
        "--enable-metrics": True,
    }


def _llamacpp(of: _ServerFlags) -> _Flags:
    return {
        "--model": of.place.path,
        "--alias": served_name(of.service, of.model),
        "--host": of.place.host,
        "--port": of.place.port,
        # Shared by all slots: each is to hold a whole context.
        "--ctx-size": of.model.context_length * of.service.concurrency,
        "--parallel": of.service.concurrency,
        # By layer is the default; by row all devices work on one token.
        "--split-mode": "row" if _parallel(of.service) else None,
        # With it the server does nothing else.
        "--embeddings": is_embedder(of.model),
        "--metrics": True,
    }


_BUILDERS: Final[Mapping[BackendKind, Callable[[_ServerFlags], _Flags]]] = MappingProxyType(
    {"vllm": _vllm, "tgi": _tgi, "trtllm": _trtllm, "sglang": _sglang, "llamacpp": _llamacpp}
)
