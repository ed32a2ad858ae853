"""A scaler in this process: on a log and a clock of its own, or whole, behind gRPC on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from events.codecs.kafka_codec import from_record
from events.event import Record
from events.names import ReplicaState, Topics
from events.parsers import parse_status
from events.payloads import StatusData
from functions.autoscaling.status_producer import StatusProducer
from functions.ports.kafka import Commit
from functions.runtime import registry_consumer
from functions.runtime.settings import ScalerSettings, Settings, SpinSettings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import ScalerMetrics
from functions.scaler import externalscaler_pb2 as pb
from functions.scaler import writer_election
from functions.scaler.lag_watcher import LagWatcher, WatcherDependencies
from functions.scaler.latest_decisions import LatestDecisions
from functions.scaler.main import ScalerProcess
from functions.scaler.status_reporter import ScalerReporter
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog
from router_model.catalogue.model import Catalogue, Model, Service
from router_model.service_registry import SCALER, Registry

TOPICS = Topics()
PATIENCE_S = 30.0
QUICK = ScalerSettings(
    port=0, probe_port=0, poll_s=0.01, quiet_poll_s=0.02, blind_s=0.3, push_again_s=0.05
)


def service(slug: str = "tiny", **more: Any) -> Service:
    found = {"concurrency": 1, "max_replicas": 3, "idle_s": 60.0, "cold_start_s": 4.0} | more
    return Service(model="Tiny", slug=slug, **found)


def catalogue_of(*services: Service) -> Catalogue:
    return Catalogue(models=(Model(id="Tiny"),), services=services or (service(),))


def enqueue(log: MemoryLog, topic: str = TOPICS.model("tiny"), count: int = 1) -> None:
    for _ in range(count):
        log.store(Record(topic=topic, value=b"{}", key=b"k"))


def finish_all(log: MemoryLog, slug: str = "tiny") -> None:
    """The workers' group commits everything there is."""
    consumer = log.group(
        group=TOPICS.worker_group(slug), topics=TOPICS.of_service(slug), client="w"
    )
    consumer.poll(0.0)
    assert consumer.commit({tp: Commit(log.end(tp)) for tp in consumer.assignment()})
    consumer.close()


def told_by_scaler(log: MemoryLog) -> list[StatusData]:
    found = [parse_status(from_record(record)) for record in log.records(TOPICS.status)]
    return [status for status in found if status.replica == SCALER]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited are states of threads
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for records look up at once when the process ends."""
    monkeypatch.setattr(writer_election, "POLL_S", 0.01)
    monkeypatch.setattr(registry_consumer, "POLL_S", 0.01)


@dataclass
class Watch:
    """A watcher whose rounds and time the test drives."""

    catalogue: Catalogue = field(default_factory=catalogue_of)
    spin: SpinSettings = field(default_factory=SpinSettings)
    settings: ScalerSettings = field(default_factory=ScalerSettings)
    log: MemoryLog = field(default_factory=lambda: MemoryLog(partitions=2))

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.registry, self.metrics = Registry(), ScalerMetrics()
        self.decisions = LatestDecisions(self.clock.monotonic_s, self.settings.listener_s)
        self.is_writer = True
        teller = StatusProducer(self.log.appender(client="s"), TOPICS, self.clock)
        self.watcher = LagWatcher(
            WatcherDependencies(
                log=self.log,
                topics=TOPICS,
                registry=lambda: self.registry,
                catalogue=lambda: self.catalogue,
                decisions=self.decisions,
                reporter=ScalerReporter(teller, lambda: self.is_writer, self.clock, self.metrics),
                clock=self.clock,
                metrics=self.metrics,
                settings=self.settings,
                spin=self.spin,
            )
        )

    def round(self, after_s: float = 0.0, slug: str = "tiny") -> Any:
        self.clock.advance(after_s)
        self.watcher.round()
        return self.decisions.get(slug)

    def report(self, *, replicas: int = 1, in_flight: int = 0, state=ReplicaState.READY) -> None:
        for number in range(replicas):
            status = StatusData(
                service="tiny",
                replica=f"r{number}",
                state=state,
                at=self.clock.now(),
                in_flight=in_flight,
            )
            self.registry = self.registry.apply(status)


@pytest.fixture
def watch() -> Watch:
    return Watch()


class Keda:
    """What KEDA calls, with the same messages, through a real channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def is_active(self, **metadata: str) -> bool:
        answer = await self._call("IsActive", ref(**metadata), pb.IsActiveResponse)
        return answer.result

    def stream(self, **metadata: str) -> Any:
        method = self._channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=pb.ScaledObjectRef.SerializeToString,
            response_deserializer=pb.IsActiveResponse.FromString,
        )
        return method(ref(**metadata))

    async def metric(self, **metadata: str) -> tuple[pb.MetricSpec, pb.MetricValue]:
        """Spec, then value, as KEDA and the HPA ask for them."""
        (spec,) = (
            await self._call("GetMetricSpec", ref(**metadata), pb.GetMetricSpecResponse)
        ).metricSpecs
        value = await self.value(spec.metricName, **metadata)
        return spec, value

    async def value(self, name: str, **metadata: str) -> pb.MetricValue:
        request = pb.GetMetricsRequest(scaledObjectRef=ref(**metadata), metricName=name)
        (value,) = (await self._call("GetMetrics", request, pb.GetMetricsResponse)).metricValues
        return value

    async def _call(self, name: str, message: Any, answer: Any) -> Any:
        method = self._channel.unary_unary(
            f"/externalscaler.ExternalScaler/{name}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return await method(message, timeout=PATIENCE_S)


def ref(service: str = "tiny", **metadata: str) -> pb.ScaledObjectRef:
    return pb.ScaledObjectRef(
        name="so", namespace="ns", scalerMetadata={"service": service, **metadata}
    )


@dataclass
class Stand:
    """A whole scaler process in this one."""

    log: Any = field(default_factory=lambda: MemoryLog(partitions=1))
    catalogue: Catalogue = field(default_factory=catalogue_of)
    settings: Settings = field(default_factory=lambda: Settings(scaler=QUICK))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Keda]:
        """A client of a process that has read lag at least once."""
        self.process = ScalerProcess(
            settings=self.settings,
            log=self.log,
            catalogue=lambda: self.catalogue,
            clock=SystemClock(),
        )
        self.stop = StopFlag()
        self.task = asyncio.create_task(self.process.run(self.stop))
        try:
            await until(lambda: self.process.is_serving or self.task.done())
            await until(lambda: self.process.decisions.get("tiny") is not None)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self.process.port}") as channel:
                yield Keda(channel)
        finally:
            self.stop.set()
            self.status = await asyncio.wait_for(self.task, PATIENCE_S)


@pytest.fixture
def stand() -> Stand:
    return Stand()
