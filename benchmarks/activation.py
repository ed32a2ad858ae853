"""How soon `pickspin scaler` says that a service must wake, and what watching costs: `python -m benchmarks.activation`.

The scaler runs as a process of its own against a broker of its own (embedded, or Apache Kafka with `--broker kafka`,
which needs java and mvn). One gRPC stream a service is open, as KEDA holds them; a few services are busy all the time.
Printed: from the append (sent, and acknowledged) to the pushed activation of a service at zero; CPU of the scaler and
its readings a second, with every service idle and with the busy ones.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec

from events.event import Record
from events.names import Topics
from examples.local_stack import free_port
from functions.factories import load_catalogue
from functions.kafka.embedded.librdkafka_mock import MockCluster
from functions.kafka.record_log import KafkaLog
from functions.local.broker_kafka import start_kafka
from functions.local.required_topics import topic_specs
from functions.ports.kafka import Commit, TopicSpec
from functions.runtime.process_environment import child_environ
from functions.runtime.settings import BrokerSettings, ScalerSettings, Settings
from functions.scaler import externalscaler_pb2 as pb
from router_model.catalogue.loader import dump_catalogue, finish_catalogue
from router_model.catalogue.model import Backend, Catalogue, Model, Service

TOPICS = Topics()
TICKS = os.sysconf("SC_CLK_TCK")
GOAL_MS = 100.0
BUSY_PAUSE_S = 0.2
START_S = 60.0


@dataclass(frozen=True)
class Cost:
    """What the scaler took over a while."""

    what: str
    cpu_percent: float
    """Of one core."""
    ends_per_s: float
    commits_per_s: float
    records_per_s: float
    """Written to the status topic."""


def catalogue_of(count: int) -> Catalogue:
    """One model behind `count` services, `s000` and on."""
    fake = Backend(kind="fake")
    services = tuple(
        Service(model="m", slug=f"s{number:03d}", backend=fake) for number in range(count)
    )
    return finish_catalogue(Catalogue(models=(Model(id="m", simulated=True),), services=services))


@contextlib.contextmanager
def broker(kind: str, specs: Sequence[TopicSpec]) -> Iterator[BrokerSettings]:
    """A broker with these topics, in or beside this process."""
    if kind == "embedded":
        with MockCluster(specs) as cluster:
            yield BrokerSettings(bootstrap=cluster.bootstrap, kind=kind)
        return
    with tempfile.TemporaryDirectory() as folder:
        kafka = start_kafka(Path(folder))
        try:
            settings = BrokerSettings(bootstrap=kafka.bootstrap)
            KafkaLog(settings).admin(client="bench").ensure_topics(specs, timeout_s=120)
            yield settings
        finally:
            kafka.stop()


class Scaler:
    """The process under test."""

    def __init__(self, process: asyncio.subprocess.Process, settings: Settings) -> None:
        self._process = process
        self.address = f"127.0.0.1:{settings.scaler.port}"
        self._probes = f"http://127.0.0.1:{settings.scaler.probe_port}"

    @classmethod
    async def start(cls, settings: Settings) -> "Scaler":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "functions", "scaler", env=child_environ(settings)
        )
        scaler = cls(process, settings)
        async with asyncio.timeout(START_S):
            while not await scaler.is_ready():  # noqa: ASYNC110 - a probe is asked, as a kubelet does
                await asyncio.sleep(0.1)
        return scaler

    async def is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self._probes}/readyz")).status_code == 200
        return False

    async def metrics(self) -> dict[str, float]:
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{self._probes}/metrics")).text.splitlines()
        return {k: float(v) for k, v in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}

    def cpu_s(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def cost(self, what: str, seconds: float, written: Callable[[], int]) -> Cost:
        """What it takes over the next `seconds`."""
        before, cpu_s, records = await self.metrics(), self.cpu_s(), written()
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        after = await self.metrics()

        def rate(kind: str) -> float:
            name = f'pickspin_scaler_readings_total{{kind="{kind}"}}'
            return (after.get(name, 0.0) - before.get(name, 0.0)) / took

        return Cost(
            what,
            round(100 * (self.cpu_s() - cpu_s) / took, 1),
            round(rate("ends"), 1),
            round(rate("commits"), 1),
            round((written() - records) / took, 1),
        )

    async def stop(self) -> None:
        self._process.terminate()
        await self._process.wait()


class Stream:
    """One service's stream, as KEDA holds it: when it was told what last."""

    def __init__(self, channel: grpc.aio.Channel, slug: str) -> None:
        self.slug = slug
        self.is_active: bool | None = None
        self.activated_s: float | None = None
        self._changed = asyncio.Event()
        method = channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=pb.ScaledObjectRef.SerializeToString,
            response_deserializer=pb.IsActiveResponse.FromString,
        )
        self._call = method(pb.ScaledObjectRef(name=slug, scalerMetadata={"service": slug}))
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for answer in self._call:
            if answer.result and not self.is_active:
                self.activated_s = time.perf_counter()
            self.is_active = answer.result
            self._changed.set()

    async def told(self, *, active: bool) -> None:
        """Waits until that is the last word."""
        async with asyncio.timeout(START_S):
            while self.is_active is not active:
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        self._call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class Busy:
    """A thread that feeds one service and commits what it reads, as its workers would."""

    def __init__(self, log: KafkaLog, slug: str) -> None:
        self._log, self._slug, self._stop = log, slug, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        appender = self._log.appender(client="busy")
        group, topic = TOPICS.worker_group(self._slug), TOPICS.model(self._slug)
        consumer = self._log.group(group=group, topics=(topic,), client="busy")
        while not self._stop.is_set():
            appender.append(Record(topic=topic, value=b"{}", key=os.urandom(4)))
            records = consumer.poll(BUSY_PAUSE_S).records
            if records:
                consumer.commit({r.partition_id: Commit(r.offset + 1) for r in records})
        consumer.close()
        appender.close(5.0)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


