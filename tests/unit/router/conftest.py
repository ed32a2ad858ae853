"""What router tests stand on: a small fleet, a request maker, and a router on an in-memory log with a still clock."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from events import names
from events.event import Event
from events.names import Topics
from events.timestamps import to_rfc3339
from functions.router.handler import RouterPolicy
from functions.router.publisher import Publisher
from functions.router.router import Router, RouterParts
from functions.runtime.telemetry import Metrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.merge import with_demo_fleet
from router_model.catalogue.model import Catalogue
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.service_registry import Registry

BODY = b'{"model":"auto","messages":[{"role":"user","content":"hello there"}]}'
CATALOGUE = """
models:
  - {id: real, weights: {path: /m.gguf}}
  - {id: vectors, capabilities: [embeddings], weights: {path: /v.gguf}}
services:
  - {model: real}
  - {model: real, backend: {kind: vllm}, price_per_hour_usd: 2}
  - {model: vectors}
aliases: {nick: real}
tasks:
  nightly: {models: [real], priority: batch, timeout_s: 60}
"""


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return with_demo_fleet(load_catalogue(CATALOGUE))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def now(clock: FakeClock) -> datetime:
    return clock.now()


@pytest.fixture
def topics() -> Topics:
    return Topics("t.")


@pytest.fixture
def policy(topics: Topics) -> RouterPolicy:
    return RouterPolicy(topics=topics, classifier=KeywordClassifier())


@pytest.fixture
def request_event(now: datetime, topics: Topics) -> Callable[..., Event]:
    """A valid request that waits on a reply partition; keyword arguments replace fields, `ext` adds attributes (None
    removes one), `model` sets the body's model.
    """

    def make(
        *, model: str | None = None, ext: dict[str, str | None] | None = None, **fields: object
    ) -> Event:
        extensions: dict[str, str | None] = {
            names.EXPIRY_TIME: to_rfc3339(now + timedelta(seconds=100)),
            names.REPLY_TOPIC: topics.replies,
            names.REPLY_PARTITION: "1",
            names.REPLY_EPOCH: "e1",
            names.TENANT: "acme",
            **(ext or {}),
        }
        event = Event(
            id="req_1",
            source="/ingress/0",
            type=names.REQUEST,
            subject="auto",
            time=to_rfc3339(now),
            data=BODY if model is None else BODY.replace(b"auto", model.encode()),
            extensions={name: value for name, value in extensions.items() if value is not None},
        )
        return replace(event, **fields)  # type: ignore[arg-type]

    return make


@dataclass
class Bench:
    """A router on an in-memory log. `registry` may be replaced between events."""

    log: MemoryLog
    blobs: MemoryBlobs
    metrics: Metrics
    topics: Topics
    registry: Registry
    router: Router
    publisher: Publisher
    """What the source has of its own beside the router."""


@pytest.fixture
def make_bench(
    catalogue: Catalogue, clock: FakeClock, topics: Topics, policy: RouterPolicy
) -> Callable[[], Bench]:
    def make() -> Bench:
        log, blobs, metrics = MemoryLog(), MemoryBlobs(), Metrics()
        publisher = Publisher(
            appender=log.appender(client="source"), policy=policy, clock=clock, metrics=metrics
        )
        bench = Bench(log, blobs, metrics, topics, Registry(), router=None, publisher=publisher)  # type: ignore[arg-type]
        bench.router = Router(
            RouterParts(
                catalogue=catalogue,
                registry=lambda: bench.registry,
                clock=clock,
                policy=policy,
                appender=log.appender(client="router"),
                blobs=blobs,
                metrics=metrics,
            )
        )
        return bench

    return make


@pytest.fixture
def bench(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()
