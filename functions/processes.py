"""Every process of the product by verb, and the one way to run one. Imports of a process happen only when it runs."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from functions.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Process:
    """Where a process's `run(settings) -> int` lies, and one line of help."""

    module: str
    help: str


PROCESSES: Final[Mapping[str, Process]] = MappingProxyType(
    {
        "ingress": Process("functions.ingress.main", "HTTP API: OpenAI, CloudEvents, batches."),
        "router": Process("functions.router.main", "The routing function: picks a service."),
        "source": Process(
            "functions.router.source_main", "Feeds request records to the router over HTTP."
        ),
        "worker": Process(
            "functions.worker.early_listener", "Consumes one service's topics and calls its model."
        ),
        "recorder": Process(
            "functions.recorder.main", "Keeps states and answers; ends overdue requests."
        ),
        "callbacks": Process("functions.callbacks.main", "Delivers signed callbacks."),
        "scaler": Process(
            "functions.scaler.main", "KEDA's external scaler: wakes services on Kubernetes."
        ),
        "controller": Process(
            "functions.controller.main", "Cares for models on Kubernetes: revisions, pods, warmth."
        ),
        "broker": Process("functions.local.embedded_broker", "The embedded broker, in memory."),
    }
)


def run_process(verb: str, settings: Settings) -> int:
    """Runs a process of `PROCESSES` until it is told to stop; returns its exit status.

    Raises:
        StartupFailed: it cannot start.
    """
    from functions.runtime.shutdown import prefer_latency, speed_up_imports  # noqa: PLC0415
    from functions.runtime.telemetry import setup_logging  # noqa: PLC0415 - not needed to list the verbs

    setup_logging(verb, settings.log_level)
    prefer_latency()
    with speed_up_imports():
        module = importlib.import_module(PROCESSES[verb].module)
    status: int = module.run(settings)
    return status