async def activations(log: KafkaLog, streams: Sequence[Stream]) -> tuple[list[float], list[float]]:
    """Milliseconds from append and from acknowledgement to the push, one after the other."""
    appender = log.appender(client="bench")
    sent, acknowledged = [], []
    for number, stream in enumerate(streams):
        await stream.told(active=False)
        await asyncio.sleep(0.2 + 0.013 * (number % 7))
        record = Record(topic=TOPICS.model(stream.slug), value=b"{}", key=b"k")
        began = time.perf_counter()
        await asyncio.wrap_future(appender.append(record))
        done = time.perf_counter()
        await stream.told(active=True)
        pushed = stream.activated_s or time.perf_counter()
        sent.append(1000 * (pushed - began))
        acknowledged.append(1000 * (pushed - done))
    appender.close(5.0)
    return sent, acknowledged


async def measure(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """One run against one broker."""
    log = KafkaLog(settings.broker)
    reader = log.offset_reader(client="bench")
    slugs = [f"s{number:03d}" for number in range(options.services)]

    def written() -> int:
        return sum(end or 0 for end in reader.ends((TOPICS.status,))[TOPICS.status])

    scaler = await Scaler.start(settings)
    try:
        async with grpc.aio.insecure_channel(scaler.address) as channel:
            streams = [Stream(channel, slug) for slug in slugs]
            for stream in streams:
                await stream.told(active=False)
            idle = await scaler.cost("all idle", options.seconds, written)
            busy = [Busy(log, slug) for slug in slugs[: options.busy]]
            for stream in streams[: options.busy]:
                await stream.told(active=True)
            working = await scaler.cost(f"{options.busy} busy", options.seconds, written)
            sent, acknowledged = await activations(log, streams[options.busy :])
            for each in busy:
                await asyncio.to_thread(each.stop)
            for stream in streams:
                await stream.close()
    finally:
        await scaler.stop()
        reader.close()
    return {
        "broker": options.broker,
        "services": options.services,
        "partitions": options.services * (2 * options.partitions + min(3, options.partitions)),
        "activations": len(sent),
        "append_to_push_ms": spread(sent),
        "acknowledged_to_push_ms": spread(acknowledged),
        "cost": [asdict(idle), asdict(working)],
    }


def spread(times: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "p50": round(cuts[49], 1),
        "p95": round(cuts[94], 1),
        "max": round(max(times), 1),
    }


def specs_of(settings: Settings) -> tuple[TopicSpec, ...]:
    """Topics of the catalogue that `settings` names."""
    return topic_specs(settings, load_catalogue(settings))


def main() -> int:
    """Prints one JSON object; the status is 1 when the median misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--busy", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.yaml"
        path.write_text(dump_catalogue(catalogue_of(options.services)), encoding="utf-8")
        ports = ScalerSettings(port=free_port(), probe_port=free_port())
        size = BrokerSettings(partitions=options.partitions)
        planned = Settings(catalogue=str(path), scaler=ports, broker=size, log_level="WARNING")
        with broker(options.broker, specs_of(planned)) as where:
            settings = msgspec.structs.replace(planned, broker=where)
            found = asyncio.run(measure(options, settings))
    found |= {"machine": platform.platform(), "cores": os.cpu_count()}
    print(json.dumps(found, indent=1))
    return int(found["append_to_push_ms"]["p50"] > GOAL_MS)


if __name__ == "__main__":
    sys.exit(main())
