"""The supervisor of `pickspin up`: one life of the whole stack after another, until it is stopped.

A life starts the broker, then every process in parallel. It ends in stages: ingress, workers,
router, recorder, callbacks, broker. It ends by a signal, or because the embedded broker died with
its records. Then a new life with a new boot id begins. Children are spawned from the main thread
only (see `parent_bound`).
"""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.names import Topics
from functions import factories
from functions.local.broker_launcher import RunningBroker, ensure_topics, start_broker
from functions.local.child_process import Child, trim_log
from functions.local.kept_process import KeptProcess
from functions.local.local_scaler import LocalScaler, ScalerDependencies
from functions.local.preflight import BrokerChoice
from functions.local.process_list import (
    DOORS,
    STOP_ORDER,
    add_broker,
    build_kept_spec,
    list_kept_processes,
)
from functions.local.progress_output import ChangeJournal
from functions.local.readiness_probe import is_ready
from functions.local.worker_pool import WorkerLaunch, WorkerPool
from functions.ports.clock import Clock
from functions.runtime.errors import StartupFailed
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.settings import Settings
from router_model.catalogue.model import Catalogue

READY_S: Final = 90.0
HOPELESS_ENDS: Final = 3
PROBE_S: Final = 0.05
TRIM_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What a supervisor runs. `settings` name the effective catalogue's file."""

    settings: Settings
    catalogue: Catalogue
    broker: BrokerChoice
    logs: Path


class StackLife:
    """The parts of one life that the table shows."""

    def __init__(self, settings: Settings, broker: RunningBroker, life_id: str) -> None:
        self.settings, self.broker, self.id = settings, broker, life_id
        self.broker_keeper: KeptProcess | None = None
        self.keepers: tuple[KeptProcess, ...] = ()
        self.pool: WorkerPool | None = None
        self.scaler: LocalScaler | None = None


