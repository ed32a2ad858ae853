"""The broker of a local stack, whichever kind: started as a child, or only waited for."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from functions import factories
from functions.local.child_process import Child, ChildSpec, process_command, read_last_line
from functions.local.embedded_broker import ADDRESS_FILE
from functions.local.preflight import BrokerChoice
from functions.local.required_topics import topic_specs
from functions.runtime.errors import StartupFailed
from functions.runtime.process_environment import child_environ
from functions.runtime.settings import Settings
from router_model.catalogue.model import Catalogue

EMBEDDED_START_S: Final = 20.0
ADDRESS_POLL_S: Final = 0.01
EMBEDDED_STOP_S: Final = 2.0
KAFKA_STOP_S: Final = 15.0
TOPICS_STEP_S: Final = 5.0
TOPICS_STEPS: Final = 12
DESCRIPTIONS: Final = {
    "embedded": "embedded at {bootstrap}, in memory: queued work is lost when this stops",
    "kafka": "Apache Kafka on this machine at {bootstrap}, durable",
    "external": "Kafka at {bootstrap}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBroker:
    """A broker and who keeps it: `child` runs and must not die, `spec` is to be kept alive, neither: not ours."""

    choice: BrokerChoice
    bootstrap: str
    child: Child | None = None
    spec: ChildSpec | None = None

    @property
    def description(self) -> str:
        """For the banner."""
        return DESCRIPTIONS[self.choice].format(bootstrap=self.bootstrap)


async def start_broker(choice: BrokerChoice, settings: Settings, logs: Path) -> RunningBroker:
    """Starts the broker of that kind and waits for its address (embedded), or says how to start it (Kafka).

    Raises:
        StartupFailed: it did not start, or is not there; says where to look.
    """
    if choice == "external":
        log, wait_s = factories.open_log(settings), settings.broker.reach_s
        await asyncio.to_thread(log.reach, client="pickspin-up", timeout_s=wait_s)
        return RunningBroker(choice=choice, bootstrap=settings.broker.bootstrap)
    if choice == "kafka":
        return await _start_kafka(settings, logs)
    spec = ChildSpec(
        name="broker",
        command=process_command("broker"),
        environ=child_environ(settings),
        logs=logs,
        stop_s=EMBEDDED_STOP_S,
    )
    address = factories.data_dir(settings) / ADDRESS_FILE
    address.unlink(missing_ok=True)
    child = await Child.start(spec)
    bootstrap = await _read_address(child, address)
    if not bootstrap:
        child.kill()
        raise StartupFailed(
            f"the embedded broker did not start: {read_last_line(spec.log)} ({spec.log})"
        )
    return RunningBroker(choice=choice, bootstrap=bootstrap, child=child)


async def _read_address(child: Child, path: Path) -> str:
    """What the broker writes once it listens; empty when it ended, or said nothing in time."""
    for _ in range(int(EMBEDDED_START_S / ADDRESS_POLL_S)):
        try:
            return path.read_text(encoding="ascii")  # noqa: ASYNC240 - a few bytes, once
        except FileNotFoundError:
            if not child.is_running:
                break
            await asyncio.sleep(ADDRESS_POLL_S)
    return ""


async def _start_kafka(settings: Settings, logs: Path) -> RunningBroker:
    from functions.local import broker_kafka  # noqa: PLC0415 - only this kind of broker needs it

    directory = factories.data_dir(settings) / "kafka"
    launch = await asyncio.to_thread(broker_kafka.prepare, directory)
    spec = ChildSpec(
        name="kafka",
        command=broker_kafka.bound_command(launch),
        environ=child_environ(settings),
        logs=logs,
        stop_s=KAFKA_STOP_S,
    )
    return RunningBroker(choice="kafka", bootstrap=launch.bootstrap, spec=spec)


async def ensure_topics(settings: Settings, catalogue: Catalogue) -> None:
    """Waits for the cluster and creates what is missing, in steps short enough to be cancelled between them.

    Raises:
        StartupFailed: not within a minute.
    """
    admin = factories.open_log(settings).admin(client="pickspin-up")
    specs = topic_specs(settings, catalogue)
    for step in range(TOPICS_STEPS):
        try:
            await asyncio.to_thread(admin.ensure_topics, specs, TOPICS_STEP_S)
        except StartupFailed:
            if step == TOPICS_STEPS - 1:
                raise
        else:
            return
