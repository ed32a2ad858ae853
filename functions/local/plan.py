"""Which processes a local stack consists of, and in which order they stop. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from functions.local.processes import ChildSpec, process_command
from functions.settings import Settings, child_environ

STOP_ORDER: Final[tuple[tuple[str, ...], ...]] = (
    ("ingress",),
    ("source", "router"),
    ("recorder", "callbacks"),
)
"""After the doors are closed; workers drain between the first and the second stage, the broker goes last."""
STOP_S: Final[Mapping[str, float]] = {
    "ingress": 5.0,
    "source": 5.0,
    "router": 5.0,
    "recorder": 5.0,
    "callbacks": 5.0,
}


def kept_processes(settings: Settings) -> tuple[str, ...]:
    """Verbs of the processes that run all the time, broker and workers excluded."""
    source = ("source",) if settings.router.binding == "http" else ()
    return ("ingress", "router", *source, "recorder", "callbacks")


def kept_spec(verb: str, settings: Settings, logs: Path) -> ChildSpec:
    """How one of them is started."""
    return ChildSpec(
        name=verb,
        command=process_command(verb),
        environ=child_environ(settings),
        logs=logs,
        stop_s=STOP_S[verb],
    )


def with_broker(settings: Settings, bootstrap: str, boot_id: str) -> Settings:
    """Settings of the children once the broker's address is known."""
    return msgspec.structs.replace(
        settings,
        broker=msgspec.structs.replace(settings.broker, bootstrap=bootstrap),
        store=msgspec.structs.replace(settings.store, boot_id=boot_id),
    )
