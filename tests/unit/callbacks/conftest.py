"""A scripted receiver on loopback, and a deliverer aimed at it."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from events.names import Topics
from functions.callbacks.delivery_worker import DeliveryDependencies, DeliveryLimits, DeliveryWorker
from functions.callbacks.url_policy import CallbackPolicy
from functions.callbacks.webhook_client import WebhookClient
from functions.ports.store import CallbackTarget, Delivery
from functions.runtime.telemetry import Metrics
from functions.sql.sql_store import SqlStore
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog

START = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "whsec_" + "c2VjcmV0" * 6
TOPICS = Topics()


@dataclass
class Received:
    method: str
    path: str
    headers: dict
    body: bytes


@dataclass
class Receiver:
    """Answers each connection with the next scripted bytes (the last one again and again)."""

    script: list = field(default_factory=lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"])
    received: list = field(default_factory=list)
    connections: int = 0
    open_at_once: int = 0
    most_at_once: int = 0
    hold: asyncio.Event | None = None
    port: int = 0

    async def start(self):
        self.news = asyncio.Condition()
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def has_received(self, count):
        async with asyncio.timeout(5), self.news:
            await self.news.wait_for(lambda: len(self.received) >= count)

    async def stop(self):
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.connections += 1
        self.open_at_once += 1
        self.most_at_once = max(self.most_at_once, self.open_at_once)
        try:
            await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_at_once -= 1
            writer.close()

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(headers["content-length"]))
        method, path, _ = first.split(" ")
        self.received.append(Received(method, path, headers, body))
        async with self.news:
            self.news.notify_all()
        if self.hold is not None:
            await self.hold.wait()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(step):
            await step(writer)
        else:
            writer.write(step)
            await writer.drain()


class Desk:
    """A deliverer with everything around it."""

    def __init__(self, receiver, *, policy=None, delays=(0.0, 5.0, 300.0), timeout_s=2.0):
        self.clock = FakeClock(START)
        self.receiver = receiver
        self.log = MemoryLog(partitions=1)
        self.store = SqlStore("sqlite://", self.clock)
        self.names = {}
        self.client = WebhookClient(timeout_s=timeout_s, max_response_bytes=65536)
        self.policy = policy or CallbackPolicy(
            may_use_http=True, may_reach_private=True, ports=None
        )
        self.limits = DeliveryLimits(
            delays=delays,
            attempt_timeout_s=timeout_s,
            concurrency=16,
            per_tenant=8,
            per_target=4,
            per_host=8,
        )
        self.deliverer = self.new_deliverer()

    def new_deliverer(self, store=None):
        around = DeliveryDependencies(
            store=store or self.store,
            client=self.client,
            resolve=self.resolve,
            appender=self.log.appender(client="test"),
            clock=self.clock,
            topics=TOPICS,
            policy=self.policy,
            metrics=Metrics(),
            chance=lambda: 0.5,
        )
        return DeliveryWorker(around, self.limits)

    async def resolve(self, host, port):
        found = self.names[host]
        return found.pop(0) if found and isinstance(found[0], list) else found

    def add_target(self, target_id="t1", url=None, *, tenant="one", **fields):
        url = url or f"http://127.0.0.1:{self.receiver.port}/hook?x=1"
        self.store.add_target(
            CallbackTarget(id=target_id, tenant=tenant, url=url, secret=SECRET, **fields)
        )

    def enqueue(self, number=1, target_id="t1"):
        self.store.enqueue_delivery(
            Delivery(
                id=f"d{number}",
                request_id=f"r{number}",
                target_id=target_id,
                body=b'{"type":"inference.completed"}',
                attempt=0,
                due_at=self.clock.now(),
            )
        )

    async def deliver(self):
        """Everything that is due now, to its end."""
        while await self.deliverer.start_due():
            await self.deliverer.finish()

    async def until(self, condition):
        """Waits for what other tasks bring about."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.005)

    def delivery(self, number=1):
        (found,) = self.store.deliveries(f"r{number}")
        return found

    async def close(self):
        await self.client.close()
        self.store.close()


class Stage:
    """Runs a coroutine with a receiver and a desk, and closes both."""

    def run(self, play, *, script=None, **options):
        async def act():
            receiver = Receiver()
            if script is not None:
                receiver.script = list(script)
            await receiver.start()
            desk = Desk(receiver, **options)
            try:
                async with asyncio.timeout(30):
                    await play(desk)
            finally:
                await desk.close()
                await receiver.stop()

        asyncio.run(act())


@pytest.fixture
def stage():
    return Stage()


def answer(status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
