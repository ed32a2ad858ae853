"""Which processes a local stack consists of, and in which order they stop. Pure."""

from pathlib import Path
from typing import Final

import msgspec

from functions.local.child_process import ChildSpec, process_command
from functions.runtime.process_environment import child_environ
from functions.runtime.settings import Settings

DOORS: Final = "ingress"
"""Stops first, and drains while everything that its callers wait for still works, the scaler too."""
STOP_ORDER: Final[tuple[tuple[str, ...], ...]] = (
    ("source", "router"),
    ("recorder", "callbacks"),
)
"""After the doors are closed and workers have drained; the broker goes last."""
STOP_S: Final = 5.0
"""A process that nobody waits for may take this long to end."""
DOORS_SPARE_S: Final = 8.0
"""The ingress drains for `drain_s`, gives its last answers and closes; then it is killed."""


def list_kept_processes(settings: Settings) -> tuple[str, ...]:
    """Verbs of the processes that run all the time, broker and workers excluded."""
    source = ("source",) if settings.router.binding == "http" else ()
    return (DOORS, "router", *source, "recorder", "callbacks")


def build_kept_spec(verb: str, settings: Settings, logs: Path) -> ChildSpec:
    """How one of them is started."""
    return ChildSpec(
        name=verb,
        command=process_command(verb),
        environ=child_environ(settings),
        logs=logs,
        stop_s=stop_s(verb, settings),
    )


def stop_s(verb: str, settings: Settings) -> float:
    """Seconds from SIGTERM to SIGKILL: the ingress has the time that its callers were promised."""
    return settings.ingress.drain_s + DOORS_SPARE_S if verb == DOORS else STOP_S


def add_broker(settings: Settings, bootstrap: str, boot_id: str) -> Settings:
    """Settings of the children once the broker's address is known."""
    return msgspec.structs.replace(
        settings,
        broker=msgspec.structs.replace(settings.broker, bootstrap=bootstrap),
        store=msgspec.structs.replace(settings.store, boot_id=boot_id),
    )
