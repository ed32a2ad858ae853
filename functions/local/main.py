"""`pickspin up`: the wiring of the local stack. Checks, locks, writes the effective catalogue, runs the supervisor."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.live import Live

from functions import factories
from functions.local.banner import banner
from functions.local.live_rows import ProcessTrees, read_table_content
from functions.local.live_table import TableContent, render
from functions.local.preflight import (
    UpOptions,
    check_exposure,
    claim_port,
    effective_catalogue,
    hold_lock,
    write_catalogue,
)
from functions.local.progress_output import (
    Announcer,
    ChangeJournal,
    JsonAnnouncer,
    PlainAnnouncer,
    RecentChanges,
)
from functions.local.readiness_probe import build_url
from functions.local.settings_checks import check_settings
from functions.local.supervisor import Stack, StackLife, Supervisor
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import setup_logging
from functions.storage.private_files import make_private_file, make_private_folder
from router_model.catalogue.model import Catalogue

REFRESH_S: Final = 0.5
PORT_TRIES: Final = 8
"""The system may give the same free port twice, as long as nobody listens on it."""


def run(settings: Settings, options: UpOptions | None = None) -> int:
    """Serves until a signal; returns the exit status.

    Raises:
        StartupFailed: nothing was started, or what was started is gone again.
    """
    options = options or UpOptions()
    check_settings(settings)
    check_exposure(settings.ingress)
    catalogue = effective_catalogue(settings, options)
    directory = factories.data_dir(settings).resolve()
    with hold_lock(directory):
        logs = make_private_folder(directory / "logs")
        # The terminal is for the table and the banner alone.
        setup_logging("up", settings.log_level, make_private_file(logs / "up.log"))
        stack = Stack(
            settings=_effective_settings(settings, options, catalogue, directory),
            catalogue=catalogue,
            broker=options.broker,
            logs=logs,
        )
        return asyncio.run(_serve(stack, options))


def _effective_settings(
    settings: Settings, options: UpOptions, catalogue: Catalogue, directory: Path
) -> Settings:
    """What every child gets: concrete ports, absolute paths, the broker's kind."""
    replace = msgspec.structs.replace
    ingress, router = settings.ingress, settings.router
    port = claim_port(ingress.host, ingress.port)
    router_port = _router_port(settings, port)
    kind = "embedded" if options.broker == "embedded" else "kafka"
    return replace(
        settings,
        catalogue=str(write_catalogue(catalogue, directory)),
        data_dir=str(directory),
        broker=replace(settings.broker, kind=kind),
        ingress=replace(ingress, port=port, router_url=build_url(router.host, router_port)),
        router=replace(
            router, port=router_port, policy_dir=str(factories.policy_dir(settings) or "")
        ),
    )


def _router_port(settings: Settings, taken: int) -> int:
    """The router's port; `taken` is the ingress's, which does not listen yet."""
    router = settings.router
    remedy = "PICKSPIN_ROUTER_PORT or PICKSPIN_ROUTER_HOST"
    if router.port == taken:
        raise StartupFailed(f"the ingress has port {taken}: choose another with {remedy}")
    for _ in range(PORT_TRIES):
        port = claim_port(router.host, router.port, remedy=remedy)
        if port != taken:
            break
    return port


async def _serve(stack: Stack, options: UpOptions) -> int:
    """Runs the supervisor under the way of telling that fits: JSON lines, plain lines, or a live table."""
    console = Console()
    recent = RecentChanges()
    announcer: Announcer = recent
    if options.is_json:
        announcer = JsonAnnouncer(_write)
    elif not console.is_terminal:
        announcer = PlainAnnouncer(_write)
    clock = SystemClock()
    supervisor = Supervisor(stack, clock, ChangeJournal(announcer, clock))
    if not options.is_json:
        supervisor.on_ready = lambda life, ready_s: console.print(
            _banner(stack, life, ready_s), highlight=False, markup=False, soft_wrap=True
        )
    if announcer is not recent:
        return await supervisor.run()
    trees = ProcessTrees(clock)
    return await _with_table(
        console,
        supervisor.run(),
        lambda: read_table_content(stack, supervisor, tuple(recent.lines), trees),
    )


async def _with_table(
    console: Console, work: Coroutine[None, None, int], board: Callable[[], TableContent]
) -> int:
    """Runs `work` under a table that is drawn again and again; the last changes stay on the screen after it."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        task = asyncio.create_task(work)
        while not task.done():
            live.update(render(board(), *console.size), refresh=True)
            await asyncio.wait({task}, timeout=REFRESH_S)
    return task.result()


def _banner(stack: Stack, life: StackLife, ready_s: float) -> str:
    return banner(
        catalogue=stack.catalogue,
        ingress=stack.settings.ingress,
        broker=life.broker.description,
        logs=str(stack.logs),
        ready_s=ready_s,
    )


def _write(line: str) -> None:
    """Writes a line of progress. A closed pipe stops neither serving nor stopping."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(line)
        sys.stdout.flush()
