"""One ingress over in-memory adapters, with a scripted worker and a recorder behind it."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn

from events import builders, names
from events.codecs import kafka_codec
from events.event import Event, Outgoing, Record
from events.names import Topics
from events.payloads import DecisionInfo, PickspinData, ProgressData
from events.requests import InferenceRequest, parse_request
from functions.ingress.api_keys import ApiKeys
from functions.ingress.app import build_app
from functions.ingress.broker_room import BrokerRoom
from functions.ingress.dependencies import Dependencies
from functions.ingress.pending_requests import Waiters
from functions.ingress.readiness import Health
from functions.ingress.reply_consumer import ReplyConsumer
from functions.ingress.uvicorn_protocol import bounded_protocol
from functions.recorder.event_to_change import build_change
from functions.runtime.errors import ApiError
from functions.runtime.reply_partitions import ReplyPartitions
from functions.runtime.settings import IngressSettings, Settings
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics
from functions.sql.sql_store import SqlStore
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Task, Tenant
from router_model.service_registry import Registry

TOPICS = Topics()
CATALOGUE = Catalogue(
    models=(
        Model(id="smol", tier="L1", capabilities=("chat", "completions")),
        Model(id="org/embed-1", capabilities=("embeddings",)),
        Model(id="big", tier="L3", simulated=True),
    ),
    services=(
        Service(model="smol", slug="smol", backend=Backend(kind="fake")),
        Service(model="org/embed-1", slug="org-embed-1", cold_start_s=2.0),
        Service(model="big", slug="big", cold_start_s=30.0),
    ),
    aliases={"gpt-4o": "smol"},
    tasks={
        "summarize": Task(models=("smol",)),
        "nightly": Task(models=("smol",), timeout_s=60.0, priority="batch"),
    },
    tenants={"narrow": Tenant(models=("smol",), max_queue=2, max_streams=1)},
    version="cafe00000000",
)

Script = Callable[["Worker", InferenceRequest], Sequence[Outgoing]]


def answer_of(request: InferenceRequest, text: str = "hello") -> dict[str, Any]:
    """The OpenAI object that the scripted worker answers with."""
    if request.operation is names.Operation.EMBEDDINGS:
        return {
            "object": "list",
            "model": "org/embed-1",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
    if request.operation is names.Operation.COMPLETIONS:
        choice: dict[str, Any] = {
            "index": 0,
            "text": text,
            "finish_reason": "stop",
            "logprobs": None,
        }
        kind = "text_completion"
    else:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        kind = "chat.completion"
    return {
        "id": f"chatcmpl-{request.request_id}",
        "object": kind,
        "created": 1,
        "model": "smol",
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def chunk_of(request: InferenceRequest, text: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request.request_id}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "smol",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }


class Worker:
    """Router and worker in one: what comes on `infer.requests` is answered as `script` says."""

    def __init__(
        self, log: MemoryLog, store: SqlStore, clock: SystemClock, blobs: MemoryBlobs
    ) -> None:
        self.log = log
        self.blobs = blobs
        self.store = store
        self.clock = clock
        self.script: Script = complete
        self.on_cancel: Script | None = None
        """What it does instead of ending what was cancelled."""
        self.seen: list[Event] = []
        self.requests: dict[str, InferenceRequest] = {}
        self._stop = threading.Event()
        self._appender = log.appender(client="worker")
        tail_topics = (TOPICS.requests, TOPICS.progress, TOPICS.responses, TOPICS.control)
        self._tail = log.tail(topics=tail_topics, client="worker", from_start=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def hold(self, first: Script | None = None) -> list[InferenceRequest]:
        """From now on requests are only collected, in the list that is returned, after what `first` says of each."""
        held: list[InferenceRequest] = []

        def script(worker: Worker, request: InferenceRequest) -> Sequence[Outgoing]:
            held.append(request)
            return () if first is None else first(worker, request)

        self.script = script
        return held

    def send(self, *outgoing: Outgoing) -> None:
        for out in outgoing:
            self._appender.append(kafka_codec.outgoing_record(out)).result()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            for record in self._tail.poll(0.02):
                event = kafka_codec.from_record(record)
                if event.type == names.REQUEST:
                    parsed = self.requests[event.id] = self._parsed(event)
                    self.seen.append(event)
                    self._keep(record)
                    self.send(*self.script(self, parsed))
                else:
                    self._keep(record)
                if event.type == names.CANCEL and event.subject in self.requests:
                    if self.on_cancel is not None:
                        self.send(*self.on_cancel(self, self.requests[event.subject]))
                        continue
                    late = builders.parse_cancel(event).reason == "deadline"
                    code = "deadline_exceeded" if late else "cancelled"
                    self.send(*self.failed(self.requests[event.subject], code))

    def _keep(self, record: Record) -> None:
        change = build_change(record, self.blobs, wait_s=60.0, now=self.clock.now())
        assert change is not None
        self.store.record_batch([change])

    def _parsed(self, event: Event) -> InferenceRequest:
        ref = event.get(names.DATA_REF)
        body = None if ref is None else self.blobs.get(ref, limit_bytes=10**8)
        return parse_request(event, default_wait_s=60.0, body=body)

    # What scripts are made of
    def progress(self, request: InferenceRequest, state: str = "routed") -> tuple[Outgoing, ...]:
        data = ProgressData(state=state, service="smol", model="smol", decision=DECISION)  # type: ignore[arg-type]
        event = builders.build_progress(
            request.origin, data, source="/router", now=self.clock.now()
        )
        return builders.progress_outgoing(event, topics=TOPICS, reply=request.reply)

    def chunk(
        self,
        request: InferenceRequest,
        text: str,
        sequence: int,
        *,
        generation: str = "g1",
        attempt: int = 1,
    ) -> tuple[Outgoing, ...]:
        event = builders.build_chunk(
            request.origin,
            [chunk_of(request, text)],
            generation=generation,
            sequence=sequence,
            attempt=attempt,
            service="smol",
            now=self.clock.now(),
        )
        return tuple(_as_tuple(builders.chunk_outgoing(event, topics=TOPICS, reply=request.reply)))

    def completed(
        self, request: InferenceRequest, text: str = "hello", *, generation: str = "g1"
    ) -> tuple[Outgoing, ...]:
        event = builders.build_completed(
            request.origin,
            answer_of(request, text),
            PickspinData(
                request_id=request.request_id,
                state="completed",
                service="smol",
                model="smol",
                decision=DECISION,
                timings=builders.Timings(queue_ms=1.5, load_ms=0.0, model_ms=4.0),
                cost=builders.Cost(usd=0.0001, gpu_s=0.1),
                attempt=1,
            ),
            source="/models/smol",
            generation=generation,
            now=self.clock.now(),
        )
        return builders.terminal_outgoing(event, topics=TOPICS, reply=request.reply)

    def failed(
        self, request: InferenceRequest, code: str, message: str = "it went wrong"
    ) -> tuple[Outgoing, ...]:
        error = ApiError(code, message)
        failure = builders.Failure(
            code=code, message=message, type=error.row.type, status=error.status
        )
        event = builders.build_failed(
            request.origin, failure, source="/models/smol", now=self.clock.now()
        )
        return builders.terminal_outgoing(event, topics=TOPICS, reply=request.reply)


def _as_tuple(found: Any) -> tuple[Outgoing, ...]:
    return found if isinstance(found, tuple) else (found,)


DECISION = DecisionInfo(
    route_class="low", score=0.7, reason="explicit", catalogue="cafe00000000", stage="keyword"
)


def complete(worker: Worker, request: InferenceRequest) -> Sequence[Outgoing]:
    """Routes, streams two chunks where a stream is asked for, completes."""
    found = [*worker.progress(request)]
    if request.stream:
        found += [*worker.chunk(request, "hel", 0), *worker.chunk(request, "lo", 1)]
    return [*found, *worker.completed(request)]


@dataclass
class Rig:
    """The ingress and everything around it."""

    deps: Dependencies
    log: MemoryLog
    worker: Worker
    registry: list[Registry]
    tails: list[ReplyConsumer] = field(default_factory=list)

    def use(self, **changes: Any) -> None:
        """Replaces parts of `deps`; before the application is built."""
        self.deps = replace(self.deps, **changes)

    def configure(self, **ingress: Any) -> None:
        """Replaces ingress settings; before the application is built."""
        settings = self.deps.settings
        self.use(
            settings=msgspec.structs.replace(
                settings, ingress=msgspec.structs.replace(settings.ingress, **ingress)
            )
        )

    def app(self) -> Any:
        return build_app(self.deps)

    def start(self) -> None:
        """Starts the reply tail on the running loop."""
        tail = ReplyConsumer(
            lambda: self.log.tail(
                topics=(TOPICS.replies,), client="t", from_start=False, partition=0
            ),
            self.deps.waiters,
            epoch=self.deps.epoch,
            dropped=self.dropped.append,
            poll_s=0.01,
        )
        self.tails.append(tail)
        tail.start(asyncio.get_running_loop())

    @contextlib.asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client straight to the application."""
        self.start()
        transport = httpx.ASGITransport(self.app(), raise_app_exceptions=True)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://t", headers=headers
        ) as client:
            yield client

    def events_on(self, topic: str) -> list[Event]:
        return [kafka_codec.from_record(record) for record in self.log.records(topic)]

    dropped: list[str] = field(default_factory=list)


