"""The verbs of single processes: `pickspin ingress`, `pickspin worker`, ..."""

from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from functions.processes import PROCESSES, run_process
from functions.runtime.settings import load_settings


def add_processes(app: typer.Typer) -> None:
    """Adds a verb for each process."""
    for verb, process in PROCESSES.items():
        if verb != "worker":
            app.command(verb, help=process.help, rich_help_panel="Processes")(_make_runner(verb))
    app.command(
        "worker", help=PROCESSES["worker"].help, epilog="Example: pickspin worker --service tiny"
    )(worker)


def worker(
    service: Annotated[
        str | None, typer.Option(help="Slug of the service. [default: $PICKSPIN_WORKER_SERVICE]")
    ] = None,
) -> int:
    """Consumes one service's topics and calls its model."""
    settings = load_settings()
    if service is not None:
        changed = msgspec.structs.replace(settings.worker, service=service)
        settings = msgspec.structs.replace(settings, worker=changed)
    return run_process("worker", settings)


def _make_runner(verb: str) -> Callable[[], int]:
    def run_verb() -> int:
        return run_process(verb, load_settings())

    run_verb.__doc__ = PROCESSES[verb].help
    return run_verb