class Supervisor:
    """Owns every child process. `life` is None between two lives."""

    def __init__(self, stack: Stack, clock: Clock, journal: ChangeJournal) -> None:
        self._stack, self._clock, self._journal = stack, clock, journal
        self.on_ready: Callable[[StackLife, float], None] = lambda _life, _ready_s: None
        """Called each time a life is ready, with the seconds since the start of the first."""
        self._stop = asyncio.Event()
        self._began_s = clock.monotonic_s()
        self.life: StackLife | None = None
        self.ready_s: float | None = None
        """Seconds from start to ready; None: not ready yet."""

    async def run(self) -> int:
        """Until SIGINT, SIGTERM or SIGHUP. A second signal kills everything at once.

        Raises:
            StartupFailed: the broker or the first life did not become ready.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        while not self._stop.is_set():
            await self._live()
        self._journal.write("stack", "pickspin", "stopped")
        return 0

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._journal.write("stack", "pickspin", "stopping", "again to stop at once")
            self._stop.set()
            return
        self._kill()

    def _kill(self) -> None:
        life = self.life
        if life is None:
            return
        for keeper in (*life.keepers, life.broker_keeper):
            if keeper is not None:
                keeper.kill()
        if life.pool is not None:
            life.pool.kill()
        if life.broker.child is not None:
            life.broker.child.kill()

    async def _live(self) -> None:
        """One life. For the embedded broker it has a boot id of its own: what an earlier one held is lost."""
        life_id = uuid.uuid4().hex
        boot_id = life_id if self._stack.broker == "embedded" else ""
        settings = add_broker(self._stack.settings, self._stack.settings.broker.bootstrap, boot_id)
        broker = await start_broker(self._stack.broker, settings, self._stack.logs)
        life = self.life = StackLife(
            add_broker(settings, broker.bootstrap, boot_id), broker, life_id[:8]
        )
        self._journal.write(
            "process",
            "broker",
            "running",
            broker.description,
            bootstrap=broker.bootstrap,
            pid=None if broker.child is None else broker.child.pid,
        )
        try:
            async with self._kept_broker(life), self._parts(life):
                await self._await_ready(life)
                await self._until_end(broker.child)
        finally:
            if broker.child is not None:
                await broker.child.stop()
            self.life = None

    @asynccontextmanager
    async def _kept_broker(self, life: StackLife) -> AsyncIterator[None]:
        """A broker with durable records is started again when it dies; the rest of the stack waits for it."""
        if life.broker.spec is not None:
            life.broker_keeper = KeptProcess(life.broker.spec, self._clock, self._journal)
        async with _run_tasks(() if life.broker_keeper is None else (life.broker_keeper.run(),)):
            try:
                if life.broker.choice != "embedded":
                    await self._unless_stopped(ensure_topics(life.settings, self._stack.catalogue))
                yield
            finally:
                if life.broker_keeper is not None:
                    await life.broker_keeper.stop()

    @asynccontextmanager
    async def _parts(self, life: StackLife) -> AsyncIterator[None]:
        """Every part of a life beyond the broker, running inside the `async with`, gone after it."""
        life.keepers = tuple(
            KeptProcess(
                build_kept_spec(verb, life.settings, self._stack.logs), self._clock, self._journal
            )
            for verb in list_kept_processes(life.settings)
        )
        async with _run_tasks(keeper.run() for keeper in life.keepers):
            try:
                async with self._run_scaler(life), _run_tasks((self._trim_logs(),)):
                    try:
                        yield
                    finally:
                        await _stop(life, (DOORS,))
            finally:
                await self._stop_in_order(life)

    @asynccontextmanager
    async def _run_scaler(self, life: StackLife) -> AsyncIterator[None]:
        """The registry and the scaler. Workers survive it and drain once the ingress is closed."""
        tail = await asyncio.to_thread(_open_registry, life.settings)
        scaler = life.scaler = self._build_scaler(life, tail)
        try:
            async with _run_tasks((scaler.run(),)):
                yield
        finally:
            await scaler.close()
            await asyncio.to_thread(tail.close)

    def _build_scaler(self, life: StackLife, tail: RegistryConsumer) -> LocalScaler:
        launch = WorkerLaunch(settings=life.settings, logs=self._stack.logs, stack_id=life.id)
        pool = life.pool = WorkerPool(launch, self._clock, self._journal, self._tell_gone)
        return LocalScaler(
            ScalerDependencies(
                log=factories.open_log(life.settings),
                topics=Topics(life.settings.broker.prefix),
                catalogue=self._stack.catalogue,
                registry=lambda: tail.registry,
                pool=pool,
                clock=self._clock,
                journal=self._journal,
                settings=life.settings.spin,
            )
        )

    def _tell_gone(self, slug: str, replica: str) -> None:
        if self.life is not None and self.life.scaler is not None:
            self.life.scaler.publish_stopped(slug, replica)

    async def _await_ready(self, life: StackLife) -> None:
        """Returns when the ingress is ready, or when there is no point in waiting (a signal, a dead broker)."""
        ingress = life.settings.ingress
        deadline_s = self._clock.monotonic_s() + READY_S
        child = life.broker.child
        while not self._stop.is_set() and (child is None or child.is_running):
            if await asyncio.to_thread(is_ready, ingress.host, ingress.port):
                self.ready_s = self._clock.monotonic_s() - self._began_s
                self._journal.write(
                    "stack",
                    "pickspin",
                    "ready",
                    f"after {self.ready_s:.1f} s",
                    ready_s=self.ready_s,
                )
                self.on_ready(life, self.ready_s)
                return
            _refuse_hopeless(life)
            if self._clock.monotonic_s() > deadline_s:
                raise StartupFailed(
                    f"not ready after {READY_S:.0f} s: see the logs in {self._stack.logs}"
                )
            await asyncio.sleep(PROBE_S)

    async def _until_end(self, broker: Child | None) -> None:
        """Until a signal or the broker's death, whichever comes first. Without a broker there is nothing to drain."""
        async with _run_tasks((self._stop.wait(),)) as (stop,):
            watched = {stop} if broker is None else {stop, broker.exited}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():
            self._journal.write(
                "stack", "broker", "lost", "queued work is lost; starting everything again"
            )
            self._kill()

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Runs `work` until it ends or a signal comes."""
        async with _run_tasks((self._stop.wait(), work)) as tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[1].done():
                tasks[1].result()

    async def _stop_in_order(self, life: StackLife) -> None:
        await _stop(life, (DOORS,))  # where the scaler never came up
        if life.pool is not None:
            await life.pool.stop()
        for stage in STOP_ORDER:
            await _stop(life, stage)

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(TRIM_S)
            for path in self._stack.logs.glob("*.log"):
                trim_log(path)


def _refuse_hopeless(life: StackLife) -> None:
    """Raises StartupFailed where a process has ended so often, before the stack was ever ready, that it always will."""
    for keeper in life.keepers:
        if keeper.restarts >= HOPELESS_ENDS:
            raise StartupFailed(
                f"the {keeper.name} does not start: {keeper.last_words.removeprefix('pickspin: ')} "
                f"({keeper.log})"
            )


async def _stop(life: StackLife, names: Collection[str]) -> None:
    wanted = [one for one in life.keepers if one.name in names and one.state != "stopped"]
    await asyncio.gather(*(keeper.stop() for keeper in wanted))


def _open_registry(settings: Settings) -> RegistryConsumer:
    tail = RegistryConsumer(
        factories.open_log(settings), Topics(settings.broker.prefix), "pickspin-up"
    )
    tail.start()
    return tail


@asynccontextmanager
async def _run_tasks(
    works: Iterable[Coroutine[None, None, object]],
) -> AsyncIterator[tuple[asyncio.Task[object], ...]]:
    """Tasks that run inside the `async with` and are cancelled, and gone, after it."""
    tasks = tuple(asyncio.create_task(work) for work in works)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