async def _eventually(condition: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    """Waits until `condition()` is true and returns what it returned."""
    async with asyncio.timeout(timeout_s):
        while not (found := condition()):  # noqa: ASYNC110 - it happens in other threads
            await asyncio.sleep(0.005)
    return found


@contextlib.asynccontextmanager
async def _live(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    config = uvicorn.Config(
        rig.app(),
        http=bounded_protocol(rig.deps.settings.ingress),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    rig.start()
    task = asyncio.create_task(server._serve([listener]))  # `serve` would take the signals over
    await _eventually(lambda: server.started)
    host, port = listener.getsockname()
    try:
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


@pytest.fixture
def live() -> Callable[[Rig], contextlib.AbstractAsyncContextManager[httpx.AsyncClient]]:
    """`live(rig)`: the application behind uvicorn on a port of its own, and a client to it."""
    return _live


@pytest.fixture
def ended() -> Callable[..., Any]:
    """`await ended(client, url, key, headers)`: polls until the `state` (or `key`) is a final one; the last body."""

    async def poll(
        client: httpx.AsyncClient,
        url: str,
        key: str = "state",
        headers: dict[str, str] | None = None,
    ) -> Any:
        final = {"completed", "failed", "cancelled", "expired"}
        async with asyncio.timeout(5.0):
            while True:
                body = (await client.get(url, headers=headers)).json()
                if body[key] in final:
                    return body
                await asyncio.sleep(0.01)

    return poll


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`await eventually(condition, timeout_s)`: waits until it is true and returns what it returned."""
    return _eventually


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def rig() -> Iterator[Rig]:
    log, clock, metrics = MemoryLog(), SystemClock(), Metrics()
    store = SqlStore("sqlite://", clock)
    registry = [Registry()]
    blobs = MemoryBlobs()
    worker = Worker(log, store, clock, blobs)
    deps = Dependencies(
        settings=Settings(ingress=IngressSettings(heartbeat_s=0.05)),
        topics=TOPICS,
        clock=clock,
        catalogue=CATALOGUE,
        registry=lambda: registry[0],
        appender=log.appender(client="ingress"),
        waiters=Waiters(lambda reason: None),
        broker_room=BrokerRoom(None, lambda key: 0),
        store=store,
        blobs=blobs,
        executor=ThreadPoolExecutor(2),
        keys=ApiKeys({}),
        health=Health(clock, tuple),
        metrics=metrics,
        instance="test-0",
        epoch="epoch-1",
        entropy=os.urandom,
        reply_partitions=ReplyPartitions(
            lambda: log.offset_reader(client="ingress"), (TOPICS.responses,), clock
        ),
    )
    deps.health.note_append()
    found = Rig(deps=deps, log=log, worker=worker, registry=registry)
    try:
        yield found
    finally:
        worker.close()
        for tail in found.tails:
            tail.close()
        deps.executor.shutdown()
        store.close()


@pytest.fixture
def chat() -> dict[str, Any]:
    """The smallest chat body."""
    return {"model": "smol", "messages": [{"role": "user", "content": "hi"}]}
