"""A worker in this process between an in-memory log and a fake model on loopback."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events import builders, ids
from events.builders import Origin
from events.codecs import json_codec, kafka_codec
from events.event import Event, Record
from events.names import CHUNK, COMPLETED, CORRELATION_ID, FAILED, REQUEST, Topics
from events.payloads import CancelData, DecisionInfo
from events.requests import parse_request
from events.timestamps import to_rfc3339
from functions.backends.simulated import server
from functions.runtime.settings import BrokerSettings, Settings, WorkerSettings
from functions.runtime.system_clock import SystemClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from functions.worker import control_consumer
from functions.worker.main import WorkerDependencies, build_worker
from functions.worker.replica import Worker
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Weights

TOPICS = Topics()
SLUG = "small"
PATIENCE_S = 10.0


@dataclass
class Stand:
    """Everything a test of the worker needs. `calls()` is the fake model's own history."""

    log: MemoryLog
    history: Path
    data_dir: Path
    url: str
    settings: Settings
    service: dict[str, Any] = field(default_factory=dict)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)

    def catalogue(self) -> Catalogue:
        model = Model(id=SLUG, weights=Weights(url=self.url), simulated=True)
        defaults: dict[str, Any] = {
            "backend": Backend(kind="fake"),
            "concurrency": 4,
            "start_timeout_s": 5.0,
        }
        return Catalogue(
            models=(model,), services=(Service(model=SLUG, slug=SLUG, **(defaults | self.service)),)
        )

    @contextlib.asynccontextmanager
    async def worker(
        self, catalogue: Catalogue | None = None, **more: Any
    ) -> AsyncIterator[Worker]:
        """A ready worker, with these settings of its own beside the stand's; drained at the end."""
        own = msgspec.structs.replace(self.settings.worker, **more)
        settings = msgspec.structs.replace(self.settings, worker=own)
        dependencies = WorkerDependencies(
            log=self.log, blobs=self.blobs, clock=SystemClock(), data_dir=self.data_dir
        )
        worker = await build_worker(settings, catalogue or self.catalogue(), dependencies)
        task = asyncio.create_task(worker.run())
        try:
            await until(lambda: worker.is_ready() or task.done())
            yield worker
        finally:
            worker.stop()
            self.status = await asyncio.wait_for(task, PATIENCE_S)

    def request(
        self,
        text: str = "hi",
        *,
        wait_s: float = 8.0,
        operation: str = "chat",
        body: dict[str, Any] | None = None,
        **extensions: str,
    ) -> Event:
        now = datetime.now(UTC)
        request_id = ids.new_request_id(now, os.urandom(10))
        found = body or {
            "messages": [{"role": "user", "content": f"{text} nonce:{request_id[-8:]}"}]
        }
        address = {"replytopic": TOPICS.replies, "replypartition": "0", "replyepoch": "e1"}
        return Event(
            id=request_id,
            source="/ingress/0",
            type=REQUEST,
            subject="auto",
            time=to_rfc3339(now),
            data=json_codec.dumps(found),
            extensions={
                "operation": operation,
                "expirytime": to_rfc3339(now + timedelta(seconds=wait_s)),
                **address,
                **extensions,
            },
        )

    def routed(self, event: Event, *, service: str = SLUG) -> Record:
        request = parse_request(event, default_wait_s=10)
        decision = DecisionInfo(
            route_class="low",
            score=0.5,
            reason="only",
            catalogue="v1",
            stage="keyword",
            asked_model=event.get("askedmodel") or msgspec.UNSET,
        )
        routed = builders.build_routed(
            request, decision, service=service, model=SLUG, now=datetime.now(UTC)
        )
        out = builders.routed_outgoing(routed, request, TOPICS)
        return kafka_codec.outgoing_record(out)

    def send(self, text: str = "hi", **more: Any) -> str:
        """Publishes a routed request; returns its id."""
        event = self.request(text, **more)
        self.log.store(self.routed(event))
        return event.id

    def cancel(self, request_id: str) -> None:
        event = builders.build_cancel(
            Origin(request_id=request_id),
            CancelData(reason="client"),
            source="/ingress/0",
            now=datetime.now(UTC),
        )
        self.log.store(kafka_codec.outgoing_record(builders.cancel_outgoing(event, topics=TOPICS)))

    def events(self, topic: str, request_id: str | None = None) -> list[Event]:
        found = [kafka_codec.from_record(record) for record in self.log.records(topic)]
        return [e for e in found if request_id is None or e.get(CORRELATION_ID) == request_id]

    def terminals(self, request_id: str, topic: str = TOPICS.responses) -> list[Event]:
        return [e for e in self.events(topic, request_id) if e.type in {COMPLETED, FAILED}]

    def chunks(self, request_id: str) -> list[Event]:
        return [e for e in self.events(TOPICS.replies, request_id) if e.type == CHUNK]

    async def terminal(self, request_id: str) -> tuple[Event, dict[str, Any]]:
        """Waits for the answer of a request."""
        await until(lambda: self.terminals(request_id))
        event = self.terminals(request_id)[0]
        return event, json.loads(event.data or b"null")

    async def code(self, request_id: str) -> str:
        """The error code of a failed request."""
        found = (await self.terminal(request_id))[1]
        return str(found["error"]["code"])

    def calls(self, request_id: str | None = None, event: str = "start") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.history.read_text().splitlines()]
        return [
            line
            for line in lines
            if line["event"] == event and line["request"] and request_id in {None, line["request"]}
        ]

    def lag(self) -> int:
        groups = {TOPICS.worker_group(SLUG): TOPICS.of_service(SLUG)}
        found = self.log.lag_reader(client="test").lags(groups)
        return sum(offsets.lag for offsets in found[TOPICS.worker_group(SLUG)].values())

    async def drained(self) -> None:
        await until(lambda: self.lag() == 0)


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Awaits a condition, with a deadline."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - what is awaited are records and files, not our own events
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail of cancellations looks up at once when a worker starts or ends; a record wakes it in any case."""
    monkeypatch.setattr(control_consumer, "_POLL_S", 0.01)


@pytest.fixture
def wait_until() -> Any:
    return until


@pytest.fixture
def stand(tmp_path: Path) -> Any:
    """`async with stand(flags=[...], service={...}, worker={...}) as found:` gives a `Stand` with its model running."""

    @contextlib.asynccontextmanager
    async def opened(
        *flags: str, service: dict[str, Any] | None = None, **worker: Any
    ) -> AsyncIterator[Stand]:
        history = tmp_path / "history.jsonl"
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        parsed = server.parse_flags(["--history", str(history), "--tokens", "4", *flags])
        serving = asyncio.create_task(server.serve(parsed, on_ready=port.set_result))
        settings = Settings(
            worker=WorkerSettings(service=SLUG, **({"drain_s": 2.0} | worker)),
            broker=BrokerSettings(inline_bytes=64 * 1024),
        )
        try:
            yield Stand(
                log=MemoryLog(),
                history=history,
                data_dir=tmp_path,
                url=f"http://127.0.0.1:{await port}",
                settings=settings,
                service=service or {},
            )
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    return opened
